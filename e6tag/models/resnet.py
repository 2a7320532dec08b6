"""ResNet with SiLU, trained from scratch.

He et al. 2015 (arXiv:1512.03385) with the changes that have lasted: three 3x3 convolutions for a
stem and average-pooled shortcuts (ResNet-D, arXiv:1812.01187; `plain` is the first paper's 7x7
stem and strided shortcuts), residual branches that start at zero (arXiv:1706.02677), SiLU; channel
attention at the end of each branch where it is asked for.  The feature map has a stride of 32.
"""

from collections.abc import Sequence
from typing import Any

from keras import layers

from e6tag.channel_attention import EfficientChannelAttention, SqueezeExcite

MOMENTUM = 0.97
"""of batch statistics: short runs need them to follow within a hundred steps"""


def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """Bias-free convolution with He initialisation; padding keeps ceil(size / stride)."""
    return layers.Conv2D(
        filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)


def norm(x: Any, name: str, gamma: str = "ones") -> Any:
    """Batch normalisation."""
    return layers.BatchNormalization(
        momentum=MOMENTUM, epsilon=1e-5, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def conv_silu(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """Convolution, batch normalisation, SiLU."""
    x = norm(conv(x, filters, kernel, stride, name), name)
    return layers.Activation("silu", name=f"{name}_silu")(x)


def shortcut(x: Any, filters: int, stride: int, is_plain: bool, name: str) -> Any:
    """The input itself, or projected to the shape of the residual branch.

    ResNet-D averages before it projects; a strided 1x1 convolution sees a quarter of the cells.
    """
    if stride > 1 and not is_plain:
        x = layers.AveragePooling2D(stride, stride, "same", name=f"{name}_pool")(x)
        stride = 1
    if stride == 1 and int(x.shape[-1]) == filters:
        return x
    return norm(conv(x, filters, 1, stride, f"{name}_shortcut"), f"{name}_shortcut")


def attend_channels(x: Any, kind: str, name: str) -> Any:
    """The map with its channels weighed: none, se or eca."""
    if kind == "none":
        return x
    if kind == "se":
        return SqueezeExcite(name=f"{name}_se")(x)
    return EfficientChannelAttention(name=f"{name}_eca")(x)


def basic_block(
    x: Any, filters: int, stride: int, is_plain: bool, attention: str, name: str
) -> Any:
    """Two 3x3 convolutions beside a shortcut; the shortcut alone at the start of training."""
    branch = conv_silu(x, filters, 3, stride, f"{name}_first")
    branch = norm(conv(branch, filters, 3, 1, f"{name}_second"), f"{name}_second", gamma="zeros")
    branch = attend_channels(branch, attention, name)
    x = layers.Add(name=f"{name}_add")([branch, shortcut(x, filters, stride, is_plain, name)])
    return layers.Activation("silu", name=f"{name}_silu")(x)


def make_stem(x: Any, width: int, is_plain: bool) -> Any:
    """Three 3x3 convolutions, or one of 7x7, and a pooling: stride 4."""
    if is_plain:
        x = conv_silu(x, width, 7, 2, "stem_conv1")
    else:
        for i, (filters, stride) in enumerate([(width // 2, 2), (width // 2, 1), (width, 1)], 1):
            x = conv_silu(x, max(1, filters), 3, stride, f"stem_conv{i}")
    return layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)


def resnet(
    pictures: Any, depth: Sequence[int], width: int, stem: str = "d", attention: str = "none"
) -> Any:
    """Feature map of a ResNet of basic blocks.

    Args:
        pictures: Keras tensor (batch, height, width, 3), values 0..255.
        depth: blocks in each stage; each stage after the first halves the map and doubles the
            channels.  (2, 2, 2, 2) with width 64 is ResNet-18.
        width: channels of the first stage.
        stem: d or plain; it decides how shortcuts are made smaller, too.
        attention: of each residual branch's channels: none, se or eca.

    Returns:
        Keras tensor (batch, height / 32, width / 32, width * 8) for four stages, rounded up.
    """
    is_plain = stem == "plain"
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(pictures)
    x = make_stem(x, width, is_plain)
    for i, repeats in enumerate(depth):
        for j in range(repeats):
            stride = 2 if i > 0 and j == 0 else 1
            name = f"stage{i + 1}_block{j + 1}"
            x = basic_block(x, width * 2**i, stride, is_plain, attention, name)
    return x
