"""Exact metrics of each picture's ranking of the tags, under scikit-learn's names.

y_true and y_score are (n, num_tags), as `e6tag.metrics` says.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e6tag.tag_rankings import check, over_rows

Floats = NDArray[np.float64]


def mean(values: NDArray[Any]) -> float:
    """Mean without nans; nan (and no warning) of nothing."""
    kept = values[~np.isnan(values)]
    return float(np.mean(kept, dtype=float)) if len(kept) else float("nan")


class PerPicture(NamedTuple):
    """One figure per picture each, (n,)."""

    positives: NDArray[np.int64]
    hits: dict[int, Floats]
    """by k: expected true tags among the k best, over random orders of ties"""
    lrap: Floats
    """label ranking average precision"""
    coverage: NDArray[np.int64]
    """how far down the ranking all true tags are found"""

    def precision(self, k: int) -> float:
        """Mean share of true tags among the k best."""
        return mean(self.hits[k] / k)

    def recall(self, k: int) -> float:
        """Mean share of the true tags among the k best; of pictures with a tag."""
        tagged = self.positives > 0
        return mean(self.hits[k][tagged] / self.positives[tagged])


def per_picture(y_true: Any, y_score: ArrayLike, ks: Sequence[int]) -> PerPicture:
    """Figures of every picture: each ranking is made once.

    Args:
        y_true, y_score: (n, num_tags).
        ks: numbers of best tags to look at, each 1..num_tags.

    Raises:
        ValueError: a k is out of range, or arrays are not as `check` wants them.
    """
    truth, scores = check(y_true, y_score)
    for k in ks:
        if not 1 <= k <= scores.shape[1]:
            raise ValueError(f"k is {k}, expected 1 to {scores.shape[1]}, the number of tags.")
    parts = list(over_rows(lambda y, s: of_rows(y, s, ks), truth, scores))
    parts = parts or [of_rows(np.zeros((0, scores.shape[1]), bool), scores, ks)]
    return PerPicture(
        np.concatenate([part.positives for part in parts]),
        {k: np.concatenate([part.hits[k] for part in parts]) for k in ks},
        np.concatenate([part.lrap for part in parts]),
        np.concatenate([part.coverage for part in parts]),
    )


def of_rows(truth: NDArray[np.bool_], scores: NDArray[Any], ks: Sequence[int]) -> PerPicture:
    """Figures of some pictures."""
    order = np.argsort(scores, axis=1)[:, ::-1]
    ranked_truth = np.take_along_axis(truth, order, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    ranks, true_so_far = tie_ranks(ranked), np.cumsum(ranked_truth, axis=1, dtype=np.int32)
    hits = {k: hits_among(true_so_far, ranked, ranks, k) for k in ks}
    lrap = row_lrap(ranked_truth, true_so_far, ranks)
    coverage = np.max(np.where(ranked_truth, ranks, 0), axis=1, initial=0)
    return PerPicture(truth.sum(axis=1, dtype=np.int64), hits, lrap, coverage.astype(np.int64))


def hits_among(
    true_so_far: NDArray[np.int32], ranked: NDArray[Any], ranks: NDArray[np.int32], k: int
) -> Floats:
    """Expected true tags among the k best: those tied with the k-th share the open places."""
    above = np.count_nonzero(ranked > ranked[:, [k - 1]], axis=1)
    padded = np.concatenate([np.zeros((len(ranked), 1), np.int32), true_so_far], axis=1)
    rows, last = np.arange(len(ranked)), ranks[:, k - 1]
    sure, upto = padded[rows, above], padded[rows, last]
    hits: Floats = sure + (k - above) * (upto - sure) / (last - above)
    return hits


def row_lrap(
    ranked_truth: NDArray[np.bool_], true_so_far: NDArray[np.int32], ranks: NDArray[np.int32]
) -> Floats:
    """Label ranking average precision of each picture, (n,)."""
    true_above = np.take_along_axis(true_so_far, ranks - 1, axis=1)
    positives = true_so_far[:, -1]
    total = np.sum(np.where(ranked_truth, true_above / ranks, 0.0), axis=1)
    trivial = (positives == 0) | (positives == ranked_truth.shape[1])
    return np.where(trivial, 1.0, total / positives.clip(1))


def tie_ranks(ranked: NDArray[Any]) -> NDArray[np.int32]:
    """Rank (1 the best; equal scores share their last place) of descending scores, by row."""
    width = ranked.shape[1]
    ends = np.ones(ranked.shape, dtype=bool)
    ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    places = np.where(ends, np.arange(1, width + 1, dtype=np.int32), np.int32(width))
    return np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]


def hits_at_k(y_true: Any, y_score: ArrayLike, k: int) -> Floats:
    """Expected true tags among each picture's k best, (n,), over random orders of ties.

    Args:
        y_true, y_score: (n, num_tags).
        k: 1..num_tags.
    """
    return per_picture(y_true, y_score, [k]).hits[k]


def precision_at_k(y_true: Any, y_score: ArrayLike, k: int) -> float:
    """Mean share of true tags among each picture's k best (k at most num_tags).

    A picture with fewer than k true tags cannot reach 1.
    """
    k = min(k, np.shape(y_score)[1])
    return per_picture(y_true, y_score, [k]).precision(k)


def recall_at_k(y_true: Any, y_score: ArrayLike, k: int) -> float:
    """Mean share of a picture's true tags that are among its k best; pictures with a tag only."""
    k = min(k, np.shape(y_score)[1])
    return per_picture(y_true, y_score, [k]).recall(k)


def label_ranking_average_precision_score(y_true: Any, y_score: ArrayLike) -> float:
    """Mean over a picture's true tags of the share of true ones among those ranked as high.

    As in scikit-learn, a picture with no tag, or with all of them, counts 1.
    """
    return mean(per_picture(y_true, y_score, []).lrap)


def coverage_error(y_true: Any, y_score: ArrayLike) -> float:
    """How many of the best tags must be shown, on average, for all true ones to be among them.

    As in scikit-learn, equal scores share their last place, and a picture with no tag counts 0.
    """
    return mean(per_picture(y_true, y_score, []).coverage.astype(float))
