"""Exact metrics of multi-label ranking, in NumPy, under scikit-learn's names and argument order.

y_true is (n, num_tags) of 0 and 1, y_score (n, num_tags) of finite numbers; only metrics of
probabilities (Brier, calibration) care about more than their order.  Ties are handled exactly: no
figure depends on the order of pictures or tags.  Where a figure is undefined it is nan.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e6tag.ranking import (
    Curve,
    area_under_roc,
    average_precision,
    best_threshold,
    ranking_curve,
)

Floats = NDArray[np.float64]
BLOCK_ROWS = 2048
PRECISION_AT = (1, 5, 10)
CALIBRATION_BINS = 15


def check(y_true: ArrayLike, y_score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Labels as bool and scores, both (n, num_tags).

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    truth, scores = np.asarray(y_true), np.asarray(y_score)
    if truth.shape != scores.shape or truth.ndim != 2:
        raise ValueError(f"y_true is {truth.shape} and y_score {scores.shape}, expected the same.")
    if not np.isfinite(scores).all():
        raise ValueError("y_score has values that are not finite.")
    return truth != 0, scores


class PerTag(NamedTuple):
    """One figure per tag each, (num_tags,)."""

    positives: NDArray[np.int64]
    roc_auc: Floats
    """nan without positives or without negatives"""
    average_precision: Floats
    """nan without positives"""


def per_tag(y_true: ArrayLike, y_score: ArrayLike) -> PerTag:
    """Positives, ROC AUC and average precision of every tag."""
    truth, scores = check(y_true, y_score)
    curves = tag_curves(truth, scores)
    return PerTag(
        truth.sum(axis=0, dtype=np.int64),
        np.array([area_under_roc(curve) for curve in curves], dtype=float),
        np.array([average_precision(curve) for curve in curves], dtype=float),
    )


def tag_curves(truth: NDArray[np.bool_], scores: NDArray[Any]) -> list[Curve]:
    """The ranking of each tag."""
    columns = zip(np.ascontiguousarray(truth.T), np.ascontiguousarray(scores.T), strict=True)
    return [ranking_curve(*column) for column in columns]


def roc_auc_per_tag(y_true: ArrayLike, y_score: ArrayLike) -> Floats:
    """ROC AUC of each tag, (num_tags,); nan where a tag has one class only."""
    return per_tag(y_true, y_score).roc_auc


def average_precision_per_tag(y_true: ArrayLike, y_score: ArrayLike) -> Floats:
    """Average precision of each tag, (num_tags,); nan where a tag has no positives."""
    return per_tag(y_true, y_score).average_precision


def micro_curve(y_true: ArrayLike, y_score: ArrayLike) -> Curve:
    """The ranking of all (picture, tag) pairs together."""
    truth, scores = check(y_true, y_score)
    return ranking_curve(truth.ravel(), scores.ravel())


def roc_auc_micro(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """ROC AUC over all (picture, tag) pairs."""
    return area_under_roc(micro_curve(y_true, y_score))


def average_precision_micro(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Average precision over all (picture, tag) pairs."""
    return average_precision(micro_curve(y_true, y_score))


def blocks(num_rows: int) -> list[slice]:
    """Slices of rows that keep the work in memory small."""
    return [slice(start, start + BLOCK_ROWS) for start in range(0, num_rows, BLOCK_ROWS)]


def hits_at_k(y_true: ArrayLike, y_score: ArrayLike, k: int) -> Floats:
    """Expected true tags among each picture's k best, (n,), over random orders of ties.

    Args:
        y_true, y_score: (n, num_tags).
        k: 1..num_tags.
    """
    truth, scores = check(y_true, y_score)
    if not 1 <= k <= truth.shape[1]:
        raise ValueError(f"k is {k}, expected 1 to {truth.shape[1]}, the number of tags.")
    hits = np.zeros(len(truth))
    for rows in blocks(len(truth)):
        y, s = truth[rows], scores[rows]
        kth = np.partition(s, -k, axis=1)[:, [-k]]
        above, tied = s > kth, s == kth
        open_places = k - above.sum(axis=1)
        hits[rows] = (y & above).sum(axis=1) + open_places * (y & tied).sum(axis=1) / tied.sum(1)
    return hits


def precision_at_k(y_true: ArrayLike, y_score: ArrayLike, k: int) -> float:
    """Mean share of true tags among each picture's k best (k at most num_tags).

    A picture with fewer than k true tags cannot reach 1.
    """
    k = min(k, np.shape(y_true)[1])
    return mean(hits_at_k(y_true, y_score, k) / k)


def recall_at_k(y_true: ArrayLike, y_score: ArrayLike, k: int) -> float:
    """Mean share of a picture's true tags that are among its k best; pictures with a tag only."""
    positives = np.count_nonzero(np.asarray(y_true), axis=1)
    hits = hits_at_k(y_true, y_score, min(k, np.shape(y_true)[1]))
    return mean(hits[positives > 0] / positives[positives > 0])


def mean(values: NDArray[Any]) -> float:
    """Mean without nans; nan (and no warning) of nothing."""
    kept = values[~np.isnan(values)]
    return float(np.mean(kept, dtype=float)) if len(kept) else float("nan")


