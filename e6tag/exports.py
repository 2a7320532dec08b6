"""Bringing a site's exports: the index first, then what is missing or has changed."""

import logging
from collections.abc import Mapping
from pathlib import Path

from e6tag import files
from e6tag.downloads import ReplacedError, download_file
from e6tag.errors import FetchError
from e6tag.fetch import FileFailure, PoliteClient
from e6tag.progress import Progress
from e6tag.sites.base import ExportFile, Site
from e6tag.sites.e621 import export_index_url, parse_export_index

log = logging.getLogger(__name__)

MAX_INDEX_BYTES = 4 << 20


def read_index(client: PoliteClient, site: Site) -> dict[str, ExportFile]:
    """The site's list of the exports that are needed, by name.

    Raises:
        FetchError: there is none, or it lacks one.
        DataError: it is not a list of exports.
    """
    url = export_index_url(site.base_url)
    try:
        index = parse_export_index(client.get(url, MAX_INDEX_BYTES))
    except FileFailure as problem:
        raise FetchError(
            f"{problem} Without its list of exports there is nothing to plan from: check "
            "--base-url, or bring the exports yourself and name their folder with --export-dir."
        ) from None
    missing = set(site.export_files()) - index.keys()
    if missing:
        raise FetchError(
            f"{url} does not list {', '.join(sorted(missing))}; it may be being made just now. "
            "Run the same command again later."
        )
    return {name: index[name] for name in site.export_files()}


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
    log.info("fetching %s (%.1f MB)", export.url, (export.size_bytes or 0) / 1e6)
    with Progress(export.name, export.size_bytes or 0, unit="B", quiet=quiet) as bar:
        download_file(client, export.url, path, export.sha256, export.size_bytes, bar.update)


def is_current(path: Path, export: ExportFile) -> bool:
    """Whether the file that is there is the one listed; without a checksum, never."""
    return path.exists() and export.sha256 is not None and files.sha256(path) == export.sha256
