"""The plan as files: made once, then pinned, so that a download of weeks goes on as it began.

plan.parquet, reserve.parquet where there is a reserve, tags.csv, aliases.csv, implications.csv,
and dataset.json, which is written last: where it is, all of them are.  topup.parquet comes later,
where pictures fail: which posts of the reserve are fetched in their place.
"""

import csv
import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from e6tag import __version__, files
from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError, DataError
from e6tag.plan_options import PlanOptions
from e6tag.planning import Plan
from e6tag.shards import FORMAT
from e6tag.sites.base import Collection, ExportFile, Site
from e6tag.tables import PLAN_SCHEMA, TOPUP_SCHEMA, no_rows, read_table, write_table
from e6tag.tags import Relations, Vocabulary, read_tag_list

REMEDY = "Delete dataset.json there and run the same command again: nothing fetched is lost."
TOPUP_REMEDY = "Remove it and run the same command again: it is made anew."
STORED_OPTIONS = ("variant", "image_size", "jpeg_quality")
LISTED_OPTIONS = ("query", "max_posts")


@dataclass(frozen=True)
class PinnedPlan:
    """A plan that is on disk."""

    table: pd.DataFrame
    """columns of `PLAN_SCHEMA`, in plan order"""
    vocabulary: Vocabulary
    info: dict[str, Any]
    """contents of dataset.json"""
    reserve: pd.DataFrame = field(default_factory=lambda: no_rows(PLAN_SCHEMA))
    """the same columns: each split's posts for where planned ones fail, in the order of use"""
    topup: pd.DataFrame = field(default_factory=lambda: no_rows(TOPUP_SCHEMA))
    """columns of `TOPUP_SCHEMA`: posts of the reserve that are fetched too"""

    @property
    def posts(self) -> pd.DataFrame:
        """All posts that the folder is to hold: the plan's, then those that replace some."""
        if not len(self.topup):
            return self.table
        return pd.concat([self.table, self.topup[PLAN_SCHEMA.names]], ignore_index=True)

    @property
    def exports(self) -> dict[str, ExportFile]:
        """The export index that it was made from; empty where there was none."""
        return {row["name"]: ExportFile(**row) for row in self.info.get("index", [])}


def pinned_options(config: DownloadConfig) -> dict[str, Any]:
    """The options that a data folder depends on, as JSON holds them."""
    planned = [field.name for field in dataclasses.fields(PlanOptions)]
    names = ["site", *STORED_OPTIONS, *LISTED_OPTIONS, *planned]
    values = {name: getattr(config, name) for name in names}
    folder = None if config.folder is None else str(config.folder.absolute())
    lists = {name: list(getattr(config, name)) for name in ("categories", "exclude_tags")}
    # Only where there are two ways is it a choice.
    via = config.via if (config.site, config.via) == ("e621", "api") else "auto"
    tag_list = tag_list_sha256(config.tag_list)
    return {**values, **lists, "tag_list": tag_list, "folder": folder, "via": via}


def tag_list_sha256(path: Path | None) -> str | None:
    """What a list of tags is pinned by: the names in it, however they are written."""
    if path is None:
        return None
    return hashlib.sha256("\n".join(read_tag_list(path)).encode()).hexdigest()


def plan_options(config: DownloadConfig) -> PlanOptions:
    """The options that planning takes."""
    names = [field.name for field in dataclasses.fields(PlanOptions)]
    values = {name: getattr(config, name) for name in names}
    names_listed = None if config.tag_list is None else read_tag_list(config.tag_list)
    return PlanOptions(**values | {"tag_list": names_listed})


def check_same_options(out: Path, info: Mapping[str, Any], config: DownloadConfig) -> None:
    """Refuse to go on with other options than the folder was begun with.

    Raises:
        ConfigError: naming the first that differs.
    """
    # An option that was not there yet when the folder was begun has its default in it.
    before = pinned_options(DownloadConfig()) | info["options"]
    for name, value in pinned_options(config).items():
        if before[name] != value:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{out} was planned with {flag} {shown(before[name])}, not {shown(value)}. "
                f"Give the same options to go on with it, or name another folder with --out."
            )


def check_same_exports(out: Path, info: Mapping[str, Any], checksums: Mapping[str, str]) -> None:
    """Refuse to go on from other data than the folder was planned from.

    Raises:
        ConfigError: naming the first that differs.
    """
    before = info["export"]
    differing = [name for name in checksums if before.get(name) != checksums[name]]
    if differing or before.keys() != checksums.keys():
        what = differing[0] if differing else "the exports"
        raise ConfigError(
            f"{out} was planned from another version of {what}. "
            "--update makes it follow the site; --out names another folder for a new dataset."
        )


