"""The errors that a predictor is surest of: what it promised wrongly, what it ruled out wrongly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.tag_rankings import release, row_blocks

NUM_ERRORS = 8
PER_TAG = 2
"""so that one tag does not fill the list"""
BLOCK_CELLS = 1 << 22


@dataclass(frozen=True)
class Error:
    """A decision that contradicts the labels."""

    picture: int
    """row"""
    tag: int
    """column"""
    probability: float


def false_alarms(labels: NDArray[Any], scores: NDArray[Any]) -> list[Error]:
    """Tags of the highest scores that the labels lack, highest first.

    Args:
        labels: (n, K) of 0 and 1; may be memory-mapped.
        scores: (n, K).

    Returns:
        At most `NUM_ERRORS`, each of another picture, at most `PER_TAG` of a tag.
    """
    return surest(labels, scores, present=False)


def misses(labels: NDArray[Any], scores: NDArray[Any]) -> list[Error]:
    """Tags of the lowest scores that the labels have, lowest first; else as `false_alarms`."""
    return surest(labels, scores, present=True)


def surest(labels: NDArray[Any], scores: NDArray[Any], present: bool) -> list[Error]:
    """The most extreme decisions about tags that are present, or absent."""
    rows, values = best_of_tags(labels, scores, present)
    order = np.argsort(-values, axis=None, kind="stable")
    found: list[Error] = []
    used_tags: list[int] = []
    for place in order[np.isfinite(values.ravel()[order])].tolist():
        rank, tag = divmod(place, values.shape[1])
        picture = int(rows[rank, tag])
        if used_tags.count(tag) < PER_TAG and picture not in {error.picture for error in found}:
            found.append(Error(picture, tag, float(scores[picture, tag])))
            used_tags.append(tag)
        if len(found) == NUM_ERRORS:
            break
    return found


def best_of_tags(
    labels: NDArray[Any], scores: NDArray[Any], present: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each tag's surest errors: rows and how wrong they are, (places, K) each, -inf for none.

    As many places as can be needed: those that count, and one for each picture shown elsewhere.
    """
    places, num_tags = PER_TAG + NUM_ERRORS - 1, labels.shape[1]
    rows, values = np.zeros((0, num_tags), np.int64), np.zeros((0, num_tags))
    for span in row_blocks(scores, BLOCK_CELLS):
        block = scores[span].astype(np.float64) * (-1.0 if present else 1.0)
        block[(labels[span] != 0) != present] = -np.inf
        top = np.argpartition(-block, min(places, len(block)) - 1, axis=0)[:places]
        rows = np.concatenate([rows, top + span.start])
        values = np.concatenate([values, np.take_along_axis(block, top, axis=0)])
        kept = np.argsort(-values, axis=0, kind="stable")[:places]
        rows = np.take_along_axis(rows, kept, axis=0)
        values = np.take_along_axis(values, kept, axis=0)
        release(labels, scores)
    return rows, values
