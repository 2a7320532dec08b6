"""Logits with label noise in the vector, for many tags: its parameters do not grow with them.

Source: Collier et al., ICLR 2023 (HET-XL, arXiv:2301.12860), with marginals by quadrature in the
place of samples.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from e6tag.layers import (
    INITIAL_DIAGONAL,
    INITIAL_MULTIPLIER,
    SMALLEST_SCALE,
    inverse_softplus,
)
from e6tag.quadrature import marginal_logits

TEMPERATURE_RANGE = (0.5, 1.5)
"""between which shares of the one that was asked for a learned temperature stays"""


def projected_scale(kernel: Any, loadings: Any | None, diagonal: Any) -> Any:
    """Standard deviation of each latent: s_k^2 = w_k^T (V V^T + diag d^2) w_k.

    Costs (R + 1) D multiply-adds a tag; the largest array is (batch, R, num_tags).

    Args:
        kernel: W, (D, num_tags).
        loadings: V^T of the vector's noise, (batch, R, D); None for none.
        diagonal: d of the vector's noise, (batch, D).

    Returns:
        (batch, num_tags); SMALLEST_SCALE^2 is added to s_k^2, where sqrt has no slope at 0.
    """
    variance = ops.matmul(ops.square(diagonal), ops.square(kernel)) + SMALLEST_SCALE**2
    if loadings is not None:
        variance += ops.sum(ops.square(ops.matmul(loadings, kernel)), axis=1)
    return ops.sqrt(variance)


@keras.saving.register_keras_serializable("e6tag")
class VectorNoiseLogits(keras.layers.Layer):
    """Logits of tags whose noise is that of the vector they are computed from.

    The latents are u = W^T (h + v(h) * F^T e + d(h) * e') + b, standard normal e (R) and e' (D),
    so that Cov(u) = W^T (V V^T + diag d^2) W with V_dr = v_d F_rd.  v and softplus^-1(d) are
    linear in h: beside W and b there are 2 D (D + 1) + R D parameters, whatever the number of tags.
    Noise starts with deviations of a fifth (and a tenth), whatever the size of h.

    Computed in float32 under mixed precision too, as `HeteroscedasticLogits`.

    Args:
        num_tags: K.
        num_factors: R; 0 keeps the diagonal only.
        temperature: divides the latents before the sigmoid.
        learn_temperature: tau = lo + (hi - lo) sigmoid(t) with t from 0, where lo and hi are
            TEMPERATURE_RANGE times `temperature`.
        nodes: quadrature points.
        bias: (K,) logits to start from; None for zeros.

    Call: vector (batch, D) -> logits (batch, K), latent standard deviations (batch, K).
    """

    def __init__(
        self,
        num_tags: int,
        num_factors: int = 8,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        nodes: int = 8,
        bias: Sequence[float] | np.ndarray | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_tags, self.num_factors = num_tags, num_factors
        self.temperature, self.learn_temperature = temperature, learn_temperature
        self.nodes = nodes
        self.bias = None if bias is None else [float(value) for value in bias]
        if self.bias is not None and len(self.bias) != num_tags:
            raise ValueError(f"bias has {len(self.bias)} values for {num_tags} tags.")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for vectors of input_shape[-1] numbers."""
        inputs = int(input_shape[-1] or 0)
        small = 0.01 * self.temperature
        self.location = self.linear(inputs, self.num_tags, "location", self.prior, small)
        start = keras.initializers.Constant(inverse_softplus(INITIAL_DIAGONAL))
        self.diagonal = self.linear(inputs, inputs, "diagonal", start)
        if self.num_factors:
            start = keras.initializers.Constant(INITIAL_MULTIPLIER)
            self.multiplier = self.linear(inputs, inputs, "multiplier", start)
            normal = keras.initializers.RandomNormal(stddev=self.num_factors**-0.5)
            shape = (self.num_factors, inputs)
            self.factors = self.add_weight(shape=shape, initializer=normal, name="factors")
        if self.learn_temperature:
            self.latent = self.add_weight(shape=(), initializer="zeros", name="temperature_latent")

    def linear(
        self, inputs: int, outputs: int, name: str, bias: Any, scale: float = 0.01
    ) -> tuple[Any, Any]:
        """Kernel (inputs, outputs) and bias; small kernels let the bias lead at first."""
        normal = keras.initializers.RandomNormal(stddev=scale)
        return (
            self.add_weight(shape=(inputs, outputs), initializer=normal, name=f"{name}_kernel"),
            self.add_weight(shape=(outputs,), initializer=bias, name=f"{name}_bias"),
        )

    def prior(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Latent means at the start: the temperature will divide them."""
        start = np.zeros(shape) if self.bias is None else np.asarray(self.bias)
        return ops.convert_to_tensor(start * self.temperature, dtype=dtype)

    def tau(self) -> Any:
        """The temperature, learned or not."""
        if not self.learn_temperature:
            return self.temperature
        low, high = (share * self.temperature for share in TEMPERATURE_RANGE)
        return low + (high - low) * ops.sigmoid(self.latent)

    def parts(self, vector: Any) -> tuple[Any, Any | None, Any]:
        """mu (batch, K), V^T (batch, R, D) (None without factors) and d (batch, D)."""

        def apply(weights: tuple[Any, Any]) -> Any:
            return ops.matmul(vector, weights[0]) + weights[1]

        diagonal = ops.softplus(apply(self.diagonal)) + SMALLEST_SCALE
        loadings = None
        if self.num_factors:
            loadings = ops.expand_dims(apply(self.multiplier), 1) * self.factors
        return apply(self.location), loadings, diagonal

    def call(self, vector: Any) -> tuple[Any, Any]:
        """Marginal logits and latent standard deviations."""
        mu, loadings, diagonal = self.parts(ops.cast(vector, self.compute_dtype))
        scale = projected_scale(self.location[0], loadings, diagonal)
        return marginal_logits(mu, scale, self.tau(), self.nodes), scale

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Two shapes (batch, K)."""
        shape = (input_shape[0], self.num_tags)
        return shape, shape

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        names = ("num_tags", "num_factors", "temperature", "learn_temperature", "nodes", "bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
