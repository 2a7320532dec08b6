"""Labels that are likely wrong: where a model and a picture's neighbours say otherwise.

Of a label 0 (the tag may be missing) the model's calibrated probability p speaks against it, of a
label 1 (the tag may be wrong) 1 - p.  The neighbours' share of labels that speak against it is
mixed in, as logits (a logarithmic opinion pool, Genest & Zidek 1986).  Calibration makes p worth
the same from tag to tag: a tag that the model cannot tell has no p near 0 or 1.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.calibration import logit, sigmoid

Kind = Literal["missing", "wrong"]
KINDS: tuple[Kind, Kind] = ("missing", "wrong")
NEIGHBOURS = 10
WEIGHT = 0.3
"""of the neighbours in the mixture; chosen on planted errors"""
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
    weight: float = WEIGHT,
    limit: int = MAX_LISTED,
) -> Suspects:
    """The suspects of a kind.

    Args:
        kind: missing (label 0) or wrong (label 1).
        labels: (n, K) of 0 and 1.
        probabilities: (n, K), calibrated.
        near: (n, k) neighbours of each picture, -1 where there are fewer.
        weight: of the neighbours, 0..1.
        limit: suspects at most.

    Returns:
        Those with a confidence of `LEAST` or more, highest first, ties by picture, then by tag.
    """
    value = 0 if kind == "missing" else 1
    against = probabilities if kind == "missing" else 1 - probabilities
    rows, columns = np.nonzero((labels == value) & (against >= FLOOR))
    having, number = count_neighbours(labels, near, rows, columns)
    share = smoothed_share(having, number, labels.mean(axis=0)[columns])
    speaks = share if kind == "missing" else 1 - share
    doubt = logit(against[rows, columns])
    confidence = sigmoid((1 - weight) * doubt + weight * logit(speaks))
    probability = probabilities[rows, columns].astype(np.float64)
    every = Suspects(kind, rows, columns, probability, confidence, having, number)
    order = np.argsort(-confidence, kind="stable")
    return every.take(order[confidence[order] >= LEAST][:limit])


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
