"""One ranking of labelled things: what can be read off it, exactly, ties included."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Curve(NamedTuple):
    """A ranking, told at each distinct score of a positive, from the highest down."""

    thresholds: NDArray[Any]
    hits: NDArray[np.int64]
    """positives at or above the threshold"""
    misses: NDArray[np.int64]
    """negatives at or above the threshold"""
    misses_above: NDArray[np.int64]
    """negatives above the threshold"""
    num_negatives: int


def ranking_curve(truth: NDArray[np.bool_], scores: NDArray[Any]) -> Curve:
    """The ranking that (n,) finite scores make of (n,) labels; equal scores count together.

    Only scores are sorted, not places: several times faster.
    """
    negatives, positives = np.sort(scores[~truth]), np.sort(scores[truth])
    thresholds = np.unique(positives)[::-1]
    return Curve(
        thresholds,
        len(positives) - np.searchsorted(positives, thresholds, side="left"),
        len(negatives) - np.searchsorted(negatives, thresholds, side="left"),
        len(negatives) - np.searchsorted(negatives, thresholds, side="right"),
        len(negatives),
    )


def area_under_roc(curve: Curve) -> float:
    """Chance that a positive outranks a negative, ties counting half; nan without both."""
    if not len(curve.hits) or not curve.num_negatives:
        return float("nan")
    outranked = curve.num_negatives - (curve.misses + curve.misses_above) / 2.0
    wins = np.sum(np.diff(curve.hits, prepend=0) * outranked)
    return float(wins / (float(curve.hits[-1]) * curve.num_negatives))


def average_precision(curve: Curve) -> float:
    """Mean over positives of the precision down to their score; nan without positives."""
    if not len(curve.hits):
        return float("nan")
    precision = curve.hits / (curve.hits + curve.misses)
    return float(np.sum(np.diff(curve.hits, prepend=0) * precision) / curve.hits[-1])


def best_threshold(curve: Curve) -> float:
    """Score from which on up F1 is largest; 0.5 where there is no positive."""
    if not len(curve.hits):
        return 0.5
    f1 = 2.0 * curve.hits / (curve.hits + curve.misses + curve.hits[-1])
    return float(curve.thresholds[np.argmax(f1)])
