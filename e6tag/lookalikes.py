"""Held-out pictures that look like a picture of an earlier split: near-copies must not straddle.

fingerprints/<shard>.npy   of the pictures of a shard, in its order: kept, so that the next run
                           need not decode them again
"""

import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e6tag import files, images
from e6tag.fingerprints import (
    FINGERPRINT,
    MAX_DIFFERENCE,
    MAX_DISTANCE,
    THUMBNAIL_PX,
    difference,
    distance,
    fingerprint,
    near_pairs,
)
from e6tag.progress import Progress
from e6tag.shard_work import ShardWork
from e6tag.shards import read_stored

DECODED_PX = 4 * THUMBNAIL_PX
"""Pictures are looked at in this size: four times finer than what is kept of them."""
MAX_JUDGED = 1 << 12
"""Pairs whose thumbnails are compared together: some 11 kB each."""
UNREADABLE = (OSError, ValueError, EOFError, tokenize.TokenError)
"""What NumPy raises on a file that is not what it wrote: its header is read as Python is."""


@dataclass(frozen=True)
class Prints:
    """What is compared, of all stored pictures; thumbnails stay on disk until they are needed."""

    post_id: NDArray[np.int64]
    split: NDArray[np.str_]
    across: NDArray[np.uint64]
    down: NDArray[np.uint64]
    paths: Sequence[Path]
    """the files, in order"""
    starts: NDArray[np.int64]
    """(files,): row of each one's first picture"""

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(rows, 16, 16, 3): read from disk."""
        found = np.empty((len(rows), THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
        number = np.searchsorted(self.starts, rows, side="right") - 1
        for file in np.unique(number).tolist():
            here = number == file
            stored = np.load(self.paths[file], mmap_mode="r")
            found[here] = stored["thumbnail"][rows[here] - self.starts[file]]
        return found


def find_lookalikes(out: Path, works: Sequence[ShardWork], quiet: bool) -> dict[int, int]:
    """Validation pictures that look like a training picture, and test pictures that look like one
    of those or a validation picture.

    Args:
        out: data folder.
        works: its shards, all written.
        quiet: show no progress.

    Returns:
        post id -> post id of the picture that is most like it.
    """
    prints = read_prints(out, works, quiet)
    alike: dict[int, int] = {}
    is_earlier = prints.split == "train"
    for split in ("val", "test"):
        is_query = prints.split == split
        found = most_alike(prints, np.flatnonzero(is_query), np.flatnonzero(is_earlier))
        alike |= found
        is_earlier |= is_query & ~np.isin(prints.post_id, [*found])
    return alike


def most_alike(
    prints: Prints, queries: NDArray[np.int64], others: NDArray[np.int64]
) -> dict[int, int]:
    """The most similar one of the others for each query that has a near-copy among them.

    Args:
        prints: of all pictures.
        queries: their rows.
        others: rows of those to compare with.
    """
    pairs = np.concatenate([np.zeros((0, 3)), *judged(prints, queries, others)])
    query, other = (prints.post_id[pairs[:, column].astype(int)] for column in (0, 1))
    # Of equally similar ones the smallest post id: where a picture is stored does not matter.
    order = np.lexsort((other, pairs[:, 2], query))
    post_ids, first = np.unique(query[order], return_index=True)
    return dict(zip(post_ids.tolist(), other[order[first]].tolist(), strict=True))


def judged(
    prints: Prints, queries: NDArray[np.int64], others: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """(pairs, 3): row of the query, row of the other, difference of their thumbnails."""
    for query, other in near_pairs(prints.across[queries], prints.across[others]):
        rows, places = queries[query], others[other]
        is_near = distance(prints.down[rows], prints.down[places]) <= MAX_DISTANCE
        rows, places = rows[is_near], places[is_near]
        for start in range(0, len(rows), MAX_JUDGED):
            some = slice(start, start + MAX_JUDGED)
            differs = difference(prints.thumbnails(rows[some]), prints.thumbnails(places[some]))
            is_alike = differs <= MAX_DIFFERENCE
            yield np.stack([rows[some][is_alike], places[some][is_alike], differs[is_alike]], 1)


def read_prints(out: Path, works: Sequence[ShardWork], quiet: bool) -> Prints:
    """What is known of all stored pictures; what is not known yet is found out, and kept."""
    works = [work for work in works if len(work.stored)]
    paths = [out / "fingerprints" / f"{Path(work.name).stem}.npy" for work in works]
    sizes = [len(work.stored) for work in works]
    hashes = []
    with Progress("comparing", sum(sizes), unit="pictures", quiet=quiet) as progress:
        for work, path in zip(works, paths, strict=True):
            kept = up_to_date(out, work, path)
            hashes.append(kept[["post_id", "across", "down"]].copy())
            progress.update(len(kept))
    remove_others(out / "fingerprints", paths)
    columns = {
        name: np.concatenate([part[name] for part in hashes] or [np.zeros(0, kind)])
        for name, kind in (("post_id", np.int64), ("across", np.uint64), ("down", np.uint64))
    }
    split = np.repeat(np.array([work.split for work in works], np.str_), sizes)
    starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, np.int64)
    return Prints(**columns, split=split, paths=paths, starts=starts)


def up_to_date(out: Path, work: ShardWork, path: Path) -> NDArray[np.void]:
    """The fingerprints of a shard; those that are not in their file yet are made."""
    kept = read_kept(path)
    if all(np.array_equal(kept[name], work.stored[name]) for name in ("post_id", "sha256")):
        return kept
    known = {print_["sha256"]: print_ for print_ in kept}
    prints = np.zeros(len(work.stored), FINGERPRINT)
    for row, at in enumerate(work.stored):
        if at["sha256"] in known:
            prints[row] = known[at["sha256"]]
        else:
            jpeg = read_stored(out, work.name, int(at["offset"]), int(at["length"]))
            picture = images.decode_fitted(jpeg, DECODED_PX, enlarge=False)
            prints[row] = (0, at["sha256"], *fingerprint(picture))
    prints["post_id"] = work.stored["post_id"]
    with files.finished(path) as part, part.open("wb") as stream:
        np.save(stream, prints)
    return prints


def read_kept(path: Path) -> NDArray[np.void]:
    """A file of fingerprints; empty where there is none, or it is none of this version's."""
    try:
        # Not np.load(), which would take some damage for a zip file.
        kept = np.lib.format.open_memmap(path, mode="r")
    except UNREADABLE:
        return np.zeros(0, FINGERPRINT)
    is_ours = kept.dtype == FINGERPRINT and kept.ndim == 1
    return kept if is_ours else np.zeros(0, FINGERPRINT)


def remove_others(folder: Path, paths: Sequence[Path]) -> None:
    """Remove the fingerprints of shards that are not there any more."""
    for path in set(folder.glob("*.npy")).difference(paths):
        path.unlink()
