"""Vectors that were computed already, in pieces that are finished or absent."""

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import DataError, E6TagError
from e6tag.files import finished
from e6tag.inputs import Failures
from e6tag.nearest import unusable
from e6tag.progress import Progress
from e6tag.tagger import Prediction, Tagger, predict_stream

log = logging.getLogger(__name__)

PIECE_ENTRIES = 128
"""Pictures a piece: what a broken-off run loses at most."""


@dataclass(frozen=True)
class Wanted:
    """A picture whose vector is wanted."""

    key: str
    """names the vector in the cache"""
    name: str
    """of the picture, for messages"""
    read: Callable[[], bytes]
    """gives the file's content; raises OSError or DataError"""


@dataclass(frozen=True)
class Entry:
    """A vector and what came with it."""

    key: str
    vector: NDArray[np.float32]
    """(D,), as the model gave it"""
    md5: str
    """of the file's content"""
    tags: str
    """that the model gave, separated by spaces"""


class VectorCache:
    """Vectors of one model in a folder; `entries` has all that are there."""

    def __init__(self, folder: Path, vector_size: int):
        self.folder = folder
        self.vector_size = vector_size
        self.entries: dict[str, Entry] = {}
        for path in sorted(folder.glob("*.npz")):
            for entry in self.read(path):
                self.entries[entry.key] = entry

    def read(self, path: Path) -> list[Entry]:
        """The entries of a piece; a damaged one is removed, to be made again."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                columns = [arrays[name] for name in ("keys", "vectors", "md5s", "tags")]
                if columns[1].shape != (len(columns[0]), self.vector_size):
                    raise ValueError(f"vectors of shape {columns[1].shape}")
                return [
                    Entry(str(key), vector, str(md5), str(tags))
                    for key, vector, md5, tags in zip(*columns, strict=True)
                ]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
            log.warning("%s is damaged (%s); its vectors are computed again.", path, problem)
            path.unlink()
            return []

    def add(self, entries: list[Entry]) -> None:
        """Write a piece."""
        if not entries:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = np.array([entry.key for entry in entries])
        name = hashlib.sha256("\n".join(keys).encode("utf-8", "replace")).hexdigest()[:16]
        with (
            finished(self.folder / f"{name}.npz") as part,
            part.open("wb") as stream,
        ):
            np.savez(
                stream,
                keys=keys,
                vectors=np.stack([entry.vector for entry in entries]).astype(np.float32),
                md5s=np.array([entry.md5 for entry in entries]),
                tags=np.array([entry.tags for entry in entries]),
            )
        self.entries.update((entry.key, entry) for entry in entries)

    def fill(
        self,
        tagger: Tagger,
        wanted: Iterable[Wanted],
        batch_size: int,
        failures: Failures,
        progress: Progress,
    ) -> None:
        """Compute the vectors that are not there; pictures that cannot be used are failures."""
        missing = [item for item in wanted if item.key not in self.entries]
        fresh: list[Entry] = []
        squares = read_pictures(tagger, missing, failures, progress)
        for batch, prediction in predict_stream(tagger, squares, batch_size):
            fresh += list(usable_entries(tagger, batch, prediction, failures))
            if len(fresh) >= PIECE_ENTRIES:
                self.add(fresh)
                fresh = []
        self.add(fresh)


def read_pictures(
    tagger: Tagger, wanted: Iterable[Wanted], failures: Failures, progress: Progress
) -> Iterator[tuple[tuple[Wanted, str], NDArray[np.uint8]]]:
    """((picture, MD5 of its content), pixels (S, S, 3)) of those that can be read."""
    for item in wanted:
        try:
            content = item.read()
            square = tagger.read(content)
        except (E6TagError, OSError) as problem:
            failures.add(item.name, problem)
        else:
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            yield (item, md5), square
        progress.update()


def usable_entries(
    tagger: Tagger, batch: list[tuple[Wanted, str]], prediction: Prediction, failures: Failures
) -> Iterator[Entry]:
    """Entries of a batch; vectors that have no direction are failures."""
    bad = unusable(prediction.vectors)
    for i, (item, md5) in enumerate(batch):
        if bad[i]:
            failures.add(item.name, DataError("its vector is zero or not finite."))
        else:
            tags = likely_tags(tagger, prediction.probabilities[i])
            yield Entry(item.key, prediction.vectors[i], md5, tags)


def likely_tags(tagger: Tagger, probabilities: NDArray[np.float32]) -> str:
    """Up to ten tags that are more likely than not, best first, separated by spaces."""
    order = np.argsort(-probabilities, kind="stable")[:10]
    names = tagger.run.vocabulary.names
    return " ".join(names[column] for column in order if probabilities[column] >= 0.5)


def content_key(path: Path, failures: Failures) -> str:
    """MD5 of a file's content; empty, and a failure, where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    except OSError as problem:
        failures.add(str(path), problem)
        return ""
