"""Where a download's posts come from: a site's exports or its API, and the plan made of them."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e6tag import files
from e6tag.config import DownloadConfig
from e6tag.credentials import Credentials, account_from_environment
from e6tag.errors import ConfigError
from e6tag.exports import fetch_exports, read_index
from e6tag.fetch import PoliteClient
from e6tag.listing import Search, list_posts
from e6tag.planning import make_plan
from e6tag.plans import (
    PinnedPlan,
    check_same_exports,
    check_same_options,
    plan_options,
    read_plan,
    write_plan,
)
from e6tag.sites import open_site
from e6tag.sites.api import ApiSite
from e6tag.sites.base import Collection, ExportFile, Site
from e6tag.sites.e621_tables import find_table
from e6tag.transport import is_public

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
LIMITS = {"requests_per_second": 1e-6, "connections": 1, "image_size": 16, "jpeg_quality": 1}


@dataclass
class Source:
    """The site of a run; its client is made when something is to be asked for."""

    config: DownloadConfig
    site: Site
    client: PoliteClient | None = None
    failed: Sequence[str] = ()
    """inputs of a folder that cannot be used"""
    changes: dict[str, Any] = field(default_factory=dict)
    """what an update has found, as JSON holds it"""
    clock: float = field(default_factory=time.monotonic)

    @property
    def is_remote(self) -> bool:
        """Whether pictures come over HTTP."""
        return self.config.site != "folder"

    @property
    def is_listed(self) -> bool:
        """Whether its posts are listed through an API."""
        return isinstance(self.site, ApiSite)

    def connect(self) -> PoliteClient:
        """The client; the first call says what is about to happen."""
        if self.client is None:
            announce(self.config, self.site)
            config, base = self.config, self.site.base_url
            self.client = PoliteClient(
                base,
                config.requests_per_second,
                config.contact,
                config.connections,
                credentials=credentials_for(self.site),
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
    if source.is_listed:
        # The listing was fixed when it was complete.
        return plan
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
    found = [find_table(folder, name) for name in source.site.export_files()]
    return {path.name: files.sha256(path) for path in found}


def new_plan(source: Source) -> PinnedPlan:
    """Bring the exports or list the posts, read them, choose posts, write the plan."""
    config = source.config
    if source.is_remote and config.export_dir is not None and not config.plan_only:
        source.connect()
    collection, index = read_newest(source)
    plan = make_plan(collection, source.site, plan_options(config))
    causes = ", ".join(f"{count} {reason}" for reason, count in plan.rejected.items())
    log.info(
        "planned %d posts and %d tags%s",
        len(plan.table),
        len(plan.vocabulary),
        f" (left out: {causes})" if causes else "",
    )
    return write_plan(config, source.site, collection, plan, index)


def read_newest(source: Source) -> tuple[Collection, dict[str, ExportFile]]:
    """Bring what the site says today, and read it; its export index comes along, if any.

    Raises:
        ConfigError: there is no such folder.
        FetchError: the exports cannot be had.
        DataError: a table that cannot be read.
    """
    config, index = source.config, {}
    if not source.is_remote:
        announce(config, source.site)
        folder = Path(source.site.base_url)
    elif isinstance(source.site, ApiSite):
        folder = config.out / "listing"
        search = Search(config.site, config.query, config.max_posts)
        list_posts(source.connect(), source.site, search, folder, config.quiet)
    elif config.export_dir is not None:
        folder = config.export_dir
    else:
        folder = config.out / "exports"
        index = fetch_exports(source.connect(), source.site, folder, config.quiet)
        source.use_index(index)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}. Name the one with the exports.")
    return source.read(folder), index


def settled(config: DownloadConfig, site: Site) -> DownloadConfig:
    """The options with what depends on the site: its safe ratings, the categories that it has."""
    ratings = config.ratings or "".join(r for r in site.ratings if r in site.safe_ratings)
    categories = config.categories
    if categories == DownloadConfig.categories:
        known = site.categories.values()
        categories = tuple(name for name in categories if name in known)
    return dataclasses.replace(config, ratings=ratings, categories=categories)


def credentials_for(site: Site) -> Credentials | None:
    """What the site is shown of an account; exports and pictures need none.

    Raises:
        ConfigError: half an account, a site without, or one that would have it sent in the open.
    """
    account = account_from_environment() if isinstance(site, ApiSite) else None
    if account is None or not isinstance(site, ApiSite):
        return None
    parts = urlsplit(site.base_url)
    if parts.scheme != "https" and is_public(parts.hostname or ""):
        raise ConfigError(
            f"E6TAG_API_KEY is not sent to {site.base_url}, where anybody on the way could read "
            "it. Use an address with https, or unset the variable."
        )
    return site.credentials(account)


def check_way(config: DownloadConfig, site: Site) -> None:
    """Refuse options of a way to the posts that is not the one taken.

    Raises:
        ConfigError: naming the option.
    """
    is_listed = isinstance(site, ApiSite)
    if is_listed and config.export_dir is not None:
        raise ConfigError("--export-dir is for exports, and this goes through the API. Leave it.")
    if not is_listed and (config.query or config.max_posts is not None):
        raise ConfigError("--query and --max-posts go with an API: add --via api, or leave them.")
    if config.max_posts is not None and config.max_posts < 1:
        raise ConfigError(f"--max-posts {config.max_posts}: expected 1 or more.")
    is_endless = not config.query and config.max_posts is None
    if is_listed and is_endless and is_public(urlsplit(site.base_url).hostname or ""):
        raise ConfigError(
            f"to list all posts of {site.base_url} would ask too much of it. Say how many you "
            "need with --max-posts, or which with --query."
        )


def check_options(config: DownloadConfig, site: Site) -> None:
    """Refuse options that cannot be, and rates that a public site would ban us for.

    Raises:
        ConfigError: naming the option.
    """
    check_way(config, site)
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
