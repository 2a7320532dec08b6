"""The job `download`: plan a sample of a site, fetch its pictures, write shards.

Every stage leaves files and starts from those that are there, so the same command resumes:
exports/, then the plan, then incoming/ and shards/, then manifest.parquet and download.json.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from e6tag import files
from e6tag.config import DownloadConfig
from e6tag.errors import INPUTS_FAILED, ConfigError
from e6tag.exports import fetch_exports, read_index
from e6tag.fetch import PoliteClient
from e6tag.incoming import Incoming, ShardWork
from e6tag.obtaining import Failed, Obtained, Obtainer, read_from, read_from_disk
from e6tag.planning import make_plan
from e6tag.plans import (
    PinnedPlan,
    check_same_exports,
    check_same_options,
    plan_options,
    read_plan,
    write_plan,
)
from e6tag.progress import Progress
from e6tag.shards import write_manifest
from e6tag.sites import open_site
from e6tag.sites.base import Collection, ExportFile, PostFile, Site
from e6tag.summary import Fetched, as_text, estimate, manifest_of, summarise
from e6tag.transport import is_public
from e6tag.workers import Workers

log = logging.getLogger(__name__)

FAILURES_SHOWN = 5
MAX_CONNECTIONS = 32
LIMITS = {"requests_per_second": 1e-6, "connections": 1, "image_size": 16, "jpeg_quality": 1}


def download(config: DownloadConfig) -> int:
    """Make or go on with a data folder.

    Returns:
        0, or `INPUTS_FAILED` where pictures failed, in this run or for good in an earlier one.

    Raises:
        ConfigError: options that cannot be, or not those that the folder was begun with.
        FetchError: the site refuses us, or does not answer.
        DataError: exports or files of the folder that are not what they must be.
    """
    site = open_site(config.site, base_url=config.base_url, folder=config.folder)
    check_options(config, site)
    with files.locked(config.out):
        clear_leftovers(config.out)
        source = Source(config, site)
        try:
            return acquire(source)
        finally:
            source.close()


@dataclass
class Source:
    """The site of a run; its client is made when something is to be asked for."""

    config: DownloadConfig
    site: Site
    client: PoliteClient | None = None
    failed: Sequence[str] = ()
    """inputs of a folder that cannot be used"""
    clock: float = field(default_factory=time.monotonic)

    @property
    def is_remote(self) -> bool:
        """Whether pictures come over HTTP."""
        return self.config.site != "folder"

    def connect(self) -> PoliteClient:
        """The client; the first call says what is about to happen."""
        if self.client is None:
            announce(self.config, self.site)
            config, base = self.config, self.site.base_url
            self.client = PoliteClient(
                base, config.requests_per_second, config.contact, config.connections
            )
        return self.client

    def use_index(self, index: dict[str, ExportFile]) -> None:
        """Learn from an export index where the site keeps its files."""
        self.site = open_site(self.config.site, base_url=self.config.base_url, index=index)

    def read(self, folder: Path) -> Collection:
        """The site's posts and tags.

        Raises:
            DataError: a table that cannot be read.
        """
        collection = self.site.read(folder)
        self.failed = collection.failed
        return collection

    def close(self) -> None:
        """Let nothing more be asked for."""
        if self.client is not None:
            self.client.close()


def acquire(source: Source) -> int:
    """Plan, fetch, write the manifest, report."""
    config = source.config
    plan = pinned_plan(source)
    incoming = Incoming(config.out, plan.vocabulary)
    works = incoming.works(plan.table, config.retry_failed)
    if config.plan_only:
        return report(config, estimate(plan, works, source.site, config), source.failed)
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


def pinned_plan(source: Source) -> PinnedPlan:
    """The plan of the folder, made now if there is none.

    Raises:
        ConfigError: the folder was planned with other options or from other exports.
    """
    config = source.config
    if not (config.out / "dataset.json").exists():
        return new_plan(source)
    plan = read_plan(config.out)
    check_same_options(config.out, plan.info, config)
    if not source.is_remote or config.export_dir is not None:
        folder = config.export_dir or Path(source.site.base_url)
        checksums = current_checksums(source, folder)
        check_same_exports(config.out, plan.info, checksums)
        return plan
    index = plan.exports
    if plan.info["base_url"] != source.site.base_url:
        # The same site may have moved, as one on this machine does to another port.
        index = read_index(source.connect(), source.site)
        listed = {export.file_name: export.sha256 or "" for export in index.values()}
        check_same_exports(config.out, plan.info, listed)
    source.use_index(index)
    return plan


def current_checksums(source: Source, folder: Path) -> dict[str, str]:
    """Checksums of what the folder's plan would be made from now."""
    if not source.is_remote:
        return dict(source.read(folder).checksums)
    found = [folder / f"{name}.csv.gz" for name in source.site.export_files()]
    return {path.name: files.sha256(path) for path in found if path.exists()}


