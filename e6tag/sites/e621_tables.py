"""Export tables of e621: gzipped CSV as PostgreSQL's COPY writes it, read by column name.

Fields may hold commas, quotes and newlines; a NULL is an empty field; arrays look like {1,2}.
"""

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.files import sha256

CHUNK_ROWS = 50_000
BLOCK_BYTES = 1 << 20
MAX_FIELD_CHARACTERS = 1 << 28
"""far above a post's longest tag string (200 kB); the csv module's own limit is 128 kB"""
REMEDY = "Fetch the export again."

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

Chunk = list[tuple[str, ...]]
Kind = Literal["integer", "boolean", "time", "text"]
Kinds = Mapping[str, Kind]
"""what each column to be read holds, by its name"""


class Where(NamedTuple):
    """Where a chunk of rows stands."""

    path: Path
    first_row: int
    """number of its first row; the row after the header is row 1"""


def find_table(folder: Path, name: str, file_name: str | None = None) -> Path:
    """The file of a table: NAME.csv.gz, NAME.csv, or the newest NAME-YYYY-MM-DD.csv.gz.

    Args:
        folder: where to look.
        name: of the table.
        file_name: the only one that will do, where that is known.

    Raises:
        DataError: there is none.
    """
    dated = sorted(folder.glob(f"{name}-????-??-??.csv.gz"), reverse=True)
    usual = [folder / f"{name}.csv.gz", folder / f"{name}.csv", *dated]
    for path in [folder / file_name] if file_name else usual:
        if path.is_file():
            return path
    raise DataError(f"{folder} has no {name}.csv.gz. Fetch it, or name another --export-dir.")


def check_sha256(path: Path, expected: str | None) -> str:
    """The file's SHA-256, compared with the one the export index gave.

    Raises:
        DataError: they differ.
    """
    actual = sha256(path)
    if expected is not None and actual != expected:
        raise DataError(
            f"{path} is damaged or of another day: its SHA-256 is {actual}, "
            f"the export index says {expected}. {REMEDY}"
        )
    return actual


def read_lines(path: Path) -> Iterator[str]:
    """The table's lines with their ends, unpacked, a byte order mark dropped.

    Only a line feed ends a line: csv.reader would end a row at anything else that did.  In
    blocks, since io.TextIOWrapper asks a gzip stream whether it is closed before each line.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
    rest = ""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            *lines, rest = (rest + decoder.decode(block)).split("\n")
            for line in lines:
                yield line + "\n"
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def read_chunks(path: Path, columns: Sequence[str]) -> Iterator[tuple[Where, Chunk]]:
    """Yield the table in pieces: rows as tuples of the columns' fields.

    Raises:
        DataError: the file is truncated or damaged, not UTF-8, or a row is not a row of the
            table; names the file and the line.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(read_lines(path), strict=True)
    line, first_row = 0, 1
    try:
        pick, width = read_header(path, next(reader, None), columns)
        while True:
            line = reader.line_num
            rows = [
                pick(row) if len(row) == width else bad_row(path, reader.line_num, row, width)
                for row in islice(reader, CHUNK_ROWS)
            ]
            if not rows:
                return
            yield Where(path, first_row), rows
            first_row += len(rows)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise DataError(
            f"{path} is truncated or damaged after line {line}: {problem}. {REMEDY}"
        ) from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 after line {line}: {problem}. {REMEDY}") from None
    except csv.Error as problem:
        raise DataError(
            f"{path}, line {reader.line_num}: a field is not quoted as it must be ({problem}). "
            f"{REMEDY}"
        ) from None


def read_header(
    path: Path, header: list[str] | None, columns: Sequence[str]
) -> tuple[Callable[[list[str]], tuple[str, ...]], int]:
    """How to pick the columns from a row, and the number of fields in a row.

    Raises:
        DataError: the file is empty or lacks a column.
    """
    if header is None:
        raise DataError(f"{path} is empty: expected a table of posts or tags. {REMEDY}")
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path}, line 1: no column {', '.join(missing)}. {REMEDY}")
    return itemgetter(*(header.index(name) for name in columns)), len(header)


def bad_row(path: Path, line: int, row: list[str], width: int) -> tuple[str, ...]:
    """Refuse a row with too few or too many fields."""
    raise DataError(f"{path}, line {line}: {len(row)} fields where {width} are expected. {REMEDY}")


def refuse(where: Where, index: int, column: str, value: str, expected: str) -> DataError:
    """The error for a field that is not what it must be."""
    return DataError(
        f"{where.path}, row {where.first_row + index}: {column} is {value[:40]!r}, "
        f"expected {expected}. {REMEDY}"
    )


def numbers(texts: Sequence[str], column: str, where: Where) -> NDArray[np.int64]:
    """A column of whole numbers; empty fields are 0.

    Raises:
        DataError: a field is not one.
    """
    try:
        return np.array([int(text) if text else 0 for text in texts], np.int64)
    except (ValueError, OverflowError):
        index = next(i for i, text in enumerate(texts) if not is_int64(text))
        raise refuse(where, index, column, texts[index], "a whole number") from None


def is_int64(text: str) -> bool:
    """Whether a field is empty or a whole number of 64 bits."""
    try:
        return not text or -(1 << 63) <= int(text) < 1 << 63
    except ValueError:
        return False


def booleans(texts: Sequence[str], column: str, where: Where) -> NDArray[np.bool_]:
    """A column of t and f.

    Raises:
        DataError: a field is neither.
    """
    for index, text in enumerate(texts):
        if text not in ("t", "f"):
            raise refuse(where, index, column, text, "t or f")
    return np.array([text == "t" for text in texts], bool)


def times(texts: Sequence[str], column: str, where: Where) -> NDArray[Any]:
    """A column of UTC times as datetime64[s]; empty fields are NaT.

    Raises:
        DataError: a field is not a time.
    """
    for index, text in enumerate(texts):
        if text and not TIME.match(text):
            raise refuse(where, index, column, text, "a time like 2007-02-10 03:12:04")
    try:
        return np.array([text[:19] for text in texts], "datetime64[s]")
    except ValueError as problem:
        raise DataError(f"{where.path}: {column} holds no time ({problem}). {REMEDY}") from None


def typed_chunks(path: Path, kinds: Kinds) -> Iterator[dict[str, Any]]:
    """Yield the table in pieces: columns by name, in NumPy, or in Arrow for texts.

    Raises:
        DataError: see `read_chunks`; or a field is not of its kind (named by its row).
    """
    for where, rows in read_chunks(path, list(kinds)):
        fields = dict(zip(kinds, zip(*rows, strict=True), strict=True))
        yield {name: typed(fields[name], name, kind, where) for name, kind in kinds.items()}


def typed(texts: Sequence[str], column: str, kind: Kind, where: Where) -> Any:
    """The fields of a column as what they stand for.

    Raises:
        DataError: one is not of that kind.
    """
    if kind == "integer":
        return numbers(texts, column, where)
    if kind == "boolean":
        return booleans(texts, column, where)
    if kind == "time":
        return times(texts, column, where)
    return pa.array(texts, pa.string())


def read_columns(path: Path, columns: Sequence[str]) -> Mapping[str, list[str]]:
    """A whole (small) table as lists of fields.

    Raises:
        DataError: see `read_chunks`.
    """
    table: dict[str, list[str]] = {name: [] for name in columns}
    for _, rows in read_chunks(path, columns):
        for name, values in zip(columns, zip(*rows, strict=True), strict=True):
            table[name].extend(values)
    return table
