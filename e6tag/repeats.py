"""Repeat-factor sampling: pictures with rare tags come more than once in an epoch.

Gupta, Dollar and Girshick 2019 (LVIS, arXiv:1908.03195): with f(c) the
share of the pictures that have tag c, r(c) = max(1, sqrt(t / f(c))), and a picture's factor is the
largest of its tags'.  What the model then believes of how common a tag is, is too much: calibrate.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def tag_factors(labels: NDArray[Any], threshold: float) -> Floats:
    """r(c) of each tag, (tags,); 1 for tags of no picture.

    Args:
        labels: (pictures, tags) of 0 and 1.
        threshold: t, the share below which a tag counts as rare.
    """
    shares = labels.mean(axis=0, dtype=np.float64)
    shares[shares == 0] = np.inf
    return np.maximum(1.0, np.sqrt(threshold / shares))


def picture_factors(labels: NDArray[Any], threshold: float) -> Floats:
    """How often each picture comes in an epoch, on average, (pictures,); at least 1."""
    factors = tag_factors(labels, threshold)
    rows = ((np.asarray(row) > 0) for row in labels)
    return np.array([factors[row].max(initial=1.0) for row in rows], np.float64)


def steady_length(factors: Floats) -> int:
    """Examples that every epoch has at least."""
    # Sums in another order differ in their last digits.
    return max(1, int(factors.sum() - 1e-6))


def draw_copies(factors: Floats, rng: Any) -> NDArray[np.int64]:
    """Rows of an epoch, each as often as its factor says, rounded at random to either side.

    Rounded by systematic sampling (one random offset along the sum of the factors, the pictures in
    random order) instead of picture by picture: the mean is the same, and every epoch has as many
    steps as any other.
    """
    shuffled = rng.permutation(len(factors))
    ends = np.floor(np.cumsum(factors[shuffled]) + rng.random()).astype(np.int64)
    return np.repeat(shuffled, np.diff(ends, prepend=0))


def occurrences(order: NDArray[np.int64], start: int, count: int) -> NDArray[np.int64]:
    """How often each of order[start : start + count] came before its place in `order`."""
    rows = order[start : start + count]
    seen = np.bincount(order[:start], minlength=int(order.max()) + 1)
    result = np.empty(len(rows), np.int64)
    for i, row in enumerate(rows):
        result[i] = seen[row]
        seen[row] += 1
    return result
