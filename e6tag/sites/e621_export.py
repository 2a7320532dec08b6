"""An export folder of e621 as a `Collection`: posts, tags, relations, pools."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.sites.base import TAG_COLUMNS, Collection
from e6tag.sites.e621_posts import read_posts
from e6tag.sites.e621_tables import (
    REMEDY,
    Where,
    check_sha256,
    find_table,
    numbers,
    read_columns,
)
from e6tag.tags import Relations, named, problems_of

log = logging.getLogger(__name__)

APPROVED = ("active", "processing", "queued")


def read_collection(
    folder: Path,
    ratings: frozenset[str],
    expected_sha256: Mapping[str, str],
    file_names: Mapping[str, str],
) -> Collection:
    """Read posts, tags, tag_aliases, tag_implications and pools.

    Args:
        ratings: letters the site knows; posts with another are skipped and counted.
        expected_sha256: of each file by its name, where the export index gave one.
        file_names: of the tables, where the site's list of exports says them.

    Raises:
        DataError: a table is missing or damaged; names the file and the line.
    """
    names = ("posts", "tags", "tag_aliases", "tag_implications", "pools")
    paths = {name: find_table(folder, name, file_names.get(name)) for name in names}
    checksums = {
        path.name: check_sha256(path, expected_sha256.get(path.name)) for path in paths.values()
    }
    tags = read_tags(paths["tags"])
    relations = Relations(
        read_aliases(paths["tag_aliases"]), read_implications(paths["tag_implications"])
    )
    pools = read_pools(paths["pools"])
    problems = problems_of(relations, set(tags["name"]))
    if problems:
        log.info("aliases and implications that are of no use: %s.", named(problems))
    posts, skipped = read_posts(paths["posts"], ratings)
    return Collection(posts, tags, relations, pools, checksums, skipped, problems=problems)


def read_tags(path: Path) -> pandas.DataFrame:
    """The table of tags; where a name comes twice, the row with more posts counts.

    Raises:
        DataError: see `read_chunks`.
    """
    table = read_columns(path, ("id", "name", "category", "post_count"))
    where = Where(path, 1)
    frame = pandas.DataFrame(
        {
            "tag_id": numbers(table["id"], "id", where),
            "name": table["name"],
            "category": numbers(table["category"], "category", where),
            "count": numbers(table["post_count"], "post_count", where),
        },
        columns=TAG_COLUMNS,
    )
    frame = frame.sort_values(["count", "tag_id"], ascending=[False, True], kind="stable")
    return frame.drop_duplicates("name").sort_values("tag_id").reset_index(drop=True)


def approved_pairs(path: Path) -> list[tuple[str, str]]:
    """(antecedent, consequent) of approved rows, active ones first."""
    columns = ("antecedent_name", "consequent_name", "status")
    rows = zip(*read_columns(path, columns).values(), strict=True)
    approved = [row for row in rows if row[2] in APPROVED]
    approved.sort(key=lambda row: APPROVED.index(row[2]))
    return [(antecedent, consequent) for antecedent, consequent, _ in approved]


def read_aliases(path: Path) -> dict[str, str]:
    """Antecedent -> consequent; the first approved alias of a name counts."""
    aliases: dict[str, str] = {}
    for antecedent, consequent in approved_pairs(path):
        aliases.setdefault(antecedent, consequent)
    return aliases


def read_implications(path: Path) -> dict[str, list[str]]:
    """Antecedent -> consequents."""
    implications: defaultdict[str, list[str]] = defaultdict(list)
    for antecedent, consequent in approved_pairs(path):
        implications[antecedent].append(consequent)
    return dict(implications)


def read_pools(path: Path) -> list[NDArray[np.int64]]:
    """Post ids of each pool that is a series.

    Raises:
        DataError: a list of posts is not one.
    """
    table = read_columns(path, ("id", "category", "post_ids"))
    pools = []
    for pool_id, category, post_ids in zip(*table.values(), strict=True):
        if category != "series":
            continue
        try:
            ids = np.array([int(text) for text in post_ids.strip("{}").split(",") if text], "int64")
        except (ValueError, OverflowError):
            raise DataError(
                f"{path}, pool {pool_id}: post_ids is {post_ids[:40]!r}, expected {{1,2,3}}. "
                f"{REMEDY}"
            ) from None
        if len(ids) > 1:
            pools.append(ids)
    return pools
