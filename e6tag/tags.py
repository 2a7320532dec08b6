"""The vocabulary (tags <-> columns), and the aliases and implications of a site."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from e6tag.errors import DataError, E6TagError
from e6tag.files import write_text

HEADER = ["tag_id", "name", "category", "count"]
"""The header that the tagging tools around us read (WD taggers' selected_tags.csv)."""

MAX_TAGS_FILE_BYTES = 64 << 20
REMEDY = "Bring back a copy of it, or make it anew: it comes with the data and with the run."


@dataclass(frozen=True)
class Tag:
    """One row of tags.csv."""

    tag_id: int
    name: str
    category: int
    """the site's own number (e621: 0 general, 1 artist, ... `e6tag.sites`)"""
    count: int
    """posts that have it, on the whole site"""


@dataclass(frozen=True)
class Vocabulary:
    """The tags a model knows; position = output column."""

    tags: Sequence[Tag]

    def __post_init__(self) -> None:
        if len(self._columns) != len(self.tags):
            raise DataError("the vocabulary names a tag twice. Remove one of the rows.")

    def __len__(self) -> int:
        return len(self.tags)

    @property
    def names(self) -> list[str]:
        """Tag names in column order."""
        return [tag.name for tag in self.tags]

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {tag.name: column for column, tag in enumerate(self.tags)}

    def column(self, name: str) -> int | None:
        """Column of a tag, or None where the vocabulary does not have it."""
        return self._columns.get(name)

    def columns(self, names: Iterable[str]) -> list[int]:
        """Sorted columns of those of the names that are in the vocabulary."""
        return sorted({self._columns[name] for name in names if name in self._columns})

    def write(self, path: Path) -> None:
        """Write tags.csv, finished or absent."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows([tag.tag_id, tag.name, tag.category, tag.count] for tag in self.tags)
        write_text(path, text.getvalue())

    @classmethod
    def read(
        cls, path: Path, error: type[E6TagError] = DataError, remedy: str = REMEDY
    ) -> "Vocabulary":
        """Read tags.csv.

        Args:
            path: file to read.
            error: class of what is raised.
            remedy: what the user can do about a bad file; ends the message.

        Raises:
            error: the file is missing, too large, or a row is not a tag (named by its line).
        """
        try:
            if path.stat().st_size > MAX_TAGS_FILE_BYTES:
                raise error(
                    f"{path} is larger than {MAX_TAGS_FILE_BYTES >> 20} MB: not a tags.csv."
                )
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise error(f"{path} is missing. {remedy}") from None
        except UnicodeDecodeError as problem:
            raise error(f"{path} is damaged: not UTF-8 text ({problem}). {remedy}") from None
        rows = csv.DictReader(io.StringIO(text, newline=""))
        if rows.fieldnames is None or not set(HEADER) <= set(rows.fieldnames):
            raise error(f"{path}, line 1: expected the columns {','.join(HEADER)}. {remedy}")
        return cls([parse_tag(row, f"{path}, line {rows.line_num}", error) for row in rows])


def parse_tag(row: Mapping[str, str], where: str, error: type[E6TagError]) -> Tag:
    """One CSV row as a Tag; `where` names file and line in the error."""
    try:
        name = row["name"]
        if not name:
            raise ValueError("empty name")
        return Tag(int(row["tag_id"]), name, int(row["category"]), int(row["count"]))
    except (TypeError, ValueError) as problem:
        raise error(f"{where}: expected tag_id,name,category,count ({problem}).") from None


@dataclass(frozen=True)
class Relations:
    """Approved aliases and implications of a site."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    """antecedent -> consequent"""
    implications: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """antecedent -> consequents"""

    def resolve(self, name: str) -> str:
        """Follow aliases to the name in use; in a loop, the name that was asked for."""
        seen = {name}
        current = name
        while current in self.aliases:
            current = self.aliases[current]
            if current in seen:
                return name
            seen.add(current)
        return current

    def implied(self, name: str) -> set[str]:
        """Every tag that `name` implies, transitively; cycles are walked once."""
        found: set[str] = set()
        open_names = [name]
        while open_names:
            for parent in self.implications.get(open_names.pop(), ()):
                parent = self.resolve(parent)
                if parent not in found and parent != name:
                    found.add(parent)
                    open_names.append(parent)
        return found

    def close(self, names: Iterable[str]) -> set[str]:
        """Names after aliases, together with everything that they imply."""
        resolved = {self.resolve(name) for name in names}
        return resolved.union(*(self.implied(name) for name in resolved))
