"""The exports of e621-like sites as they were before June 2026: a page of dated files.

A few days are kept, each file named like posts-2026-05-01.csv.gz; nothing says their checksums.
"""

import re
from collections.abc import Sequence

from e6tag.sites.base import ExportFile

DATED_FILE = re.compile(r"(?<![\w.-])([a-z_]+)-(\d{4}-\d\d-\d\d)\.csv\.gz(?![\w.-])")


def dated_folder_url(base_url: str) -> str:
    """Where the page and the files it names are."""
    return f"{base_url.rstrip('/')}/db_export/"


def parse_dated_page(page: bytes, folder_url: str, wanted: Sequence[str]) -> dict[str, ExportFile]:
    """The newest day's files, by name of the table; empty where no day has all that are wanted.

    Args:
        page: HTML, or any text that names the files; only names are taken from it.
        folder_url: what stands before them, ending with a slash.
        wanted: names of the tables.
    """
    found = set(DATED_FILE.findall(page.decode("utf-8", "replace")))
    days = {day for _, day in found if all((name, day) in found for name in wanted)}
    if not days:
        return {}
    files = {name: f"{name}-{max(days)}.csv.gz" for name in wanted}
    return {name: ExportFile(name, folder_url + file, file) for name, file in files.items()}
