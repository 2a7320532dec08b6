"""Bringing a site's exports: the index first, then what is missing or has changed."""

import gzip
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path

from e6tag import files
from e6tag.downloads import ReplacedError, download_file
from e6tag.errors import DataError, FetchError
from e6tag.fetch import FileFailure, PoliteClient
from e6tag.progress import Progress
from e6tag.sites.base import ExportFile, Site
from e6tag.sites.e621 import export_index_url, parse_export_index
from e6tag.sites.e621_dated import dated_folder_url, parse_dated_page

log = logging.getLogger(__name__)

MAX_INDEX_BYTES = 4 << 20
BLOCK_BYTES = 1 << 20


def read_index(client: PoliteClient, site: Site) -> dict[str, ExportFile]:
    """The site's list of the exports that are needed, by name.

    Where there is no index, the newest day of the dated files that sites had before June 2026.

    Raises:
        FetchError: there is neither, or one lacks a table.
    """
    url = export_index_url(site.base_url)
    try:
        index = parse_export_index(client.get(url, MAX_INDEX_BYTES))
    except (FileFailure, DataError) as problem:
        return read_dated(client, site, problem)
    missing = set(site.export_files()) - index.keys()
    if missing:
        raise FetchError(
            f"{url} does not list {', '.join(sorted(missing))}; it may be being made just now. "
            "Run the same command again later."
        )
    return {name: index[name] for name in site.export_files()}


def read_dated(
    client: PoliteClient, site: Site, problem: FileFailure | DataError
) -> dict[str, ExportFile]:
    """The newest day's dated files.

    Args:
        client: keeps the pace.
        site: whose they are.
        problem: why there is no index.

    Raises:
        FetchError: there are no such files either.
    """
    url = dated_folder_url(site.base_url)
    remedy = (
        "Without a list of exports there is nothing to plan from: check --base-url, or bring the "
        "exports yourself and name their folder with --export-dir."
    )
    if isinstance(problem, FileFailure) and not problem.permanent:
        raise FetchError(f"{problem} {remedy}") from None
    try:
        index = parse_dated_page(client.get(url, MAX_INDEX_BYTES), url, site.export_files())
    except FileFailure as other:
        raise FetchError(f"{problem} {other} {remedy}") from None
    if not index:
        raise FetchError(
            f"{problem} Nor does {url} list all of {', '.join(site.export_files())} for any day. "
            f"{remedy}"
        )
    log.info("%s: the dated exports, newest %s.", url, index[site.export_files()[0]].file_name)
    return index


def fetch_exports(
    client: PoliteClient, site: Site, folder: Path, quiet: bool
) -> dict[str, ExportFile]:
    """Make `folder` hold the exports of today's index; files that are right are kept.

    Raises:
        FetchError: one cannot be had.
    """
    index = read_index(client, site)
    try:
        fetch_listed(client, index, folder, quiet)
    except ReplacedError as problem:
        # The site makes its exports one by one; a new index will list the new file.
        log.info("%s Reading the list again.", problem)
        index = read_index(client, site)
        fetch_listed(client, index, folder, quiet)
    return index


def fetch_listed(
    client: PoliteClient, index: Mapping[str, ExportFile], folder: Path, quiet: bool
) -> None:
    """Fetch the files of an index."""
    for export in index.values():
        path = folder / export.file_name
        if not is_current(path, export):
            fetch_one(client, export, path, quiet)


def fetch_one(client: PoliteClient, export: ExportFile, path: Path, quiet: bool) -> None:
    """Fetch one file with a progress bar."""
    size = "" if export.size_bytes is None else f" ({export.size_bytes / 1e6:.1f} MB)"
    log.info("fetching %s%s", export.url, size)
    with Progress(export.name, export.size_bytes or 0, unit="B", quiet=quiet) as bar:
        is_new = download_file(
            client, export.url, path, export.sha256, export.size_bytes, bar.update, is_whole_gzip
        )
    if not is_new:
        log.info("%s is unchanged.", export.file_name)


def is_current(path: Path, export: ExportFile) -> bool:
    """Whether the file that is there is the one listed; without a checksum, never."""
    return path.exists() and export.sha256 is not None and files.sha256(path) == export.sha256


def is_whole_gzip(path: Path) -> bool:
    """Whether a file unpacks to its end, with the lengths and CRCs that it states."""
    try:
        with gzip.open(path) as stream:
            while stream.read(BLOCK_BYTES):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return path.stat().st_size > 0
