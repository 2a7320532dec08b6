"""The Parquet tables of a data folder: their columns, written and read whole."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from e6tag.errors import DataError
from e6tag.files import finished

REMEDY = "Run download.py again (it resumes), or name another folder with --data."

PLAN_SCHEMA = pa.schema(
    [
        ("post_id", pa.int64()),
        ("md5", pa.string()),
        ("ext", pa.string()),
        ("rating", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("size_bytes", pa.int64()),
        ("parent_id", pa.int64()),
        ("group", pa.int64()),
        ("split", pa.string()),
        ("labels", pa.list_(pa.int32())),
        ("artists", pa.string()),
        ("weight", pa.float64()),
        ("reason", pa.string()),
        ("location", pa.string()),
    ]
)
"""plan.parquet: one row per planned post, in plan order."""

TOPUP_SCHEMA = pa.schema([*PLAN_SCHEMA, ("shard", pa.string())])
"""topup.parquet: posts of the reserve that are fetched too, and the shards they go to."""

MANIFEST_SCHEMA = pa.schema(
    [
        *PLAN_SCHEMA,
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("stored_width", pa.int32()),
        ("stored_height", pa.int32()),
        ("sha256", pa.string()),
        ("variant", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
"""manifest.parquet: the plan's columns, and what became of each post."""


def no_rows(schema: pa.Schema) -> pd.DataFrame:
    """A table of no rows."""
    frame: pd.DataFrame = schema.empty_table().to_pandas()
    return frame


def write_table(path: Path, table: pd.DataFrame, schema: pa.Schema) -> None:
    """Write Parquet with exactly these columns, finished or absent."""
    rows = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    with finished(path) as part:
        # Pandas' own note on types would carry its version into the bytes.
        pq.write_table(rows.replace_schema_metadata(None), part, compression="zstd")


def is_written(path: Path, table: pd.DataFrame, schema: pa.Schema) -> bool:
    """Whether a file is there that has just these rows."""
    rows = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    try:
        return bool(pq.read_table(path).equals(rows.replace_schema_metadata(None)))
    except (OSError, pa.ArrowException):
        return False


def read_table(path: Path, schema: pa.Schema, remedy: str = REMEDY) -> pd.DataFrame:
    """Read Parquet and check that it has these columns and types.

    Args:
        path: file to read.
        schema: its columns; others are left out.
        remedy: what the user can do about a bad file; ends the message.

    Raises:
        DataError: missing or damaged.
    """
    try:
        table = pq.read_table(path).select(schema.names).cast(schema)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {remedy}") from None
    except (pa.ArrowException, KeyError, OSError) as problem:
        reason = str(problem).partition("\n")[0]
        raise DataError(f"{path} is damaged ({reason}). {remedy}") from None
    frame: pd.DataFrame = table.to_pandas()
    return frame


def count_topup(data_dir: Path) -> int:
    """Posts that were taken from the reserve; a manifest of before knows none of the last ones.

    Raises:
        DataError: topup.parquet is damaged.
    """
    path = data_dir / "topup.parquet"
    return len(read_table(path, TOPUP_SCHEMA)) if path.exists() else 0
