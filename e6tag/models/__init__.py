"""Backbones, and how they are joined with a head to a tagger.

    pictures (N, S, S, 3) 0..255 -> backbone -> feature map -> [mean ; attention] -> vector -> tags

Layers of a backbone are named after its stages (`stem_...`, `stage3_...`, `head_...`); no other
layer has such a name.  That is how weights are loaded, stages frozen and rates told apart.
"""

import math
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from e6tag.config import TrainConfig
from e6tag.layers import AttentionPooling, HeteroscedasticLogits
from e6tag.models.registry import BACKBONES, Backbone, choose, frozen_stages, is_pretrained

__all__ = [
    "BACKBONES",
    "Backbone",
    "backbone_layers",
    "backbone_paths",
    "build_tagger",
    "choose",
    "is_pretrained",
]

STAGE_NAME = re.compile(r"(stem|stage\d+|head)(_|$)")


def build_tagger(
    options: TrainConfig, shares: NDArray[np.float64], cache: Path | None = None
) -> keras.Model:
    """A tagger with its initial (or pretrained) weights and frozen stages.

    Args:
        options: architecture: backbone and what it is made of, weights, freeze, image_size,
            vector_size, heads, key_size, heteroscedastic, factors, temperature.
        shares: (num_tags,) share of the training pictures with each tag, in (0, 1); the tagger
            predicts them at the start, whatever the picture.
        cache: folder for pretrained weights (default: `packages.cache_folder()`).

    Returns:
        Model from `pictures` float32 (N, S, S, 3), values 0..255, to a dictionary, all float32:
        logits, probabilities and uncertainty (standard deviation of the latent; 0 for the plain
        head) (N, num_tags), and vector (N, vector_size), of which the others are functions.

    Raises:
        ConfigError: there is no such backbone, or it cannot do what the options ask.
        FetchError: pretrained weights cannot be fetched.
    """
    backbone = choose(options)
    size = options.image_size
    pictures = keras.Input((size, size, 3), dtype="float32", name="pictures")
    features = backbone.build(pictures, options)
    vector = summarise(features, options.vector_size, options.heads, options.key_size)
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
    freeze_stages(network, frozen_stages(options))
    return network


def summarise(features: Any, vector_size: int, heads: int, key_size: int) -> Any:
    """Feature map to vector: [mean ; attention], standardised, projected, layer-normalised.

    Args:
        features: (batch, height, width, channels).
        vector_size: numbers in the vector.
        heads, key_size: of the attention; without heads, the mean alone.

    Returns:
        (batch, vector_size), float32.
    """
    if heads:
        x = AttentionPooling(heads, key_size, name="pooling")(features)
    else:
        x = layers.GlobalAveragePooling2D(name="pooling")(features)
    x = layers.BatchNormalization(momentum=0.97, dtype="float32", name="pooled_bn")(x)
    x = layers.Dense(vector_size, dtype="float32", name="projection")(x)
    return layers.LayerNormalization(epsilon=1e-5, dtype="float32", name="vector")(x)


def tag_head(vector: Any, options: TrainConfig, bias: NDArray[np.float64]) -> tuple[Any, Any]:
    """Vector to (logits, uncertainty), both (batch, num_tags); `bias` are the first logits."""
    if options.heteroscedastic:
        return HeteroscedasticLogits(
            len(bias), options.factors, options.temperature, bias=bias, name="tags"
        )(vector)
    small = keras.initializers.RandomNormal(stddev=0.01)
    dense = layers.Dense(len(bias), kernel_initializer=small, dtype="float32", name="tags")
    logits = dense(vector)
    dense.bias.assign(bias)
    return logits, layers.Rescaling(0.0, dtype="float32", name="uncertainty")(logits)


def backbone_layers(network: keras.Model) -> list[Any]:
    """Layers of the backbone that have weights."""
    return [layer for layer in network.layers if layer.weights and STAGE_NAME.match(layer.name)]


def backbone_paths(network: keras.Model) -> list[str]:
    """Paths of the backbone's variables, for slower rates (`Variable.path`)."""
    return [weight.path for layer in backbone_layers(network) for weight in layer.weights]


def stage_number(name: str) -> float:
    """Stage of a backbone's layer: the stem counts as part of the first, `head` comes last."""
    stage = name.split("_")[0]
    if stage == "stem":
        return 1
    return math.inf if stage == "head" else int(stage.removeprefix("stage"))


def freeze_stages(network: keras.Model, count: int) -> None:
    """Keep the first `count` stages (and the stem) of the backbone as they are.

    Frozen batch normalisation keeps its statistics too: Keras runs it in inference mode.
    """
    parts = backbone_layers(network)
    # The head is the stage after the last one with a number.
    head = 1 + max(n for n in (stage_number(part.name) for part in parts) if n < math.inf)
    for part in parts:
        part.trainable = min(stage_number(part.name), head) > count
