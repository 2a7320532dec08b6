"""The job `download --purge`: out of the data with what today's exports say must not be there."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Collection as Some
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.eligibility import find_faults
from e6tag.errors import ConfigError, DataError
from e6tag.plan_options import rating_letters
from e6tag.plans import PinnedPlan, plan_options, read_plan
from e6tag.purged import PurgeList, finish_purge, read_list, write_list
from e6tag.qualified import limits
from e6tag.sites.base import Collection
from e6tag.source import Source, read_newest

log = logging.getLogger(__name__)

ALWAYS = ("deleted", "pending", "flagged", "minor", "avoid_posting", "rating")
"""causes that no option lifts, and ratings that the folder was not meant to have"""
NOT_LISTED, REPLACED = "not_listed", "replaced"
FEWEST_DOUBTED = 10
"""so many posts at least make exports look as if they were not of this site"""


def purge(source: Source) -> int:
    """Remove from a data folder what today's exports say is gone or not allowed any more.

    Nothing is fetched but the exports, and nothing that was removed comes back in later runs.

    Returns:
        0.

    Raises:
        ConfigError: the site has no exports.
        FetchError: they cannot be had.
        DataError: they do not seem to be of this site; a file of the folder is damaged.
    """
    config = source.config
    if source.is_remote and not source.site.export_files():
        raise ConfigError(f"--purge needs exports, and {source.site.name} has none.")
    plan = read_plan(config.out)
    collection, _ = read_newest(source)
    known = known_posts(plan)
    found = causes_of(source, known, collection, ALWAYS)
    check_plausible(source, found, len(known))
    before = read_list(config.out).causes
    new = {post_id: cause for post_id, cause in found.items() if post_id not in before}
    if new and not config.plan_only:
        write_list(config.out, PurgeList({**before, **new}, is_done=False))
        finish_purge(config.out)
    report(source, new, before)
    return 0


def known_posts(plan: PinnedPlan) -> pd.DataFrame:
    """post_id and md5 of all posts that the folder has, or may come to have."""
    tables = [table[["post_id", "md5"]] for table in (plan.posts, plan.reserve) if len(table)]
    return pd.concat(tables, ignore_index=True).drop_duplicates("post_id")


def causes_of(
    source: Source, known: pd.DataFrame, collection: Collection, reasons: Some[str]
) -> dict[int, str]:
    """Why posts must go: post id -> cause.

    Args:
        source: the site's rules, the folder's options.
        known: post_id and md5 of the folder's posts.
        collection: what the site says today.
        reasons: which of `e6tag.eligibility.REASONS` count.

    Raises:
        DataError: the site says that it has no posts.
    """
    posts, options = collection.posts, plan_options(source.config)
    if not len(posts):
        raise DataError("the exports have no posts at all. Nothing was removed.")
    ids = known["post_id"].to_numpy()
    rows = np.searchsorted(posts.post_id, ids)
    is_listed = posts.post_id[np.minimum(rows, len(posts) - 1)] == ids
    causes = np.full(len(ids), NOT_LISTED, object)
    causes[~is_listed & is_newer(source, ids, collection)] = ""
    listed = posts.take(rows[is_listed])
    rules = limits(source.site, options, rating_letters(options))
    all_faults = find_faults(listed, collection.relations, **rules)
    # A post that was replaced and deleted was deleted.
    faults = {name: faulty for name, faulty in all_faults.items() if name in reasons}
    faults[REPLACED] = listed.md5 != known["md5"].to_numpy()[is_listed].astype("S32")
    causes[is_listed] = first_causes(faults, len(listed))
    pairs = zip(ids.tolist(), causes.tolist(), strict=True)
    return {post_id: cause for post_id, cause in pairs if cause}


def is_newer(source: Source, ids: NDArray[np.int64], collection: Collection) -> NDArray[np.bool_]:
    """Which posts exports cannot know of: those after their last one, so they say nothing of them.

    Ids of own pictures are hashes, and newer than nothing.
    """
    newer = (ids > collection.posts.post_id[-1]) & source.is_remote
    if newer.any():
        log.warning(
            "The exports are older than %d posts of the folder, which stay: name newer ones with "
            "--export-dir.",
            np.count_nonzero(newer),
        )
    return newer


def first_causes(faults: Mapping[str, NDArray[np.bool_]], num_posts: int) -> NDArray[Any]:
    """(posts,) name of the first fault that each post has, or an empty text."""
    causes = np.full(num_posts, "", object)
    for cause, faulty in faults.items():
        causes[faulty & (causes == "")] = cause
    return causes


def check_plausible(source: Source, found: Mapping[int, str], num_known: int) -> None:
    """Refuse exports of another site: most of the folder would be unknown there, or different.

    Raises:
        DataError: saying how many.
    """
    num_odd = sum(cause in (NOT_LISTED, REPLACED) for cause in found.values())
    if source.is_remote and num_odd >= FEWEST_DOUBTED and 2 * num_odd > num_known:
        raise DataError(
            f"{num_odd} of the {num_known} posts of {source.config.out} are not in the exports "
            f"of {source.config.export_dir or source.site.base_url}, or are other pictures there: "
            "they are of another site, or not whole. Nothing was removed. Check --base-url and "
            "--export-dir."
        )


def report(source: Source, new: Mapping[int, str], before: Mapping[int, str]) -> None:
    """What was removed, by cause, to stdout."""
    config = source.config
    summary = {
        "data": str(config.out),
        "plan_only": config.plan_only,
        "purged": len(new),
        "causes": count(new.values()),
        "purged_before": len(before),
    }
    sys.stdout.write(json.dumps(summary, indent=2) + "\n" if config.json else as_text(summary))
    if new and not config.plan_only:
        log.info("Vectors and indexes of this data are out of date: run embed.py again.")


def count(causes: Iterable[str]) -> dict[str, int]:
    """How often each cause is there, the most frequent first."""
    return dict(sorted(Counter(causes).items(), key=lambda item: (-item[1], item[0])))


def as_text(summary: Mapping[str, Any]) -> str:
    """The figures as a few lines to read."""
    causes = ", ".join(f"{cause} {number}" for cause, number in summary["causes"].items())
    word = "to purge" if summary["plan_only"] else "purged"
    return (
        f"{word:10s}{summary['purged']} posts{causes and f': {causes}'}\n"
        f"before    {summary['purged_before']} posts\n"
        f"data      {summary['data']}\n"
    )
