"""What `embed.py` turns into vectors: files, or the posts of a data folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from e6tag.errors import DataError
from e6tag.images import list_pictures
from e6tag.runs import Run
from e6tag.shards import default_data, has_manifest, open_dataset, read_stored

NO_POST = 0


@dataclass(frozen=True)
class Picture:
    """A picture that goes into an index."""

    name: str
    """path of the file, or shard and name of a post"""
    identity: str
    """changes when the picture does"""
    read: Callable[[], bytes]
    """gives the file's content; raises OSError or DataError"""
    post_id: int = NO_POST
    md5: str = ""
    """of the original; empty where the content says it"""
    tags: str | None = None
    """separated by spaces; None where only the model can say"""


def of_files(paths: Sequence[Path], recursive: bool) -> list[Picture]:
    """The pictures among files and in folders.

    Raises:
        ConfigError: a path does not exist.
        DataError: there is no picture.
    """
    files = list_pictures(paths, recursive)
    if not files:
        raise DataError(f"there is no picture in {', '.join(map(str, paths))}.")
    return [of_file(path) for path in files]


def of_file(path: Path) -> Picture:
    """A file; its size and time of change are its identity."""
    status = path.stat()
    return Picture(str(path), f"{path} {status.st_size} {status.st_mtime_ns}", path.read_bytes)


def of_dataset(data: Path, splits: Sequence[str]) -> list[Picture]:
    """The stored posts of a data folder, split after split, in plan order.

    Raises:
        DataError: the data is missing or damaged, or has no picture in these splits.
    """
    dataset = open_dataset(data)
    names = dataset.vocabulary.names
    found = [
        of_post(data, post, names) for split in splits for post in dataset.split(split).itertuples()
    ]
    if not found:
        raise DataError(f"{data} has no pictures in {', '.join(splits)}. Run download.py again.")
    return found


def of_post(data: Path, post: Any, names: Sequence[str]) -> Picture:
    """A row of the manifest, its tags spelled out."""
    return Picture(
        name=f"{data / 'shards' / post.shard}: {post.post_id}.jpg",
        identity=f"{post.post_id} {post.md5} {post.sha256} {post.length}",
        read=partial(read_stored, data, post.shard, int(post.offset), int(post.length)),
        post_id=int(post.post_id),
        md5=str(post.md5),
        tags=" ".join(names[column] for column in post.labels),
    )


def data_folder(named: Path | None, run: Run) -> Path:
    """The data folder meant: the named one, else the one the run was trained on, else data."""
    if named is None and run.data_path is not None and has_manifest(run.data_path):
        return run.data_path
    return default_data(named)
