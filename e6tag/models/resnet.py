"""ResNet with SiLU, trained from scratch.

He et al. 2015 (arXiv:1512.03385) with the changes that have lasted: three 3x3 convolutions for a
stem and average-pooled shortcuts (ResNet-D, arXiv:1812.01187; `plain` is the first paper's 7x7
stem and strided shortcuts), residual branches that start at zero (arXiv:1706.02677), SiLU (or
ReLU); channel attention at the end of each branch where it is asked for.  The feature map of four
stages has a stride of 32; more of them can keep it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import layers

from e6tag.batch_norm import BatchNormalization
from e6tag.channel_attention import EfficientChannelAttention, SqueezeExcite
from e6tag.errors import ConfigError

MOMENTUM = 0.97
"""of batch statistics: short runs need them to follow within a hundred steps"""
EXPANSION = {"basic": 1, "bottleneck": 4}
"""channels that a block puts out for each one of its 3x3 convolution"""
STEM_STRIDE = 4


@dataclass(frozen=True)
class Topology:
    """Stages of a ResNet: how many blocks of what kind, how wide, at which stride."""

    depth: tuple[int, ...]
    """blocks in each stage"""
    filters: tuple[int, ...]
    """channels that each stage puts out"""
    block: str = "basic"
    """basic or bottleneck"""
    max_stride: int = 0
    """stages halve the map while its stride stays within this; 0: all after the first do"""

    @classmethod
    def of(
        cls,
        depth: Sequence[int],
        width: int,
        filters: Sequence[int] = (),
        block: str = "basic",
        max_stride: int = 0,
    ) -> "Topology":
        """The topology that options name: `filters`, or a width that doubles with each stage.

        Raises:
            ConfigError: the options do not fit each other.
        """
        expansion = EXPANSION[block]
        if filters and len(filters) != len(depth):
            raise ConfigError(
                f"--filters needs a number for each of the {len(depth)} stages of --depth. "
                f"Received: {len(filters)}."
            )
        uneven = [number for number in filters if number % expansion]
        if uneven:
            raise ConfigError(
                f"--filters of --block {block} must be multiples of {expansion}. "
                f"Received: {uneven[0]}."
            )
        if 0 < max_stride < STEM_STRIDE:
            raise ConfigError(
                f"--max-stride must be 0 or at least {STEM_STRIDE}, the stem's. "
                f"Received: {max_stride}."
            )
        doubled = [width * expansion * 2**i for i in range(len(depth))]
        return cls(tuple(depth), tuple(filters or doubled), block, max_stride)

    @property
    def stem_width(self) -> int:
        """Channels that the stem puts out: those of the first stage's 3x3 convolutions."""
        return self.filters[0] // EXPANSION[self.block]

    def strides(self) -> list[int]:
        """Stride of each stage's first block, 1 or 2."""
        found, total = [1], STEM_STRIDE
        for _ in self.depth[1:]:
            stride = 1 if self.max_stride and 2 * total > self.max_stride else 2
            total *= stride
            found.append(stride)
        return found


def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """Bias-free convolution with He initialisation; padding keeps ceil(size / stride)."""
    return layers.Conv2D(
        filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)


