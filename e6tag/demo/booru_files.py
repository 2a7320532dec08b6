"""The static tree: files of visible posts and exports, whole or in part, and nothing else."""

import re
from dataclasses import dataclass
from email.message import Message
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

from e6tag.demo.booru_answer import FORBIDDEN, NO_SUCH_FILE, Answer, html_answer
from e6tag.demo.booru_index import Index

CONTENT_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".gz": "application/gzip",
}
POST_FILE = re.compile(
    r"/data/((?:sample/|preview/)?([0-9a-f]{2})/([0-9a-f]{2})/(\2\3[0-9a-f]{28})\.[a-z0-9]{1,5})"
)
EXPORT_FILE = re.compile(r"/data/db_export/([a-z_]+\.csv\.gz)")


@dataclass(frozen=True)
class StaticFile:
    """A file that may be sent, and what its headers say."""

    path: Path
    size_bytes: int
    modified: float
    """seconds since 1970"""

    @property
    def etag(self) -> str:
        """Changes with the file's time and size, as nginx's does."""
        return f'"{int(self.modified * 1000):x}-{self.size_bytes:x}"'

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every answer with or about the file."""
        return {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }


def static_answer(folder: Path, index: Index, path: str, headers: Message) -> Answer:
    """Answer a request for a file.

    Args:
        folder: of the booru, without symbolic links in it.
        index: says which posts are visible.
        path: of the request, decoded.
        headers: of the request.
    """
    file = find_static(folder, index, path)
    return file if isinstance(file, Answer) else file_answer(file, headers)


def find_static(folder: Path, index: Index, path: str) -> StaticFile | Answer:
    """The file that a path of the site stands for, or the answer where nobody may have it."""
    if match := EXPORT_FILE.fullmatch(path):
        return find_inside(folder, Path("db_export", match[1]))
    match = POST_FILE.fullmatch(path)
    post = index.by_md5.get(match[4]) if match else None
    if match is None or post is None or post.is_deleted:
        return NO_SUCH_FILE
    return FORBIDDEN if post.needs_login else find_inside(folder, Path("data", match[1]))


def find_inside(folder: Path, name: Path) -> StaticFile | Answer:
    """A plain file below the folder; links do not count as files."""
    path = folder / name
    if path.resolve() != path or not path.is_file():
        return NO_SUCH_FILE
    status = path.stat()
    return StaticFile(path, status.st_size, status.st_mtime)


def file_answer(file: StaticFile, headers: Message) -> Answer:
    """Send the file, a part of it, or word that the visitor has it."""
    kind = CONTENT_TYPES.get(file.path.suffix, "application/octet-stream")
    if unchanged(file, headers):
        return Answer(304, b"", kind, file.headers)
    wanted = wanted_range(file, headers)
    if wanted is None:
        return Answer(200, file.path.read_bytes(), kind, file.headers)
    if not wanted:
        size = {"Content-Range": f"bytes */{file.size_bytes}"}
        return html_answer(416, "416", "Range Not Satisfiable", size)
    span = f"bytes {wanted.start}-{wanted.stop - 1}/{file.size_bytes}"
    with file.path.open("rb") as stream:
        stream.seek(wanted.start)
        part = stream.read(len(wanted))
    return Answer(206, part, kind, {**file.headers, "Content-Range": span})


def unchanged(file: StaticFile, headers: Message) -> bool:
    """Whether the visitor has this very file already."""
    if wanted := headers.get("If-None-Match"):
        return wanted.strip() == "*" or file.etag in re.findall(r'"[^"]*"', wanted)
    since = seconds_of(headers.get("If-Modified-Since", ""))
    return since is not None and int(file.modified) <= since


def seconds_of(date: str) -> float | None:
    """Seconds since 1970 of a header's date, or None."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None


def wanted_range(file: StaticFile, headers: Message) -> range | None:
    """Bytes to send of a file; None for all; an empty range where nothing can be sent.

    All is sent where the range is not understood, or `If-Range` names another file.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", headers.get("Range", "").strip())
    if match is None or match[0] == "bytes=-" or not same_file(file, headers.get("If-Range")):
        return None
    if not match[1]:
        return range(max(0, file.size_bytes - int(match[2])), file.size_bytes)
    first = int(match[1])
    last = int(match[2]) if match[2] else file.size_bytes - 1
    if match[2] and last < first:
        return None
    return range(first, min(last, file.size_bytes - 1) + 1)


def same_file(file: StaticFile, if_range: str | None) -> bool:
    """Whether what the visitor has a part of is still this file."""
    if if_range is None or if_range.strip() == file.etag:
        return True
    return seconds_of(if_range) == int(file.modified)
