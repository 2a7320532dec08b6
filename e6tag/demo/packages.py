"""Pinned packages of pictures and words: fetched by pip or npm, checked, read without installing.

A cached file is finished or absent, and used only while its SHA-256 is the pinned one.
"""

import logging
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath

from e6tag.errors import DataError, FetchError
from e6tag.files import sha256, sync_folder
from e6tag.packages import fetch_wheel

log = logging.getLogger(__name__)

MAX_MEMBER_BYTES = 64 << 20
MAX_TOTAL_BYTES = 512 << 20
UNFINISHED = ".fetching-"
"""how the names of folders begin that a client is writing into"""
SECONDS_A_FETCH_MAY_TAKE = 3600


@dataclass(frozen=True)
class Package:
    """One file of a package index, pinned."""

    client: str
    """pip or npm: the ordinary client that fetches it"""
    name: str
    version: str
    filename: str
    sha256: str
    size_bytes: int
    licence: str = ""
    """of what we read from it, as an SPDX identifier"""
    attribution: str = ""
    """what the licence wants said, and what it is used for"""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def fetch(package: Package, cache: Path) -> Path:
    """Path of the package's file in the cache; fetched where it is absent or damaged.

    Raises:
        FetchError: the client is missing, the index is unreachable, or the file is not the
            pinned one.
    """
    if package.client == "pip":
        return fetch_wheel(package.name, package.version, package.sha256, cache)
    path = cache / package.filename
    if path.is_file():
        if sha256(path) == package.sha256:
            return path
        log.warning("%s is damaged: fetching it again", path)
    log.info("fetching %s (%.1f MB) with %s", package, package.size_bytes / 1e6, package.client)
    cache.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cache)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=cache) as name:
        fetched = download(package, Path(name))
        check(package, fetched)
        with fetched.open("rb") as stream:
            os.fsync(stream.fileno())
        fetched.replace(path)
    sync_folder(cache)
    return path


def remove_leftovers(cache: Path) -> None:
    """Remove what a killed process left; a folder in use is younger."""
    for folder in cache.glob(f"{UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > SECONDS_A_FETCH_MAY_TAKE:
            shutil.rmtree(folder, ignore_errors=True)


def download(package: Package, folder: Path) -> Path:
    """Have the package's client put its one file into an empty folder.

    Raises:
        FetchError: it did not.
    """
    run_client(package, npm_command(package, folder.resolve()), folder)
    fetched = folder / package.filename
    if not fetched.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise FetchError(
            f"{package}: {package.client} fetched {names}, expected {package.filename}. "
            "Check which index your settings name."
        )
    return fetched


def npm_command(package: Package, folder: Path) -> list[str]:
    """What to run; npm installs nothing.

    Raises:
        FetchError: Node's npm is not on the PATH.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(
            f"{package} comes from npm, which is not on the PATH. Install Node.js, or leave out "
            "--full."
        )
    pinned = f"{package.name}@{package.version}"
    return [npm, "pack", pinned, "--silent", "--pack-destination", str(folder)]


def run_client(package: Package, command: list[str], folder: Path) -> None:
    """Run a client in silence.

    Raises:
        FetchError: it failed; the message ends with its own last error.
    """
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise FetchError(
            f"{package} could not be fetched by {package.client}, whose index, proxy and "
            f"certificate settings are used: check the network and them, then run the same "
            f"command again.{last_error(done.stderr)}"
        )


def last_error(text: str) -> str:
    """The last line of a client's noise that names an error, in brackets."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if re.match(r"(?i)(npm )?err", line)]
    return f" ({errors[-1][:200]})" if errors else ""


def check(package: Package, path: Path) -> None:
    """Compare a fetched file with the pinned checksum.

    Raises:
        FetchError: they differ.
    """
    found = sha256(path)
    if found != package.sha256:
        raise FetchError(
            f"{package}: the file that {package.client} fetched has SHA-256 {found[:12]}..., "
            f"expected {package.sha256[:12]}... Something between here and the index changes "
            "files; it was not kept."
        )


def read_archive(path: Path, pattern: str) -> dict[str, bytes]:
    """Contents of the members whose whole name matches a pattern, in name order.

    Reads wheels (zip) and npm's tarballs. Nothing is written anywhere.

    Raises:
        DataError: not an archive, a member's name points outside, or it is too large.
    """
    wanted = re.compile(pattern)
    reader = read_zip if zipfile.is_zipfile(path) else read_tar
    found: dict[str, bytes] = {}
    room = MAX_TOTAL_BYTES
    try:
        for name, content in reader(path, wanted):
            found[name] = content
            room -= len(content)
            if room < 0:
                raise DataError(f"{path} holds more than {MAX_TOTAL_BYTES >> 20} MB: not read.")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, BadGzipFile) as problem:
        raise DataError(f"{path} is not a readable archive ({problem}). Remove it.") from None
    return dict(sorted(found.items()))


def read_zip(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Members of a zip file."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            check_member(path, member.filename, member.file_size)
            if wanted.fullmatch(member.filename):
                yield member.filename, archive.read(member)


def read_tar(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Regular files of a tar file; links and devices are not followed."""
    with tarfile.open(path) as archive:
        for member in archive:
            check_member(path, member.name, member.size)
            if member.isfile() and wanted.fullmatch(member.name):
                stream = archive.extractfile(member)
                assert stream is not None
                yield member.name, stream.read()


def check_member(path: Path, name: str, size_bytes: int) -> None:
    """Refuse names that point outside of an archive, and bombs.

    Raises:
        DataError: naming the archive and the member.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{path}: the member {name!r} points outside of the archive: not read.")
    if size_bytes > MAX_MEMBER_BYTES:
        raise DataError(
            f"{path}: the member {name!r} says it has {size_bytes} bytes, expected at most "
            f"{MAX_MEMBER_BYTES}: not read."
        )