def norm(x: Any, name: str, gamma: str = "ones") -> Any:
    """Batch normalisation."""
    return BatchNormalization(
        momentum=MOMENTUM, epsilon=1e-5, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def activate(x: Any, kind: str, name: str) -> Any:
    """SiLU or ReLU."""
    return layers.Activation(kind, name=f"{name}_{kind}")(x)


def conv_active(x: Any, filters: int, kernel: int, stride: int, kind: str, name: str) -> Any:
    """Convolution, batch normalisation, activation."""
    return activate(norm(conv(x, filters, kernel, stride, name), name), kind, name)


def shortcut(
    x: Any, filters: int, stride: int, is_plain: bool, must_project: bool, name: str
) -> Any:
    """The input itself, or projected to the shape of the residual branch.

    ResNet-D averages before it projects; a strided 1x1 convolution sees a quarter of the cells.
    """
    if stride > 1 and not is_plain:
        x = layers.AveragePooling2D(stride, stride, "same", name=f"{name}_pool")(x)
        stride = 1
    if stride == 1 and int(x.shape[-1]) == filters and not must_project:
        return x
    return norm(conv(x, filters, 1, stride, f"{name}_shortcut"), f"{name}_shortcut")


def attend_channels(x: Any, kind: str, name: str) -> Any:
    """The map with its channels weighed: none, se or eca."""
    if kind == "none":
        return x
    if kind == "se":
        return SqueezeExcite(name=f"{name}_se")(x)
    return EfficientChannelAttention(name=f"{name}_eca")(x)


def basic_branch(x: Any, filters: int, stride: int, kind: str, name: str) -> Any:
    """Two 3x3 convolutions."""
    x = conv_active(x, filters, 3, stride, kind, f"{name}_first")
    return norm(conv(x, filters, 3, 1, f"{name}_second"), f"{name}_second", gamma="zeros")


def bottleneck_branch(x: Any, filters: int, stride: int, kind: str, name: str) -> Any:
    """1x1, 3x3 and 1x1 convolutions, the first two with a quarter of the channels.

    The stride is the 3x3 convolution's: a strided 1x1 would see a quarter of the cells.
    """
    inner = filters // EXPANSION["bottleneck"]
    x = conv_active(x, inner, 1, 1, kind, f"{name}_first")
    x = conv_active(x, inner, 3, stride, kind, f"{name}_second")
    return norm(conv(x, filters, 1, 1, f"{name}_third"), f"{name}_third", gamma="zeros")


BRANCHES = {"basic": basic_branch, "bottleneck": bottleneck_branch}


def make_stem(x: Any, width: int, is_plain: bool, kind: str) -> Any:
    """Three 3x3 convolutions, or one of 7x7, and a pooling: stride 4."""
    if is_plain:
        x = conv_active(x, width, 7, 2, kind, "stem_conv1")
    else:
        for i, (filters, stride) in enumerate([(width // 2, 2), (width // 2, 1), (width, 1)], 1):
            x = conv_active(x, max(1, filters), 3, stride, kind, f"stem_conv{i}")
    return layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)


def resnet(
    pictures: Any,
    topology: Topology,
    stem: str = "d",
    attention: str = "none",
    activation: str = "silu",
) -> Any:
    """Feature map of a ResNet.

    A block is its shortcut alone at the start of training.  The first block of a stage of
    bottlenecks always projects its shortcut: the parameters do not depend on the strides.

    Args:
        pictures: Keras tensor (batch, height, width, 3), values 0..255.
        topology: its stages.  (2, 2, 2, 2) basic blocks of width 64 are ResNet-18, (3, 4, 6, 3)
            bottlenecks ResNet-50.
        stem: d or plain; it decides how shortcuts are made smaller, too.
        attention: of each residual branch's channels: none, se or eca.
        activation: silu or relu.

    Returns:
        Keras tensor (batch, height / stride, width / stride, last filters), rounded up.
    """
    is_plain, branch = stem == "plain", BRANCHES[topology.block]
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(pictures)
    x = make_stem(x, topology.stem_width, is_plain, activation)
    stages = zip(topology.depth, topology.filters, topology.strides(), strict=True)
    for i, (repeats, filters, first_stride) in enumerate(stages, 1):
        for j in range(1, repeats + 1):
            name, stride = f"stage{i}_block{j}", first_stride if j == 1 else 1
            found = branch(x, filters, stride, activation, name)
            found = attend_channels(found, attention, name)
            must_project = j == 1 and topology.block == "bottleneck"
            around = shortcut(x, filters, stride, is_plain, must_project, name)
            x = activate(layers.Add(name=f"{name}_add")([found, around]), activation, name)
    return x
