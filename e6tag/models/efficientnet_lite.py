"""EfficientNet-Lite: ReLU6, no squeeze-and-excitation, made for CPUs and int8.

Source: Tan & Le 2019 (arXiv:1905.11946) and the "lite" variants of tensorflow/tpu
(models/official/efficientnet/lite).  Layer order equals the order of the published
checkpoints, so that weights can be assigned by position (`e6tag.models.weights`).
"""

import math
from typing import Any, NamedTuple

import keras
from keras import layers

from e6tag.batch_norm import BatchNormalization


class Stage(NamedTuple):
    """One row of the architecture table: `repeats` inverted residual blocks."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


class Variant(NamedTuple):
    """What tells a size of the family from the others: factors of `BASE_STAGES`."""

    width: float
    """of the filters"""
    depth: float
    """of the repeats"""
    image_size: int
    """side of the pictures that its published weights were trained with, in pixels"""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The architecture table; the lite variants do not repeat the first and last stage more."""
        ends = (0, len(BASE_STAGES) - 1)
        return tuple(
            stage._replace(
                repeats=stage.repeats if i in ends else math.ceil(self.depth * stage.repeats),
                filters=round_filters(stage.filters * self.width),
            )
            for i, stage in enumerate(BASE_STAGES)
        )


STEM_FILTERS, HEAD_FILTERS = 32, 1280
"""the same in all lite variants"""
BASE_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
NUM_STAGES = len(BASE_STAGES) + 1
"""with the head"""
VARIANTS = {
    "efficientnet-lite0": Variant(1.0, 1.0, 224),
    "efficientnet-lite1": Variant(1.0, 1.1, 240),
    "efficientnet-lite2": Variant(1.1, 1.2, 260),
}


def round_filters(filters: float) -> int:
    """The nearest multiple of 8, or the next where that would take away more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


def batch_norm(x: Any, name: str) -> Any:
    """Batch normalisation with the constants of the published checkpoints."""
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)


def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """Bias-free convolution, TensorFlow "same" padding, then batch norm and ReLU6."""
    x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=name)(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(batch_norm(x, name))


def inverted_residual(x: Any, stage: Stage, stride: int, name: str) -> Any:
    """Expand 1x1, depthwise kxk, project 1x1 (linear); add the input where shapes allow."""
    shortcut = x
    filters_in = int(x.shape[-1])
    if stage.expansion != 1:
        x = conv(x, filters_in * stage.expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(
        stage.kernel, stride, "same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu6")(batch_norm(x, f"{name}_depthwise"))
    x = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = batch_norm(x, f"{name}_project")
    if stride == 1 and filters_in == stage.filters:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def efficientnet_lite(pictures: Any, variant: Variant) -> Any:
    """Feature map of an EfficientNet-Lite.

    Args:
        pictures: Keras tensor (batch, height, width, 3), values 0..255.
        variant: one of `VARIANTS`.

    Returns:
        Keras tensor (batch, ceil(height / 32), ceil(width / 32), 1280).
    """
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(pictures)
    x = conv(x, STEM_FILTERS, 3, 2, "stem")
    for i, stage in enumerate(variant.stages):
        for j in range(stage.repeats):
            stride = stage.stride if j == 0 else 1
            x = inverted_residual(x, stage, stride, f"stage{i + 1}_block{j + 1}")
    return conv(x, HEAD_FILTERS, 1, 1, "head")


def classifier(variant: Variant, image_size: int, num_classes: int = 1000) -> keras.Model:
    """The ImageNet classifier the checkpoints were trained as, for reference checks."""
    pictures = keras.Input((image_size, image_size, 3))
    x = layers.GlobalAveragePooling2D()(efficientnet_lite(pictures, variant))
    return keras.Model(pictures, layers.Dense(num_classes, name="imagenet")(x))
