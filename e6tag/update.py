"""The job `download --update`: a data folder follows its site.

plan.next.parquet  the plan as it is to be; so are reserve, topup, aliases and implications
update.json        what else is to be; from here on the update is certain

Then they take their places, the shards are rewritten one by one where they differ from it, and
update.json goes.  Whatever stops that, the next run goes on; what is to be fetched is fetched by
the ordinary download that follows.
"""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from e6tag import __version__, files
from e6tag.errors import ConfigError, DataError
from e6tag.incoming import described
from e6tag.plans import PinnedPlan, nested, read_pinned, read_plan, write_relations
from e6tag.purged import PurgeList, forget, read_list, replace_shard, write_list
from e6tag.renewal import Renewal, renew
from e6tag.shards import StoredExample, drop_manifest, read_shard_index
from e6tag.sites.base import Collection, ExportFile
from e6tag.source import Source, read_newest
from e6tag.tables import PLAN_SCHEMA, TOPUP_SCHEMA, write_table
from e6tag.tags import Vocabulary

TABLES = ("plan.parquet", "reserve.parquet", "topup.parquet", "aliases.csv", "implications.csv")
NEXT = ".next"
REMEDY = "Remove it and run download.py --update again: nothing fetched is lost."


def update(source: Source) -> dict[str, Any]:
    """Make the plan of a data folder follow today's exports, and the shards follow the plan.

    With `plan_only` nothing is changed.

    Returns:
        figures of what is different, as JSON holds them.

    Raises:
        ConfigError: the site has no exports.
        FetchError: they cannot be had.
        DataError: they are older than the folder, or not of its site; a file is damaged.
    """
    config = source.config
    if source.is_remote and not source.site.export_files():
        raise ConfigError(f"--update needs exports, and {source.site.name} has none.")
    plan = read_plan(config.out)
    collection, index = read_newest(source)
    before = read_list(config.out).causes
    renewal = renew(source, plan, collection, before)
    if not config.plan_only and is_news(plan, collection, renewal, before):
        pin_update(source, plan, collection, index, renewal)
        finish_update(config.out)
    return figures(renewal, before)


def is_news(
    plan: PinnedPlan, collection: Collection, renewal: Renewal, before: Mapping[int, str]
) -> bool:
    """Whether anything is different, if only the exports themselves."""
    same = plan.info["export"] == dict(collection.checksums) and before == renewal.purged
    return not same or bool(renewal.num_added)


def pin_update(
    source: Source,
    plan: PinnedPlan,
    collection: Collection,
    index: Mapping[str, ExportFile],
    renewal: Renewal,
) -> None:
    """Write down what is to be; update.json, which makes it certain, comes last."""
    out, old = source.config.out, plan.info
    write_table(next_path(out, "plan.parquet"), renewal.table, PLAN_SCHEMA)
    write_table(next_path(out, "reserve.parquet"), renewal.reserve, PLAN_SCHEMA)
    write_table(next_path(out, "topup.parquet"), renewal.topup, TOPUP_SCHEMA)
    write_relations(out, collection.relations, NEXT)
    info = old | {
        "e6tag": __version__,
        "base_url": source.site.base_url,
        "export": dict(collection.checksums),
        "index": [dataclasses.asdict(export) for export in index.values()],
        "num_posts": len(renewal.table),
        "considered": len(collection.posts),
        "rejected": dict(renewal.rejected),
        "shortfalls": nested(renewal.shortfalls),
        # They were proven for the plan as it was.
        "bounds": {},
        "fingerprint": files.sha256(next_path(out, "plan.parquet")),
        "reserve": files.sha256(next_path(out, "reserve.parquet")),
        "history": [
            *old.get("history", []),
            {name: old[name] for name in ("e6tag", "export", "fingerprint")},
        ],
    }
    purged = {str(post_id): cause for post_id, cause in sorted(renewal.purged.items())}
    content = {"info": info, "purged": purged, "replaced": sorted(renewal.replaced)}
    files.write_json(out / "update.json", content)


