"""Backbones, and how they are joined with a head to a tagger.

    pictures (N, S, S, 3) 0..255 -> backbone -> feature map -> [mean ; attention] -> vector -> tags
                                        '-> maps of earlier stages -> [means]  -'

Layers of a backbone are named after its stages (`stem_...`, `stage3_...`, `head_...`); no other
layer has such a name.  That is how weights are loaded, stages frozen and rates told apart.
"""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from e6tag.config import TrainConfig
from e6tag.layers import HeteroscedasticLogits
from e6tag.models.pooling import pool_stages, summarise
from e6tag.models.registry import BACKBONES, Backbone, choose, is_pretrained
from e6tag.models.stages import STAGE_NAME, stage_number
from e6tag.vector_noise import VectorNoiseLogits

__all__ = [
    "BACKBONES",
    "Backbone",
    "backbone_layers",
    "backbone_paths",
    "build_tagger",
    "choose",
    "is_pretrained",
]


def build_tagger(
    options: TrainConfig, shares: NDArray[np.float64], cache: Path | None = None
) -> keras.Model:
    """A tagger with its initial (or pretrained) weights and frozen stages.

    Args:
        options: architecture: backbone and what it is made of, weights, freeze, image_size,
            vector_size, pooling, queries, heads, key_size, pooled_stages, rank,
            heteroscedastic, factors,
            noise, learn_temperature, temperature.
        shares: (num_tags,) share of the training pictures with each tag, in (0, 1); the tagger
            predicts them at the start, whatever the picture.
        cache: folder for pretrained weights (default: `packages.cache_folder()`).

    Returns:
        Model from `pictures` float32 (N, S, S, 3), values 0..255, to a dictionary, all float32:
        logits, probabilities and uncertainty (standard deviation of the latent; 0 for the plain
        head) (N, num_tags), and vector (N, D), of which the others are functions.

    Raises:
        ConfigError: there is no such backbone, or it cannot do what the options ask.
        FetchError: pretrained weights cannot be fetched.
    """
    backbone = choose(options)
    size = options.image_size
    pictures = keras.Input((size, size, 3), dtype="float32", name="pictures")
    features = backbone.build(pictures, options)
    vector = summarise(pool_stages(pictures, features, options), options.vector_size)
    logits, uncertainty = tag_head(vector, options, np.log(shares) - np.log1p(-shares))
    outputs = {
        "logits": logits,
        "probabilities": layers.Activation("sigmoid", dtype="float32", name="probabilities")(
            logits
        ),
        "vector": vector,
        "uncertainty": uncertainty,
    }
    network = keras.Model(pictures, outputs, name="tagger")
    if backbone.load is not None and is_pretrained(options):
        backbone.load(network, cache)
    freeze_stages(network, options.freeze)
    return network


def tag_head(vector: Any, options: TrainConfig, bias: NDArray[np.float64]) -> tuple[Any, Any]:
    """Vector to (logits, uncertainty), both (batch, num_tags); `bias` are the first logits."""
    vector = narrow(vector, options.rank)
    if options.heteroscedastic:
        if options.noise == "vector":
            return VectorNoiseLogits(
                len(bias), options.factors, options.temperature, options.learn_temperature,
                bias=bias, name="tags",
            )(vector)  # fmt: skip
        return HeteroscedasticLogits(
            len(bias), options.factors, options.temperature, bias=bias, name="tags"
        )(vector)
    small = keras.initializers.RandomNormal(stddev=0.01)
    dense = layers.Dense(len(bias), kernel_initializer=small, dtype="float32", name="tags")
    logits = dense(vector)
    dense.bias.assign(bias)
    return logits, layers.Rescaling(0.0, dtype="float32", name="uncertainty")(logits)


def narrow(vector: Any, rank: int) -> Any:
    """The vector (batch, D) through a linear map to `rank` numbers: W = A B of the tag layer.

    All maps of the tag layer share A (D, rank), so that parameters grow as rank * (D + maps * K);
    biases of the tags stay.  A rank of D or more can do no more than the full layer with fewer
    parameters, and 0 asks for it: the vector itself.  A starts orthogonal, so that its numbers are
    as large as the vector's.
    """
    if not 0 < rank < int(vector.shape[-1]):
        return vector
    return layers.Dense(
        rank, use_bias=False, kernel_initializer=keras.initializers.Orthogonal(),
        dtype="float32", name="tag_factors",
    )(vector)  # fmt: skip


def backbone_layers(network: keras.Model) -> list[Any]:
    """Layers of the backbone that have weights."""
    return [layer for layer in network.layers if layer.weights and STAGE_NAME.match(layer.name)]


def backbone_paths(network: keras.Model) -> list[str]:
    """Paths of the backbone's variables, for slower rates (`Variable.path`)."""
    return [weight.path for layer in backbone_layers(network) for weight in layer.weights]


def freeze_stages(network: keras.Model, count: int) -> None:
    """Keep the first `count` stages (and the stem) of the backbone as they are.

    Frozen batch normalisation keeps its statistics too: Keras runs it in inference mode.
    """
    parts = backbone_layers(network)
    # The head is the stage after the last one with a number.
    head = 1 + max(n for n in (stage_number(part.name) for part in parts) if n < math.inf)
    for part in parts:
        part.trainable = min(stage_number(part.name), head) > count
