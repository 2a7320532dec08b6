"""Losses over tags: cross-entropy, focal, and the adaptive robust form of either.

Pure elementwise functions of (labels, logits).
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

ALPHA_RANGE = (0.001, 1.999)
"""shapes that training may choose: from nearly Cauchy to nearly normal"""
SMALLEST_SCALE = 0.3
"""Lower bound of a tag's residual scale c.

Most residuals of a rare tag are tiny, so its likelihood pulls c towards 0.  There the weight of an
example, up to 1 / c^2, grows without limit and what remains is the logarithm of the loss: every
easy negative is as loud as a missed positive.  On synthetic tags (128, prevalence 0.3 to 0.006,
SGD until c had settled) macro AP was .332 with a bound of 1e-5, .406 with .02, .440 with .1, .471
with .3; summed cross-entropy reached .485.
"""
INITIAL_SCALE = 1.0
QUADRATURE_END, QUADRATURE_NODES = 3.2, 40


def binary_cross_entropy(labels: Any, logits: Any) -> Any:
    """-log sigmoid(z) for y = 1, -log(1 - sigmoid(z)) for y = 0, elementwise.

    Args:
        labels: 0..1, same shape as the logits and of a float type.
        logits: any shape.
    """
    return ops.softplus(logits) - labels * logits


def faded(missed: Any, gamma: float) -> Any:
    """Weight missed^gamma of a label, elementwise.

    Args:
        missed: probability that was not given to the truth, 0..1, any shape.
        gamma: how fast well-predicted labels fade, not negative.
    """
    # The floor keeps the gradient of the power finite for gamma < 1.
    return ops.power(ops.maximum(missed, 1e-12), gamma)


def focal(labels: Any, logits: Any, alpha: float | None = 0.25, gamma: float = 2.0) -> Any:
    """Focal loss a_t (1 - p_t)^gamma CE of Lin et al. (arXiv:1708.02002), elementwise.

    p_t is the probability of the truth; a_t is alpha for positives and 1 - alpha for negatives.
    1 - p_t is computed from the logits, so well-predicted labels lose no digits.

    Args:
        labels: 0..1, same shape as the logits and of a float type.
        logits: any shape.
        alpha: weight of positives; None weighs both sides 1.
        gamma: how fast well-predicted labels fade; 0 with alpha None is cross-entropy.
    """
    missed = labels * ops.sigmoid(-logits) + (1.0 - labels) * ops.sigmoid(logits)
    loss = faded(missed, gamma) * binary_cross_entropy(labels, logits)
    if alpha is None:
        return loss
    return loss * (labels * alpha + (1.0 - labels) * (1.0 - alpha))


def robust(x_squared: Any, alpha: Any, scale: Any) -> Any:
    """Barron's general robust loss rho(x, alpha, scale) (arXiv:1701.03077), elementwise.

    alpha 2 is half the square, 1 Charbonnier's, 0 Cauchy's, -2 Geman and McClure's, -inf
    Welsch's.  Takes the square of the residual: no root, so no infinite gradient at 0.

    Args:
        x_squared: squared residuals, not negative.
        alpha: shape of the loss, any real number or an infinity; broadcast.
        scale: size of residuals at which the loss bends, positive; broadcast.
    """
    dtype = keras.backend.standardize_dtype(x_squared.dtype)
    alpha = ops.convert_to_tensor(alpha, dtype=dtype)
    squared = x_squared / ops.square(ops.convert_to_tensor(scale, dtype=dtype))
    limits = (
        (alpha == 2.0, 0.5 * squared),
        (alpha == 0.0, ops.log1p(0.5 * squared)),
        (alpha == -math.inf, -ops.expm1(-0.5 * squared)),
        (alpha == math.inf, ops.expm1(0.5 * ops.minimum(squared, 160.0))),
    )
    # Where a limit applies the general form is still computed: give it a harmless shape, or
    # its gradient is not a number.
    special = limits[0][0] | limits[1][0] | limits[2][0] | limits[3][0]
    shape = ops.where(special, ops.ones_like(alpha), alpha)
    bend = ops.abs(shape - 2.0)
    result = bend / shape * ops.expm1(0.5 * shape * ops.log1p(squared / bend))
    for applies, value in limits:
        result = ops.where(applies, value, result)
    return result


def partition_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Double-exponential quadrature over the real line for even functions.

    Returns:
        squared points and logarithms of their weights, float64 (QUADRATURE_NODES,).
    """
    u = np.linspace(0.0, QUADRATURE_END, QUADRATURE_NODES)
    inner = 0.5 * np.pi * np.sinh(u)
    weights = 2.0 * (u[1] - u[0]) * 0.5 * np.pi * np.cosh(u) * np.cosh(inner)
    weights[0] /= 2.0
    return np.sinh(inner) ** 2, np.log(weights)


def log_partition(alpha: Any) -> Any:
    """log Z(alpha), Z the integral of exp(-rho(x, alpha, 1)) over the real line.

    Makes the robust loss a likelihood, so that its shape can be trained: a small alpha forgives
    outliers but must pay for its heavy tails.  Computed on the spot by 40-point quadrature (x =
    sinh(pi/2 sinh u)), within 1e-6 for alpha in [0.001, 2] and smooth, instead of the table of
    splines that the paper's code brings along.

    Args:
        alpha: shapes in [0.001, 2], any shape.
    """
    x_squared, log_weights = partition_nodes()
    alpha = ops.expand_dims(alpha, -1)
    dtype = keras.backend.standardize_dtype(alpha.dtype)
    rho = robust(ops.convert_to_tensor(x_squared.astype(dtype)), alpha, 1.0)
    return ops.logsumexp(log_weights.astype(dtype) - rho, axis=-1)


def robust_nll(x_squared: Any, alpha: Any, scale: Any) -> Any:
    """Negative log-likelihood rho(x, alpha, scale) + log scale + log Z(alpha), elementwise.

    Args:
        x_squared: squared residuals, (..., num_tags).
        alpha: shapes in [0.001, 2], broadcast.
        scale: positive, broadcast.
    """
    return robust(x_squared, alpha, scale) + ops.log(scale) + log_partition(alpha)


def alpha_of(latent: Any) -> Any:
    """Shape in ALPHA_RANGE of an unconstrained latent; 0 gives 1."""
    low, high = ALPHA_RANGE
    return low + (high - low) * ops.sigmoid(latent)


def scale_of(latent: Any, lowest: float = SMALLEST_SCALE) -> Any:
    """Scale above `lowest` of an unconstrained latent; 0 gives INITIAL_SCALE."""
    shift = math.log(math.e - 1.0)
    return lowest + (INITIAL_SCALE - lowest) * ops.softplus(latent + shift)


def inside_robust(loss: Any, alpha: Any, scale: Any) -> Any:
    """Adaptive robust likelihood of the residuals x = sign(y - p) sqrt(2 loss), elementwise.

    At alpha 2 and scale 1 it is the loss plus a constant.  Smaller alphas forgive labels that the
    picture contradicts (a booru's missing tags); the scale weighs the tags.

    Args:
        loss: `binary_cross_entropy` or `focal` of each tag and picture, (batch, num_tags).
        alpha, scale: one of each per tag, (1, num_tags).
    """
    return robust_nll(2.0 * loss, alpha, scale)
