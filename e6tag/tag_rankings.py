"""The rankings of many tags, from arrays that may be larger than memory.

Labels (n, K) of 0 and 1 and scores (n, K) may be memory-mapped: they are read in blocks, each of
which is copied, sorted and dropped, and their pages are given back.  Beside the blocks, memory
grows with the number of positives only.
"""

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e6tag.ranking import Curve, curve_of, distinct, make_curve, places

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK_CELLS = 1 << 26
"""labels or scores that are sorted at once, by all threads together"""
ROW_CELLS = 1 << 21
"""labels or scores of the blocks of rows that are worked on picture by picture"""
TILE_ROWS = 1024
"""rows that are transposed at once, so that they stay in the processor's cache"""


class SparseLabels(NamedTuple):
    """Labels as lists of columns: row i has columns[offsets[i]:offsets[i + 1]], each once."""

    offsets: NDArray[np.int64]
    """(n + 1,)"""
    columns: NDArray[np.int32]
    num_tags: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, num_tags)"""
        return len(self.offsets) - 1, self.num_tags

    def dense(self, rows: slice) -> NDArray[np.bool_]:
        """Some rows as an array."""
        start, stop, _ = rows.indices(len(self.offsets) - 1)
        ends = self.offsets[start : stop + 1]
        labels = np.zeros((stop - start, self.num_tags), np.bool_)
        numbers = np.repeat(np.arange(stop - start), np.diff(ends))
        labels[numbers, self.columns[ends[0] : ends[-1]]] = True
        return labels

    def by_tag(self, columns: slice) -> "ByTag":
        """The pictures of some tags."""
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.offsets))
        kept = (self.columns >= columns.start) & (self.columns < columns.stop)
        return group(rows[kept], self.columns[kept] - columns.start, columns.stop - columns.start)


Labels = NDArray[np.bool_] | SparseLabels


class ByTag(NamedTuple):
    """Positives by tag: tag k is on the pictures rows[offsets[k]:offsets[k + 1]]."""

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]

    def of(self, tag: int) -> NDArray[np.int64]:
        """Pictures that have a tag."""
        return self.rows[self.offsets[tag] : self.offsets[tag + 1]]


def group(rows: NDArray[Any], tags: NDArray[Any], num_tags: int) -> ByTag:
    """Pairs (row, tag), each once, by tag and then by row."""
    num_rows = int(rows.max(initial=0)) + 1
    keys = np.sort(tags.astype(np.int64) * num_rows + rows)
    return ByTag(np.searchsorted(keys, np.arange(num_tags + 1) * num_rows), keys % num_rows)


def check(y_true: Any, y_score: ArrayLike) -> tuple[Labels, NDArray[Any]]:
    """Labels as bool and scores, both (n, K), without copies where they are in that form.

    Args:
        y_true: an array of 0 and 1, or `SparseLabels`.
        y_score: an array.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    labels, scores = read_labels(y_true), np.asarray(y_score)
    if labels.shape != scores.shape or scores.ndim != 2:
        raise ValueError(f"y_true is {labels.shape} and y_score {scores.shape}, expected the same.")
    if not all(over_rows(lambda _, block: bool(np.isfinite(block).all()), labels, scores)):
        raise ValueError("y_score has values that are not finite.")
    return labels, scores


def read_labels(y_true: Any) -> Labels:
    """Labels as bool, without a copy where they are 0 and 1 in bytes, or sparse."""
    if isinstance(y_true, SparseLabels):
        return y_true
    labels = np.asarray(y_true)
    if labels.dtype == np.uint8 and labels.ndim == 2 and is_binary(labels):
        return labels.view(np.bool_)
    return labels if labels.dtype == np.bool_ else labels != 0


def is_binary(labels: NDArray[np.uint8]) -> bool:
    """Whether bytes are all 0 or 1."""
    for rows in row_blocks(labels, BLOCK_CELLS):
        if labels[rows].max(initial=0) > 1:
            return False
        release(labels)
    return True


