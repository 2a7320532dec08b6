"""An export folder of e621 as a `Collection`: posts in columns, tags, relations, pools."""

import logging
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.posts import Posts
from e6tag.sites.base import TAG_COLUMNS, Collection
from e6tag.sites.e621_tables import (
    REMEDY,
    Chunk,
    Where,
    booleans,
    check_sha256,
    find_table,
    numbers,
    read_chunks,
    read_columns,
    times,
)
from e6tag.tags import Relations

log = logging.getLogger(__name__)

POST_COLUMNS = (
    "id",
    "md5",
    "rating",
    "file_ext",
    "image_width",
    "image_height",
    "file_size",
    "parent_id",
    "created_at",
    "is_deleted",
    "is_pending",
    "is_flagged",
    "tag_string",
)
INTEGER_COLUMNS = ("id", "image_width", "image_height", "file_size", "parent_id")
EXTENSIONS = {ext: ext for ext in ("png", "jpg", "jpeg", "webp", "gif", "swf", "webm", "mp4")}
CHUNKS_BETWEEN_LINES = 20
APPROVED = ("active", "processing", "queued")
MAX_SIDE_PX = 2**31 - 1

IS_HEX = np.zeros(256, bool)
IS_HEX[list(b"0123456789abcdef")] = True


class TagCodes(dict[str, int]):
    """Tag name -> code, given out in order of appearance."""

    def __missing__(self, name: str) -> int:
        """A new name gets the next code."""
        code = self[name] = len(self)
        return code


def read_collection(
    folder: Path, ratings: frozenset[str], expected_sha256: Mapping[str, str]
) -> Collection:
    """Read posts, tags, tag_aliases, tag_implications and pools.

    Args:
        ratings: letters the site knows; posts with another are skipped and counted.
        expected_sha256: of each file by its name, where the export index gave one.

    Raises:
        DataError: a table is missing or damaged; names the file and the line.
    """
    names = ("posts", "tags", "tag_aliases", "tag_implications", "pools")
    paths = {name: find_table(folder, name) for name in names}
    checksums = {
        path.name: check_sha256(path, expected_sha256.get(path.name)) for path in paths.values()
    }
    tags = read_tags(paths["tags"])
    relations = Relations(
        read_aliases(paths["tag_aliases"]), read_implications(paths["tag_implications"])
    )
    pools = read_pools(paths["pools"])
    posts, skipped = read_posts(paths["posts"], ratings)
    return Collection(posts, tags, relations, pools, checksums, skipped)


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


def read_posts(path: Path, ratings: frozenset[str]) -> tuple[Posts, dict[str, int]]:
    """All usable posts in ascending id order, and the rows left out, counted by reason.

    Raises:
        DataError: see `read_chunks`; or the table has no row.
    """
    codes, skipped = TagCodes(), Counter[str]()
    chunks = []
    for where, rows in read_chunks(path, POST_COLUMNS):
        chunks.append(post_columns(rows, codes, ratings, skipped, where))
        if len(chunks) % CHUNKS_BETWEEN_LINES == 0:
            log.info("%s: %d rows read", path.name, where.first_row + len(rows) - 1)
    if not chunks:
        raise DataError(f"{path} has no posts. {REMEDY}")
    columns: dict[str, Any] = {
        name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]
    }
    chunks.clear()
    offsets = np.concatenate([[0], np.cumsum(columns.pop("num_tags"))]).astype(np.int64)
    posts = Posts(**columns, tag_offsets=offsets, tag_names=list(codes))
    last = last_of_each_id(posts.post_id)
    skipped["duplicate_id"] += len(posts) - len(last)
    log.info("%s: %d posts, %d tag names", path.name, len(last), len(codes))
    in_order = len(last) == len(posts) and bool(np.all(np.diff(last) == 1))
    return posts if in_order else posts.take(last), dict(+skipped)


def last_of_each_id(post_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of each id's last appearance, ids ascending."""
    order = np.argsort(post_id, kind="stable")
    ordered = post_id[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    rows: NDArray[np.int64] = order[is_last]
    return rows


def post_columns(
    rows: Chunk, codes: TagCodes, ratings: frozenset[str], skipped: Counter[str], where: Where
) -> dict[str, NDArray[Any]]:
    """Columns of `Posts` for a chunk of rows; `codes` and `skipped` grow."""
    fields = dict(zip(POST_COLUMNS, zip(*rows, strict=True), strict=True))
    ints = {name: numbers(fields[name], name, where) for name in INTEGER_COLUMNS}
    columns = {
        "post_id": ints["id"],
        "md5": np.array([md5.lower().encode("ascii", "replace") for md5 in fields["md5"]], "S32"),
        # One string object per extension, not one per post.
        "ext": np.array([EXTENSIONS.get(ext.lower(), "") for ext in fields["file_ext"]], object),
        "rating": np.array(
            [rating.encode("ascii", "replace") for rating in fields["rating"]], "S1"
        ),
        "width": np.clip(ints["image_width"], 0, MAX_SIDE_PX).astype(np.int32),
        "height": np.clip(ints["image_height"], 0, MAX_SIDE_PX).astype(np.int32),
        "size_bytes": np.maximum(ints["file_size"], 0),
        "parent_id": ints["parent_id"],
        "created_at": times(fields["created_at"], "created_at", where),
    }
    for name in ("is_deleted", "is_pending", "is_flagged"):
        columns[name] = booleans(fields[name], name, where)
    good = usable(fields, ints, ratings, skipped)
    tag_strings = [fields["tag_string"][row] for row in np.flatnonzero(good)]
    num_tags, indices = tag_codes(tag_strings, codes)
    kept = {name: column[good] for name, column in columns.items()}
    return kept | {"num_tags": num_tags, "tag_indices": indices}


def usable(
    fields: Mapping[str, Sequence[str]],
    ints: Mapping[str, NDArray[np.int64]],
    ratings: frozenset[str],
    skipped: Counter[str],
) -> NDArray[np.bool_]:
    """Which rows can be posts; the others are counted in `skipped` by their first fault."""
    width, height = ints["image_width"], ints["image_height"]
    faults = {
        "bad_id": ints["id"] < 1,
        "bad_md5": ~are_md5(fields["md5"]),
        "bad_ext": np.array([ext.lower() not in EXTENSIONS for ext in fields["file_ext"]]),
        "bad_rating": np.array([rating not in ratings for rating in fields["rating"]]),
        "bad_size": (np.minimum(width, height) < 1) | (np.maximum(width, height) > MAX_SIDE_PX),
        "bad_tags": np.array(["\0" in tags for tags in fields["tag_string"]]),
    }
    good = np.ones(len(width), bool)
    for fault, bad in faults.items():
        skipped[fault] += int((bad & good).sum())
        good &= ~bad
    return good


def are_md5(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the texts are 32 hexadecimal digits (either case)."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    digits = np.array([text.lower().encode("ascii", "replace") for text in texts], "S32")
    all_hex = IS_HEX[digits.view(np.uint8).reshape(-1, 32)].all(axis=1)
    right: NDArray[np.bool_] = (lengths == 32) & all_hex
    return right


def tag_codes(
    tag_strings: Sequence[str], codes: TagCodes
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Number of tags of each string, and the codes of all of them in a row."""
    counts, indices = array("q"), array("i")
    for tag_string in tag_strings:
        before = len(indices)
        indices.extend(map(codes.__getitem__, filter(None, tag_string.split(" "))))
        counts.append(len(indices) - before)
    return np.array(counts, np.int64), np.array(indices, np.int32)
