"""Logistic regression with a ridge penalty, in NumPy.

`fit` minimises  sum of the cross-entropies + l2 / 2 * sum of the squared weights,
which is scikit-learn's LogisticRegression with C = 1 / l2; the bias is free.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.heads import Kind, activate

Array = NDArray[np.float64]

MAX_STEPS = 100
MAX_CONJUGATE_STEPS = 250
GRADIENT_TOLERANCE = 1e-7
"""On the largest part of the gradient, for each example."""


def fit_scaled(vectors: NDArray[Any], labels: NDArray[Any], l2: float, kind: Kind) -> Array:
    """Fit on vectors brought to mean 0 and deviation 1; the map takes them as they are.

    Args:
        vectors: (n, D).
        labels: (n, C), 0 and 1; with softmax exactly one 1 a row.
        l2: strength of the penalty on the weights of the scaled vectors.
        kind: softmax or sigmoid.

    Returns:
        (D + 1, C): weights, and in the last row the bias.
    """
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    # A dimension that never changes tells nothing: any finite scale will do.
    deviation = np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, 1.0)
    fitted = fit((vectors - mean) / deviation, labels, l2, kind)
    weights = fitted[:-1] / deviation[:, None]
    return np.vstack([weights, fitted[-1] - mean @ weights])


def fit(vectors: NDArray[Any], labels: NDArray[Any], l2: float, kind: Kind) -> Array:
    """Fit by Newton's method, each step solved by conjugate gradients.

    Arguments and result as of `fit_scaled`, without the scaling.  The loss is convex, so
    what it ends at is the minimum; it stops at `GRADIENT_TOLERANCE`.
    """
    x = np.hstack([vectors, np.ones((len(vectors), 1))]).astype(np.float64)
    y = labels.astype(np.float64)
    penalty = np.full((x.shape[1], 1), float(l2))
    penalty[-1] = 0.0
    theta = np.zeros((x.shape[1], y.shape[1]))
    for _ in range(MAX_STEPS):
        probabilities = activate(x @ theta, kind)
        gradient = x.T @ (probabilities - y) + penalty * theta
        if np.abs(gradient).max() <= GRADIENT_TOLERANCE * len(x):
            break
        curve = curvature(x, probabilities, penalty, kind)
        moved = line_search(x, y, penalty, kind, theta, solve(curve, -gradient))
        if moved is theta:  # rounding hides any further descent
            break
        theta = moved
    return theta


def loss(x: Array, y: Array, penalty: Array, kind: Kind, theta: Array) -> float:
    """Sum of the cross-entropies and the penalty, without overflow."""
    logits = x @ theta
    if kind == "softmax":
        top = logits.max(axis=1)
        entropy = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        total = entropy.sum() - (y * logits).sum()
    else:
        total = (np.logaddexp(0.0, logits) - y * logits).sum()
    return float(total + 0.5 * (penalty * theta**2).sum())


def curvature(
    x: Array, probabilities: Array, penalty: Array, kind: Kind
) -> Callable[[Array], Array]:
    """The Hessian as a function: direction (D + 1, C) to its product with it."""

    def product(direction: Array) -> Array:
        moved = x @ direction
        change = probabilities * moved
        if kind == "softmax":
            change -= probabilities * change.sum(axis=1, keepdims=True)
        else:
            change *= 1.0 - probabilities
        result: Array = x.T @ change + penalty * direction
        return result

    return product


def solve(product: Callable[[Array], Array], target: Array) -> Array:
    """Conjugate gradients: the direction whose product is the target, to a tenth and better.

    The tolerance falls with the target, so that Newton's steps end up converging fast.
    """
    solution = np.zeros_like(target)
    residual = target.copy()
    search = residual.copy()
    squared = float((residual**2).sum())
    goal = squared * min(0.01, squared)
    for _ in range(MAX_CONJUGATE_STEPS):
        if squared <= goal:
            break
        moved = product(search)
        bend = float((search * moved).sum())
        if bend <= 0.0:
            break
        solution += squared / bend * search
        residual -= squared / bend * moved
        before, squared = squared, float((residual**2).sum())
        search = residual + squared / before * search
    return solution if solution.any() else target


def line_search(x: Array, y: Array, penalty: Array, kind: Kind, theta: Array, step: Array) -> Array:
    """The longest of 1, 1/2, 1/4, ... of a step that lowers the loss; none if none does."""
    start = loss(x, y, penalty, kind, theta)
    for halving in range(30):
        moved = theta + 0.5**halving * step
        if loss(x, y, penalty, kind, moved) < start:
            return moved
    return theta
