"""The folder `listing`: what a site's API said of its posts, page by page.

search.json           what is listed: site, query, max_posts
page-000001.jsonl.gz  finished or absent; a line about the page, then a line for each post
listing.json          written last: SHA-256 of every page; the listing is complete and fixed
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from e6tag import files
from e6tag.errors import DataError
from e6tag.sites.base import Collection
from e6tag.sites.listed import ListedPost, make_collection

REMEDY = "Delete the folder and run the same command again."
LISTING = "listing.json"


def page_path(folder: Path, number: int) -> Path:
    """File of the page with a number, from 1."""
    return folder / f"page-{number:06d}.jsonl.gz"


def write_page(
    path: Path, posts: Sequence[ListedPost], before: int | None, skipped: Mapping[str, int]
) -> None:
    """Write a page, finished or absent.

    Args:
        path: file to write.
        posts: newest first.
        before: all posts have smaller ids; None for the first page.
        skipped: entries that were no posts, counted by reason.
    """
    about = {"before": before, "skipped": dict(skipped)}
    lines = [files.json_line(about), *(post.to_line() for post in posts)]
    content = "".join(lines).encode("utf-8", "replace")
    files.write_bytes(path, gzip.compress(content, mtime=0))


def read_page(path: Path, sha256: str | None = None) -> tuple[dict[str, Any], list[ListedPost]]:
    """What is said about a page, and its posts.

    Args:
        path: file to read.
        sha256: what it must hash to, once the listing is complete.

    Raises:
        DataError: it is missing, damaged, or another.
    """
    try:
        content = path.read_bytes()
        if sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError("it is not the one that was listed")
        about, *lines = gzip.decompress(content).decode().removesuffix("\n").split("\n")
        return json.loads(about), [ListedPost.from_line(line) for line in lines]
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {REMEDY}") from None
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as problem:
        raise DataError(f"{path} is damaged ({problem}). {REMEDY}") from None


def write_listing(folder: Path, search: Mapping[str, Any], num_pages: int) -> None:
    """Declare the listing complete."""
    pages = [files.sha256(page_path(folder, number)) for number in range(1, num_pages + 1)]
    files.write_json(folder / LISTING, {**search, "pages": pages})


def read_listing(folder: Path, categories: Mapping[int, str]) -> Collection:
    """A complete listing as a collection.

    Args:
        folder: where it is.
        categories: the site's, by number.

    Raises:
        DataError: it is not complete, or damaged.
    """
    about = files.read_json(folder / LISTING, DataError, REMEDY)
    pages = about.get("pages")
    if not isinstance(pages, list):
        raise DataError(f"{folder / LISTING} is damaged: no pages. {REMEDY}")
    checksums = {LISTING: files.sha256(folder / LISTING)}
    return make_collection(listed_posts(folder, pages), categories, checksums)


def listed_posts(folder: Path, pages: Sequence[str]) -> Iterator[ListedPost]:
    """All posts of a listing, newest first; one page at a time is in memory."""
    for number, sha256 in enumerate(pages, 1):
        _, posts = read_page(page_path(folder, number), sha256)
        yield from posts
