"""How sure figures are: 95% intervals from resampled pictures (Efron 1979).

A resample draws whole pictures (or whole groups of near-copies) with replacement, which gives
each picture a weight; every figure is computed with weights, so that scores are sorted once.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import confusion, metrics
from e6tag.reliability import bin_numbers, equal_mass_edges
from e6tag.tag_rankings import in_threads
from e6tag.weighted_rankings import Ranking, weighted_micro

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

LEVEL = 0.95
Z = 1.959964
"""standard normal quantile of (1 + LEVEL) / 2"""
CHUNK_RESAMPLES = 64
"""whose weights are worked on at once, so that they stay in the processor's cache"""
UNBOUNDED = ("coverage_error",)
"""figures that can exceed 1"""


@dataclass(frozen=True)
class Resamples:
    """Figures of many resamples."""

    figures: Mapping[str, Floats]
    """(B,) each, by the names of `e6tag.figures`"""
    tag_ap: NDArray[np.float32]
    """(B, K): average precision of each tag; nan where a resample has no positive"""


def weights(
    num_pictures: int, num_resamples: int, seed: int, groups: NDArray[Any] | None = None
) -> NDArray[np.uint16]:
    """How often each picture is drawn in each resample, (B, n).

    Args:
        num_pictures: n.
        num_resamples: B.
        seed: the same gives the same.
        groups: (n,) pictures of equal value are drawn together; None to draw pictures.
    """
    if groups is None:
        number, num_groups = np.arange(num_pictures), num_pictures
    else:
        names, number = np.unique(groups, return_inverse=True)
        num_groups = len(names)
    rng = np.random.default_rng(seed)
    drawn = np.empty((num_resamples, num_pictures), np.uint16)
    for row in drawn:
        picked = rng.integers(0, num_groups, num_groups)
        row[:] = np.bincount(picked, minlength=num_groups)[number]
    return drawn


@dataclass(frozen=True)
class Measured:
    """One predictor on one set of pictures."""

    labels: NDArray[Any]
    """(n, K) of 0 and 1"""
    probabilities: NDArray[Any]
    """(n, K)"""
    thresholds: NDArray[np.float64]
    """(K,); a tag is predicted at or above its own"""
    counted: NDArray[np.bool_]
    """(K,): tags that count in means over tags"""


def resample(measured: Measured, drawn: NDArray[np.uint16]) -> Resamples:
    """Every figure of every resample.

    Args:
        measured: what is resampled.
        drawn: (B, n) of `weights`.
    """
    tag_ap, tag_auc = tag_figures(measured, drawn)
    w = drawn.astype(np.float32)
    micro_ap, micro_auc = weighted_micro(measured.labels, measured.probabilities, w)
    figures = {
        "macro_ap": macro(tag_ap, measured.counted),
        "macro_auc": macro(tag_auc, measured.counted),
        "micro_ap": micro_ap,
        "micro_auc": micro_auc,
        **ratios_of_sums(picture_figures(measured), w),
        **decision_figures(measured, w),
        "ece": calibration_errors(measured, w),
    }
    return Resamples({name: values.astype(float) for name, values in figures.items()}, tag_ap)


def macro(values: NDArray[Any], counted: NDArray[np.bool_]) -> Floats:
    """Mean over the tags that count, without those that a resample does not define: (B,)."""
    kept = values[:, counted].astype(np.float64)
    defined = np.isfinite(kept)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(defined, kept, 0.0).sum(axis=1) / defined.sum(axis=1)
    return mean


def picture_figures(measured: Measured) -> dict[str, tuple[Floats, Floats]]:
    """Figures that are means over pictures: each picture's part, and whether it counts, (n,)."""
    truth, scores = measured.labels != 0, measured.probabilities
    width, every = truth.shape[1], np.ones(len(truth))
    found = metrics.per_picture(
        truth, scores, sorted({min(k, width) for k in metrics.PRECISION_AT})
    )
    k = min(metrics.RECALL_AT, width)
    return {
        **{
            f"precision_at_{k}": (found.hits[min(k, width)] / min(k, width), every)
            for k in metrics.PRECISION_AT
        },
        "recall_at_30": (
            found.hits[k] / found.positives.clip(1),
            (found.positives > 0).astype(float),
        ),
        "lrap": (found.lrap, every),
        "coverage_error": (found.coverage.astype(float), every),
        "brier": (np.square(scores - truth).mean(axis=1), every),
        "accuracy": (((scores >= measured.thresholds) == truth).mean(axis=1), every),
    }


