"""The vocabulary (tags <-> columns), and the aliases and implications of a site."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from e6tag.errors import ConfigError, DataError, E6TagError
from e6tag.files import write_text

HEADER = ["tag_id", "name", "category", "count"]
"""The header that the tagging tools around us read (WD taggers' selected_tags.csv)."""

MAX_TAGS_FILE_BYTES = 64 << 20
NAMES_SHOWN = 5
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
        return cls(read_tags(path, error, remedy))


def read_tags(path: Path, error: type[E6TagError], remedy: str) -> list[Tag]:
    """The rows of a tags.csv; see `Vocabulary.read`."""
    rows = csv.DictReader(io.StringIO(read_text(path, error, remedy), newline=""))
    if rows.fieldnames is None or not set(HEADER) <= set(rows.fieldnames):
        raise error(f"{path}, line 1: expected the columns {','.join(HEADER)}. {remedy}")
    return [parse_tag(row, f"{path}, line {rows.line_num}", error) for row in rows]


def read_text(path: Path, error: type[E6TagError], remedy: str) -> str:
    """A file of tags as text, a byte order mark dropped, line ends as they are.

    Raises:
        error: it is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_TAGS_FILE_BYTES:
            raise error(
                f"{path} is larger than {MAX_TAGS_FILE_BYTES >> 20} MB: not a list of tags."
            )
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise error(f"{path} is missing, or a folder. {remedy}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path} is damaged: not UTF-8 text ({problem}). {remedy}") from None


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

    @cached_property
    def related(self) -> Set[str]:
        """Every name that an alias or an implication starts from."""
        return self.aliases.keys() | self.implications.keys()

    def close(self, names: Iterable[str]) -> set[str]:
        """Names after aliases, together with everything that they imply."""
        resolved = {self.resolve(name) for name in names}
        return resolved.union(*(self.implied(name) for name in resolved))


def problems_of(relations: Relations, known: Set[str]) -> dict[str, list[str]]:
    """Names in relations that lead in a circle or to a tag that is not there, sorted, by kind.

    None of them is fatal: a loop of aliases changes nothing, a cycle of implications is walked
    once, and what a tag would stand for is not needed to have it.

    Args:
        relations: of a site.
        known: names of all its tags.

    Returns:
        alias_loop, implication_cycle: names that lead back to themselves; alias_to_nothing,
        implication_to_nothing: names that lead to an unknown one.  Kinds without names are left
        out.
    """
    aliases = {name: {target} for name, target in relations.aliases.items()}
    implied: dict[str, set[str]] = {}
    for name, targets in relations.implications.items():
        implied.setdefault(relations.resolve(name), set()).update(map(relations.resolve, targets))
    loops = on_cycles(aliases)
    ends = {name: relations.resolve(name) for name in aliases.keys() - set(loops)}
    kinds = {
        "alias_loop": loops,
        "alias_to_nothing": [name for name, end in ends.items() if end not in known],
        "implication_cycle": on_cycles(implied),
        "implication_to_nothing": [name for name in implied if not implied[name] <= known],
    }
    return {kind: sorted(names) for kind, names in kinds.items() if names}


def on_cycles(targets: Mapping[str, Set[str]]) -> list[str]:
    """Nodes of a graph from which a path leads back to themselves.

    Args:
        targets: of the edges that leave each node.
    """
    alive = set(targets)
    while dead := {node for node in alive if alive.isdisjoint(targets[node])}:
        # Nothing goes on from there.
        alive -= dead
    return [node for node in alive if node in reached(node, targets)]


def reached(start: str, targets: Mapping[str, Set[str]]) -> set[str]:
    """Nodes to which a path of at least one edge leads."""
    found: set[str] = set()
    open_nodes = [start]
    while open_nodes:
        new = targets.get(open_nodes.pop(), set()) - found
        found |= new
        open_nodes.extend(new)
    return found


def named(kinds: Mapping[str, Sequence[str]]) -> str:
    """Counts by kind with the first few names, for one line."""
    return "; ".join(
        f"{len(names)} {kind.replace('_', ' ')} "
        f"({', '.join(names[:NAMES_SHOWN])}{', ...' * (len(names) > NAMES_SHOWN)})"
        for kind, names in kinds.items()
    )


def read_tag_list(path: Path) -> tuple[str, ...]:
    """The names in a file, in its order: one a line, or a tags.csv.

    A line is a name as it is: there are no comments, since names may begin with anything, and
    only blanks around it are dropped.  Empty lines are passed over.

    Raises:
        ConfigError: it is missing, too large, not UTF-8, or names nothing.
    """
    remedy = "Name another file with --tag-list."
    text = read_text(path, ConfigError, remedy)
    if set(HEADER) <= set(text.partition("\n")[0].strip().split(",")):
        return tuple(tag.name for tag in read_tags(path, ConfigError, remedy))
    # Not splitlines(): only a line feed ends a line, other such characters may be in a name.
    names = tuple(filter(None, (line.strip(" \t\r") for line in text.split("\n"))))
    if not names:
        raise ConfigError(f"{path} names no tag. {remedy}")
    return names
