"""How sure figures are: 95% intervals from resampled pictures (Efron 1979).

A resample draws whole pictures (or whole groups of near-copies) with replacement, which gives
each picture a weight; every figure is computed with weights, so that scores are sorted once.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import metrics

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

LEVEL = 0.95
Z = 1.959964
"""standard normal quantile of (1 + LEVEL) / 2"""
CHUNK_CELLS = 4_000_000
"""weights (resamples x pictures) that are worked on at once"""
THREADS = 2
RESAMPLED = (
    "macro_ap",
    "macro_auc",
    "precision_at_1",
    "precision_at_5",
    "precision_at_10",
    "lrap",
    "micro_f1",
    "macro_f1",
    "accuracy",
    "brier",
)
"""Figures that get an interval.  Not micro AP and AUC, nor the calibration error: the first two
would take as long as all others together, and the error of an error is biased upwards."""


@dataclass(frozen=True)
class Resamples:
    """Figures of many resamples."""

    figures: Mapping[str, Floats]
    """(B,) each, `RESAMPLED`"""
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
    total = w.sum(axis=1)
    figures = {name: w @ values / total for name, values in picture_figures(measured).items()}
    figures |= f1_figures(measured, w)
    figures["macro_ap"] = macro(tag_ap, measured.counted)
    figures["macro_auc"] = macro(tag_auc, measured.counted)
    return Resamples({name: figures[name].astype(np.float64) for name in RESAMPLED}, tag_ap)


def macro(values: NDArray[np.float32], counted: NDArray[np.bool_]) -> Floats:
    """Mean over the tags that count, without those that a resample does not define: (B,)."""
    kept = values[:, counted].astype(np.float64)
    defined = np.isfinite(kept)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(defined, kept, 0.0).sum(axis=1) / defined.sum(axis=1)
    return mean


def picture_figures(measured: Measured) -> dict[str, NDArray[np.float32]]:
    """Figures that are means over pictures: each picture's part, (n,)."""
    truth, scores = measured.labels != 0, measured.probabilities
    figures = {
        f"precision_at_{k}": metrics.hits_at_k(truth, scores, min(k, truth.shape[1]))
        / min(k, truth.shape[1])
        for k in metrics.PRECISION_AT
    }
    figures["lrap"] = np.concatenate(
        [metrics.row_lrap(truth[rows], scores[rows]) for rows in metrics.blocks(len(truth))]
    )
    figures["brier"] = np.square(scores - truth).mean(axis=1)
    figures["accuracy"] = ((scores >= measured.thresholds) == truth).mean(axis=1)
    return {name: values.astype(np.float32) for name, values in figures.items()}


def f1_figures(measured: Measured, w: NDArray[np.float32]) -> dict[str, Floats]:
    """Micro and macro F1 of each resample, (B,)."""
    truth = measured.labels != 0
    predicted = measured.probabilities >= measured.thresholds
    hits, both = (
        w @ counts.astype(np.float32)
        for counts in (truth & predicted, truth.astype(np.int8) + predicted)
    )
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / both
        micro = 2 * hits.sum(axis=1) / both.sum(axis=1)
    return {"micro_f1": micro, "macro_f1": macro(f1, measured.counted)}


def tag_figures(
    measured: Measured, drawn: NDArray[np.uint16]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average precision and ROC AUC of each tag in each resample, (B, K) each."""
    num_tags, step = measured.labels.shape[1], max(1, CHUNK_CELLS // max(drawn.shape[1], 1))
    # A row a picture, so that taking pictures in another order copies whole rows.
    chunks = [
        np.ascontiguousarray(drawn[start : start + step].T) for start in range(0, len(drawn), step)
    ]

    def of_tag(column: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        ranking = Ranking.of(measured.labels[:, column] != 0, measured.probabilities[:, column])
        parts = [ranking.weighted(chunk) for chunk in chunks]
        ap, auc = (np.concatenate(values) for values in zip(*parts, strict=True))
        return ap, auc

    with ThreadPoolExecutor(THREADS) as pool:
        columns = list(pool.map(of_tag, range(num_tags)))
    ap, auc = (np.stack(values, axis=1) for values in zip(*columns, strict=True))
    return ap, auc


@dataclass(frozen=True)
class Ranking:
    """The pictures in the order of one tag's scores, cut where the score of a positive changes."""

    order: NDArray[np.int64]
    """pictures, best first; equal scores together"""
    starts: NDArray[np.int64]
    """place of the first picture of each score that a positive has"""
    ends: NDArray[np.int64]
    """place after the last of it"""
    positives: NDArray[np.int64]
    """the positives, best first"""
    first_positive: NDArray[np.int64]
    """for each of these scores, the first of its positives among `positives`"""

    @classmethod
    def of(cls, truth: NDArray[np.bool_], scores: NDArray[Any]) -> "Ranking":
        """Sort once."""
        order = np.argsort(-scores, kind="stable")
        ranked, is_positive = -scores[order], truth[order]
        with_positive, first = np.unique(ranked[is_positive], return_index=True)
        starts = np.searchsorted(ranked, with_positive, side="left")
        ends = np.searchsorted(ranked, with_positive, side="right")
        return cls(order, starts, ends, order[is_positive], first)

    def weighted(
        self, drawn: NDArray[np.uint16]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Average precision and ROC AUC with weights (n, B): (B,) each, nan where undefined."""
        if not len(self.positives):
            nothing = np.full(drawn.shape[1], np.nan, np.float32)
            return nothing, nothing
        found = np.add.reduceat(drawn[self.positives], self.first_positive, dtype=np.float32)
        hits = np.cumsum(found, axis=0)
        above, at, everything = self.sums(drawn[self.order])
        positives, negatives = hits[-1], everything - hits[-1]
        misses_at, misses_above = at - hits, above - (hits - found)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(found > 0, hits / at, 0.0)
            ap = (found * precision).sum(axis=0, dtype=float) / positives
            beaten = negatives - (misses_at + misses_above) / 2
            auc = (found * beaten).sum(axis=0, dtype=float) / (positives * negatives)
        return ap.astype(np.float32), auc.astype(np.float32)

    def sums(self, ranked: NDArray[np.uint16]) -> tuple[Any, Any, Any]:
        """Weights (S, B) above each score, at or above it, and (B,) of all pictures."""
        places = np.unique(np.concatenate([[0], self.starts, self.ends]))
        places = places[places < len(ranked)]
        cumulated = np.zeros((len(places) + 1, ranked.shape[1]), np.float32)
        np.cumsum(np.add.reduceat(ranked, places, dtype=np.float32), axis=0, out=cumulated[1:])
        ends = np.append(places, len(ranked))
        at = cumulated[np.searchsorted(ends, self.ends)]
        return cumulated[np.searchsorted(ends, self.starts)], at, cumulated[-1]


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
    """95% intervals of all figures that are defined."""
    return {
        name: interval(estimates[name], values)
        for name, values in resampled.figures.items()
        if np.isfinite(estimates[name]) and np.isfinite(values).sum() > 1
    }


def difference_intervals(
    estimates: Mapping[str, float],
    others: Mapping[str, float],
    resampled: Resamples,
    other: Resamples,
) -> dict[str, tuple[float, float, float]]:
    """Second minus first: (difference, low, high); both must be of the same resamples."""
    found = {}
    for name, values in resampled.figures.items():
        difference = others[name] - estimates[name]
        low, high = interval(difference, other.figures[name] - values)
        found[name] = (difference, low, high)
    return found
