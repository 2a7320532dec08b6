"""Probabilities of tags under normal label noise, as logits: Gauss-Hermite quadrature."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops


def gauss_hermite(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature for the standard normal: E[f(e)] is about sum_i weights[i] * f(points[i]).

    Args:
        nodes: number of points; exact for polynomials of degree 2 * nodes - 1.

    Returns:
        points and weights, float64 (nodes,); the weights sum to 1.
    """
    points, weights = np.polynomial.hermite.hermgauss(nodes)
    return points * math.sqrt(2.0), weights / math.sqrt(math.pi)


def marginal_logits(mu: Any, s: Any, temperature: float = 1.0, nodes: int = 8) -> Any:
    """Logit of p = E[sigmoid(u / temperature)] with u normal of mean mu and deviation s.

    Gauss-Hermite quadrature, scaled so that p near 0 or 1 loses no digits (`node_sums`).
    Compared with sampling (Collier et al., arXiv:2105.10305) it is deterministic, exports
    without random operations and needs a hundredth of the memory.  8 nodes are within 3e-4 of
    the integral for s up to 2 at temperature 1, and within 6e-3 at temperature 0.5.

    Its derivatives come from the same sums, so nothing of the nodes is kept for the way back:
    d logit / dz_i = w_i sigmoid(z_i) sigmoid(-z_i) / (p (1 - p)).

    Args:
        mu: latent means, (..., num_tags).
        s: latent standard deviations, not negative; broadcast against the means.
        temperature: divides the latents.
        nodes: quadrature points.

    Returns:
        log p - log (1 - p), same shape as mu + s.
    """
    if tuple(mu.shape) != tuple(s.shape):
        mu, s = mu + ops.zeros_like(s), s + ops.zeros_like(mu)

    def of_scaled(mean: Any, deviation: Any) -> Any:
        logits, by_mean, by_deviation = node_sums(mean, deviation, nodes)

        def gradient(*args: Any, upstream: Any = None) -> tuple[Any, Any]:
            upstream = args[0] if upstream is None else upstream
            return upstream * by_mean, upstream * by_deviation

        return logits, gradient

    return ops.custom_gradient(of_scaled)(mu / temperature, s / temperature)


def node_sums(mean: Any, deviation: Any, nodes: int) -> tuple[Any, Any, Any]:
    """Logit of E[sigmoid(z)], z normal, by quadrature, and its derivatives.

    With z_i = mean + deviation x_i the sums over the nodes are of sigmoid(z_i) / e^high and
    sigmoid(-z_i) / e^low, where e^high and e^low are near the largest of each: no sum can
    underflow, as the outermost node, whose weight is 1e-4 for 8 of them, is one of its terms.

    Args:
        mean, deviation: of z, (..., num_tags), of one shape; deviations are not negative.
        nodes: quadrature points.

    Returns:
        logit, its derivative by the mean, and by the deviation; the same shape each.
    """
    points, weights = gauss_hermite(nodes)
    dtype = keras.backend.standardize_dtype(mean.dtype)
    # Nodes come first: sums over a last axis of eight numbers would take twice as long.
    column = (nodes,) + (1,) * len(mean.shape)
    points, weights = (values.astype(dtype).reshape(column) for values in (points, weights))
    reach = deviation * points.max()
    high, low = ops.minimum(mean + reach, 0.0), ops.minimum(reach - mean, 0.0)
    z = ops.expand_dims(mean, 0) + ops.expand_dims(deviation, 0) * points
    larger = 1.0 / (1.0 + ops.exp(-ops.abs(z)))
    positive = ops.exp(ops.minimum(z, 0.0) - high) * larger
    negative = ops.exp(ops.minimum(-z, 0.0) - low) * larger
    p = ops.sum(weights * positive, axis=0)
    not_p = ops.sum(weights * negative, axis=0)
    slopes = weights * positive * negative
    by_mean = ops.sum(slopes, axis=0) / (p * not_p)
    by_deviation = ops.sum(slopes * points, axis=0) / (p * not_p)
    return high - low + ops.log(p) - ops.log(not_p), by_mean, by_deviation
