"""Posts of a booru, as columns: six million of them must fit in memory.

A `Posts` table holds NumPy columns and the tags of all posts as one CSR pair
(`tag_offsets`, `tag_indices`), indexes into `tag_names`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 1 << 16
"""rows that are worked on at once: temporary arrays of all tags would not fit beside the posts"""


@dataclass(frozen=True)
class Candidate:
    """One file that shows a post, with everything known before it is fetched."""

    variant: str
    """original, sample or preview"""
    url: str
    """http(s) URL, or a local path"""
    md5: str | None = None
    """of these very bytes (only originals have one on e621)"""
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    other_hash: str = ""
    """of these very bytes, where a site has no MD5: algorithm:digits"""

    @property
    def expected_hash(self) -> tuple[str, str] | None:
        """Algorithm and hexadecimal digits of these very bytes; None where nothing is known."""
        if self.md5:
            return "md5", self.md5
        algorithm, colon, digits = self.other_hash.partition(":")
        return (algorithm, digits) if colon else None


@dataclass(frozen=True)
class Posts:
    """A table of posts; every column has one entry per post, in ascending post_id order."""

    post_id: NDArray[np.int64]
    md5: NDArray[Any]
    """32 lower-case hexadecimal digits of the original, dtype S32; empty where unknown"""
    ext: NDArray[Any]
    """file extension without a dot, dtype object"""
    rating: NDArray[Any]
    """one letter, dtype S1: g, s, q, e as the site has them"""
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    size_bytes: NDArray[np.int64]
    parent_id: NDArray[np.int64]
    """0 where the post has no parent"""
    created_at: NDArray[Any]
    """datetime64[s], UTC; NaT where unknown"""
    is_deleted: NDArray[np.bool_]
    is_pending: NDArray[np.bool_]
    is_flagged: NDArray[np.bool_]
    tag_offsets: NDArray[np.int64]
    """(posts + 1,): post i has tag_indices[tag_offsets[i]:tag_offsets[i + 1]]"""
    tag_indices: NDArray[np.int32]
    tag_names: Sequence[str]
    location: Sequence[str] | None = None
    """path of each picture, for sites that are folders; JSON of addresses, for APIs"""
    other_hash: NDArray[Any] | None = None
    """of the original where there is no MD5, as bytes: algorithm:digits; None: never needed"""
    is_hidden: NDArray[np.bool_] | None = None
    """the site shows us no file of it; None: it says so of no post"""

    def __len__(self) -> int:
        return len(self.post_id)

    @property
    def content_key(self) -> NDArray[Any]:
        """What posts of equal bytes have in common, as bytes; empty where nothing is known."""
        if self.other_hash is None:
            return self.md5
        return np.where(self.md5 == b"", self.other_hash, self.md5)

    def tags_of(self, row: int) -> list[str]:
        """Names of the tags of the post in this row."""
        span = self.tag_indices[self.tag_offsets[row] : self.tag_offsets[row + 1]]
        return [self.tag_names[index] for index in span]

    def having(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which posts have a marked tag.

        Args:
            marked: (tag names,).
        """
        has = np.zeros(len(self), bool)
        for start in range(0, len(self), CHUNK_ROWS):
            offsets = self.tag_offsets[start : start + CHUNK_ROWS + 1]
            hits = np.flatnonzero(marked[self.tag_indices[offsets[0] : offsets[-1]]])
            has[start + np.searchsorted(offsets - offsets[0], hits, side="right") - 1] = True
        return has

    def take(self, rows: NDArray[Any]) -> "Posts":
        """The posts of these rows (positions or a boolean mask), in the given order."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows, np.int64)
        offsets, indices = take_csr(self.tag_offsets, self.tag_indices, rows)
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in kept.keys() - {"tag_offsets", "tag_indices", "tag_names", "location"}:
            if kept[name] is not None:
                kept[name] = kept[name][rows]
        location = None if self.location is None else [self.location[row] for row in rows.tolist()]
        return Posts(**kept | dict(tag_offsets=offsets, tag_indices=indices, location=location))


def take_csr(
    offsets: NDArray[np.int64], indices: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Rows of a CSR pair, as a new CSR pair."""
    lengths = offsets[rows + 1] - offsets[rows]
    new_offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    taken = np.empty(new_offsets[-1], indices.dtype)
    # Some rows at a time: places would take more memory than what is taken.
    for first in range(0, len(rows), CHUNK_ROWS):
        part = slice(first, first + CHUNK_ROWS)
        start, stop = new_offsets[[first, min(first + CHUNK_ROWS, len(rows))]]
        shift = np.repeat(offsets[rows[part]] - new_offsets[:-1][part], lengths[part])
        taken[start:stop] = indices[shift + np.arange(start, stop)]
    return new_offsets, taken


def csr_rows(offsets: NDArray[np.int64], indices: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows of a CSR pair, one after the other."""
    for start, stop in itertools.pairwise(offsets):
        yield indices[start:stop]