def row_blocks(array: Any, cells: int) -> list[slice]:
    """Slices of rows with about so many cells, at least one row."""
    num_rows, num_columns = array.shape
    step = max(1, cells // max(num_columns, 1))
    return [slice(at, min(at + step, num_rows)) for at in range(0, num_rows, step)]


def column_blocks(array: Any, cells: int) -> list[slice]:
    """Slices of columns with about so many cells, at least one column."""
    num_rows, num_columns = array.shape
    step = max(1, cells // max(num_rows, 1))
    return [slice(at, min(at + step, num_columns)) for at in range(0, num_columns, step)]


def num_threads() -> int:
    """Threads that sorting uses: one a core, as NumPy sorts without Python's lock."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 8)


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in the order of the items, as soon as they are ready."""
    if len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(num_threads()) as pool:
        yield from pool.map(work, items)


def release(*arrays: Any) -> None:
    """Give back the memory that holds what was read of memory-mapped files.

    Only of those that are mapped for reading: of others, changes would be lost.
    """
    for array in arrays:
        while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
            array = array.base
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def over_rows(
    work: Callable[[NDArray[np.bool_], NDArray[Any]], Result],
    labels: Labels,
    scores: NDArray[Any],
    cells: int | None = None,
) -> Iterator[Result]:
    """Results of blocks of pictures, in their order: `work` gets labels and scores, in threads."""

    def of_block(rows: slice) -> Result:
        result = work(dense(labels, rows), scores[rows])
        release(labels, scores)
        return result

    return in_threads(of_block, row_blocks(scores, cells or ROW_CELLS))


def dense(labels: Labels, rows: slice) -> NDArray[np.bool_]:
    """Some rows of labels."""
    return labels.dense(rows) if isinstance(labels, SparseLabels) else labels[rows]


def positives_by_tag(labels: Labels, columns: slice) -> ByTag:
    """The pictures of the tags of some columns."""
    if isinstance(labels, SparseLabels):
        return labels.by_tag(columns)
    rows, tags = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for span in row_blocks(labels, BLOCK_CELLS):
        of_span, numbers = np.nonzero(labels[span, columns])
        rows.append(of_span + span.start)
        tags.append(numbers)
        release(labels)
    return group(np.concatenate(rows), np.concatenate(tags), columns.stop - columns.start)


def transposed(scores: NDArray[Any], columns: slice) -> NDArray[Any]:
    """Some columns as rows, (K, n), copied.

    The system maps whole neighbourhoods of what is read: they are given back on the way.
    """
    block = np.empty((columns.stop - columns.start, len(scores)), scores.dtype)
    for span in row_blocks(scores, BLOCK_CELLS):
        for start in range(span.start, span.stop, TILE_ROWS):
            rows = slice(start, min(start + TILE_ROWS, span.stop))
            block[:, rows] = scores[rows, columns].T
        release(scores)
    return block


def map_tags(
    work: Callable[[Curve], Result], labels: Labels, scores: NDArray[Any]
) -> Iterator[Result]:
    """What `work` makes of each tag's ranking, exactly, ties included.

    Args:
        work: called in threads.
        labels: (n, K).
        scores: (n, K) finite numbers.
    """
    for columns in column_blocks(scores, BLOCK_CELLS):
        block, positives = transposed(scores, columns), positives_by_tag(labels, columns)
        pairs = [(column, positives.of(tag)) for tag, column in enumerate(block)]
        yield from in_threads(lambda pair: work(rank(*pair)), pairs)


def rank(scores: NDArray[Any], positives: NDArray[np.int64]) -> Curve:
    """The ranking of one tag; its scores (n,) are sorted in place."""
    of_positives = np.sort(scores[positives])
    scores.sort()
    return curve_of(scores, of_positives)


def micro_curve(labels: Labels, scores: NDArray[Any]) -> Curve:
    """The ranking of all (picture, tag) pairs together, exactly.

    Blocks of pairs are sorted one after another, and the places of all positives in each added up.
    """
    of_positives = list(over_rows(lambda truth, block: block[truth], labels, scores))
    positives = np.sort(np.concatenate(of_positives or [np.empty(0, scores.dtype)]))
    thresholds = distinct(positives)
    of_all = np.zeros((2, len(thresholds)), np.int64)
    cells = BLOCK_CELLS // num_threads()
    for counts in over_rows(
        lambda _, block: places(np.sort(block, axis=None), thresholds), labels, scores, cells
    ):
        of_all += counts
    return make_curve(thresholds, positives, of_all, scores.size)