def finish_update(out: Path) -> None:
    """Make a pinned update come true, if there is one.

    Raises:
        DataError: update.json, the plan or a shard is damaged.
    """
    path = out / "update.json"
    if not path.exists():
        for name in TABLES:
            next_path(out, name).unlink(missing_ok=True)
        return
    info, purged, replaced = read_update(path)
    drop_manifest(out)
    for name in TABLES:
        if next_path(out, name).exists():
            next_path(out, name).replace(out / name)
    files.sync_folder(out)
    read_pinned(out / "plan.parquet", info["fingerprint"])
    files.write_json(out / "dataset.json", info)
    plan = read_plan(out)
    for shard in sorted((out / "shards").glob("*.tar")):
        follow(shard, plan.posts.set_index("post_id"), plan.vocabulary, purged)
    forget(out, purged.keys() | replaced)
    if purged or (out / "purged.json").exists():
        write_list(out, PurgeList(purged))
    path.unlink()
    files.sync_folder(out)


def next_path(out: Path, name: str) -> Path:
    """Where a table is as it is to be."""
    path = out / name
    return path.with_name(f"{path.stem}{NEXT}{path.suffix}")


def read_update(path: Path) -> tuple[dict[str, Any], dict[int, str], set[int]]:
    """dataset.json as it is to be, the posts to purge, and those whose picture was replaced.

    Raises:
        DataError: damaged.
    """
    content = files.read_json(path, DataError, REMEDY)
    try:
        purged = {int(post_id): str(cause) for post_id, cause in content["purged"].items()}
        info = dict(content["info"])
        if not isinstance(info["fingerprint"], str):
            raise TypeError("no fingerprint")
        return info, purged, set(map(int, content["replaced"]))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"{path} is damaged ({problem}). {REMEDY}") from None


def follow(
    path: Path, table: pd.DataFrame, vocabulary: Vocabulary, purged: Mapping[int, str]
) -> None:
    """Rewrite a shard where it differs from the plan; one that does not is left as it is.

    Args:
        path: of the shard.
        table: the plan, indexed by post id.
        vocabulary: names of the columns of its labels.
        purged: posts that must not be there.
    """
    stored = list(read_shard_index(path))
    ids = [example.post_id for example in stored if example.post_id in table.index]
    rows = {row["post_id"]: row for row in table.loc[ids].reset_index().to_dict("records")}
    kept = [
        renamed(example, rows.get(example.post_id), vocabulary)
        for example in stored
        if example.post_id not in purged
        and rows.get(example.post_id, example.info)["md5"] == example.info["md5"]
    ]
    if kept != stored:
        replace_shard(path, kept)


def renamed(
    example: StoredExample, post: Mapping[Any, Any] | None, vocabulary: Vocabulary
) -> StoredExample:
    """An example with what its row of the plan says of it."""
    if post is None:
        return example
    return dataclasses.replace(example, info=example.info | described(post, vocabulary.names))


def figures(renewal: Renewal, before: Mapping[int, str]) -> dict[str, Any]:
    """What is different, as JSON holds it."""
    removed = [cause for i, cause in renewal.purged.items() if i not in before]
    return {
        "added": renewal.num_added,
        "available": renewal.num_available,
        "retagged": renewal.num_retagged,
        "replaced": len(renewal.replaced),
        "removed": len(removed),
        "causes": dict(Counter(removed).most_common()),
        "returned": len(before.keys() - renewal.purged.keys()),
    }


def report_update(changes: Mapping[str, Any], as_json: bool) -> None:
    """The figures to stdout."""
    sys.stdout.write(json.dumps(changes, indent=2) + "\n" if as_json else as_text(changes))


def as_text(changes: Mapping[str, Any]) -> str:
    """The figures as a few lines to read."""
    causes = ", ".join(f"{cause} {number}" for cause, number in changes["causes"].items())
    return (
        f"added     {changes['added']} posts, of {changes['available']} that the plan had not\n"
        f"changed   {changes['retagged']} posts with other tags, {changes['replaced']} with "
        "another picture\n"
        f"removed   {changes['removed']} posts{causes and f': {causes}'}\n"
        f"returned  {changes['returned']} posts that had been removed\n"
    )
