"""posts.csv as `Posts`: what is unusable left out and counted, tags as numbers."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.memory import give_back
from e6tag.posts import Posts
from e6tag.sites.e621_quick import Unclear, read_quickly
from e6tag.sites.e621_tables import REMEDY, Kinds, typed_chunks

log = logging.getLogger(__name__)

POST_COLUMNS: Kinds = {
    "id": "integer",
    "md5": "text",
    "rating": "text",
    "file_ext": "text",
    "image_width": "integer",
    "image_height": "integer",
    "file_size": "integer",
    "parent_id": "integer",
    "created_at": "time",
    "is_deleted": "boolean",
    "is_pending": "boolean",
    "is_flagged": "boolean",
    "tag_string": "text",
}
EXTENSIONS = ("png", "jpg", "jpeg", "webp", "gif", "swf", "webm", "mp4")
ROWS_BETWEEN_LINES = 1_000_000
MAX_SIDE_PX = 2**31 - 1
MD5_LENGTH = 32

IS_HEX = np.zeros(256, bool)
IS_HEX[list(b"0123456789abcdef")] = True


class TagCodes(dict[str, int]):
    """Tag name -> code, given out in order of appearance."""

    def __missing__(self, name: str) -> int:
        """A new name gets the next code."""
        code = self[name] = len(self)
        return code


def read_posts(path: Path, ratings: frozenset[str]) -> tuple[Posts, dict[str, int]]:
    """All usable posts in ascending id order, and the rows left out, counted by reason.

    Args:
        ratings: letters the site knows; posts with another are left out.

    Raises:
        DataError: see `e621_tables.typed_chunks`; or the table has no row.
    """
    try:
        return collect(path, read_quickly(path, POST_COLUMNS), ratings)
    except Unclear as problem:
        log.info("%s: %s. Reading it line by line, to be exact.", path.name, problem)
        return collect(path, typed_chunks(path, POST_COLUMNS), ratings)


def collect(
    path: Path, pieces: Iterable[Mapping[str, Any]], ratings: frozenset[str]
) -> tuple[Posts, dict[str, int]]:
    """Put the pieces of a table together.

    Raises:
        DataError: there are none.
    """
    codes, skipped, num_rows = TagCodes(), Counter[str](), 0
    columns = defaultdict[str, Growing](Growing)
    for fields in pieces:
        for name, values in post_columns(fields, codes, ratings, skipped).items():
            columns[name].append(values)
        before, num_rows = num_rows, num_rows + len(fields["id"])
        if num_rows // ROWS_BETWEEN_LINES > before // ROWS_BETWEEN_LINES:
            log.info("%s: %d rows read", path.name, num_rows)
    if not num_rows:
        raise DataError(f"{path} has no posts. {REMEDY}")
    posts = to_posts({name: column.array() for name, column in columns.items()}, list(codes))
    give_back()
    return in_order(posts, path, skipped), dict(+skipped)


class Growing:
    """A column that grows in place; a list of arrays would need its room twice at the end."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.dtype = np.dtype(np.uint8)

    def append(self, values: NDArray[Any]) -> None:
        """Add values, always of the same type."""
        self.dtype = values.dtype
        self.content += values.view(np.uint8).data

    def array(self) -> NDArray[Any]:
        """All of them, without a copy."""
        return np.frombuffer(self.content, self.dtype)


def to_posts(columns: Mapping[str, Any], tag_names: Sequence[str]) -> Posts:
    """Posts from columns as `post_columns` makes them."""
    kept = {name: columns[name] for name in columns.keys() - {"num_tags", "ext"}}
    offsets = np.concatenate([[0], np.cumsum(columns["num_tags"])]).astype(np.int64)
    # One string object per extension, not one per post.
    ext = np.array(EXTENSIONS, object)[columns["ext"]]
    return Posts(**kept, ext=ext, tag_offsets=offsets, tag_names=tag_names)


def in_order(posts: Posts, path: Path, skipped: Counter[str]) -> Posts:
    """The posts by ascending id, the last row of each; earlier ones are counted in `skipped`."""
    last = last_of_each_id(posts.post_id)
    skipped["duplicate_id"] += len(posts) - len(last)
    log.info("%s: %d posts, %d tag names", path.name, len(last), len(posts.tag_names))
    if len(last) == len(posts) and bool(np.all(np.diff(last) == 1)):
        return posts
    return posts.take(last)


