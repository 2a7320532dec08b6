"""What is there of each shard of a download: which of its posts are stored, waiting, or failed.

A post costs some hundred bytes here, whatever its tags: rows of the plan become dicts only a
shard at a time, and of stored pictures the manifest's numbers are kept, in arrays.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.obtaining import Failed
from e6tag.shards import EXAMPLES_PER_SHARD, StoredExample, read_shard_index

Post = Mapping[str, Any]
"""a row of the plan"""

STORED = np.dtype(
    [
        ("post_id", "i8"),
        ("offset", "i8"),
        ("length", "i8"),
        ("stored_width", "i4"),
        ("stored_height", "i4"),
        ("sha256", "S64"),
        ("variant", "S8"),
    ]
)
"""What is kept of a stored picture; named as in the manifest."""


def no_pictures() -> NDArray[np.void]:
    """What is stored in a shard that is not there."""
    return np.zeros(0, STORED)


@dataclass
class ShardWork:
    """One shard: the posts it is planned to hold, and how far it has come."""

    name: str
    split: str
    table: pd.DataFrame
    """columns of `PLAN_SCHEMA`: its posts, in plan order"""
    rows: NDArray[np.int64]
    """where they are among all posts of the folder: the plan's, then those that replace some"""
    stored: NDArray[np.void] = field(default_factory=no_pictures)
    """`STORED`: in the shard as it is on disk, in plan order"""
    incoming: dict[int, Path] = field(default_factory=dict)
    """finished pictures that are not in it yet"""
    failed: dict[int, Failed] = field(default_factory=dict)
    purged: dict[int, str] = field(default_factory=dict)
    """posts that must not be fetched any more, and why"""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(posts,): post ids, in plan order."""
        return self.table["post_id"].to_numpy()

    @property
    def posts(self) -> list[Post]:
        """The plan's rows, made when asked for."""
        return records(self.table)

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """(posts,): whether nothing is known yet of a post."""
        known = [*self.incoming, *self.failed, *self.purged]
        ids = self.ids
        return ~(np.isin(ids, self.stored["post_id"]) | np.isin(ids, np.array(known, np.int64)))

    @property
    def missing(self) -> list[Post]:
        """Posts that nothing is known of yet, in plan order."""
        return records(self.table[self.is_missing])

    @property
    def num_present(self) -> int:
        """Pictures that are there."""
        return len(self.stored) + len(self.incoming)

    def rows_of(self, post_ids: Iterable[int]) -> NDArray[np.int64]:
        """Where posts of this shard are among all posts of the folder."""
        ids = pd.Index(np.array(list(post_ids), np.int64))
        return self.rows[pd.Index(self.ids).get_indexer(ids)]


def plan_shards(plan: pd.DataFrame, topup: pd.DataFrame) -> list[ShardWork]:
    """Every shard, without what is there of it.

    Each split of the plan is cut into shards, in plan order.  Posts that replace others are in
    the shards that topup.parquet names, whose numbers the plan's leave free.

    Args:
        plan: the planned posts.
        topup: posts that replace some of them; column `shard` besides the plan's.
    """
    works = list(cut(plan, frozenset(topup["shard"])))
    for name, rows in rows_by(topup, "shard"):
        table = topup.iloc[rows]
        works.append(ShardWork(name, str(table["split"].iloc[0]), table, rows + len(plan)))
    return works


def rows_by(table: pd.DataFrame, column: str) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each value of a column, in the order in which they come, and the places of its rows."""
    number, values = pd.factorize(table[column])
    for value, name in enumerate(values):
        yield str(name), np.flatnonzero(number == value)


def records(table: pd.DataFrame) -> list[Post]:
    """Rows as dicts."""
    rows: list[Any] = table.to_dict("records")
    return rows


def cut(plan: pd.DataFrame, taken: frozenset[str]) -> Iterator[ShardWork]:
    """The plan's shards; names in `taken` are passed over."""
    for split, rows in rows_by(plan, "split"):
        names = free_names(split, taken)
        for start in range(0, len(rows), EXAMPLES_PER_SHARD):
            part = rows[start : start + EXAMPLES_PER_SHARD]
            yield ShardWork(next(names), split, plan.iloc[part], part)


def free_names(split: str, taken: frozenset[str]) -> Iterator[str]:
    """File names of a split's shards: train-00000.tar and so on, without those in `taken`."""
    number = 0
    while True:
        if (name := f"{split}-{number:05d}.tar") not in taken:
            yield name
        number += 1


def read_shard(path: Path, table: pd.DataFrame) -> NDArray[np.void]:
    """What a shard holds: `STORED`.

    Args:
        path: of the shard.
        table: the posts it is planned to hold.

    Raises:
        DataError: it is damaged, or holds other posts than planned, or in another order.
    """
    examples = list(read_shard_index(path))
    place = pd.Index(table["post_id"]).get_indexer([example.post_id for example in examples])
    md5 = table["md5"].to_numpy()
    try:
        stored = np.array([record(example) for example in examples], STORED)
        is_planned = (
            bool((place >= 0).all())
            and bool((np.diff(place) > 0).all())
            and [example.info.get("md5") for example in examples] == md5[place].tolist()
        )
    except (KeyError, TypeError, ValueError, UnicodeError):
        is_planned = False
    if not is_planned:
        raise DataError(
            f"{path} is not of this plan. Move it away and run the same command again, "
            "or name another folder with --out."
        )
    return stored


def record(example: StoredExample) -> tuple[Any, ...]:
    """A picture's fields, in the order of `STORED`."""
    names = STORED.names or ()
    return (
        example.post_id,
        example.offset,
        example.length,
        *(example.info[name] for name in names[3:]),
    )
