"""How tags are written: lines, json, jsonl, csv, txt.

lines   `0.973 wolf`, best first; a line with the path before each of several pictures
json    [{"path": "a.png", "tags": {"wolf": 0.973, ...}}, ...]
jsonl   one such object a line
csv     path,tag,probability
txt     picture.txt beside picture.png: wolf, solo, ...

json and jsonl have "uncertainty": {tag: standard deviation of its logit} too, if asked for.
"""

import csv
import io
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from e6tag.errors import DataError
from e6tag.files import write_text
from e6tag.inputs import Failures, Input, emit, printable
from e6tag.tag_choice import Scored

log = logging.getLogger(__name__)


class Writer:
    """Writes the tags of one picture after the other to stdout; each format is a subclass."""

    def __init__(self, several: bool = False):
        self.several = several
        """whether more than one picture is expected"""
        self.count = 0
        """pictures written"""

    def start(self) -> None:
        """Before the first picture."""

    def write(self, item: Input, tags: Sequence[Scored]) -> None:
        """The tags of one picture, best first."""
        raise NotImplementedError

    def finish(self) -> None:
        """After the last picture."""


class Lines(Writer):
    """For people: `0.973 wolf`."""

    def write(self, item: Input, tags: Sequence[Scored]) -> None:
        """See `Writer.write`."""
        if self.several:
            emit(("\n" if self.count else "") + printable(item.name) + "\n")
        emit("".join(f"{tag.probability:.3f} {tag.tag}\n" for tag in tags))
        self.count += 1


def as_object(item: Input, tags: Sequence[Scored]) -> dict[str, Any]:
    """What JSON says of a picture."""
    about: dict[str, Any] = {"path": item.name, "tags": {t.tag: t.probability for t in tags}}
    if tags and tags[0].uncertainty is not None:
        about["uncertainty"] = {tag.tag: tag.uncertainty for tag in tags}
    return about


class JsonLines(Writer):
    """One JSON object a picture and line."""

    def write(self, item: Input, tags: Sequence[Scored]) -> None:
        """See `Writer.write`."""
        emit(json.dumps(as_object(item, tags), ensure_ascii=False) + "\n")
        self.count += 1


class Json(Writer):
    """One JSON array, written as the pictures come."""

    def start(self) -> None:
        """See `Writer.start`."""
        emit("[")

    def write(self, item: Input, tags: Sequence[Scored]) -> None:
        """See `Writer.write`."""
        text = json.dumps(as_object(item, tags), ensure_ascii=False)
        emit((",\n " if self.count else "\n ") + text)
        self.count += 1

    def finish(self) -> None:
        """See `Writer.finish`."""
        emit("\n]\n" if self.count else "]\n")


class Csv(Writer):
    """path,tag,probability."""

    def start(self) -> None:
        """See `Writer.start`."""
        emit(csv_text([("path", "tag", "probability")]))

    def write(self, item: Input, tags: Sequence[Scored]) -> None:
        """See `Writer.write`."""
        emit(csv_text((item.name, tag.tag, tag.probability) for tag in tags))
        self.count += 1


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class Sidecars(Writer):
    """picture.txt beside each picture."""

    def __init__(self, append: bool):
        super().__init__()
        self.append = append
        """keep what an existing .txt says, and add the tags it lacks"""

    def write(self, item: Input, tags: Sequence[Scored]) -> None:
        """See `Writer.write`.

        Raises:
            DataError: the existing .txt is not UTF-8.
        """
        path = sidecar(item)
        before = read_sidecar(path) if self.append and path.exists() else []
        write_text(path, ", ".join(merge(before, [tag.tag for tag in tags])) + "\n")
        self.count += 1


def sidecar(item: Input) -> Path:
    """The .txt that belongs to a picture.

    Raises:
        DataError: the picture is not a file, so nothing lies beside it.
    """
    if item.path is None:
        raise DataError("has no folder for a .txt: --format txt is for files. Use --format json.")
    return item.path.with_suffix(".txt")


def read_sidecar(path: Path) -> list[str]:
    """The tags of a .txt, in its order.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; --on-existing overwrite replaces it.") from None
    return [tag for part in text.replace("\n", ",").split(",") if (tag := part.strip())]


def merge(before: Sequence[str], new: Sequence[str]) -> list[str]:
    """Tags that were there, then the new ones; no tag twice, however it is spelled."""
    merged: dict[str, str] = {}
    for tag in (*before, *new):
        merged.setdefault(tag.replace("\\", "").replace(" ", "_").lower(), tag)
    return list(merged.values())


WRITERS: dict[str, type[Writer]] = {
    "lines": Lines,
    "json": Json,
    "jsonl": JsonLines,
    "csv": Csv,
}
"""--format -> what prints it"""


def open_writer(format_name: str, several: bool, append: bool) -> Writer:
    """The writer of a format."""
    return Sidecars(append) if format_name == "txt" else WRITERS[format_name](several)


def without_sidecar(items: Iterable[Input], skip: bool, failures: Failures) -> Iterator[Input]:
    """The pictures whose .txt is to be written; two that would share one are failures."""
    owners: dict[Path, str] = {}
    num_skipped = 0
    for item in items:
        try:
            path = sidecar(item)
        except DataError as problem:
            failures.add(item.name, problem)
            continue
        if path in owners:
            failures.add(item.name, f"would share {path} with {owners[path]}. Rename one of them.")
            continue
        owners[path] = item.name
        if skip and path.exists():
            num_skipped += 1
        else:
            yield item
    if num_skipped:
        log.info("%d pictures have a .txt already and were skipped.", num_skipped)
