"""The job `download`: plan a sample of a site, fetch its pictures, write shards.

Every stage leaves files and starts from those that are there, so the same command resumes:
exports/, then the plan, then incoming/, shards/ and fingerprints/, perhaps topup.parquet and
further shards, then download.json and manifest.parquet.
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from e6tag import files
from e6tag.config import DownloadConfig
from e6tag.errors import INPUTS_FAILED
from e6tag.fetching import Holdings, fetch_all
from e6tag.incoming import Incoming
from e6tag.plan_report import estimate, plan_text
from e6tag.purge import purge
from e6tag.purged import finish_purge
from e6tag.recall import recalled
from e6tag.run_log import Fetched, logged
from e6tag.shard_work import plan_shards
from e6tag.shards import write_manifest
from e6tag.sites import open_site
from e6tag.source import Source, check_options, pinned_plan, settled
from e6tag.summary import as_text, manifest_of, summarise
from e6tag.tables import MANIFEST_SCHEMA, is_written
from e6tag.update import finish_update, report_update, update

log = logging.getLogger(__name__)

FAILURES_SHOWN = 5


def download(config: DownloadConfig) -> int:
    """Make or go on with a data folder.

    Returns:
        0, or `INPUTS_FAILED` where pictures failed, in this run or for good in an earlier one.

    Raises:
        ConfigError: options that cannot be, or not those that the folder was begun with.
        FetchError: the site refuses us, or does not answer.
        DataError: exports or files of the folder that are not what they must be.
    """
    if config.purge or config.update:
        config = recalled(config)
    site = open_site(config.site, base_url=config.base_url, folder=config.folder, via=config.via)
    config = settled(config, site)
    check_options(config, site)
    with files.locked(config.out):
        clear_leftovers(config.out)
        source = Source(config, site)
        try:
            return go_on(source)
        finally:
            source.close()


def go_on(source: Source) -> int:
    """Finish what an earlier run began with the folder, then do what is asked for now."""
    config = source.config
    finish_update(config.out)
    finish_purge(config.out)
    if config.purge:
        return purge(source)
    if config.update:
        source.changes = update(source)
        if config.plan_only or not config.json:
            report_update(source.changes, config.json)
        if config.plan_only:
            return 0
    return acquire(source)


def acquire(source: Source) -> int:
    """Plan, fetch, write the manifest, report."""
    config = source.config
    plan = pinned_plan(source)
    incoming = Incoming(config.out, plan.vocabulary)
    works = plan_shards(plan.table, plan.topup)
    incoming.find(works, config.retry_failed)
    if config.plan_only:
        figures = estimate(plan, works, source.site, config) | {"unreadable": len(source.failed)}
        return report(config, figures, source.failed, plan_text)
    was_complete, fetched = incoming.is_complete(works), Fetched()
    with logged(source, fetched):
        held = fetch_all(source, plan, incoming, works, fetched)
    if was_complete and not fetched.num_asked:
        log.info("%s is complete; nothing is fetched.", config.out)
    return settle(source, incoming, held, fetched)


def settle(source: Source, incoming: Incoming, held: Holdings, fetched: Fetched) -> int:
    """Write what the folder has come to, where that is news, and report it."""
    config, plan = source.config, held.plan
    manifest = manifest_of(plan.posts, held.works, held.alike)
    failures = [failure for work in held.works for failure in work.failed.values()]
    messages = [*source.failed, *(failure.message for failure in failures)]
    summary = summarise(plan, manifest, failures, config) | {
        "fetched": fetched.num_pictures,
        "fetched_bytes": fetched.num_bytes,
        "seconds": round(fetched.seconds, 1),
        "unreadable": len(source.failed),
    }
    summary |= {"update": source.changes} if source.changes else {}
    is_news = not is_written(config.out / "manifest.parquet", manifest, MANIFEST_SCHEMA)
    if is_news or fetched.num_asked:
        files.write_json(config.out / "download.json", summary | {"failures": messages})
    incoming.clear(bool(failures))
    if is_news:
        # Last, for where it is all else is done.
        write_manifest(config.out, manifest)
    return report(config, summary, messages)


def clear_leftovers(out: Path) -> None:
    """Remove what a killed run left half-written; parts of exports stay, they can be resumed."""
    for folder in (out, out / "shards", out / "fingerprints", out / "log"):
        for leftover in folder.glob("*.part"):
            leftover.unlink()


def report(
    config: DownloadConfig,
    summary: dict[str, Any],
    failures: Sequence[str],
    describe: Callable[[dict[str, Any]], str] = as_text,
) -> int:
    """Results to stdout, failures to stderr; the exit code."""
    text = json.dumps(summary, indent=2) + "\n" if config.json else describe(summary)
    sys.stdout.write(text)
    for message in failures[:FAILURES_SHOWN]:
        log.error("failed: %s", message)
    if len(failures) > FAILURES_SHOWN:
        more = len(failures) - FAILURES_SHOWN
        log.error("and %d more; all are in %s.", more, config.out / "download.json")
    return INPUTS_FAILED if failures else 0
