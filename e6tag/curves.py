"""Precision-recall and ROC curves for a plot: of all decisions together, and of the tags.

Every point is exact for the pictures that are looked at.  Of more than `ENOUGH_PAIRS` decisions,
every so-many-th picture is looked at, so that memory and time are bounded.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import tag_rankings
from e6tag.ranking import Curve

Floats = NDArray[np.float64]

ENOUGH_PAIRS = 20_000_000
"""pictures x tags that are looked at"""
NUM_POINTS = 200
"""of a drawn curve, at most about twice so many"""
GRID = np.linspace(0.0, 1.0, 101)
"""recalls, or false-positive rates, at which the curves of tags are averaged"""
BAND = (25.0, 75.0)
"""percentiles of the tags"""


@dataclass(frozen=True)
class Line:
    """A drawn curve: x and y of its points, from the left to the right."""

    x: Floats
    y: Floats


@dataclass(frozen=True)
class Middle:
    """Curves of many tags at the points of `GRID`, (101,) each."""

    mean: Floats
    low: Floats
    high: Floats
    num_tags: int


@dataclass(frozen=True)
class Curves:
    """What the two plots show."""

    precision_recall: Line
    roc: Line
    prior_precision_recall: Line
    prior_roc: Line
    tags_precision_recall: Middle | None
    """None where no tag counts"""
    tags_roc: Middle | None
    every: int
    """one picture in so many was looked at"""


def curves(
    labels: NDArray[Any], scores: NDArray[Any], prior: Floats, min_positives: int
) -> Curves | None:
    """The curves of a split; None where all decisions are of one kind.

    Args:
        labels: (n, K) of 0 and 1; may be memory-mapped.
        scores: (n, K) finite.
        prior: (K,) what a predictor says that never looks.
        min_positives: tags with fewer, among the pictures looked at, stay out of means over tags.
    """
    every = max(1, -(-labels.size // ENOUGH_PAIRS))
    truth, some = np.ascontiguousarray(labels[::every]) != 0, np.ascontiguousarray(scores[::every])
    tag_rankings.release(labels, scores)
    if not truth.any() or truth.all():
        return None
    micro = tag_rankings.micro_curve(truth, some)
    blind = tag_rankings.micro_curve(truth, np.broadcast_to(prior, truth.shape))
    of_tags = list(tag_rankings.map_tags(partial(on_grid, min_positives), truth, some))
    counted = [pair for pair in of_tags if pair is not None]
    both = [middle(np.array(values)) for values in zip(*counted, strict=True)]
    of_precision, of_rates = both if both else (None, None)
    return Curves(
        thinned(precision_recall(micro)),
        thinned(roc(micro)),
        thinned(precision_recall(blind)),
        thinned(roc(blind)),
        of_precision,
        of_rates,
        every,
    )


def precision_recall(curve: Curve) -> Line:
    """Precision over recall at each distinct score of a positive, the highest first."""
    return Line(curve.hits / curve.hits[-1], curve.hits / (curve.hits + curve.misses))


def roc(curve: Curve) -> Line:
    """Recall over the false-positive rate, with both ends.

    Between two scores of positives come negatives alone: the curve goes level to where the next
    positives begin, then up to them (slanting, where negatives are tied with them).
    """
    before = np.append(0, curve.hits[:-1])
    x = np.column_stack([curve.misses_above, curve.misses]).ravel() / curve.num_negatives
    y = np.column_stack([before, curve.hits]).ravel() / curve.hits[-1]
    return Line(np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]]))


def thinned(line: Line) -> Line:
    """Some of a curve's points: evenly spread along both axes, the ends among them."""
    kept = [0, len(line.x) - 1]
    for values in (line.x, np.maximum.accumulate(np.abs(line.y - line.y[0]))):
        steps = np.linspace(values[0], values[-1], NUM_POINTS)
        kept.extend(np.minimum(np.searchsorted(values, steps), len(values) - 1).tolist())
    chosen = np.unique(kept)
    return Line(line.x[chosen], line.y[chosen])


def on_grid(min_positives: int, curve: Curve) -> tuple[Floats, Floats] | None:
    """A tag's precision and its ROC at `GRID`, (101,) each; None where it does not count.

    The precision at a recall is that of the highest cut-off that reaches it.
    """
    if not len(curve.hits) or curve.hits[-1] < min_positives or not curve.num_negatives:
        return None
    line, rates = precision_recall(curve), roc(curve)
    reached = np.searchsorted(line.x, GRID - 1e-9)
    return line.y[np.minimum(reached, len(line.y) - 1)], np.interp(GRID, rates.x, rates.y)


def middle(values: Floats) -> Middle:
    """Mean and quartiles of the curves of tags, (tags, 101)."""
    low, high = np.percentile(values, BAND, axis=0)
    return Middle(values.mean(axis=0), low, high, len(values))