def last_of_each_id(post_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of each id's last appearance, ids ascending."""
    order = np.argsort(post_id, kind="stable")
    ordered = post_id[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    rows: NDArray[np.int64] = order[is_last]
    return rows


def post_columns(
    fields: Mapping[str, Any], codes: TagCodes, ratings: frozenset[str], skipped: Counter[str]
) -> dict[str, NDArray[Any]]:
    """Columns of `Posts` for a piece of the table.

    The extension is its place in `EXTENSIONS`, and instead of tag_offsets there is num_tags.

    Args:
        fields: columns of `POST_COLUMNS`.
        codes: of tags; grows.
        ratings: letters the site knows.
        skipped: rows left out, by reason; grows.
    """
    digits = md5_digits(fields["md5"])
    columns = {
        "post_id": fields["id"],
        "md5": digits.reshape(-1).view(f"S{MD5_LENGTH}"),
        "ext": by_value(fields["file_ext"], extension_number, np.int8),
        "rating": by_value(fields["rating"], lambda text: text.encode("ascii", "replace"), "S1"),
        "width": np.clip(fields["image_width"], 0, MAX_SIDE_PX).astype(np.int32),
        "height": np.clip(fields["image_height"], 0, MAX_SIDE_PX).astype(np.int32),
        "size_bytes": np.maximum(fields["file_size"], 0),
        "parent_id": fields["parent_id"],
        "created_at": fields["created_at"],
    }
    columns |= {name: fields[name] for name in ("is_deleted", "is_pending", "is_flagged")}
    good = usable(fields, columns, ratings, skipped)
    num_tags, indices = tag_codes(fields["tag_string"].filter(pa.array(good)), codes)
    kept = {name: column[good] for name, column in columns.items()}
    return kept | {"num_tags": num_tags, "tag_indices": indices}


def usable(
    fields: Mapping[str, Any],
    columns: Mapping[str, NDArray[Any]],
    ratings: frozenset[str],
    skipped: Counter[str],
) -> NDArray[np.bool_]:
    """Which rows can be posts; the others are counted in `skipped` by their first fault."""
    width, height = fields["image_width"], fields["image_height"]
    digits = columns["md5"].view(np.uint8).reshape(-1, MD5_LENGTH)
    faults = {
        "bad_id": fields["id"] < 1,
        "bad_md5": ~IS_HEX[digits].all(axis=1),
        "bad_ext": columns["ext"] < 0,
        "bad_rating": by_value(fields["rating"], lambda text: text not in ratings, bool),
        "bad_size": (np.minimum(width, height) < 1) | (np.maximum(width, height) > MAX_SIDE_PX),
        "bad_tags": pc.match_substring(fields["tag_string"], "\0").to_numpy(zero_copy_only=False),
    }
    good = np.ones(len(width), bool)
    for fault, bad in faults.items():
        skipped[fault] += int((bad & good).sum())
        good &= ~bad
    return good


def extension_number(ext: str) -> int:
    """Place of an extension in `EXTENSIONS`, or -1."""
    return EXTENSIONS.index(ext.lower()) if ext.lower() in EXTENSIONS else -1


def by_value(texts: pa.Array, meaning: Callable[[str], Any], dtype: Any) -> NDArray[Any]:
    """What each text means, for columns of few distinct texts."""
    encoded = texts.dictionary_encode()
    meanings = [meaning(text) for text in encoded.dictionary.to_pylist()]
    return np.array(meanings, dtype)[encoded.indices.to_numpy()]


def md5_digits(texts: pa.Array) -> NDArray[np.uint8]:
    """(texts, 32) characters, lower case where they are letters; `x` where there are not 32."""
    is_long = pc.equal(pc.binary_length(texts), MD5_LENGTH)
    _, _, content = pc.if_else(is_long, texts, "x" * MD5_LENGTH).buffers()
    digits = np.frombuffer(content, np.uint8, len(texts) * MD5_LENGTH).reshape(-1, MD5_LENGTH)
    is_upper = (digits >= ord("A")) & (digits <= ord("F"))
    return digits | (is_upper * np.uint8(0x20))


def tag_codes(
    tag_strings: pa.Array, codes: TagCodes
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Number of tags of each string, and the codes of all of them in a row; `codes` grows."""
    lists = pc.split_pattern(tag_strings, " ")
    encoded = lists.flatten().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = encoded.indices.to_numpy()
    num_tags = pc.list_value_length(lists).to_numpy().astype(np.int64)
    if "" in names:
        # No tags at all, or two spaces in a row.
        is_name = places != names.index("")
        rows = np.repeat(np.arange(len(num_tags)), num_tags)[is_name]
        places, num_tags = places[is_name], np.bincount(rows, minlength=len(num_tags))
    named = [codes[name] if name else -1 for name in names]
    return num_tags, np.array(named, np.int32)[places]