def ratios_of_sums(
    parts: Mapping[str, tuple[Floats, Floats]], w: NDArray[np.float32]
) -> dict[str, Floats]:
    """Weighted means (B,) of what each picture contributes."""
    return {name: (w @ values) / (w @ counts) for name, (values, counts) in parts.items()}


def decision_figures(measured: Measured, w: NDArray[np.float32]) -> dict[str, Floats]:
    """Precision, recall and F1 of each resample, micro and macro, (B,)."""
    if np.isnan(measured.thresholds).all():
        return {}
    truth, predicted = measured.labels != 0, measured.probabilities >= measured.thresholds
    hits, guessed, positives = (
        w @ cells.astype(np.float32) for cells in (truth & predicted, predicted, truth)
    )
    totals = (hits.sum(axis=1), guessed.sum(axis=1), positives.sum(axis=1))
    figures = {f"micro_{name}": v for name, v in confusion.ratios(*totals).items()}
    of_tags = confusion.ratios(hits, guessed, positives)
    return figures | {f"macro_{name}": macro(v, measured.counted) for name, v in of_tags.items()}


def calibration_errors(measured: Measured, w: NDArray[np.float32]) -> Floats:
    """Calibration error of each resample, (B,), in the bins of all pictures."""
    truth, scores = metrics.check(measured.labels, measured.probabilities)
    edges = equal_mass_edges(truth, scores)
    bins = bin_numbers(scores, edges)
    bins += (len(edges) + 1) * np.arange(len(scores))[:, None]
    gaps = (scores - measured.labels).astype(float).ravel()
    size = (len(edges) + 1) * len(scores)
    of_pictures = np.bincount(bins.ravel(), gaps, size).reshape(len(scores), -1)
    error: Floats = np.abs(w @ of_pictures).sum(axis=1) / (w.sum(axis=1) * scores.shape[1])
    return error


def tag_figures(
    measured: Measured, drawn: NDArray[np.uint16]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average precision and ROC AUC of each tag in each resample, (B, K) each."""
    # A row a picture, so that whole rows are added.
    chunks = [
        np.ascontiguousarray(drawn[start : start + CHUNK_RESAMPLES].T, dtype=np.float32)
        for start in range(0, len(drawn), CHUNK_RESAMPLES)
    ]

    def of_tag(column: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        ranking = Ranking.of(measured.labels[:, column] != 0, measured.probabilities[:, column])
        parts = [ranking.weighted(chunk) for chunk in chunks]
        ap, auc = (np.concatenate(values) for values in zip(*parts, strict=True))
        return ap.astype(np.float32), auc.astype(np.float32)

    columns = list(in_threads(of_tag, range(measured.labels.shape[1])))
    ap, auc = (np.stack(values, axis=1) for values in zip(*columns, strict=True))
    return ap, auc


def interval(estimate: float, resampled: Floats) -> tuple[float, float]:
    """95% interval around an estimate: its standard error is the resamples' spread.

    Not the resamples' own quantiles: drawing pictures twice makes ties, which flatter average
    precision, so that those sit too high.  As far as they do, the estimate itself is taken to,
    and the interval is moved down (the normal interval with bias correction; Davison and
    Hinkley 1997, section 5.2; `tests/test_bootstrap.py` counts how often it holds).
    """
    middle = 2 * estimate - float(np.nanmean(resampled))
    spread = Z * float(np.nanstd(resampled, ddof=1))
    return middle - spread, middle + spread


def intervals(
    estimates: Mapping[str, float], resampled: Resamples
) -> dict[str, tuple[float, float]]:
    """95% intervals of all figures that are defined, within what a figure can be."""
    found = {}
    for name, values in resampled.figures.items():
        if np.isfinite(estimates[name]) and np.isfinite(values).sum() > 1:
            most = math.inf if name in UNBOUNDED else 1.0
            low, high = (min(max(end, 0.0), most) for end in interval(estimates[name], values))
            found[name] = (low, high)
    return found


def difference_intervals(
    estimates: Mapping[str, float],
    others: Mapping[str, float],
    resampled: Resamples,
    other: Resamples,
) -> dict[str, tuple[float, float, float]]:
    """Second minus first: (difference, low, high); both must be of the same resamples."""
    found = {}
    for name in [name for name in resampled.figures if name in other.figures]:
        difference = others[name] - estimates[name]
        differences = other.figures[name] - resampled.figures[name]
        if np.isfinite(difference) and np.isfinite(differences).sum() > 1:
            found[name] = (difference, *interval(difference, differences))
    return found
