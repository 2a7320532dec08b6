"""Which backbones there are, and what each can do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from e6tag.config import TrainConfig
from e6tag.errors import ConfigError
from e6tag.models import efficientnet_v2, mobilenet_v3
from e6tag.models.applications import application, feature_map
from e6tag.models.efficientnet_lite import NUM_STAGES, VARIANTS, efficientnet_lite
from e6tag.models.resnet import Topology, resnet
from e6tag.models.weights import PUBLISHED, Published, load_published


@dataclass(frozen=True)
class Backbone:
    """A feature network: pictures 0..255 to a feature map of stride 32."""

    build: Callable[[Any, TrainConfig], Any]
    """(pictures, options) -> feature map"""
    num_stages: int | None = None
    """how many stages can be frozen; None: as many as `depth` has"""
    has_weights: bool = False
    """whether there are ImageNet weights for it"""
    load: Callable[[Any, Path | None], int] | None = None
    """(network, cache folder) fills them in; None: `build` does"""
    weights: str = "none"
    """what it starts from unless the options say otherwise: imagenet or none"""


def build_resnet(pictures: Any, options: TrainConfig) -> Any:
    """`resnet` of the options."""
    topology = Topology.of(
        options.depth, options.width, options.filters, options.block, options.max_stride
    )
    return resnet(pictures, topology, options.stem, options.channel_attention, options.activation)


def from_published(published: Published) -> Backbone:
    """An EfficientNet-Lite, with its weights unless the options say otherwise."""
    variant = VARIANTS[published.name]

    def build(pictures: Any, options: TrainConfig) -> Any:
        return efficientnet_lite(pictures, variant)

    return Backbone(
        build, NUM_STAGES, has_weights=True,
        load=partial(load_published, published), weights="imagenet",
    )  # fmt: skip


def from_keras(name: str, stage_of: Callable[[str], str], num_stages: int) -> Backbone:
    """A model of keras.applications whose layers `stage_of` sorts into stages."""

    def build(pictures: Any, options: TrainConfig) -> Any:
        return feature_map(pictures, name, is_pretrained(options), stage_of)

    return Backbone(build, num_stages, has_weights=True)


def from_efficientnet_v2(name: str) -> Backbone:
    """An EfficientNetV2 of keras.applications."""
    return from_keras(name, efficientnet_v2.stage_of, efficientnet_v2.NUM_STAGES)


def from_mobilenet_v3(name: str, blocks: tuple[int, ...]) -> Backbone:
    """A MobileNetV3 of keras.applications with so many blocks in each stage."""

    def stage_of(layer: str) -> str:
        return mobilenet_v3.stage_of(layer, blocks)

    return from_keras(name, stage_of, len(blocks) + 1)


BACKBONES: dict[str, Backbone] = {
    "resnet": Backbone(build_resnet),
    **{published.name: from_published(published) for published in PUBLISHED},
    "efficientnetv2-b0": from_efficientnet_v2("EfficientNetV2B0"),
    "efficientnetv2-b1": from_efficientnet_v2("EfficientNetV2B1"),
    "efficientnetv2-b2": from_efficientnet_v2("EfficientNetV2B2"),
    "mobilenetv3-small": from_mobilenet_v3("MobileNetV3Small", mobilenet_v3.SMALL_BLOCKS),
    "mobilenetv3-large": from_mobilenet_v3("MobileNetV3Large", mobilenet_v3.LARGE_BLOCKS),
}
ANY_OF_KERAS = "keras:"
"""before the name of any model of keras.applications: one stage, frozen as a whole or not"""
RESNET_ONLY: dict[str, Any] = {
    "stem": "d", "channel_attention": "none", "activation": "silu", "block": "basic",
    "filters": (), "max_stride": 0,
}  # fmt: skip
"""options of the ResNet alone, and what they are where nothing is asked for"""


def choose(options: TrainConfig) -> Backbone:
    """The backbone that the options name.

    Raises:
        ConfigError: there is none of that name, or it cannot do what the options ask.
    """
    backbone = find(options.backbone)
    num_stages = backbone.num_stages or len(options.depth)
    if not 0 <= options.freeze <= num_stages:
        raise ConfigError(
            f"--freeze is {options.freeze}; {options.backbone} has stages 0 to {num_stages}."
        )
    if is_pretrained(options) and not backbone.has_weights:
        raise ConfigError(
            f"there are no ImageNet weights for {options.backbone}. Use --weights none."
        )
    if options.pooling == "ml-decoder" and not options.heads:
        raise ConfigError("--pooling ml-decoder needs at least one of --heads. Received: 0.")
    for name, plain in RESNET_ONLY.items():
        if options.backbone != "resnet" and getattr(options, name) != plain:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is for resnet only, not for {options.backbone}.")
    return backbone


def find(name: str) -> Backbone:
    """The backbone of a name.

    Raises:
        ConfigError: there is none.
    """
    if name.startswith(ANY_OF_KERAS):
        model = name.removeprefix(ANY_OF_KERAS)
        application(model)
        return from_keras(model, lambda layer: "stage1", num_stages=1)
    if name not in BACKBONES:
        known = ", ".join(BACKBONES)
        raise ConfigError(
            f"there is no backbone {name!r}. One of: {known}; or keras:NAME, such as "
            "keras:DenseNet121."
        )
    return BACKBONES[name]


def is_pretrained(options: TrainConfig) -> bool:
    """Whether the backbone starts from ImageNet weights."""
    return (options.weights or find(options.backbone).weights) == "imagenet"