def new_plan(source: Source) -> PinnedPlan:
    """Bring the exports, read them, choose posts, write the plan."""
    config, index = source.config, {}
    if not source.is_remote:
        announce(config, source.site)
        folder = Path(source.site.base_url)
    elif config.export_dir is not None:
        folder = config.export_dir
        if not config.plan_only:
            source.connect()
    else:
        folder = config.out / "exports"
        index = fetch_exports(source.connect(), source.site, folder, config.quiet)
        source.use_index(index)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}. Name the one with the exports.")
    collection = source.read(folder)
    plan = make_plan(collection, source.site, plan_options(config))
    causes = ", ".join(f"{count} {reason}" for reason, count in plan.rejected.items())
    log.info(
        "planned %d posts and %d tags%s",
        len(plan.table),
        len(plan.vocabulary),
        f" (left out: {causes})" if causes else "",
    )
    return write_plan(config, source.site, collection, plan, index)


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


def check_options(config: DownloadConfig, site: Site) -> None:
    """Refuse options that cannot be, and rates that a public site would ban us for.

    Raises:
        ConfigError: naming the option.
    """
    for name, least in LIMITS.items():
        if not getattr(config, name) >= least:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} {getattr(config, name)}: expected {least:g} or more.")
    if config.jpeg_quality > 100 or config.connections > MAX_CONNECTIONS:
        raise ConfigError(f"--jpeg-quality is 100 and --connections {MAX_CONNECTIONS} at most.")
    rate, most = config.requests_per_second, site.max_requests_per_second
    if rate > most and is_public(urlsplit(site.base_url).hostname or ""):
        raise ConfigError(
            f"--requests-per-second {rate:g} is more than {most:g}, which {site.base_url} allows: "
            f"{site.rate_note}."
        )


def announce(config: DownloadConfig, site: Site) -> None:
    """Say what is about to happen and how to stop it."""
    stop = "Ctrl-C stops it; the same command resumes."
    if config.site == "folder":
        log.info("Reading the pictures in %s. %s", site.base_url, stop)
        return
    rate = config.requests_per_second
    log.info(
        "About to talk to %s: %g request%s a second at most, over %d connections. %s",
        site.base_url, rate, "s" * (rate != 1), config.connections, stop,
    )  # fmt: skip
    if not is_public(urlsplit(site.base_url).hostname or ""):
        return
    log.info("(%s)", site.rate_note)
    if config.contact is None:
        log.warning(
            "The site asks programs to say who runs them: add --contact YOUR_NAME_THERE, or it "
            "may refuse."
        )


def report(config: DownloadConfig, summary: dict[str, object], failures: Sequence[str]) -> int:
    """Results to stdout, failures to stderr; the exit code."""
    text = json.dumps(summary, indent=2) + "\n" if config.json else as_text(summary)
    sys.stdout.write(text)
    for message in failures[:FAILURES_SHOWN]:
        log.error("failed: %s", message)
    if len(failures) > FAILURES_SHOWN:
        more = len(failures) - FAILURES_SHOWN
        log.error("and %d more; all are in %s.", more, config.out / "download.json")
    return INPUTS_FAILED if failures else 0
