"""Labels that are likely wrong: where a model and a picture's neighbours say otherwise.

Of a label 0 (the tag may be missing) what speaks against it is the odds of the model's calibrated
probability p, of a label 1 (the tag may be wrong) those of 1 - p, times the odds of the tag's share
among the pictures.  That is Bayes' rule where mistakes hit any use of a tag alike: a rare tag has a
low p in most pictures that truly have it, so a low p alone says little; below its share it does.
The neighbours' share of labels is mixed in, as logits (a logarithmic opinion pool, Genest & Zidek
1986).  Calibration makes p worth the same from tag to tag: one that the model cannot tell stays
near its share.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.calibration import logit, sigmoid

Floats = NDArray[np.float64]
Kind = Literal["missing", "wrong"]
KINDS: tuple[Kind, Kind] = ("missing", "wrong")
NEIGHBOURS = 10
WEIGHT = 0.3
"""of the neighbours in the mixture; chosen on errors planted in the demo"""
PRIOR_NEIGHBOURS = 2.0
"""neighbours that the tag's share among all pictures counts for"""
FLOOR = 0.05
"""pairs against whose label the model says less than this are not looked at"""
LEAST = 0.5
"""confidence from which on model and label are said to disagree"""
MAX_LISTED = 10_000
"""suspects of a kind"""


@dataclass(frozen=True)
class Suspects:
    """m (picture, tag) pairs of one kind, most confident first."""

    kind: Kind
    rows: NDArray[np.int64]
    """(m,) pictures"""
    columns: NDArray[np.int64]
    """(m,) tags"""
    probability: NDArray[np.float64]
    """(m,) that the picture has the tag, as the model says"""
    confidence: NDArray[np.float64]
    """(m,) 0..1: orders the list; it is not the share of right ones"""
    neighbours_with: NDArray[np.int64]
    """(m,) neighbours that have the tag"""
    neighbours: NDArray[np.int64]
    """(m,) neighbours"""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: Any) -> "Suspects":
        """Some of them: an index or a slice of NumPy's."""
        return Suspects(
            self.kind,
            self.rows[kept],
            self.columns[kept],
            self.probability[kept],
            self.confidence[kept],
            self.neighbours_with[kept],
            self.neighbours[kept],
        )


def find(
    kind: Kind,
    labels: NDArray[np.uint8],
    probabilities: NDArray[Any],
    near: NDArray[np.int64],
    limit: int = MAX_LISTED,
    plain: bool = False,
) -> Suspects:
    """The suspects of a kind.

    Args:
        kind: missing (label 0) or wrong (label 1).
        labels: (n, K) of 0 and 1.
        probabilities: (n, K), calibrated.
        near: (n, k) neighbours of each picture, -1 where there are fewer.
        limit: suspects at most.
        plain: go by p or 1 - p alone, to compare with.

    Returns:
        Those with a confidence of `LEAST` or more, highest first, ties by picture, then by tag.
    """
    value = 0 if kind == "missing" else 1
    against = probabilities if kind == "missing" else 1 - probabilities
    rows, columns = np.nonzero((labels == value) & (against >= FLOOR))
    having, number = count_neighbours(labels, near, rows, columns)
    doubt = against[rows, columns].astype(np.float64)
    if not plain:
        base = labels.mean(axis=0)[columns]
        doubt = mixed(kind, doubt, smoothed_share(having, number, base), base)
    probability = probabilities[rows, columns].astype(np.float64)
    every = Suspects(kind, rows, columns, probability, doubt, having, number)
    order = np.argsort(-doubt, kind="stable")
    return every.take(order[doubt[order] >= LEAST][:limit])


def mixed(
    kind: Kind, against: Floats, share: Floats, base: Floats, weight: float = WEIGHT
) -> Floats:
    """Confidence (m,) that labels are wrong, from what speaks against them.

    Args:
        kind: missing or wrong.
        against: (m,) p, of a wrong one 1 - p.
        share: (m,) of the neighbours that have the tag.
        base: (m,) share of all pictures that have it.
        weight: of the neighbours, 0..1.
    """
    if kind == "missing":
        return sigmoid((1 - weight) * logit(against) + weight * logit(share))
    return sigmoid((1 - weight) * logit(against) + weight * logit(1 - share) + logit(base))


def count_neighbours(
    labels: NDArray[np.uint8],
    near: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbours of each pair's picture that have its tag, and all of them: (m,) each."""
    having = np.zeros(len(rows), np.int64)
    for place in near.T:
        other = place[rows]
        having += (other >= 0) & (labels[other, columns] != 0)
    number: NDArray[np.int64] = (near >= 0).sum(axis=1)[rows]
    return having, number


def smoothed_share(
    having: NDArray[np.int64], number: NDArray[np.int64], base: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of neighbours with the tag, drawn to its share among all pictures; 0 < share < 1."""
    inside = np.clip(base, 1e-6, 1 - 1e-6)
    shares: NDArray[np.float64] = (having + PRIOR_NEIGHBOURS * inside) / (number + PRIOR_NEIGHBOURS)
    return shares
