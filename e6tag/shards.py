"""Shards of examples (WebDataset tars), their manifest, and the data folder as a whole.

shards/{split}-00000.tar   <post_id>.jpg and <post_id>.json of each example, in plan order
manifest.parquet           one row per planned post: where its picture is, or why it has none
dataset.json tags.csv      what the data is, and the vocabulary its labels are columns of
"""

import io
import json
import mmap
import os
import tarfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.files import finished, read_json, sha256, sync_folder
from e6tag.tables import MANIFEST_SCHEMA, REMEDY, count_topup, read_table, write_table
from e6tag.tags import Vocabulary

FORMAT = 1
EXAMPLES_PER_SHARD = 1000
MAX_EXAMPLE_BYTES = 64 << 20
"""Larger members of a shard are taken for damage."""

HEADER_BYTES = 512
DEFAULT_DATA, DEMO_DATA = Path("data"), Path("data/demo")


@dataclass(frozen=True)
class Example:
    """One stored picture and what is known of it."""

    post_id: int
    jpeg: bytes
    info: dict[str, Any]
    """written as <post_id>.json"""


@dataclass(frozen=True)
class Dataset:
    """A data folder that was checked on opening."""

    path: Path
    info: dict[str, Any]
    """contents of dataset.json"""
    vocabulary: Vocabulary
    manifest: pd.DataFrame
    """columns of `MANIFEST_SCHEMA`; all planned posts, those that failed included"""

    def split(self, name: str) -> pd.DataFrame:
        """Rows of a split (train, val or test) whose picture is there, in plan order."""
        rows = (self.manifest["split"] == name) & (self.manifest["status"] == "ok")
        return self.manifest[rows].reset_index(drop=True)


def write_shard(path: Path, examples: Iterable[Example]) -> list[tuple[int, int]]:
    """Write a shard, finished or absent; the same examples always give the same bytes.

    Returns:
        (offset, length) in bytes of each picture within the file.
    """
    places = []
    with (
        finished(path) as part,
        tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for example in examples:
            text = json.dumps(example.info, sort_keys=True, ensure_ascii=False)
            places.append((tar.offset + HEADER_BYTES, len(example.jpeg)))
            add_member(tar, f"{example.post_id}.jpg", example.jpeg)
            add_member(tar, f"{example.post_id}.json", text.encode("utf-8"))
    return places


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file without owner, time or anything else that could differ between runs."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))


@dataclass(frozen=True, slots=True)
class StoredExample:
    """Where a picture is within its shard, and its info."""

    post_id: int
    offset: int
    length: int
    info: dict[str, Any]


def read_shard_index(path: Path) -> Iterator[StoredExample]:
    """What a shard holds, in order, without reading the pictures.

    Raises:
        DataError: not a shard of this project's, or damaged.
    """
    try:
        check_end(path)
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            place = (0, 0)
            for name, offset, size in tar_members(content):
                post_id, suffix = name.split(".")
                if suffix == "jpg":
                    place = (offset, size)
                else:
                    info = json.loads(content[offset : offset + size])
                    yield StoredExample(int(post_id), *place, info)
    except (ValueError, EOFError) as problem:
        raise DataError(f"{path} is damaged ({problem}). Remove it. {REMEDY}") from None


def tar_members(content: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of the members that `write_shard` wrote; three times tarfile's speed.

    Raises:
        ValueError, EOFError: a header that is damaged or cut.
    """
    start = 0
    while (header := content[start : start + HEADER_BYTES]) != bytes(HEADER_BYTES):
        if len(header) < HEADER_BYTES:
            raise EOFError("it ends early")
        # POSIX 1003.1, ustar: all bytes added up, the sum's own eight taken for spaces.
        if sum(header) - sum(header[148:156]) + 8 * ord(" ") != octal(header[148:156]):
            raise ValueError(f"no header at byte {start}")
        size = octal(header[124:136])
        yield header[:100].rstrip(b"\0").decode(), start + HEADER_BYTES, size
        start += HEADER_BYTES + -(-size // HEADER_BYTES) * HEADER_BYTES


def octal(field: bytes) -> int:
    """A number of a tar header."""
    digits = field.rstrip(b"\0 ")
    if not digits.isdigit():
        raise ValueError(f"{field!r} is not a number")
    return int(digits, 8)


def check_end(path: Path) -> None:
    """The tarfile module takes a file that was cut within a header for a shorter one.

    Raises:
        EOFError: no end-of-archive blocks at the end.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 2 * HEADER_BYTES))
        if size % tarfile.RECORDSIZE or any(stream.read()):
            raise EOFError("it ends early")


class OpenShard:
    """A file descriptor that closes when the last reader has let go of it."""

    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


@lru_cache(maxsize=64)
def open_shard(path: str, inode: int, modified_ns: int) -> OpenShard:
    """Shards stay open between reads; one that was replaced has another key."""
    return OpenShard(path)


