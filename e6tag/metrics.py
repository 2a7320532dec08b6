"""Exact metrics of multi-label ranking, in NumPy, under scikit-learn's names and argument order.

y_true is (n, num_tags) of 0 and 1 (or `SparseLabels`), y_score (n, num_tags) of finite numbers;
both may be memory-mapped and larger than memory.  Only metrics of probabilities (Brier,
calibration) care about more than the scores' order.  Ties are handled exactly: no figure depends
on the order of pictures or tags.  Where a figure is undefined it is nan.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e6tag import tag_rankings
from e6tag.per_picture import (
    coverage_error,
    hits_at_k,
    label_ranking_average_precision_score,
    mean,
    per_picture,
    precision_at_k,
    recall_at_k,
)
from e6tag.ranking import Curve, area_under_roc, average_precision, best_threshold
from e6tag.reliability import (
    Calibration,
    brier,
    calibration,
    expected_calibration_error,
    reliability_per_tag,
)
from e6tag.tag_rankings import SparseLabels, check, map_tags

__all__ = [
    "Calibration",
    "PerTag",
    "SparseLabels",
    "average_precision_micro",
    "average_precision_per_tag",
    "best_f1_thresholds",
    "brier",
    "calibration",
    "check",
    "coverage_error",
    "evaluate",
    "expected_calibration_error",
    "hits_at_k",
    "label_ranking_average_precision_score",
    "mean",
    "micro_curve",
    "per_picture",
    "per_tag",
    "precision_at_k",
    "prior_scores",
    "recall_at_k",
    "reliability_per_tag",
    "roc_auc_micro",
    "roc_auc_per_tag",
]

Floats = NDArray[np.float64]
PRECISION_AT = (1, 5, 10, 30)
RECALL_AT = 30


class PerTag(NamedTuple):
    """One figure per tag each, (num_tags,)."""

    positives: NDArray[np.int64]
    roc_auc: Floats
    """nan without positives or without negatives"""
    average_precision: Floats
    """nan without positives"""
    best_threshold: Floats
    """score from which on F1 is largest; 0.5 without positives"""


def per_tag(y_true: Any, y_score: ArrayLike) -> PerTag:
    """Positives, ROC AUC, average precision and best threshold of every tag."""
    rows = list(map_tags(figures_of, *check(y_true, y_score)))
    positives, *columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return PerTag(positives.astype(np.int64), *columns)


def figures_of(curve: Curve) -> tuple[int, float, float, float]:
    """The fields of `PerTag` for one tag."""
    positives = int(curve.hits[-1]) if len(curve.hits) else 0
    return positives, area_under_roc(curve), average_precision(curve), best_threshold(curve)


def roc_auc_per_tag(y_true: Any, y_score: ArrayLike) -> Floats:
    """ROC AUC of each tag, (num_tags,); nan where a tag has one class only."""
    return per_tag(y_true, y_score).roc_auc


def average_precision_per_tag(y_true: Any, y_score: ArrayLike) -> Floats:
    """Average precision of each tag, (num_tags,); nan where a tag has no positives."""
    return per_tag(y_true, y_score).average_precision


def micro_curve(y_true: Any, y_score: ArrayLike) -> Curve:
    """The ranking of all (picture, tag) pairs together."""
    return tag_rankings.micro_curve(*check(y_true, y_score))


def roc_auc_micro(y_true: Any, y_score: ArrayLike) -> float:
    """ROC AUC over all (picture, tag) pairs."""
    return area_under_roc(micro_curve(y_true, y_score))


def average_precision_micro(y_true: Any, y_score: ArrayLike) -> float:
    """Average precision over all (picture, tag) pairs."""
    return average_precision(micro_curve(y_true, y_score))


def best_f1_thresholds(y_true: Any, y_score: ArrayLike, shrinkage: float = 10.0) -> NDArray[Any]:
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
    tags = per_tag(y_true, y_score)
    common = best_threshold(micro_curve(y_true, y_score))
    trust = tags.positives / np.maximum(tags.positives + shrinkage, 1e-12)
    drawn = trust * tags.best_threshold + (1.0 - trust) * common
    return np.where(tags.positives > 0, drawn, common)


def prior_scores(shares: ArrayLike, num_pictures: int) -> Floats:
    """What a predictor says that knows the tags' training shares and never looks, (n, num_tags).

    All rows are the same memory, which cannot be written to.
    """
    of_tags = np.asarray(shares, dtype=float)
    return np.broadcast_to(of_tags, (num_pictures, len(of_tags)))


def evaluate(
    y_true: Any, y_score: ArrayLike, min_positives: int = 1, tags: PerTag | None = None
) -> dict[str, float]:
    """All aggregate figures of a split.

    Args:
        y_true, y_score: (n, num_tags), the scores being probabilities.
        min_positives: tags with fewer do not enter the macro figures (they do the others).
        tags: `per_tag` of the same arrays, where it is at hand: saves a part of the work.

    Returns:
        macro_ap, macro_auc, micro_ap, micro_auc, precision_at_1 (5, 10, 30), recall_at_30, lrap,
        coverage_error, brier, ece; num_pictures, num_tags, num_tags_scored (those of the macro
        figures), tags_per_picture.
    """
    truth, scores = check(y_true, y_score)
    tags = per_tag(truth, scores) if tags is None else tags
    scored = (tags.positives >= max(min_positives, 1)) & (tags.positives < len(scores))
    curve = tag_rankings.micro_curve(truth, scores)
    return {
        "macro_ap": mean(tags.average_precision[scored]),
        "macro_auc": mean(tags.roc_auc[scored]),
        "micro_ap": average_precision(curve),
        "micro_auc": area_under_roc(curve),
        **picture_figures(truth, scores),
        "brier": brier(truth, scores),
        "ece": expected_calibration_error(truth, scores),
        "num_pictures": len(scores),
        "num_tags": scores.shape[1],
        "num_tags_scored": int(scored.sum()),
    }


def picture_figures(y_true: Any, y_score: ArrayLike) -> dict[str, float]:
    """The figures of `evaluate` that are means over pictures.

    Where there are fewer tags than a k, all of them are looked at.
    """
    width = np.shape(y_score)[1]
    found = per_picture(y_true, y_score, sorted({min(k, width) for k in PRECISION_AT}))
    return {
        **{f"precision_at_{k}": found.precision(min(k, width)) for k in PRECISION_AT},
        f"recall_at_{RECALL_AT}": found.recall(min(RECALL_AT, width)),
        "lrap": mean(found.lrap),
        "coverage_error": mean(found.coverage.astype(float)),
        "tags_per_picture": mean(found.positives.astype(float)),
    }
