"""Tags that people keep beside their pictures: .txt and .json sidecars, or one CSV."""

import csv
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e6tag.errors import DataError

MAX_SIDECAR_BYTES = 1 << 20
PATH_COLUMNS = ("path", "file", "filename")
TAG_COLUMNS = ("tags", "labels")
CSV_LAYOUT = "a header with path (or file, filename) and tags (or labels), and perhaps rating"
RATING_WORDS = {
    **dict.fromkeys(("s", "g", "safe", "general"), "s"),
    **dict.fromkeys(("q", "questionable", "sensitive"), "q"),
    **dict.fromkeys(("e", "explicit"), "e"),
}


@dataclass(frozen=True)
class PictureTags:
    """What is said of one picture."""

    tags: Mapping[str, str]
    """tag -> category name"""
    rating: str = "s"


def find_sidecar(picture: Path) -> Path | None:
    """The picture's sidecar: a.png.json, a.json, a.png.txt or a.txt, in this order."""
    for suffix in (".json", ".txt"):
        for path in (picture.with_name(picture.name + suffix), picture.with_suffix(suffix)):
            if path.is_file():
                return path
    return None


def read_sidecar(path: Path) -> PictureTags:
    """Read a .txt or .json sidecar.

    Raises:
        DataError: it is not text, not JSON, or not in one of the layouts.
    """
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise DataError(f"{path} is larger than {MAX_SIDECAR_BYTES >> 20} MB: not a list of tags.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.") from None
    if path.suffix == ".txt":
        return PictureTags(general(split_tags(text)))
    try:
        return parse_json(json.loads(text))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path} is not a sidecar: {problem}.") from None


def general(names: Iterable[str]) -> dict[str, str]:
    """Tags of which nothing is known but the name."""
    return dict.fromkeys(names, "general")


def split_tags(text: str) -> list[str]:
    r"""Tags in a text: between commas and line ends if it has a comma, else between spaces.

    Spaces inside a tag become underscores; \( and \), as caption files have them, lose the \.
    """
    parts = re.split(r"[,\r\n]", text) if "," in text else text.split()
    return [name for name in map(clean_tag, parts) if name]


def clean_tag(text: str) -> str:
    """A tag as boorus write it: lower case, composed (NFC), underscores for spaces."""
    text = text.replace("\\(", "(").replace("\\)", ")")
    return "_".join(unicodedata.normalize("NFC", text).lower().split())


def parse_json(value: Any) -> PictureTags:
    """A sidecar's JSON: a list of tags, or an object with tags and perhaps rating.

    Raises:
        ValueError: another layout.
    """
    if isinstance(value, list):
        return PictureTags(general(clean_list(value)))
    if not isinstance(value, dict) or "tags" not in value:
        raise ValueError('expected ["a", "b"], {"tags": ["a"]} or {"tags": {"general": ["a"]}}')
    tags, rating = value["tags"], parse_rating(value.get("rating"))
    if isinstance(tags, dict):
        by_category = {name: category for category in tags for name in clean_list(tags[category])}
        return PictureTags(by_category, rating)
    names = split_tags(tags) if isinstance(tags, str) else clean_list(tags)
    return PictureTags(general(names), rating)


def clean_list(names: Any) -> list[str]:
    """Tags of a JSON list.

    Raises:
        ValueError: it is not a list of texts.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a list of tags")
    return [name for name in map(clean_tag, names) if name]


def parse_rating(value: Any) -> str:
    """A rating's letter: s, q or e; s where there is none.

    Raises:
        ValueError: it is no rating.
    """
    if value is None or value == "":
        return "s"
    if not isinstance(value, str) or value.lower() not in RATING_WORDS:
        raise ValueError(f"the rating is {value!r}, expected s, q or e")
    return RATING_WORDS[value.lower()]


def read_csv(path: Path) -> dict[Path, PictureTags]:
    """Pictures (paths joined to the CSV's folder) and their tags.

    Raises:
        DataError: another layout, or a picture that comes twice; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = pick_columns(path, reader.fieldnames or ())
            pictures: dict[Path, PictureTags] = {}
            for row in reader:
                picture, tags = parse_row(row, columns, f"{path}, line {reader.line_num}")
                if path.parent / picture in pictures:
                    raise DataError(f"{path}, line {reader.line_num}: {picture} comes twice.")
                pictures[path.parent / picture] = tags
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.") from None
    except csv.Error as problem:
        raise DataError(f"{path} is not CSV ({problem}). Expected {CSV_LAYOUT}.") from None
    return pictures


def pick_columns(path: Path, header: Sequence[str]) -> tuple[str, str]:
    """The columns with paths and with tags.

    Raises:
        DataError: the header has no such columns.
    """
    paths = [name for name in PATH_COLUMNS if name in header]
    tags = [name for name in TAG_COLUMNS if name in header]
    if not paths or not tags:
        raise DataError(
            f"{path}, line 1: the columns are {','.join(header)}; expected {CSV_LAYOUT}."
        )
    return paths[0], tags[0]


def parse_row(
    row: Mapping[str, Any], columns: tuple[str, str], where: str
) -> tuple[str, PictureTags]:
    """The picture's path and tags in one row of the CSV.

    Raises:
        DataError: a field is missing, or there are more fields than columns.
    """
    picture, tags = (row[column] for column in columns)
    if not picture or tags is None or None in row:
        raise DataError(f"{where}: the row does not fit the header; quote tags that hold commas.")
    try:
        return picture, PictureTags(general(split_tags(tags)), parse_rating(row.get("rating")))
    except ValueError as problem:
        raise DataError(f"{where}: {problem}.") from None
