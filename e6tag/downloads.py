"""Large files over HTTP: resumed where they broke off, checked before they count."""

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from e6tag import files
from e6tag.errors import FetchError
from e6tag.fetch import PoliteClient, Stopped
from e6tag.transport import Transient


class ReplacedError(FetchError):
    """A complete file that is not the one that was listed."""


@dataclass
class Download:
    """A file on its way: `path`.part and what it is a part of."""

    client: PoliteClient
    url: str
    path: Path
    sha256: str | None
    size_bytes: int | None
    report: Callable[[int], None]
    is_whole: Callable[[Path], bool]
    is_unchanged: bool = False
    """the site said that the file that is there is still the one"""

    @property
    def part(self) -> Path:
        """What is there so far; kept between runs."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def note(self) -> Path:
        """Which version of the file the part is of."""
        return self.path.with_name(f"{self.path.name}.part.json")

    @property
    def memo(self) -> Path:
        """Which version the finished file is; kept where no checksum tells."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def num_bytes(self) -> int:
        """Bytes that are there so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def noted(self, path: Path) -> dict[str, str]:
        """What a note says, or nothing where it is of another file or damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(path.read_text(encoding="utf-8"))
            if note["url"] == self.url and note["sha256"] == self.sha256:
                return {name: str(value) for name, value in note.items()}
        return {}

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is still the same file; for all of it, unless we have it."""
        validator, num_bytes = self.noted(self.note).get("validator"), self.num_bytes
        if validator and num_bytes:
            return {"Range": f"bytes={num_bytes}-", "If-Range": validator}
        memo = self.noted(self.memo)
        validator = memo.get("validator")
        if not validator or not self.path.exists() or files.sha256(self.path) != memo.get("holds"):
            return {}
        return {"If-None-Match" if is_tag(validator) else "If-Modified-Since": validator}

    def take(self, response: requests.Response) -> None:
        """Append the answer to the part, or start it anew, as the answer says."""
        if response.status_code == 304:
            self.is_unchanged = True
            return
        resumes = response.status_code == 206
        if response.status_code == 416 or (resumes and first_byte(response) != self.num_bytes):
            self.discard()
            raise Transient(f"{self.url}: cannot be resumed; starting over")
        if not resumes:
            self.discard()
            note = {"url": self.url, "sha256": self.sha256, "validator": validator_of(response)}
            files.write_json(self.note, note)
        with files.naming(self.part), self.part.open("ab") as stream:
            for chunk in self.client.transport.chunks(response, decoded=False):
                stream.write(chunk)
                self.report(len(chunk))
                if self.client.pace.stopping.is_set():
                    raise Stopped
                if self.size_bytes is not None and stream.tell() > self.size_bytes:
                    # It is another file, and there may be no end of it.
                    return

    def is_right(self) -> bool:
        """Whether the part is the whole file, by all that is known of it."""
        if self.size_bytes is not None and self.num_bytes != self.size_bytes:
            return False
        if self.sha256 is None:
            return self.part.exists() and self.is_whole(self.part)
        return self.part.exists() and files.sha256(self.part) == self.sha256

    def discard(self) -> None:
        """Remove the part and its note."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self) -> None:
        """The part becomes the file."""
        note = self.noted(self.note)
        self.memo.unlink(missing_ok=True)
        with self.part.open("rb") as stream:
            os.fsync(stream.fileno())
        self.part.replace(self.path)
        files.sync_folder(self.path.parent)
        if self.sha256 is None and note.get("validator"):
            files.write_json(self.memo, {**note, "sha256": None, "holds": files.sha256(self.path)})
        self.note.unlink(missing_ok=True)


def download_file(
    client: PoliteClient,
    url: str,
    path: Path,
    sha256: str | None = None,
    size_bytes: int | None = None,
    report: Callable[[int], None] = lambda count: None,
    is_whole: Callable[[Path], bool] = lambda path: True,
) -> bool:
    """Download to `path`, which appears only when all of it is there and right.

    What is there of it stays in `path`.part between runs.  Without a checksum, `path`.json says
    which version the file is, so that one that the site has not changed is not fetched again.

    Args:
        client: keeps the pace.
        url: http(s) address.
        path: file to make.
        sha256: what it must hash to, where that is known.
        size_bytes: how long it must be, where that is known.
        report: called with the number of bytes of each piece.
        is_whole: what else can be known of a file, where its checksum is not.

    Returns:
        whether it was fetched; False where the file that is there is still the site's.

    Raises:
        FetchError: it cannot be had.
        ReplacedError: twice it is not what it must be.
    """
    download = Download(client, url, path, sha256, size_bytes, report, is_whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    if sha256 is not None and download.is_right():
        # The last run ended just before its file got its name.
        download.finish()
        return True
    for _ in range(2):
        client.request(url, download.headers, download.take)
        if download.is_unchanged:
            return False
        if download.is_right():
            download.finish()
            return True
        download.discard()
    what = "whole and undamaged" if sha256 is None else "the file that the site's list describes"
    raise ReplacedError(
        f"{url} is not {what} (size or checksum differ); it may have been replaced meanwhile. "
        "Run the same command again."
    )


def is_tag(validator: str) -> bool:
    """Whether a validator is an ETag, not a date."""
    return validator.startswith('"')


def validator_of(response: requests.Response) -> str:
    """What If-Range takes: a strong ETag, or the date of the last change; empty for neither."""
    tag = response.headers.get("ETag", "")
    strong = tag if is_tag(tag) else ""
    return strong or response.headers.get("Last-Modified", "")


def first_byte(response: requests.Response) -> int | None:
    """Where a 206's part begins, by its Content-Range."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
