"""CSV as PostgreSQL writes it with `COPY ... TO STDOUT WITH CSV HEADER`, gzipped.

Python's csv.writer cannot tell NULL from an empty string: PostgreSQL writes the first as nothing
and the second as two quotes.  Source: PostgreSQL 15 documentation, COPY, "CSV Format".
"""

import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from e6tag.files import finished, sha256

Value = str | int | datetime | Sequence[str] | Sequence[int] | None
"""What a column can hold: text, integer or boolean, timestamp, array, NULL."""

NEEDS_QUOTES = re.compile(r'[",\r\n]')
ARRAY_NEEDS_QUOTES = re.compile(r'[",{}\\\s]')


def text_form(value: Value) -> str | None:
    """PostgreSQL's text output of a value, before any CSV quoting; None for NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return timestamp(value)
    return "{" + ",".join(array_element(element) for element in value) + "}"


def timestamp(moment: datetime) -> str:
    """A timestamp without time zone, with as many decimals of a second as it needs."""
    seconds = moment.strftime("%Y-%m-%d %H:%M:%S")
    return f"{seconds}.{moment.microsecond:06}".rstrip("0").rstrip(".")


def array_element(element: str | int) -> str:
    """One element of an array; text is quoted where it could be misread."""
    text = str(element)
    if text == "" or text.upper() == "NULL" or ARRAY_NEEDS_QUOTES.search(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def csv_field(value: Value) -> str:
    """One field: NULL is empty, an empty string is two quotes."""
    text = text_form(value)
    if text is None:
        return ""
    if text == "" or NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def csv_line(values: Iterable[Value]) -> str:
    """One row with its line feed (for tables of two or more columns)."""
    return ",".join(map(csv_field, values)) + "\n"


def write_csv_gz(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Value]]) -> None:
    """Write a table; the same rows give the same bytes, and an equal file is left alone.

    Leaving it alone keeps its modification time, which clients see as the day of the export.
    """
    new = path.with_name(path.name + ".new")
    with (
        finished(new) as part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream,
    ):
        stream.write(csv_line(columns).encode())
        for row in rows:
            stream.write(csv_line([row[column] for column in columns]).encode())
    if path.exists() and sha256(path) == sha256(new):
        new.unlink()
    else:
        new.replace(path)
