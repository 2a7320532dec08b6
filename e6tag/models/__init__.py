"""Backbones, and how they are joined with a head to a tagger.

    pictures (N, S, S, 3) 0..255 -> backbone -> feature map -> [mean ; attention] -> vector -> tags

Layers of a backbone are named after its stages (`stem_...`, `stage3_...`, `head_...`); no other
layer has such a name.  That is how weights are loaded, stages frozen and rates told apart.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from e6tag.config import TrainConfig
from e6tag.errors import ConfigError
from e6tag.layers import AttentionPooling, HeteroscedasticLogits
from e6tag.models.efficientnet_lite import LITE0_STAGES, efficientnet_lite0
from e6tag.models.resnet import resnet
from e6tag.models.weights import load_lite0

STAGE_NAME = re.compile(r"(stem|stage\d+|head)(_|$)")


@dataclass(frozen=True)
class Backbone:
    """A feature network: pictures 0..255 to a feature map of stride 32."""

    build: Callable[[Any, Sequence[int], int], Any]
    """(pictures, depth, width) -> feature map; depth and width only where it has a choice"""
    origin: str
    """where its weights come from, in words"""
    num_stages: int | None = None
    """how many stages can be frozen; None: as many as `depth` has"""
    frozen: int = 0
    """stages kept as they are unless the options say otherwise: early features need no change"""
    load: Callable[[Any, Path | None], int] | None = None
    """(network, cache folder) fills in pretrained weights; None: trained from scratch"""

    @property
    def pretrained(self) -> bool:
        """Whether it comes with weights."""
        return self.load is not None


BACKBONES: dict[str, Backbone] = {
    "resnet": Backbone(resnet, "from scratch"),
    "efficientnet-lite0": Backbone(
        lambda pictures, depth, width: efficientnet_lite0(pictures),
        "ImageNet weights",
        num_stages=len(LITE0_STAGES) + 1,
        frozen=3,
        load=load_lite0,
    ),
}


def build_tagger(
    options: TrainConfig, shares: NDArray[np.float64], cache: Path | None = None
) -> keras.Model:
    """A tagger with its initial (or pretrained) weights and frozen stages.

    Args:
        options: architecture: backbone, depth, width, freeze, image_size, vector_size, heads,
            key_size, heteroscedastic, factors, temperature.
        shares: (num_tags,) share of the training pictures with each tag, in (0, 1); the tagger
            predicts them at the start, whatever the picture.
        cache: folder for pretrained weights (default: `packages.cache_folder()`).

    Returns:
        Model from `pictures` float32 (N, S, S, 3), values 0..255, to a dictionary, all float32:
        logits, probabilities and uncertainty (standard deviation of the latent; 0 for the plain
        head) (N, num_tags), and vector (N, vector_size), of which the others are functions.

    Raises:
        ConfigError: there is no such backbone, or it has fewer stages than are to be frozen.
        FetchError: pretrained weights cannot be fetched.
    """
    backbone = choose(options)
    size = options.image_size
    pictures = keras.Input((size, size, 3), dtype="float32", name="pictures")
    features = backbone.build(pictures, options.depth, options.width)
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
    if backbone.load is not None:
        backbone.load(network, cache)
    freeze_stages(network, frozen_stages(options))
    return network


def choose(options: TrainConfig) -> Backbone:
    """The backbone that the options name.

    Raises:
        ConfigError: there is none of that name, or it has fewer stages than are to be frozen.
    """
    if options.backbone not in BACKBONES:
        raise ConfigError(
            f"there is no backbone {options.backbone!r}. One of: {', '.join(BACKBONES)}."
        )
    backbone = BACKBONES[options.backbone]
    num_stages = backbone.num_stages or len(options.depth)
    if not 0 <= frozen_stages(options) <= num_stages:
        raise ConfigError(
            f"--freeze is {options.freeze}; {options.backbone} has stages 0 to {num_stages}."
        )
    return backbone


def frozen_stages(options: TrainConfig) -> int:
    """Stages to keep as they are: those asked for, else what suits the backbone."""
    return BACKBONES[options.backbone].frozen if options.freeze is None else options.freeze


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


def stage_number(name: str) -> int:
    """Stage of a backbone's layer: the stem counts as part of the first, `head` comes last."""
    stage = name.split("_")[0]
    if stage == "stem":
        return 1
    return len(LITE0_STAGES) + 1 if stage == "head" else int(stage.removeprefix("stage"))


def freeze_stages(network: keras.Model, count: int) -> None:
    """Keep the first `count` stages (and the stem) of the backbone as they are.

    Frozen batch normalisation keeps its statistics too: Keras runs it in inference mode.
    """
    for layer in backbone_layers(network):
        layer.trainable = stage_number(layer.name) > count
