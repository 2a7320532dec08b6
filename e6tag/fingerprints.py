"""What tells copies of a picture from other pictures: two hashes to find candidates, and a
thumbnail to judge them by.

The hashes are difference hashes (N. Krawetz, "Kind of like that", 2013: is a cell brighter than
the one before it?), along rows and along columns.  Drawings on white have large even areas, whose
noise would fill such a hash with chance, so a step must be larger than `LEAST_STEP`; and as
simple drawings often have the same steps all the same, thumbnails in colour have the last word.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 8
"""cells of a hash along each side: 64 bits"""
LEAST_STEP = 2
"""of 255 grey levels"""
MAX_DISTANCE = 7
"""bits of 64 in which each hash of copies may differ"""
THUMBNAIL_PX = 16
MAX_DIFFERENCE = 0.008
"""1 - Pearson's correlation of two thumbnails that copies may have.  Among the 8.4 million pairs
of the demo's 4,099 symbols those that are alike by their hashes and no copies begin at 0.0102;
copies of them that were recompressed, resized or made brighter reach 0.001 at the median."""
LEAST_CONTRAST = 4.0
"""standard deviation of a thumbnail, in levels of 255: with less there is nothing to compare"""
MAX_PAIRS = 1 << 20
"""Pairs that are looked at together, so that memory stays small."""
BAND_BITS = 16
BIT_COUNTS = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)

FINGERPRINT = np.dtype(
    [
        ("post_id", "i8"),
        ("sha256", "S64"),
        ("across", "u8"),
        ("down", "u8"),
        ("thumbnail", "u1", (THUMBNAIL_PX, THUMBNAIL_PX, 3)),
    ]
)
"""Of one stored picture, which `sha256` names."""


def fingerprint(picture: Image.Image) -> tuple[int, int, NDArray[np.uint8]]:
    """Both hashes, and the thumbnail.

    Args:
        picture: in RGB.

    Returns:
        hash of the steps from left to right, the same from top to bottom, both of 64 bits with
        the first step in the highest one; (16, 16, 3) uint8.
    """
    grey = picture.convert("L")
    across, down = (
        np.asarray(grey.resize(size, Image.Resampling.BOX), np.int16)
        for size in ((SIDE + 1, SIDE), (SIDE, SIDE + 1))
    )
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    thumbnail = np.asarray(picture.resize(size, Image.Resampling.BOX))
    return packed(np.diff(across, axis=1)), packed(np.diff(down, axis=0)), thumbnail


def packed(steps: NDArray[np.int16]) -> int:
    """Which of 64 steps go up, as one number."""
    return int.from_bytes(np.packbits(steps > LEAST_STEP).tobytes(), "big")


def distance(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(pairs,): bits in which two hashes differ."""
    parts = np.ascontiguousarray(a ^ b).view(np.uint16).reshape(-1, 4)
    return BIT_COUNTS[parts].sum(1, dtype=np.int64)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(pairs,): 1 - Pearson's correlation of thumbnails, whatever their brightness and contrast.

    Args:
        a: (pairs, 16, 16, 3).
        b: the same of the others.

    Returns:
        0 for the same picture; infinite where one shows next to nothing.
    """
    x, y = (centred(thumbnails) for thumbnails in (a, b))
    x_norm, y_norm = (np.sqrt((values * values).sum(1)) for values in (x, y))
    is_flat = np.minimum(x_norm, y_norm) < LEAST_CONTRAST * np.sqrt(x.shape[1])
    correlation = (x * y).sum(1) / np.maximum(x_norm * y_norm, 1e-6)
    return np.where(is_flat, np.float32(np.inf), 1 - correlation)


def centred(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(pictures, values): what differs from the picture's mean."""
    values = thumbnails.reshape(len(thumbnails), 3 * THUMBNAIL_PX**2).astype(np.float32)
    return values - values.mean(1, keepdims=True)


def near_pairs(
    queries: NDArray[np.uint64], others: NDArray[np.uint64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of hashes that differ in `MAX_DISTANCE` bits at most, found without comparing all.

    If two hashes differ in 7 bits at most, one of their four bands of 16 differs in one at most:
    so each band is looked up in a table of the others', as it is and with each bit turned
    (multi-index hashing: Norouzi, Punjani & Fleet 2012).

    Yields:
        rows of the queries, and of the others; a pair may come more than once.
    """
    for shift in range(0, 64, BAND_BITS):
        band, wanted = ((x >> np.uint64(shift)).astype(np.uint16) for x in (others, queries))
        order = np.argsort(band, kind="stable")
        first = np.searchsorted(band[order], np.arange((1 << BAND_BITS) + 1))
        for turned in (0, *(1 << bit for bit in range(BAND_BITS))):
            key = (wanted ^ np.uint16(turned)).astype(np.int64)
            for rows, places in ranges(first[key], first[key + 1]):
                found = order[places]
                is_near = distance(queries[rows], others[found]) <= MAX_DISTANCE
                yield rows[is_near], found[is_near]


def ranges(
    first: NDArray[np.int64], end: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All places from `first` up to `end` of each row, some rows at a time.

    Yields:
        rows, each as often as it has places, and these places.
    """
    number = end - first
    rows = np.flatnonzero(number)
    part = np.cumsum(number[rows]) // MAX_PAIRS
    for some in np.split(rows, np.flatnonzero(np.diff(part)) + 1):
        of_row = np.repeat(some, number[some])
        starts = np.cumsum(number[some]) - number[some]
        yield of_row, first[of_row] + np.arange(len(of_row)) - np.repeat(starts, number[some])
