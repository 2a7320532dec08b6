"""Scores that somebody else's model gave, out of .parquet, .csv or .npz, checked cell by cell.

Tables have a column `post_id` (or `md5`) and either one column a tag, or `tag` and `score`;
archives hold `post_id` (n,), `tags` (K,) and `scores` (n, K).  Posts ascend; nothing is pickled.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from e6tag.errors import ConfigError, DataError

KEYS = ("post_id", "md5")
SUFFIXES = (".parquet", ".csv", ".npz")
MAX_CELLS = 4_000_000_000
ARCHIVE_PROBLEMS = (
    ValueError,
    KeyError,
    EOFError,
    OSError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""what NumPy raises of archives that are damaged, or that claim to be larger than memory"""
EXPECTED = (
    "expected a column post_id (or md5) and one column a tag, or the columns post_id,tag,score"
)


@dataclass(frozen=True)
class Scores:
    """What a model said of n posts about K tags."""

    path: Path
    key: str
    """post_id or md5: what `posts` are"""
    posts: NDArray[Any]
    """(n,), ascending, distinct"""
    tags: Sequence[str]
    values: NDArray[np.float32]
    """(n, K), finite"""


def read_scores(path: Path) -> Scores:
    """Read and check a file of scores.

    Raises:
        ConfigError: there is no such file, or it is of another kind.
        DataError: naming the first row that is not what it must be.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}. Name one with --predictions.")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected one of {', '.join(SUFFIXES)}.")
    key, posts, tags, values = read_archive(path) if path.suffix == ".npz" else read_table(path)
    check_tags(path, tags)
    check_posts(path, key, posts)
    check_values(path, key, posts, tags, values)
    return Scores(path, key, posts, tags, values)


def read_archive(path: Path) -> tuple[str, NDArray[Any], list[str], NDArray[np.float32]]:
    """Key, posts, tags and scores of an .npz.

    Raises:
        DataError: an array is missing, of another shape or kind, or the file is damaged.
    """
    try:
        # NumPy would read a single array or a pickle of that name as well.
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive")
        with np.load(path, allow_pickle=False) as archive:
            key = next((name for name in KEYS if name in archive), "post_id")
            # A member that is no array comes as bytes.
            arrays = [np.asarray(archive[name]) for name in (key, "tags", "scores")]
            posts, tags, values = text_of(arrays[0]), text_of(arrays[1]), arrays[2]
    except ARCHIVE_PROBLEMS as problem:
        raise DataError(
            f"{path} cannot be read ({problem}): expected the arrays post_id (or md5), tags and "
            "scores, nothing pickled."
        ) from None
    check_arrays(path, key, posts, tags, values)
    posts = np.char.lower(posts) if key == "md5" else posts
    return key, posts, [str(tag) for tag in tags], as_float32(values)


def text_of(array: NDArray[Any]) -> NDArray[Any]:
    """Bytes as the text that they are in UTF-8; other arrays as they are.

    Raises:
        ValueError: they are no UTF-8.
    """
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array


def check_arrays(
    path: Path, key: str, posts: NDArray[Any], tags: NDArray[Any], values: NDArray[Any]
) -> None:
    """Refuse arrays of an archive that do not fit each other, or hold something else."""
    for name, array in ((key, posts), ("tags", tags)):
        if array.ndim != 1:
            raise DataError(f"{path}: {name} has the shape {array.shape}, expected (n,).")
    shape = (len(posts), len(tags))
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: scores are {values.dtype} {values.shape}, expected numbers {shape}: a row "
            "for each post, a column for each tag."
        )
    kinds, expected = ("iu", "whole numbers") if key == "post_id" else ("U", "text")
    if posts.dtype.kind not in kinds:
        raise DataError(f"{path}: {key} is {posts.dtype}, expected {expected}.")
    if not len(posts):
        raise DataError(f"{path} has no rows: {EXPECTED}.")


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Scores as they are kept; what is too large becomes inf, which the check of values names."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def read_table(path: Path) -> tuple[str, NDArray[Any], list[str], NDArray[np.float32]]:
    """Key, posts, tags and scores of a .parquet or .csv.

    Raises:
        DataError: it is no table, or of other columns.
    """
    try:
        table = pa.parquet.read_table(path) if path.suffix == ".parquet" else read_csv(path)
        names = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        reason = str(problem).partition("\n")[0].replace("Row #", "line ")
        raise DataError(f"{path} cannot be read ({reason}): {EXPECTED}.") from None
    key = next((name for name in KEYS if name in names), None)
    if key is None:
        raise DataError(f"{path} has the columns {', '.join(names[:5])}, ...: {EXPECTED}.")
    if names.count(key) > 1:
        raise DataError(f"{path}: the column {key} is there twice. Remove one.")
    if not len(table):
        raise DataError(f"{path} has no rows: {EXPECTED}.")
    if set(names) == {key, "tag", "score"}:
        return key, *pivot(path, key, table)
    tags = [name for name in names if name not in KEYS]
    check_tags(path, tags)
    columns = [number_column(path, table, tag) for tag in tags]
    values = np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.float32)
    return key, post_column(path, key, table), tags, values


def read_csv(path: Path) -> pa.Table:
    """A CSV with a header; tags that look like numbers or nothing stay what they are.

    Raises:
        pa.ArrowException: it is none; names the line.
    """
    convert = pa.csv.ConvertOptions(
        strings_can_be_null=False, column_types={"md5": pa.string(), "tag": pa.string()}
    )
    try:
        return pa.csv.read_csv(path, convert_options=convert)
    except pa.ArrowInvalid:
        # Only a reader that goes from the top to the bottom knows the number of the line.
        one_thread = pa.csv.ReadOptions(use_threads=False)
        return pa.csv.read_csv(path, one_thread, convert_options=convert)


def post_column(path: Path, key: str, table: pa.Table) -> NDArray[Any]:
    """Post ids as int64, or MD5s as text.

    Raises:
        DataError: naming the first that is neither.
    """
    column = table.column(table.column_names.index(key))
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{path}, row {row + 1}: {key} is empty.")
    if key == "md5":
        return np.array([str(value).lower() for value in column.to_pylist()], dtype=np.str_)
    if not pa.types.is_integer(column.type):
        values = column.to_pylist()
        numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
        bad = np.flatnonzero((numbers % 1 != 0).to_numpy())
        row = int(bad[0]) if len(bad) else 0
        raise DataError(
            f"{path}, row {row + 1}: {key} is {values[row]!r}, expected a whole number."
        )
    return column.to_numpy().astype(np.int64)


def tag_column(path: Path, table: pa.Table) -> list[str]:
    """The column `tag` of a table with a row for each pair.

    Raises:
        DataError: one is empty.
    """
    tags = table.column("tag").to_pylist()
    for row, tag in enumerate(tags):
        if tag in (None, ""):
            raise DataError(f"{path}, row {row + 1}: tag is empty.")
    return list(map(str, tags))


def number_column(path: Path, table: pa.Table, tag: str) -> NDArray[np.float32]:
    """A tag's scores; an empty field is nan, which the check of values names.

    Raises:
        DataError: the column holds something else than numbers.
    """
    column = table.column(table.column_names.index(tag))
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if not is_number:
        values = column.to_pylist()
        numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
        bad = np.flatnonzero(numbers.isna().to_numpy())
        row = int(bad[0]) if len(bad) else 0
        raise DataError(
            f"{path}, row {row + 1}: the score of {tag!r} is {values[row]!r}, expected a number."
        )
    return as_float32(column.to_numpy(zero_copy_only=False))


def pivot(
    path: Path, key: str, pairs: pa.Table
) -> tuple[NDArray[Any], list[str], NDArray[np.float32]]:
    """From one row a (post, tag) to one row a post; pairs that are not there score 0.

    Raises:
        DataError: a pair is there twice, or a post, tag or score is not what it must be.
    """
    columns_of = {key: post_column(path, key, pairs), "tag": tag_column(path, pairs)}
    table = pd.DataFrame({**columns_of, "score": pairs.column("score").to_pandas()})
    twice = table.duplicated([key, "tag"]).to_numpy()
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        at = table.iloc[row]
        raise DataError(f"{path}, row {row + 1}: {key} {at[key]} has {at['tag']!r} twice.")
    scores = as_float32(pd.to_numeric(table["score"], errors="coerce").to_numpy(np.float64))
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        value = table["score"].iloc[row]
        raise DataError(f"{path}, row {row + 1}: score is {value!r}, expected a finite number.")
    rows, posts = pd.factorize(table[key])
    columns, tags = pd.factorize(table["tag"])
    if len(posts) * len(tags) > MAX_CELLS:
        raise DataError(f"{path}: {len(posts)} posts and {len(tags)} tags are too many.")
    values = np.zeros((len(posts), len(tags)), np.float32)
    values[rows, columns] = scores
    return np.asarray(posts), [str(tag) for tag in tags], values


def check_tags(path: Path, tags: Sequence[str]) -> None:
    """Refuse no tags, and tags that are there twice."""
    if not tags:
        raise DataError(f"{path} has no tags: {EXPECTED}.")
    seen: set[str] = set()
    for tag in tags:
        if tag in seen:
            raise DataError(f"{path}: the tag {tag!r} is there twice. Remove one of the columns.")
        seen.add(tag)


def check_posts(path: Path, key: str, posts: NDArray[Any]) -> None:
    """Posts must ascend: out of order, or twice, something went wrong where they were written."""
    bad = np.flatnonzero(posts[1:] <= posts[:-1])
    if len(bad):
        row = int(bad[0]) + 1
        problem = "is there twice" if posts[row] == posts[row - 1] else f"follows {posts[row - 1]}"
        raise DataError(
            f"{path}, row {row + 1}: {key} {posts[row]} {problem}. Expected each post once, in "
            f"ascending order of {key}: sort the rows."
        )


def check_values(
    path: Path, key: str, posts: NDArray[Any], tags: Sequence[str], values: NDArray[np.float32]
) -> None:
    """Refuse scores that are no finite numbers."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{path}, row {row + 1} ({key} {posts[row]}): the score of {tags[column]!r} is "
            f"{values[row, column]}, expected a finite number of 32 bits."
        )
