"""Layers: attention pooling over a feature map, and logits with input-dependent label noise.

Each layer is an adapter around pure functions of `keras.ops`, which run on any backend.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from e6tag.quadrature import marginal_logits

SMALLEST_SCALE = 1e-3
"""added to the softplus of the diagonal, so that no latent is without noise"""
INITIAL_DIAGONAL = 0.2
"""per-tag standard deviation at the start: see `HeteroscedasticLogits`"""
INITIAL_MULTIPLIER = 0.1
"""factor part at the start; not 0, where its gradient would vanish for ever"""


def latent_scale(loadings: Any, diagonal: Any) -> Any:
    """Standard deviation of each latent u = mu + V e + d * e', which is all a marginal needs.

    Args:
        loadings: V, (..., num_tags, num_factors).
        diagonal: d, (..., num_tags).

    Returns:
        sqrt(sum_r V_kr^2 + d_k^2), (..., num_tags).
    """
    return ops.sqrt(ops.sum(ops.square(loadings), axis=-1) + ops.square(diagonal))


def efficient_scale(multiplier: Any, factors: Any, diagonal: Any) -> Any:
    """`latent_scale` of V_kr = multiplier_k * factors_rk, without making V.

    Args:
        multiplier: v(x), (batch, num_tags).
        factors: shared directions, (num_factors, num_tags).
        diagonal: d, (batch, num_tags).

    Returns:
        (batch, num_tags).
    """
    lengths = ops.sum(ops.square(factors), axis=0)
    return ops.sqrt(ops.square(multiplier) * lengths + ops.square(diagonal))


def inverse_softplus(value: float) -> float:
    """x with softplus(x) = value, for value > 0."""
    return value + math.log(-math.expm1(-value))


@keras.saving.register_keras_serializable("e6tag")
class HeteroscedasticLogits(keras.layers.Layer):
    """Logits of tags under input-dependent label noise with low-rank factors.

    The latent of tag k is u_k = mu_k(x) + v_k(x) * sum_r F_rk e_r + d_k(x) e'_k with standard
    normal e, e'; its probability is the mean of sigmoid(u_k / temperature).  mu, v and
    softplus^-1(d) are linear in x, so the parameters are 3 K (D + 1) + K R: linear in the number
    of tags.  (Collier et al. 2021, arXiv:2105.10305, parameter-efficient form; the factors have no
    bias, which would be noise with a mean.)  The marginal depends on the factors only through
    each latent's standard deviation; their correlation matters to joint likelihoods only (`joint`).

    At the start the deviations are about sqrt(0.2^2 + 0.1^2) = 0.22 times the temperature: small
    enough that p stays within 3 % of the prior in `bias` (E[exp(s e)] = exp(s^2 / 2)), large
    enough that the gradient of the scale, which is proportional to it, is alive.

    Computed in float32 under mixed precision too: float16 has no room for log (1 - p).

    Args:
        num_tags: K.
        num_factors: R; 0 keeps the per-tag part only.
        temperature: divides the latents before the sigmoid.
        nodes: quadrature points.
        bias: (K,) logits to start from, for instance log(share / (1 - share)); None for zeros.

    Call: vector (batch, D) -> logits (batch, K), latent standard deviations (batch, K).
    """

    def __init__(
        self,
        num_tags: int,
        num_factors: int = 8,
        temperature: float = 1.0,
        nodes: int = 8,
        bias: Sequence[float] | np.ndarray | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_tags, self.num_factors = num_tags, num_factors
        self.temperature, self.nodes = temperature, nodes
        self.bias = None if bias is None else [float(value) for value in bias]
        if self.bias is not None and len(self.bias) != num_tags:
            raise ValueError(f"bias has {len(self.bias)} values for {num_tags} tags.")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for vectors of input_shape[-1] numbers."""
        inputs, scale = int(input_shape[-1] or 0), self.temperature
        self.location = self.linear(inputs, "location", self.prior)
        diagonal = inverse_softplus(INITIAL_DIAGONAL * scale)
        self.diagonal = self.linear(inputs, "diagonal", keras.initializers.Constant(diagonal))
        if self.num_factors:
            start = keras.initializers.Constant(INITIAL_MULTIPLIER * scale)
            self.multiplier = self.linear(inputs, "multiplier", start)
            self.factors = self.add_weight(
                shape=(self.num_factors, self.num_tags),
                initializer=keras.initializers.RandomNormal(stddev=self.num_factors**-0.5),
                name="factors",
            )

    def linear(self, inputs: int, name: str, bias: Any) -> tuple[Any, Any]:
        """Kernel and bias of one output per tag; small kernels let the bias lead at first."""
        kernel = self.add_weight(
            shape=(inputs, self.num_tags),
            initializer=keras.initializers.RandomNormal(stddev=0.01 * self.temperature),
            name=f"{name}_kernel",
        )
        return kernel, self.add_weight(
            shape=(self.num_tags,), initializer=bias, name=f"{name}_bias"
        )

    def prior(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Latent means at the start: the temperature will divide them."""
        start = np.zeros(shape) if self.bias is None else np.asarray(self.bias)
        return ops.convert_to_tensor(start * self.temperature, dtype=dtype)

    def parts(self, vector: Any) -> tuple[Any, Any, Any]:
        """mu, v (None without factors) and d of the latents, each (batch, K)."""

        def apply(weights: tuple[Any, Any]) -> Any:
            return ops.matmul(vector, weights[0]) + weights[1]

        diagonal = ops.softplus(apply(self.diagonal)) + SMALLEST_SCALE
        multiplier = apply(self.multiplier) if self.num_factors else None
        return apply(self.location), multiplier, diagonal

    def latents(self, vector: Any) -> tuple[Any, Any]:
        """Means and standard deviations of the latents, both (batch, K)."""
        mu, multiplier, diagonal = self.parts(vector)
        if multiplier is None:
            return mu, diagonal
        return mu, efficient_scale(multiplier, self.factors, diagonal)

    def call(self, vector: Any) -> tuple[Any, Any]:
        """Marginal logits and latent standard deviations."""
        mu, scale = self.latents(ops.cast(vector, self.compute_dtype))
        return marginal_logits(mu, scale, self.temperature, self.nodes), scale

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Two shapes (batch, K)."""
        shape = (input_shape[0], self.num_tags)
        return shape, shape

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        return {
            **super().get_config(),
            "num_tags": self.num_tags,
            "num_factors": self.num_factors,
            "temperature": self.temperature,
            "nodes": self.nodes,
            "bias": self.bias,
        }


def attend(queries: Any, keys: Any, values: Any, heads: int) -> Any:
    """Multi-head scaled dot-product attention.

    Args:
        queries: (batch or 1, asking tokens, heads * key_size).
        keys, values: (batch, tokens, heads * key_size).
        heads: number of heads.

    Returns:
        (batch, asking tokens, heads * key_size).
    """
    width = queries.shape[2]
    size = width // heads

    def split(x: Any) -> Any:
        shape = (ops.shape(x)[0], x.shape[1], heads, size)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    weights = ops.matmul(split(queries), ops.transpose(split(keys), (0, 1, 3, 2)))
    weights = ops.softmax(weights * size**-0.5, axis=-1)
    mixed = ops.transpose(ops.matmul(weights, split(values)), (0, 2, 1, 3))
    return ops.reshape(mixed, (ops.shape(keys)[0], queries.shape[1], width))


@keras.saving.register_keras_serializable("e6tag")
class AttentionPooling(keras.layers.Layer):
    """Pool a feature map to [mean of the map ; mean of its self-attention].

    Every cell attends to every other, so that a part of a picture can be read in the light of
    the rest; the plain mean stays beside it (residual concatenation), so that nothing is lost
    before attention has learned anything.  Cells are layer-normalised first.  The width does not
    depend on the number of tags.

    Args:
        heads: attention heads.
        key_size: channels of each head (32 to 64; few make a narrow bottleneck).

    Call: feature map (batch, height, width, C) -> (batch, C + heads * key_size).
    """

    def __init__(self, heads: int = 4, key_size: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads, self.key_size = heads, key_size
        width = heads * key_size
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, name="norm", dtype=self.dtype_policy
        )
        self.query = keras.layers.Dense(width, name="query", dtype=self.dtype_policy)
        # A bias of the keys would add the same to all of a query's scores: softmax ignores it.
        self.key = keras.layers.Dense(width, use_bias=False, name="key", dtype=self.dtype_policy)
        self.value = keras.layers.Dense(width, name="value", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for maps of input_shape[-1] channels."""
        tokens = (input_shape[0], None, input_shape[-1])
        for layer in (self.norm, self.query, self.key, self.value):
            layer.build(tokens)

    def call(self, features: Any) -> Any:
        """Mean of the map, then mean of its self-attention."""
        _, height, width, channels = features.shape
        tokens = ops.reshape(features, (-1, height * width, channels))
        normed = self.norm(tokens)
        attended = attend(self.query(normed), self.key(normed), self.value(normed), self.heads)
        return ops.concatenate([ops.mean(tokens, axis=1), ops.mean(attended, axis=1)], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(batch, C + heads * key_size)."""
        return input_shape[0], (input_shape[-1] or 0) + self.heads * self.key_size

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        return {**super().get_config(), "heads": self.heads, "key_size": self.key_size}
