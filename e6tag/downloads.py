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

    @property
    def part(self) -> Path:
        """What is there so far; kept between runs."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def note(self) -> Path:
        """Which version of the file the part is of."""
        return self.path.with_name(f"{self.path.name}.part.json")

    @property
    def num_bytes(self) -> int:
        """Bytes that are there so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def validator(self) -> str | None:
        """ETag or date of the part's version; None where it is of another file or unknown."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["url"] == self.url and note["sha256"] == self.sha256:
                return str(note["validator"])
        return None

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is still the same file."""
        validator, num_bytes = self.validator(), self.num_bytes
        if not validator or not num_bytes:
            return {}
        return {"Range": f"bytes={num_bytes}-", "If-Range": validator}

    def take(self, response: requests.Response) -> None:
        """Append the answer to the part, or start it anew, as the answer says."""
        resumes = response.status_code == 206
        if response.status_code == 416 or (resumes and first_byte(response) != self.num_bytes):
            self.discard()
            raise Transient(f"{self.url}: cannot be resumed; starting over")
        if not resumes:
            self.discard()
            note = {"url": self.url, "sha256": self.sha256, "validator": validator_of(response)}
            files.write_json(self.note, note)
        with self.part.open("ab") as stream:
            for chunk in self.client.transport.chunks(response, decoded=False):
                stream.write(chunk)
                self.report(len(chunk))
                if self.client.pace.stopping.is_set():
                    raise Stopped

    def is_right(self) -> bool:
        """Whether the part is the whole file, by all that is known of it."""
        if self.size_bytes is not None and self.num_bytes != self.size_bytes:
            return False
        return self.part.exists() and self.sha256 in (None, files.sha256(self.part))

    def discard(self) -> None:
        """Remove the part and its note."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self) -> None:
        """The part becomes the file."""
        with self.part.open("rb") as stream:
            os.fsync(stream.fileno())
        self.part.replace(self.path)
        files.sync_folder(self.path.parent)
        self.note.unlink(missing_ok=True)


def download_file(
    client: PoliteClient,
    url: str,
    path: Path,
    sha256: str | None = None,
    size_bytes: int | None = None,
    report: Callable[[int], None] = lambda count: None,
) -> None:
    """Download to `path`, which appears only when all of it is there and right.

    What is there of it stays in `path`.part between runs.

    Args:
        client: keeps the pace.
        url: http(s) address.
        path: file to make.
        sha256: what it must hash to, where that is known.
        size_bytes: how long it must be, where that is known.
        report: called with the number of bytes of each piece.

    Raises:
        FetchError: it cannot be had.
        ReplacedError: twice it is not what it must be.
    """
    download = Download(client, url, path, sha256, size_bytes, report)
    path.parent.mkdir(parents=True, exist_ok=True)
    if sha256 is not None and download.is_right():
        # The last run ended just before its file got its name.
        return download.finish()
    for _ in range(2):
        client.request(url, download.headers, download.take)
        if download.is_right():
            return download.finish()
        download.discard()
    raise ReplacedError(
        f"{url} is not the file that the site's list describes (size or SHA-256 differ); it may "
        "have been replaced meanwhile. Run the same command again."
    )


def validator_of(response: requests.Response) -> str:
    """What If-Range takes: a strong ETag, or the date of the last change; empty for neither."""
    tag = response.headers.get("ETag", "")
    strong = tag if tag.startswith('"') else ""
    return strong or response.headers.get("Last-Modified", "")


def first_byte(response: requests.Response) -> int | None:
    """Where a 206's part begins, by its Content-Range."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
