"""What strategies choose from, labels, and what they give, a choice."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from e6tag.posts import take_csr

Strategy = Literal["random", "cover", "quota", "all"]

Demands = NDArray[np.int64]
"""(tags,): positives wanted of each tag, at most as many as there are"""

NO_TAG = -1

CHUNK_POSTS = 1 << 14
"""Posts looked at together: their labels fit the processor's cache."""


@dataclass(frozen=True)
class Labels:
    """Labels of posts, in both directions; rows are posts in ascending id order."""

    offsets: NDArray[np.int64]
    """(posts + 1,): post i has columns[offsets[i]:offsets[i + 1]]"""
    columns: NDArray[np.int32]
    """distinct within a post"""
    num_tags: int

    @classmethod
    def of(cls, offsets: NDArray[np.int64], columns: NDArray[np.int32], num_tags: int) -> "Labels":
        """From a CSR pair with distinct columns in each row."""
        return cls(offsets, columns, num_tags)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def available(self) -> NDArray[np.int64]:
        """(tags,): posts that have each tag."""
        return np.bincount(self.columns, minlength=self.num_tags)

    @cached_property
    def tag_offsets(self) -> NDArray[np.int64]:
        """(tags + 1,): tag t is on posts rows[tag_offsets[t]:tag_offsets[t + 1]]."""
        return np.concatenate([[0], np.cumsum(self.available)]).astype(np.int64)

    @cached_property
    def rows(self) -> NDArray[np.int32]:
        """Rows of the posts with tag 0, ascending, then of those with tag 1, ...

        A counting sort, some posts at a time: no more memory than its result.
        """
        rows = np.empty(len(self.columns), np.int32)
        ends = self.tag_offsets[:-1].copy()
        for start, stop in self.chunks():
            columns = self.columns[self.offsets[start] : self.offsets[stop]]
            # NumPy sorts 16-bit numbers by radix, ten times as fast.
            keys = columns.astype(np.uint16) if self.num_tags <= 1 << 16 else columns
            order = np.argsort(keys, kind="stable")
            posts = np.repeat(
                np.arange(start, stop, dtype=np.int32), np.diff(self.offsets[start : stop + 1])
            )
            found, first, counts = np.unique(columns[order], return_index=True, return_counts=True)
            places = np.repeat(ends[found] - first, counts) + np.arange(len(order))
            rows[places] = posts[order]
            ends[found] += counts
        return rows

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First row and the row after the last, of so many posts at a time."""
        for start in range(0, len(self), CHUNK_POSTS):
            yield start, min(start + CHUNK_POSTS, len(self))

    def of_post(self, row: int) -> NDArray[np.int32]:
        """Columns of the post in this row."""
        return self.columns[self.offsets[row] : self.offsets[row + 1]]

    def with_tag(self, column: int) -> NDArray[np.int32]:
        """Rows of the posts that have the tag, ascending."""
        return self.rows[self.tag_offsets[column] : self.tag_offsets[column + 1]]

    def take(self, rows: NDArray[Any]) -> "Labels":
        """Labels of these posts, in this order."""
        return Labels(*take_csr(self.offsets, self.columns, rows), self.num_tags)

    def count(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """(tags,): how many of these posts have each tag."""
        _, columns = take_csr(self.offsets, self.columns, rows)
        return np.bincount(columns, minlength=self.num_tags)

    def sum_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """(posts,): sum of the values (tags,) of each post's tags."""
        sums = np.zeros(len(self), values.dtype)
        for start, stop in self.chunks():
            offsets = self.offsets[start : stop + 1]
            # A zero at the end, so that empty posts there have a place to point at.
            found = np.append(values[self.columns[offsets[0] : offsets[-1]]], values.dtype.type(0))
            sums[start:stop] = np.add.reduceat(found, offsets[:-1] - offsets[0])
        sums[np.diff(self.offsets) == 0] = 0
        return sums

    def rarest_first(self) -> NDArray[np.int64]:
        """Columns from the rarest tag up, ties by column."""
        return np.argsort(self.available, kind="stable")

    def rarest_of(self, rows: NDArray[Any], marked: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The rarest of the marked tags of each of these posts, NO_TAG where it has none."""
        order = np.append(self.rarest_first(), NO_TAG)
        rank = np.empty(self.num_tags + 1, np.int64)
        rank[order] = np.arange(len(order))
        rank[:-1][~marked] = self.num_tags
        offsets, columns = take_csr(self.offsets, self.columns, rows)
        # The last rank is nobody's: empty posts there have a place to point at.
        found = np.minimum.reduceat(np.append(rank[columns], self.num_tags), offsets[:-1])
        found[np.diff(offsets) == 0] = self.num_tags
        return order[found]


@dataclass(frozen=True)
class Choice:
    """Posts that were chosen, in the order of choosing."""

    rows: NDArray[np.int64]
    tags: NDArray[np.int64]
    """column of the tag each was taken for, or NO_TAG"""
    weights: NDArray[np.float64]
    """1 / the chance of being chosen; 1 where there is no such chance (cover, quota)"""
    chances: NDArray[np.float64] | None = None
    """chance of every post there was, chosen or not; None where there is no such chance"""
    bound: int = 0
    """posts that any choice with as many positives has at least, where choosing proved it"""


@dataclass(frozen=True)
class Part:
    """Posts to add to a choice."""

    rows: NDArray[np.int64]
    tags: NDArray[np.int64]
    """column of the tag each was taken for, or NO_TAG"""
    missed: NDArray[np.float64] | None = None
    """(posts,): chance of each of all posts not to be drawn; None where nothing is drawn"""
    bound: int = 0
    """posts that any choice with as many positives has at least, where choosing proved it"""


class Draft:
    """A choice in the making."""

    def __init__(self, labels: Labels) -> None:
        """Nothing chosen yet."""
        self.rows = np.zeros(0, np.int64)
        self.tags = np.zeros(0, np.int64)
        self.is_chosen = np.zeros(len(labels), bool)
        self.missed = np.ones(len(labels))
        """(posts,): chance of not being chosen so far"""
        self.is_drawn = False
        """whether any of it was left to chance"""

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, part: Part) -> None:
        """Take all posts of a part."""
        self.rows = np.concatenate([self.rows, part.rows])
        self.tags = np.concatenate([self.tags, part.tags])
        self.is_chosen[part.rows] = True
        if part.missed is None:
            self.missed[part.rows] = 0
        else:
            self.missed *= part.missed
            self.is_drawn = True

    def choice(self, bound: int = 0) -> Choice:
        """What it has come to."""
        chances = 1 - self.missed
        weights = 1 / chances[self.rows]
        return Choice(self.rows, self.tags, weights, chances if self.is_drawn else None, bound)


class Fill(Protocol):
    """How a strategy goes on with a draft until the demands are met."""

    def __call__(
        self, labels: Labels, demands: Demands, draft: Draft, rng: np.random.Generator
    ) -> Part:
        """Posts to add."""
