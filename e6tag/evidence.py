"""Which other pictures are nearest to each picture of a split: evidence for and against a label.

Vectors where there are any; else the pictures' scores, as logits around each tag's mean.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.calibration import logit
from e6tag.nearest import best, unusable

QUERIES_AT_ONCE = 256
NOBODY = -1
"""stands where a picture has fewer neighbours"""


def nearest_others(
    vectors: NDArray[Any], groups: NDArray[Any], k: int, rows: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The k nearest pictures of each, by cosine, without itself and its group's.

    Args:
        vectors: (n, D) of any length; one that is zero or not finite has no neighbours and is
            nobody's.
        groups: (n,); pictures of equal value are near-copies.
        k: neighbours wanted.
        rows: the pictures (m,) whose neighbours are wanted; None for all.

    Returns:
        (m, k) rows of the pictures, nearest first, ties by row; `NOBODY` where there are no more.
    """
    wanted = np.arange(len(vectors)) if rows is None else rows
    bad = unusable(vectors)
    unit = np.where(bad[:, None], 0.0, vectors).astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found = np.full((len(wanted), k), NOBODY, np.int64)
    for start in range(0, len(wanted), QUERIES_AT_ONCE):
        queries = wanted[start : start + QUERIES_AT_ONCE]
        similarities = unit[queries] @ unit.T
        allowed = (groups[queries][:, None] != groups[None]) & ~bad & ~bad[queries][:, None]
        for i in range(len(queries)):
            others = np.flatnonzero(allowed[i])
            _, nearest = best(similarities[i, others], others, k)
            found[start + i, : len(nearest)] = nearest
    return found


def in_score_space(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors (n, K) for pictures of which only probabilities (n, K) are known."""
    logits = logit(probabilities)
    centred: NDArray[np.float32] = (logits - logits.mean(axis=0)).astype(np.float32)
    return centred
