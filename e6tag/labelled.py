"""Your own labels for `e6tag transfer`: a folder per class, or a CSV of paths and labels."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e6tag.errors import ConfigError, DataError
from e6tag.images import list_pictures

COLUMNS = ("path", "labels")


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and what you say of it."""

    path: Path
    labels: tuple[str, ...]


def read_labelled(source: Path) -> list[LabelledPicture]:
    """The pictures and labels of a source.

    Raises:
        ConfigError: the source does not exist.
        DataError: it has not the form, names a label in two ways, or has no two classes.
    """
    if source.is_dir():
        pictures = from_folders(source)
    elif source.exists():
        pictures = from_csv(source)
    else:
        raise ConfigError(f"there is no {source}. Name a folder with a folder per class, or a CSV.")
    if not count_labels(pictures):
        raise DataError(f"{source} has no labels.")
    return pictures


def from_folders(source: Path) -> list[LabelledPicture]:
    """The pictures in the folders of a folder; a folder's name is the label.

    Raises:
        DataError: there are not two folders with pictures.
    """
    folders = sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [
        LabelledPicture(path, (folder.name,))
        for folder in folders
        for path in list_pictures([folder], recursive=True)
    ]
    if len({picture.labels for picture in found}) < 2:
        raise DataError(
            f"{source} has pictures in {len({p.labels for p in found})} of its folders: expected "
            "two or more folders, one for each class, with pictures in them."
        )
    return found


def from_csv(source: Path) -> list[LabelledPicture]:
    """The rows of a CSV with the columns path (relative to it) and labels.

    Raises:
        DataError: not UTF-8, a column is missing, or a path is empty or named twice (its line).
    """
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{source} is not UTF-8 text ({problem}).") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise DataError(f"{source}, line 1: expected the columns {','.join(COLUMNS)}.")
    found: dict[Path, LabelledPicture] = {}
    for row in rows:
        where = f"{source}, line {rows.line_num}"
        if not row["path"] or row["labels"] is None:
            raise DataError(f"{where}: expected path,labels (labels separated by spaces).")
        path = source.parent / row["path"]
        if path in found:
            raise DataError(
                f"{where}: {row['path']} is named a second time. Put its labels together."
            )
        found[path] = LabelledPicture(path, tuple(dict.fromkeys(row["labels"].split())))
    return list(found.values())


def is_single(pictures: Sequence[LabelledPicture]) -> bool:
    """Whether every picture has exactly one label, of two or more."""
    return all(len(p.labels) == 1 for p in pictures) and len({p.labels for p in pictures}) > 1


def count_labels(pictures: Sequence[LabelledPicture]) -> dict[str, int]:
    """Pictures of each label, in the labels' alphabetical order."""
    return dict(sorted(Counter(label for p in pictures for label in p.labels).items()))