def read_stored(data_dir: Path, shard: str, offset: int, length: int) -> bytes:
    """Read one stored picture by its place in the manifest; any number of threads may.

    Args:
        data_dir: the data folder.
        shard: file name in its shards/.
        offset: of the picture within the shard, in bytes.
        length: of the picture, in bytes.

    Raises:
        DataError: the shard is missing or shorter than that, or there is no JPEG at that place.
    """
    path = data_dir / "shards" / shard
    where = f"{path} at byte {offset}"
    if not 0 < length <= MAX_EXAMPLE_BYTES or offset < 0:
        raise DataError(f"{where}: a picture of {length} bytes cannot be. {REMEDY}")
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {REMEDY}") from None
    shard_file = open_shard(str(path), status.st_ino, status.st_mtime_ns)
    content = os.pread(shard_file.descriptor, length, offset)
    if len(content) != length:
        raise DataError(f"{where}: expected {length} bytes, the file ends before. {REMEDY}")
    if not (content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9")):
        raise DataError(f"{where}: no JPEG there; the shard is not the manifest's. {REMEDY}")
    return content


def write_manifest(data_dir: Path, manifest: pd.DataFrame) -> None:
    """Write manifest.parquet, finished or absent."""
    write_table(data_dir / "manifest.parquet", manifest, MANIFEST_SCHEMA)


def drop_manifest(data_dir: Path) -> None:
    """Remove manifest.parquet, durably: a shard that it describes is about to change."""
    path = data_dir / "manifest.parquet"
    if path.exists():
        path.unlink()
        sync_folder(data_dir)


def read_manifest(data_dir: Path) -> pd.DataFrame:
    """Read manifest.parquet: columns of `MANIFEST_SCHEMA`, in plan order.

    Raises:
        DataError: missing or damaged.
    """
    return read_table(data_dir / "manifest.parquet", MANIFEST_SCHEMA)


def label_matrix(labels: Iterable[Sequence[int]], num_tags: int) -> NDArray[np.uint8]:
    """Multi-hot labels.

    Args:
        labels: vocabulary columns of each of n pictures.
        num_tags: size K of the vocabulary.

    Returns:
        (n, K) uint8 of 0 and 1.
    """
    rows = list(labels)
    matrix = np.zeros((len(rows), num_tags), np.uint8)
    lengths = [len(row) for row in rows]
    if sum(lengths):
        matrix[np.repeat(np.arange(len(rows)), lengths), np.concatenate(rows).astype(int)] = 1
    return matrix


def open_dataset(data_dir: Path) -> Dataset:
    """Check a data folder and read what it says.

    Raises:
        DataError: a file is missing or damaged (named), or parts do not fit each other.
    """
    path = data_dir / "dataset.json"
    info = read_json(path, DataError, REMEDY)
    if info.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {info.get('format')!r}, this e6tag reads {FORMAT}. {REMEDY}"
        )
    vocabulary = Vocabulary.read(data_dir / "tags.csv")
    manifest = read_manifest(data_dir)
    check_tags(data_dir / "tags.csv", info)
    check_manifest(data_dir, info, len(vocabulary), manifest)
    return Dataset(data_dir, info, vocabulary, manifest)


def check_tags(path: Path, info: dict[str, Any]) -> None:
    """Compare tags.csv with its checksum, if dataset.json has one: labels are columns of it."""
    if info.get("tags_sha256") not in (None, sha256(path)):
        raise DataError(f"{path} is not the one that the labels were made with. {REMEDY}")


def check_manifest(
    data_dir: Path, info: dict[str, Any], num_tags: int, manifest: pd.DataFrame
) -> None:
    """Compare the manifest with dataset.json, topup.parquet and the vocabulary."""
    path = data_dir / "manifest.parquet"
    planned, further = info.get("num_posts"), count_topup(data_dir)
    if not isinstance(planned, int) or not planned <= len(manifest) <= planned + further:
        more = f" and topup.parquet {further}" if further else ""
        raise DataError(
            f"{path} has {len(manifest)} posts, dataset.json says {planned}{more}. {REMEDY}"
        )
    columns = [row for row in manifest["labels"] if len(row)]
    values = np.concatenate(columns) if columns else np.zeros(1, int)
    if values.min() < 0 or values.max() >= num_tags:
        raise DataError(
            f"{path} has labels up to column {values.max()}, tags.csv has {num_tags} tags. {REMEDY}"
        )


def default_data(named: Path | None) -> Path:
    """The data folder meant: the named one, else data, else the demo's."""
    only_demo = not has_manifest(DEFAULT_DATA) and has_manifest(DEMO_DATA)
    return named or (DEMO_DATA if only_demo else DEFAULT_DATA)


def has_manifest(data_dir: Path) -> bool:
    """Whether a download was finished in this folder."""
    return (data_dir / "manifest.parquet").exists()
