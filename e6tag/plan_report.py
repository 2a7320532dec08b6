"""What a plan comes to: posts, bytes, hours, positives of each tag, and what it lacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.config import DownloadConfig
from e6tag.plan_options import PlanOptions
from e6tag.plans import PinnedPlan, plan_options
from e6tag.shard_work import ShardWork
from e6tag.sites.base import PostFile, Site
from e6tag.splits import SPLITS

BYTES_PER_PIXEL = 0.2
"""Rough size of a photographic JPEG, for files whose size is not known before."""

SHORT_TAGS_SHOWN = 8
HEADER = ("posts", "fewest", "median", "most", "wanted", "short")


def estimate(
    plan: PinnedPlan, works: Sequence[ShardWork], site: Site, config: DownloadConfig
) -> dict[str, Any]:
    """Figures of a plan, as JSON holds them: what it has, what is left to fetch, at what cost."""
    missing = [post for work in works for post in work.missing]
    num_bytes = sum(file_bytes(PostFile.from_row(post), site, config) for post in missing)
    hours = len(missing) / config.requests_per_second / 3600 if config.site != "folder" else 0.0
    positives = {name: count_positives(plan, name) for name in SPLITS}
    options, info = plan_options(config), plan.info
    return {
        "data": str(config.out),
        "considered": info.get("considered"),
        "rejected": info.get("rejected", {}),
        "planned": len(plan.table),
        "splits": {name: int((plan.table["split"] == name).sum()) for name in SPLITS},
        "reserve": len(plan.reserve),
        "missing": len(missing),
        "missing_bytes": int(num_bytes),
        "hours": round(hours, 2),
        "requests_per_second": config.requests_per_second,
        **least(plan.table, info.get("bounds", {})),
        "tags": len(plan.vocabulary),
        "positives": {name: spread(positives[name], options, name) for name in SPLITS},
        "short": info.get("shortfalls", {}),
        "tag_positives": {
            tag: dict(zip(SPLITS, counts, strict=True))
            for tag, *counts in zip(
                plan.vocabulary.names, *(positives[name].tolist() for name in SPLITS), strict=True
            )
        },
    }


def file_bytes(post: PostFile, site: Site, config: DownloadConfig) -> float:
    """Size of a post's first candidate, guessed from its pixels where it is not known."""
    first = site.candidates(post, config.variant)[0]
    pixels = (first.width or post.width) * (first.height or post.height)
    return first.size_bytes or BYTES_PER_PIXEL * pixels


def least(table: pd.DataFrame, bounds: Mapping[str, float]) -> dict[str, Any]:
    """The lower bound of posts for the same positives, and how many times it the plan has.

    Posts taken at random on top are no part of either.
    """
    bound = float(sum(bounds.values()))
    if not bound:
        return {"bound": None, "ratio": None}
    num_posts = int((table["reason"] != "random").sum())
    return {"bound": round(bound, 1), "ratio": round(num_posts / bound, 3)}


def count_positives(plan: PinnedPlan, split: str) -> NDArray[np.int64]:
    """(tags,): planned posts of the split that have each tag."""
    labels = plan.table.loc[plan.table["split"] == split, "labels"]
    columns = np.concatenate([*labels, np.zeros(0, int)]).astype(int)
    return np.bincount(columns, minlength=len(plan.vocabulary))


def spread(positives: NDArray[np.int64], options: PlanOptions, split: str) -> dict[str, Any]:
    """The range of the tags' positives in a split, and how many tags have too few."""
    wanted = options.wanted(split)
    return {
        "fewest": int(positives.min()),
        "median": float(np.median(positives)),
        "most": int(positives.max()),
        "wanted": wanted,
        "short": int((positives < wanted).sum()),
    }


def plan_text(figures: Mapping[str, Any]) -> str:
    """The figures as lines to read."""
    lines = [
        ("planned", f"{figures['planned']:,} posts{out_of(figures['considered'])}"),
        *[("left out", f"{count:,} {cause}") for cause, count in figures["rejected"].items()],
        ("to fetch", cost(figures)),
        ("reserve", f"{figures['reserve']:,} posts, fetched only where planned ones fail"),
    ]
    if figures["bound"]:
        lines.append(
            (
                "least",
                f"no plan with these positives has fewer than {figures['bound']:,.0f} posts; "
                f"this one has {figures['ratio']:.3f} times as many",
            )
        )
    if figures.get("unreadable"):
        unreadable = f"{figures['unreadable']:,} files of the folder, left out of the plan"
        lines.append(("unusable", unreadable))
    lines.append(("tags", f"{figures['tags']:,}; planned posts, and those of each tag:"))
    text = "".join(f"{name:<10}{value}\n" for name, value in lines)
    return text + split_table(figures) + short_lines(figures) + f"{'data':<10}{figures['data']}\n"


def out_of(considered: int | None) -> str:
    """How many there were, where that is known."""
    return "" if considered is None else f" of {considered:,}"


def cost(figures: Mapping[str, Any]) -> str:
    """Pictures, bytes and hours."""
    rate = figures["requests_per_second"]
    hours = f"{figures['hours']:,.1f} hours at {rate:g} request{'s' * (rate != 1)} a second"
    size = size_text(figures["missing_bytes"])
    return f"{figures['missing']:,} pictures, about {size}, {hours}"


def split_table(figures: Mapping[str, Any]) -> str:
    """A row for each split: its posts, and the range of its tags' positives."""
    rows: list[tuple[str, ...]] = [HEADER]
    for name in SPLITS:
        found = figures["positives"][name]
        values = [figures["splits"][name], *(found[column] for column in HEADER[1:])]
        rows.append(tuple(f"{value:,.0f}" for value in values))
    names = ("", *SPLITS)
    width = max(len(cell) for row in rows for cell in row) + 2
    return "".join(
        f"  {name:<8}" + "".join(f"{cell:>{width}}" for cell in row) + "\n"
        for name, row in zip(names, rows, strict=True)
    )


def short_lines(figures: Mapping[str, Any]) -> str:
    """The tags of each split that lack most: planned/wanted, and how many there would be."""
    lines = []
    for name, short in figures["short"].items():
        if not short:
            continue
        ranked = sorted(short, key=lambda tag: (short[tag]["reached"], tag))
        shown = ", ".join(short_text(tag, short[tag]) for tag in ranked[:SHORT_TAGS_SHOWN])
        more = ", ..." if len(ranked) > SHORT_TAGS_SHOWN else ""
        lines.append(f"{'short':<10}{name}: {shown}{more}\n")
    return "".join(lines)


def short_text(tag: str, numbers: Mapping[str, int]) -> str:
    """A tag and what it has of what is wanted."""
    there = numbers["available"]
    more = f" (of {there:,})" if there > numbers["reached"] else ""
    return f"{tag} {numbers['reached']:,}/{numbers['wanted']:,}{more}"


def size_text(num_bytes: float) -> str:
    """Bytes to read."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
