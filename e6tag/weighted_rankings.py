"""Average precision and ROC AUC of one ranking under many weightings of the pictures.

A resample of pictures gives each picture a weight: scores are sorted once, and sums of weights
do the rest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.ranking import Curve, area_under_roc, average_precision
from e6tag.tag_rankings import Labels, check, dense, micro_curve, row_blocks

Floats = NDArray[np.float64]

EXACT_BINS, MICRO_BINS = 4096, 1024
"""distinct scores of positives up to which micro figures are exact; bins of scores above that"""
MICRO_CELLS = 1 << 24
"""pictures x bins that are counted at once"""


def weighted_micro(y_true: Any, y_score: Any, w: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Average precision and ROC AUC over all (picture, tag) pairs, (B,) each.

    Of very many distinct scores, near ones count as equal; what that moves the unweighted figures
    by is taken back, and differences between weightings are hardly touched.

    Args:
        y_true, y_score: (n, K).
        w: (B, n) weights of pictures.
    """
    labels, scores = check(y_true, y_score)
    curve, every = micro_curve(labels, scores), np.ones((1, len(scores)), np.float32)
    (whole_ap, *ap), (whole_auc, *auc) = in_bins(
        labels, scores, edges_of(curve), np.concatenate([every, w])
    )
    return (
        np.array(ap) + (average_precision(curve) - whole_ap),
        np.array(auc) + (area_under_roc(curve) - whole_auc),
    )


def edges_of(curve: Curve) -> NDArray[Any]:
    """Bounds of bins of scores: all scores of positives, or `MICRO_BINS` of very many."""
    ascending = curve.thresholds[::-1]
    if len(ascending) <= EXACT_BINS:
        return ascending
    return ascending[np.linspace(0, len(ascending) - 1, MICRO_BINS).astype(np.int64)]


def in_bins(
    labels: Labels, scores: NDArray[Any], edges: NDArray[Any], w: NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """Average precision and ROC AUC over all pairs with weights of pictures, (B,) each.

    Scores in one bin count as equal; exact where all scores of positives are edges.

    Args:
        labels, scores: (n, K).
        edges: ascending; an edge is a bin of its own, and what is between two is another.
        w: (B, n).
    """
    num_bins = 2 * len(edges) + 1
    counts = np.zeros((2, len(w), num_bins))
    for rows in row_blocks(np.empty((len(scores), num_bins), np.bool_), MICRO_CELLS):
        block, truth = scores[rows], dense(labels, rows)
        bins = np.searchsorted(edges, block, "left") + np.searchsorted(edges, block, "right")
        bins += num_bins * np.arange(len(block))[:, None]
        for total, chosen in zip(counts, (bins[truth], bins.ravel()), strict=True):
            of_pictures = np.bincount(chosen, minlength=num_bins * len(block))
            total += w[:, rows] @ of_pictures.reshape(len(block), -1).astype(np.float32)
    found, everything = (total[:, ::-1].T for total in counts)
    at = np.cumsum(everything, axis=0)
    return weighted_figures(found, at - everything, at, at[-1])


def weighted_figures(
    found: NDArray[Any], above: NDArray[Any], at: NDArray[Any], total: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Average precision and ROC AUC of rankings, (B,) each; nan where undefined.

    Args:
        found: (S, B) weights of positives at each of S scores, best first.
        above: (S, B) weights of everything above each score.
        at: (S, B) weights of everything at or above each score.
        total: (B,) weights of everything.
    """
    hits = np.cumsum(found, axis=0)
    positives, negatives = hits[-1], total - hits[-1]
    misses = (at - hits + above - (hits - found)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.divide(hits, at, out=np.zeros_like(at), where=at > 0)
        ap = (found * precision).sum(axis=0, dtype=float) / positives
        auc = (found * (negatives - misses)).sum(axis=0, dtype=float) / (positives * negatives)
    return ap, auc


@dataclass(frozen=True)
class Ranking:
    """The pictures in the order of one tag's scores, cut where the score of a positive changes."""

    order: NDArray[np.int64]
    """pictures, best first; equal scores together"""
    places: NDArray[np.int64]
    """where in the order a part starts: what is above, at and below scores of positives"""
    starts: NDArray[np.int64]
    """for each score that a positive has, the parts before it"""
    ends: NDArray[np.int64]
    """the parts up to it and with it"""
    positives: NDArray[np.int64]
    """the positives, best first"""
    first_positive: NDArray[np.int64]
    """for each of these scores, the first of its positives among `positives`"""

    @classmethod
    def of(cls, truth: NDArray[np.bool_], scores: NDArray[Any]) -> "Ranking":
        """Sort once."""
        order = np.argsort(-scores)
        ranked, is_positive = -scores[order], truth[order]
        with_positive, first = np.unique(ranked[is_positive], return_index=True)
        starts = np.searchsorted(ranked, with_positive, side="left")
        ends = np.searchsorted(ranked, with_positive, side="right")
        places = np.unique(np.concatenate([[0], starts, ends]))
        places = places[places < len(order)]
        bounds = np.append(places, len(order))
        starts, ends = np.searchsorted(bounds, starts), np.searchsorted(bounds, ends)
        return cls(order, places, starts, ends, order[is_positive], first)

    def weighted(self, drawn: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Average precision and ROC AUC with weights (n, B): (B,) each, nan where undefined."""
        if not len(self.positives):
            nothing = np.full(drawn.shape[1], np.nan)
            return nothing, nothing
        found = sums_of_parts(drawn, self.positives, self.first_positive)
        upto = np.zeros((len(self.places) + 1, drawn.shape[1]), np.float32)
        np.cumsum(sums_of_parts(drawn, self.order, self.places), axis=0, out=upto[1:])
        return weighted_figures(found, upto[self.starts], upto[self.ends], upto[-1])


def sums_of_parts(
    values: NDArray[np.float32], order: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Sums of rows (n, B) over the parts of an order that start at some places, (parts, B).

    SciPy adds rows without copying them, ten times faster; it comes with the train extra.
    """
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        sums: NDArray[np.float32] = np.add.reduceat(values.take(order, axis=0), places)
        return sums
    ends, shape = np.append(places, len(order)), (len(places), len(values))
    added: NDArray[np.float32] = (
        csr_matrix((np.ones(len(order), np.float32), order, ends), shape) @ values
    )
    return added
