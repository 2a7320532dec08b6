"""The job `download`: plan a sample of a site, fetch its pictures, write shards.

Every stage leaves files and starts from those that are there, so the same command resumes:
exports/, then the plan, then incoming/ and shards/, then manifest.parquet and download.json.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from e6tag import files
from e6tag.config import DownloadConfig
from e6tag.errors import INPUTS_FAILED
from e6tag.incoming import Incoming, ShardWork
from e6tag.obtaining import Failed, Obtained, Obtainer, read_from, read_from_disk
from e6tag.plan_report import estimate, plan_text
from e6tag.progress import Progress
from e6tag.shards import write_manifest
from e6tag.sites import open_site
from e6tag.sites.base import PostFile
from e6tag.source import Source, check_options, pinned_plan, settled
from e6tag.summary import Fetched, as_text, manifest_of, summarise
from e6tag.workers import Workers

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
    site = open_site(config.site, base_url=config.base_url, folder=config.folder, via=config.via)
    config = settled(config, site)
    check_options(config, site)
    with files.locked(config.out):
        clear_leftovers(config.out)
        source = Source(config, site)
        try:
            return acquire(source)
        finally:
            source.close()


def acquire(source: Source) -> int:
    """Plan, fetch, write the manifest, report."""
    config = source.config
    plan = pinned_plan(source)
    incoming = Incoming(config.out, plan.vocabulary)
    works = incoming.works(plan.table, config.retry_failed)
    if config.plan_only:
        figures = estimate(plan, works, source.site, config) | {"unreadable": len(source.failed)}
        return report(config, figures, source.failed, plan_text)
    fetched = Fetched()
    was_complete = incoming.is_complete(works)
    if was_complete:
        log.info("%s is complete; nothing is fetched.", config.out)
    else:
        fetched = fetch_pictures(source, incoming, works)
        fetched.seconds = time.monotonic() - source.clock
    manifest = manifest_of(plan.table, works)
    failures = [failure.message for work in works for failure in work.failed.values()]
    all_failures = [*source.failed, *failures]
    summary = summarise(plan, manifest, fetched, config) | {"unreadable": len(source.failed)}
    if not was_complete:
        write_manifest(config.out, manifest)
        incoming.clear(bool(failures))
        files.write_json(config.out / "download.json", summary | {"failures": all_failures})
    return report(config, summary, all_failures)


def fetch_pictures(source: Source, incoming: Incoming, works: Sequence[ShardWork]) -> Fetched:
    """Obtain every missing picture; write each shard as soon as its last one is there."""
    config = source.config
    jobs = [(work, post) for work in works for post in work.missing]
    read = read_from(source.connect()) if source.is_remote and jobs else read_from_disk
    obtainer = Obtainer(source.site, config.variant, config.image_size, config.jpeg_quality, read)
    left = {work.name: len(work.missing) for work in works}
    homes = {post["post_id"]: work for work, post in jobs}
    workers = Workers(obtainer.obtain, config.connections)
    posts = (PostFile.from_row(post) for _, post in jobs)
    fetched = Fetched()
    total = sum(len(work.posts) for work in works)
    with Progress(
        "pictures", total, unit="pictures", done=total - len(jobs), quiet=config.quiet
    ) as progress:
        for result in workers.map(posts):
            work = homes[result.post_id]
            take(incoming, work, result, fetched)
            left[work.name] -= 1
            if not left[work.name]:
                incoming.finish_shard(work)
            progress.update(notes=f"{fetched.num_failed} failed" if fetched.num_failed else "")
    for work in works:
        # Those whose last picture was there before this run.
        incoming.finish_shard(work)
    return fetched


def take(incoming: Incoming, work: ShardWork, result: Obtained | Failed, fetched: Fetched) -> None:
    """Keep a picture or note a failure, and count it."""
    if isinstance(result, Failed):
        incoming.note_failure(work, result)
        fetched.num_failed += 1
    else:
        incoming.keep(work, result)
        fetched.num_pictures += 1
        fetched.num_bytes += result.num_bytes


def clear_leftovers(out: Path) -> None:
    """Remove what a killed run left half-written; parts of exports stay, they can be resumed."""
    for leftover in (*out.glob("*.part"), *(out / "shards").glob("*.part")):
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
