"""Channel attention: a picture's own weight, 0 to 1, for each channel of a feature map.

Each layer is an adapter around pure functions of `keras.ops`, which run on any backend.
"""

import math
from typing import Any

import keras
from keras import ops

REDUCTION = 16
"""channels for each number that squeeze-and-excitation squeezes them into"""
LEAST_SQUEEZED = 8


def squeezed_size(channels: int) -> int:
    """Numbers that squeeze-and-excitation squeezes so many channels into."""
    return max(LEAST_SQUEEZED, channels // REDUCTION)


def kernel_size(channels: int) -> int:
    """Neighbouring channels that efficient channel attention looks at: odd, at least 3.

    |log2(C) / 2 + 1 / 2| taken to the odd number at or above its whole part, as in the authors'
    code (arXiv:1910.03151, equation 12).
    """
    size = int(abs((math.log2(channels) + 1) / 2))
    return max(3, size if size % 2 else size + 1)


def weigh(features: Any, weights: Any) -> Any:
    """Each channel times its weight: (batch, height, width, C) and (batch, C)."""
    return features * ops.expand_dims(ops.expand_dims(weights, 1), 1)


@keras.saving.register_keras_serializable("e6tag")
class SqueezeExcite(keras.layers.Layer):
    """x * sigmoid(W2 relu(W1 mean(x) + b1) + b2) (Hu et al. 2017, arXiv:1709.01507).

    Args:
        squeezed: rows of W1; None for `squeezed_size`.

    Call: feature map (batch, height, width, C) -> the same shape.
    """

    def __init__(self, squeezed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.squeezed = squeezed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for maps of input_shape[-1] channels."""
        channels = int(input_shape[-1] or 0)
        squeezed = self.squeezed or squeezed_size(channels)
        self.squeeze = keras.layers.Dense(
            squeezed, "relu", kernel_initializer="he_normal", name="squeeze",
            dtype=self.dtype_policy,
        )  # fmt: skip
        self.excite = keras.layers.Dense(
            channels, "sigmoid", name="excite", dtype=self.dtype_policy
        )
        self.squeeze.build((None, channels))
        self.excite.build((None, squeezed))

    def call(self, features: Any) -> Any:
        """The map with its channels weighed."""
        return weigh(features, self.excite(self.squeeze(ops.mean(features, axis=(1, 2)))))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        return {**super().get_config(), "squeezed": self.squeezed}


@keras.saving.register_keras_serializable("e6tag")
class EfficientChannelAttention(keras.layers.Layer):
    """x * sigmoid(conv1d(mean(x))) over neighbouring channels (Wang et al. 2019, arXiv:1910.03151).

    A handful of parameters, whatever the width.

    Call: feature map (batch, height, width, C) -> the same shape.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the kernel for maps of input_shape[-1] channels."""
        channels = int(input_shape[-1] or 0)
        self.mix = keras.layers.Conv1D(
            1, kernel_size(channels), padding="same", use_bias=False, activation="sigmoid",
            name="mix", dtype=self.dtype_policy,
        )  # fmt: skip
        self.mix.build((None, channels, 1))

    def call(self, features: Any) -> Any:
        """The map with its channels weighed."""
        means = ops.expand_dims(ops.mean(features, axis=(1, 2)), -1)
        return weigh(features, ops.squeeze(self.mix(means), -1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """That of the input."""
        return input_shape
