"""Which tags are taken for which: false alarms of a tag on pictures of one of its siblings.

Siblings are tags of one category, or under one parent by the implications that the labels were
closed under, which share less than half of the pictures that they would by chance: `wolf` and
`fox`, not `wolf` and `solo`.  A tag and what it implies are no siblings.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.tag_rankings import release, row_blocks
from e6tag.tags import Relations

NUM_CONFUSIONS = 12
MAX_TAGS = 4096
"""the commonest; tables of all pairs of more would not fit memory"""
BLOCK_CELLS = 1 << 21
"""labels that are multiplied at once: few enough pictures that float32 counts them exactly"""
LEAST_PICTURES = 2
"""one picture is no confusion"""
APART = 0.5
"""siblings exclude each other: they share less than this of the pictures expected by chance"""
IMPLICATIONS_FILE = "implications.csv"


@dataclass(frozen=True)
class Pairs:
    """Counts of pictures of every pair of K tags, (K, K)."""

    mistaken: NDArray[np.int64]
    """[a, b]: a is predicted, the labels lack it, and have b"""
    instead: NDArray[np.int64]
    """[a, b]: of these, b is not predicted"""
    together: NDArray[np.int64]
    """[a, b]: the labels have both; on the diagonal, positives"""


def count_pairs(labels: NDArray[Any], scores: NDArray[Any], cuts: NDArray[Any]) -> Pairs:
    """Count by matrix products of blocks of pictures.

    Args:
        labels: (n, K) of 0 and 1; may be memory-mapped.
        scores: (n, K).
        cuts: (K,); a tag is predicted at or above its own.
    """
    num_tags = labels.shape[1]
    sums = np.zeros((3, num_tags, num_tags), np.int64)
    for rows in row_blocks(labels, BLOCK_CELLS):
        truth, guessed = labels[rows] != 0, scores[rows] >= cuts
        alarms, true = (guessed & ~truth).astype(np.float32), truth.astype(np.float32)
        missed = (truth & ~guessed).astype(np.float32)
        for total, left, right in zip(
            sums, (alarms, alarms, true), (true, missed, true), strict=True
        ):
            total += np.rint(left.T @ right).astype(np.int64)
        release(labels, scores)
    return Pairs(*sums)


def confusions(
    tags: Sequence[tuple[str, str]],
    labels: NDArray[Any],
    scores: NDArray[Any],
    cuts: NDArray[Any],
    relations: Relations | None = None,
) -> list[dict[str, Any]]:
    """The siblings that are confused in most pictures, most first, at most `NUM_CONFUSIONS`.

    Args:
        tags: K names and categories.
        labels: (n, K) of 0 and 1.
        scores: (n, K).
        cuts: (K,) cut-offs; nan where there are none, and then there are no confusions.
        relations: implications, where they are known.

    Returns:
        For each pair `predicted`, `actual` (names), `category` (of actual), `parent` (that both
        imply; None without), `pictures` (that have actual but not predicted, where predicted is
        predicted), `instead` (those where actual is not predicted), `share` (pictures / all that
        have actual).
    """
    if np.isnan(cuts).any() or not labels.size:
        return []
    kept = commonest(labels)
    if len(kept) < labels.shape[1]:
        labels, scores, cuts = labels[:, kept], scores[:, kept], cuts[kept]
    named, counts = [tags[column] for column in kept.tolist()], count_pairs(labels, scores, cuts)
    relations = relations or Relations()
    allowed = are_siblings(named, relations) & are_apart(counts, len(labels))
    allowed &= counts.mistaken >= LEAST_PICTURES
    worst = np.argsort(-np.where(allowed, counts.mistaken, -1), axis=None, kind="stable")
    places = np.column_stack(np.unravel_index(worst[:NUM_CONFUSIONS], allowed.shape)).tolist()
    return [
        row_of(named[a], named[b], relations, counts, (a, b)) for a, b in places if allowed[a, b]
    ]


def commonest(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Ascending columns of the `MAX_TAGS` commonest tags; all where there are fewer."""
    num_tags = labels.shape[1]
    if num_tags <= MAX_TAGS:
        return np.arange(num_tags)
    positives = np.zeros(num_tags, np.int64)
    for rows in row_blocks(labels, BLOCK_CELLS):
        positives += np.count_nonzero(labels[rows], axis=0)
        release(labels)
    return np.sort(np.argsort(-positives, kind="stable")[:MAX_TAGS])


def row_of(
    predicted: tuple[str, str],
    actual: tuple[str, str],
    relations: Relations,
    counts: Pairs,
    place: tuple[int, int],
) -> dict[str, Any]:
    """What is told of a pair."""
    parents = [set(relations.implications.get(name, ())) for name, _ in (predicted, actual)]
    pictures = int(counts.mistaken[place])
    return {
        "predicted": predicted[0],
        "actual": actual[0],
        "category": actual[1],
        "parent": min(parents[0] & parents[1], default=None),
        "pictures": pictures,
        "instead": int(counts.instead[place]),
        "share": pictures / int(counts.together[place[1], place[1]]),
    }


def are_apart(counts: Pairs, num_pictures: int) -> NDArray[np.bool_]:
    """Which pairs share less than `APART` of the pictures that they would by chance, (K, K)."""
    shares = np.diag(counts.together) / num_pictures
    apart: NDArray[np.bool_] = counts.together < APART * np.outer(shares, shares) * num_pictures
    return apart


def are_siblings(tags: Sequence[tuple[str, str]], relations: Relations) -> NDArray[np.bool_]:
    """Which pairs are of one category or parent, neither implying the other, (K, K)."""
    _, category = np.unique([category for _, category in tags], return_inverse=True)
    related = category[:, None] == category[None, :]
    families: dict[str, list[int]] = {}
    column = {name: number for number, (name, _) in enumerate(tags)}
    for name, number in column.items():
        for parent in relations.implications.get(name, ()):
            families.setdefault(parent, []).append(number)
    for children in families.values():
        related[np.ix_(children, children)] = True
    for name, number in column.items():
        implied = [column[other] for other in relations.implied(name) if other in column]
        related[number, implied] = related[implied, number] = False
    np.fill_diagonal(related, False)
    return related


def read_implications(data: Path) -> Relations:
    """What tags imply, as a data folder has it; nothing where it does not say.

    Raises:
        DataError: the file is not such a table.
    """
    path = data / IMPLICATIONS_FILE
    if not path.is_file():
        return Relations()
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            pairs = [(row["antecedent"], row["consequent"]) for row in csv.DictReader(stream)]
    except (UnicodeDecodeError, KeyError, csv.Error) as problem:
        raise DataError(
            f"{path} is damaged: expected the columns antecedent,consequent ({problem}). "
            "Bring back a copy of it, or delete it: only the table of confusions uses it."
        ) from None
    implied: dict[str, list[str]] = {}
    for antecedent, consequent in pairs:
        implied.setdefault(antecedent, []).append(consequent)
    return Relations(implications=implied)
