"""What a download has come to: the manifest, and figures to print."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from e6tag.config import DownloadConfig
from e6tag.incoming import ShardWork
from e6tag.plans import PinnedPlan
from e6tag.tables import MANIFEST_SCHEMA

SHORT_TAGS_SHOWN = 8


@dataclass
class Fetched:
    """What this run did."""

    num_pictures: int = 0
    num_failed: int = 0
    num_bytes: int = 0
    """of the files that pictures were made from"""
    seconds: float = 0.0


def manifest_of(plan: pd.DataFrame, works: Sequence[ShardWork]) -> pd.DataFrame:
    """One row per planned post: the plan's columns, and what became of it."""
    by_post = {row["post_id"]: row for work in works for row in outcomes(work)}
    rows = [by_post[post_id] for post_id in plan["post_id"].tolist()]
    columns = [name for name in MANIFEST_SCHEMA.names if name not in plan.columns]
    found = pd.DataFrame(rows, columns=columns, index=plan.index)
    return pd.concat([plan, found], axis=1)


def outcomes(work: ShardWork) -> list[dict[str, Any]]:
    """The manifest's columns for each post of a shard, besides the plan's."""
    rows = []
    for post in work.posts:
        post_id = post["post_id"]
        row: dict[str, Any] = dict.fromkeys(
            ("offset", "length", "stored_width", "stored_height"), 0
        ) | dict.fromkeys(("shard", "sha256", "variant", "error"), "")
        if post_id in work.stored:
            at = work.stored[post_id]
            names = ("stored_width", "stored_height", "sha256", "variant")
            row |= {name: at.info[name] for name in names}
            row |= {"shard": work.name, "offset": at.offset, "length": at.length, "status": "ok"}
        elif post_id in work.purged:
            row |= {"status": "purged", "error": work.purged[post_id]}
        else:
            row |= {"status": "failed", "error": work.failed[post_id].reason}
        rows.append(row | {"post_id": post_id})
    return rows


def summarise(
    plan: PinnedPlan, manifest: pd.DataFrame, fetched: Fetched, config: DownloadConfig
) -> dict[str, object]:
    """Figures of a finished run, as JSON holds them."""
    there = manifest[manifest["status"] == "ok"]
    failed = manifest[manifest["status"] == "failed"]
    return {
        "data": str(config.out),
        "planned": len(manifest),
        "pictures": len(there),
        "splits": {str(name): int(count) for name, count in there["split"].value_counts().items()},
        "stored_bytes": int(there["length"].sum()),
        "failed": len(failed),
        "causes": dict(Counter(failed["error"]).most_common()),
        "purged": int((manifest["status"] == "purged").sum()),
        "fetched": fetched.num_pictures,
        "fetched_bytes": fetched.num_bytes,
        "seconds": round(fetched.seconds, 1),
        "tags": len(plan.vocabulary),
        "short": short_tags(plan, there, config),
    }


def short_tags(
    plan: PinnedPlan, table: pd.DataFrame, config: DownloadConfig
) -> dict[str, list[int]]:
    """Tags with fewer training posts than asked for: name -> [there, asked for]."""
    if config.strategy == "all":
        return {}
    labels = table.loc[table["split"] == "train", "labels"]
    columns = np.concatenate([*labels, np.zeros(0, int)]).astype(int)
    counts = np.bincount(columns, minlength=len(plan.vocabulary)).tolist()
    names = zip(plan.vocabulary.names, counts, strict=True)
    short = sorted((count, name) for name, count in names if count < config.positives)
    return {name: [count, config.positives] for count, name in short}


def as_text(summary: dict[str, Any]) -> str:
    """The figures as a few lines to read."""
    splits = ", ".join(f"{name} {count}" for name, count in summary["splits"].items())
    lines = [
        f"pictures  {summary['pictures']} of {summary['planned']} planned ({splits})",
        f"failed    {summary['failed']}{list_causes(summary['causes'])}",
        f"fetched   {summary['fetched']} pictures, {size(summary['fetched_bytes'])}, "
        f"in {summary['seconds']:.0f} s",
    ]
    if summary["purged"]:
        lines.append(f"purged    {summary['purged']} posts, which are not fetched again")
    if summary.get("unreadable"):
        lines.append(f"unusable  {summary['unreadable']} files of the folder, left out of the plan")
    lines += [
        f"tags      {summary['tags']}{list_short(summary['short'])}",
        f"data      {summary['data']}",
    ]
    return "\n".join(lines) + "\n"


def list_causes(causes: dict[str, int]) -> str:
    """Failures by cause."""
    return f": {', '.join(f'{name} {count}' for name, count in causes.items())}" if causes else ""


def list_short(short: dict[str, list[int]]) -> str:
    """The tags that lack most."""
    if not short:
        return ""
    shown = [f"{n} {have}/{want}" for n, (have, want) in list(short.items())[:SHORT_TAGS_SHOWN]]
    more = ", ..." if len(short) > SHORT_TAGS_SHOWN else ""
    return f", {len(short)} with fewer training posts than wanted: {', '.join(shown)}{more}"


def size(num_bytes: float) -> str:
    """Bytes to read."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
