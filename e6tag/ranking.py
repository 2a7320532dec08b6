"""One ranking of labelled things: what can be read off it, exactly, ties included."""

from typing import Any, Literal, NamedTuple

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
    return curve_of(np.sort(scores), np.sort(scores[truth]))


def curve_of(scores: NDArray[Any], positives: NDArray[Any]) -> Curve:
    """The ranking by the scores of all (n,) and of the positives among them (p,), both ascending.

    Each positive's place is found by bisection, so that no negative is ever looked at alone.
    """
    thresholds = distinct(positives)
    return make_curve(thresholds, positives, places(scores, thresholds), len(scores))


def distinct(ascending: NDArray[Any]) -> NDArray[Any]:
    """The distinct of ascending numbers."""
    return ascending[np.append(True, ascending[1:] != ascending[:-1])[: len(ascending)]]


def places(ascending: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.int64]:
    """How many numbers are at or above each threshold, and how many above it, (2, thresholds)."""
    sides: tuple[Literal["left"], Literal["right"]] = ("left", "right")
    below = [np.searchsorted(ascending, thresholds, side) for side in sides]
    return len(ascending) - np.stack(below)


def make_curve(
    thresholds: NDArray[Any],
    positives: NDArray[Any],
    of_all: NDArray[np.int64],
    num_scores: int,
) -> Curve:
    """A ranking from its counts.

    Args:
        thresholds: (t,) the distinct scores of positives, ascending.
        positives: (p,) scores of positives, ascending.
        of_all: (2, t) `places` of the thresholds among all scores.
        num_scores: of all.
    """
    hits, hits_above = places(positives, thresholds)
    at, above = of_all
    return Curve(
        thresholds[::-1],
        hits[::-1],
        (at - hits)[::-1],
        (above - hits_above)[::-1],
        num_scores - len(positives),
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