def shown(value: Any) -> str:
    """A value as it would be typed."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_plan(
    config: DownloadConfig,
    site: Site,
    collection: Collection,
    plan: Plan,
    index: Mapping[str, ExportFile],
) -> PinnedPlan:
    """Write a plan's files, dataset.json last, and read them back."""
    out = config.out
    write_table(out / "plan.parquet", plan.table, PLAN_SCHEMA)
    write_reserve(out, plan.reserve)
    # What an earlier plan's failures were replaced with.
    (out / "topup.parquet").unlink(missing_ok=True)
    plan.vocabulary.write(out / "tags.csv")
    write_relations(out, collection.relations)
    info = {
        "format": FORMAT,
        "e6tag": __version__,
        "site": site.name,
        "base_url": site.base_url,
        "options": pinned_options(config),
        "export": dict(collection.checksums),
        "index": [dataclasses.asdict(export) for export in index.values()],
        "categories": {str(number): name for number, name in site.categories.items()},
        "stored": {"image_size": config.image_size, "jpeg_quality": config.jpeg_quality},
        "num_posts": len(plan.table),
        "considered": plan.num_posts,
        "rejected": dict(plan.rejected),
        "shortfalls": nested(plan.shortfalls),
        "bounds": dict(plan.bounds),
        "fingerprint": files.sha256(out / "plan.parquet"),
        "tags_sha256": files.sha256(out / "tags.csv"),
        "reserve": files.sha256(out / "reserve.parquet") if len(plan.reserve) else None,
        "history": [],
    }
    files.write_json(out / "dataset.json", info)
    return read_plan(out)


def write_reserve(out: Path, reserve: pd.DataFrame) -> None:
    """Write reserve.parquet where there is a reserve; remove that of an earlier plan otherwise."""
    if len(reserve):
        write_table(out / "reserve.parquet", reserve, PLAN_SCHEMA)
    else:
        (out / "reserve.parquet").unlink(missing_ok=True)


def nested(shortfalls: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Tags that fall short: split -> name -> wanted, available, reached."""
    short: dict[str, dict[str, dict[str, int]]] = {}
    for row in shortfalls.to_dict("records"):
        numbers = {name: int(row[name]) for name in ("wanted", "available", "reached")}
        short.setdefault(row["split"], {})[row["name"]] = numbers
    return short


def write_relations(out: Path, relations: Relations, mark: str = "") -> None:
    """Write aliases.csv and implications.csv: what the labels are closed under.

    Args:
        out: data folder.
        relations: of the site.
        mark: stands before the ending of both names.
    """
    write_pairs(out / f"aliases{mark}.csv", relations.aliases.items())
    implied = relations.implications.items()
    write_pairs(out / f"implications{mark}.csv", ((a, b) for a, others in implied for b in others))


def write_pairs(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Write antecedent,consequent rows, sorted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["antecedent", "consequent"])
    writer.writerows(sorted(pairs))
    files.write_text(path, text.getvalue())


def read_plan(out: Path) -> PinnedPlan:
    """Read a plan's files and check that they belong together.

    Raises:
        DataError: one is missing or damaged.
    """
    path = out / "dataset.json"
    info = files.read_json(path, DataError, REMEDY)
    has_parts = isinstance(info.get("fingerprint"), str) and all(
        isinstance(info.get(name), dict) for name in ("options", "export")
    )
    if info.get("format") != FORMAT or not has_parts:
        raise DataError(f"{path} is damaged, or from another version of e6tag. {REMEDY}")
    table = read_pinned(out / "plan.parquet", info["fingerprint"])
    vocabulary = Vocabulary.read(out / "tags.csv", remedy=REMEDY)
    num_tags = 1 + max((max(row) for row in table["labels"] if len(row)), default=-1)
    if num_tags > len(vocabulary):
        raise DataError(
            f"{out / 'tags.csv'} has {len(vocabulary)} tags, the plan has {num_tags}. {REMEDY}"
        )
    topup = read_topup(out)
    if info.get("reserve") is None:
        return PinnedPlan(table, vocabulary, info, topup=topup)
    reserve = read_pinned(out / "reserve.parquet", info["reserve"])
    return PinnedPlan(table, vocabulary, info, reserve, topup)


def read_topup(out: Path) -> pd.DataFrame:
    """The posts that replace others of the plan, as far as they were chosen: `TOPUP_SCHEMA`.

    Raises:
        DataError: the file is damaged.
    """
    path = out / "topup.parquet"
    if not path.exists():
        return no_rows(TOPUP_SCHEMA)
    return read_table(path, TOPUP_SCHEMA, TOPUP_REMEDY)


def read_pinned(path: Path, sha256: str) -> pd.DataFrame:
    """Read a table of planned posts that dataset.json names by its SHA-256.

    Raises:
        DataError: it is missing, damaged, or another.
    """
    table = read_table(path, PLAN_SCHEMA, REMEDY)
    if files.sha256(path) != sha256:
        raise DataError(f"{path} is not the one of {path.with_name('dataset.json')}. {REMEDY}")
    return table