def label_ranking_average_precision(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Mean over a picture's true tags of the share of true ones among those ranked as high.

    As in scikit-learn, a picture with no tag, or with all of them, counts 1.
    """
    truth, scores = check(y_true, y_score)
    parts = [row_lrap(truth[rows], scores[rows]) for rows in blocks(len(truth))]
    return mean(np.concatenate(parts)) if parts else float("nan")


def row_lrap(truth: NDArray[np.bool_], scores: NDArray[Any]) -> Floats:
    """Label ranking average precision of each picture, (n,)."""
    order = np.argsort(scores, axis=1)[:, ::-1]
    ranked_truth = np.take_along_axis(truth, order, axis=1)
    ranks = tie_ranks(np.take_along_axis(scores, order, axis=1))
    true_above = np.take_along_axis(np.cumsum(ranked_truth, axis=1), ranks - 1, axis=1)
    positives = truth.sum(axis=1)
    total = np.sum(np.where(ranked_truth, true_above / ranks, 0.0), axis=1)
    return np.where(
        (positives == 0) | (positives == truth.shape[1]), 1.0, total / positives.clip(1)
    )


def tie_ranks(ranked: NDArray[Any]) -> NDArray[np.int64]:
    """Rank (1 the best; equal scores share their last place) of descending scores, by row."""
    width = ranked.shape[1]
    ends = np.ones(ranked.shape, dtype=bool)
    ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    places = np.where(ends, np.arange(1, width + 1), width)
    return np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]


def brier(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Mean squared difference between probabilities and labels."""
    truth, scores = check(y_true, y_score)
    return mean(np.square(scores - truth.astype(scores.dtype)))


class Calibration(NamedTuple):
    """Bins of predictions that are not empty, from low to high."""

    counts: NDArray[np.int64]
    predicted: Floats
    """mean probability"""
    observed: Floats
    """share of positives"""


def calibration(
    y_true: ArrayLike, y_score: ArrayLike, edges: Sequence[float] | Floats | None = None
) -> Calibration:
    """Predicted against observed shares over all (picture, tag) pairs.

    Args:
        y_true, y_score: (n, num_tags), the scores being probabilities.
        edges: inner and outer bounds of the bins (a bin includes its upper one); None for
            CALIBRATION_BINS of equal mass, as far as ties allow (they stay together).
    """
    truth, scores = (values.ravel() for values in check(y_true, y_score))
    if edges is None:
        shares = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
        edges = np.quantile(scores, shares, method="inverted_cdf") if len(scores) else shares
    inner = np.asarray(edges)[1:-1]
    bins = np.searchsorted(inner, scores, side="left")
    counts = np.bincount(bins, minlength=len(inner) + 1)
    sums = [np.bincount(bins, values, len(counts)) for values in (scores, truth)]
    kept = counts > 0
    return Calibration(counts[kept], *(total[kept] / counts[kept] for total in sums))


def expected_calibration_error(
    y_true: ArrayLike, y_score: ArrayLike, edges: Sequence[float] | Floats | None = None
) -> float:
    """Mean distance between predicted and observed shares; arguments as of `calibration`."""
    bins = calibration(y_true, y_score, edges)
    gaps = np.abs(bins.predicted - bins.observed)
    return float(np.sum(gaps * bins.counts) / bins.counts.sum()) if len(gaps) else float("nan")


def best_f1_thresholds(
    y_true: ArrayLike, y_score: ArrayLike, shrinkage: float = 10.0
) -> NDArray[Any]:
    """Cut-off of each tag: scores at or above it are predicted.

    The best cut-off of a tag with few positives is mostly luck, so it is drawn towards the best
    common one: (n own + shrinkage common) / (n + shrinkage) with n the tag's positives.

    Args:
        y_true, y_score: (n, num_tags).
        shrinkage: positives at which own and common cut-off count the same; 0 for own ones
            wherever a tag has a positive.

    Returns:
        (num_tags,) float64.
    """
    truth, scores = check(y_true, y_score)
    common = best_threshold(micro_curve(truth, scores))
    positives = truth.sum(axis=0)
    own = np.array([best_threshold(curve) for curve in tag_curves(truth, scores)], dtype=float)
    trust = positives / np.maximum(positives + shrinkage, 1e-12)
    return np.where(positives > 0, trust * own + (1.0 - trust) * common, common)


def prior_scores(shares: ArrayLike, num_pictures: int) -> Floats:
    """What a predictor says that knows the tags' training shares and never looks, (n, num_tags)."""
    return np.tile(np.asarray(shares, dtype=float), (num_pictures, 1))


def evaluate(
    y_true: ArrayLike, y_score: ArrayLike, min_positives: int = 1, tags: PerTag | None = None
) -> dict[str, float]:
    """All aggregate figures of a split.

    Args:
        y_true, y_score: (n, num_tags), the scores being probabilities.
        min_positives: tags with fewer do not enter the macro figures (they do the others).
        tags: `per_tag` of the same arrays, where it is at hand: saves half of the work.

    Returns:
        macro_ap, macro_auc, micro_ap, micro_auc, precision_at_1 (5, 10), lrap, brier, ece;
        num_pictures, num_tags, num_tags_scored (those of the macro figures), tags_per_picture.
    """
    truth, scores = check(y_true, y_score)
    tags = per_tag(truth, scores) if tags is None else tags
    scored = (tags.positives >= max(min_positives, 1)) & (tags.positives < len(truth))
    curve = micro_curve(truth, scores)
    return {
        "macro_ap": mean(tags.average_precision[scored]),
        "macro_auc": mean(tags.roc_auc[scored]),
        "micro_ap": average_precision(curve),
        "micro_auc": area_under_roc(curve),
        **{f"precision_at_{k}": precision_at_k(truth, scores, k) for k in PRECISION_AT},
        "lrap": label_ranking_average_precision(truth, scores),
        "brier": brier(truth, scores),
        "ece": expected_calibration_error(truth, scores),
        "num_pictures": len(truth),
        "num_tags": truth.shape[1],
        "num_tags_scored": int(scored.sum()),
        "tags_per_picture": mean(truth.sum(axis=1)),
    }
