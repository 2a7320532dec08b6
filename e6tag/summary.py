"""What a download has come to: the manifest, and figures to print."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from e6tag.config import DownloadConfig
from e6tag.obtaining import Failed
from e6tag.plans import PinnedPlan
from e6tag.shard_work import ShardWork
from e6tag.tables import MANIFEST_SCHEMA

SHORT_TAGS_SHOWN = 8
NUMBERS = {
    name: np.int64 if name in ("offset", "length") else np.int32
    for name in ("offset", "length", "stored_width", "stored_height")
}
"""columns of the manifest that are 0 where there is no picture"""
EXAMPLE_WIDTH = 100
"""characters of a failure's message that the table shows"""


def manifest_of(
    posts: pd.DataFrame, works: Sequence[ShardWork], alike: Mapping[int, int]
) -> pd.DataFrame:
    """One row per post of the folder: the plan's columns, and what became of it.

    Args:
        posts: columns of `PLAN_SCHEMA`.
        works: all shards, with nothing missing.
        alike: held-out posts that are not used -> the post that their picture looks like.
    """
    texts = ("shard", "sha256", "variant", "status", "error")
    found = {name: np.full(len(posts), "", object) for name in texts}
    found |= {name: np.zeros(len(posts), kind) for name, kind in NUMBERS.items()}
    for work in works:
        rows = work.rows_of(work.stored["post_id"])
        for name in NUMBERS:
            found[name][rows] = work.stored[name]
        for name in ("sha256", "variant"):
            found[name][rows] = [text.decode() for text in work.stored[name].tolist()]
        found["shard"][rows], found["status"][rows] = work.name, "ok"
        for post_id, status, error in unused(work, alike):
            row = work.rows_of([post_id])
            found["status"][row], found["error"][row] = status, error
    table = posts.assign(**found)
    return table[MANIFEST_SCHEMA.names]


def unused(work: ShardWork, alike: Mapping[int, int]) -> Iterable[tuple[int, str, str]]:
    """Posts of a shard that are not to be used: post id, status, error."""
    for post_id, failure in work.failed.items():
        yield post_id, "failed", failure.reason
    for post_id, cause in work.purged.items():
        yield post_id, "purged", cause
    for post_id in work.stored["post_id"].tolist():
        if post_id in alike:
            yield post_id, "near_duplicate", f"post {alike[post_id]}"


def summarise(
    plan: PinnedPlan,
    manifest: pd.DataFrame,
    failures: Sequence[Failed],
    config: DownloadConfig,
) -> dict[str, Any]:
    """Figures of a finished run, as JSON holds them."""
    there = manifest[manifest["status"] == "ok"]
    failed = manifest[manifest["status"] == "failed"]
    return {
        "data": str(config.out),
        "planned": len(plan.table),
        "topped_up": len(plan.topup),
        "pictures": len(there),
        "splits": {str(name): int(count) for name, count in there["split"].value_counts().items()},
        "stored_bytes": int(there["length"].sum()),
        "failed": len(failed),
        "causes": dict(Counter(failed["error"]).most_common()),
        "by_cause": by_cause(failures),
        "near_duplicates": int((manifest["status"] == "near_duplicate").sum()),
        "purged": int((manifest["status"] == "purged").sum()),
        "tags": len(plan.vocabulary),
        "short": short_tags(plan, there, config),
    }


def by_cause(failures: Iterable[Failed]) -> list[dict[str, Any]]:
    """How often each cause is there, whether it lasts, and an example; the most frequent first."""
    found: dict[tuple[str, bool], list[Failed]] = {}
    for failure in sorted(failures, key=lambda failure: failure.post_id):
        found.setdefault((failure.reason, failure.permanent), []).append(failure)
    return [
        {
            "cause": cause,
            "posts": len(some),
            "permanent": permanent,
            "example": some[0].message,
        }
        for (cause, permanent), some in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


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
    more = f" and {summary['topped_up']} in reserve" if summary["topped_up"] else ""
    lines = [
        f"pictures  {summary['pictures']} of {summary['planned']} planned{more} ({splits})",
        f"failed    {summary['failed']}",
        *cause_lines(summary["by_cause"]),
        f"fetched   {summary['fetched']} pictures, {size(summary['fetched_bytes'])}, "
        f"in {summary['seconds']:.0f} s",
    ]
    if summary["near_duplicates"]:
        lines.append(
            f"alike     {summary['near_duplicates']} held-out pictures, left out: they look like "
            "one of another split (see manifest.parquet; --no-near-duplicates keeps them)"
        )
    if summary["purged"]:
        lines.append(f"purged    {summary['purged']} posts, which are not fetched again")
    if summary.get("unreadable"):
        lines.append(f"unusable  {summary['unreadable']} files of the folder, left out of the plan")
    lines += [
        f"tags      {summary['tags']}{list_short(summary['short'])}",
        f"data      {summary['data']}",
    ]
    return "\n".join(lines) + "\n"


def cause_lines(causes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Failures as a table: cause, posts, what the next run does about them, an example."""
    if not causes:
        return []
    width = max(len("cause"), *(len(row["cause"]) for row in causes))
    rows = [("cause", "posts", "next run", "for example")]
    rows += [
        (
            row["cause"],
            str(row["posts"]),
            "leaves them" if row["permanent"] else "tries again",
            shortened(row["example"]),
        )
        for row in causes
    ]
    return [f"  {a:{width}s} {b:>7s}  {c:11s}  {d}" for a, b, c, d in rows]


def shortened(message: str) -> str:
    """A message that fits on a line; download.json has all of it."""
    line = " ".join(message.split())
    return line if len(line) <= EXAMPLE_WIDTH else f"{line[: EXAMPLE_WIDTH - 3]}..."


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
