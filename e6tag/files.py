"""A file is finished or absent: written beside, fsynced, renamed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e6tag.errors import ConfigError, E6TagError


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those that it is in, so durably that what is renamed into it stays."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextlib.contextmanager
def naming(path: Path, *siblings: Path) -> Iterator[None]:
    """Let what the system refuses in the block name this file.

    A failed write does not say of which file; and of `siblings` nobody knows.
    """
    try:
        yield
    except OSError as problem:
        if problem.filename is None or str(problem.filename) in map(str, siblings):
            problem.filename = str(path)
        raise


@contextlib.contextmanager
def finished(path: Path, ending: str = "") -> Iterator[Path]:
    """Yield a sibling to write; it becomes `path` only if the block succeeds.

    The sibling carries the process id, so two processes never write the same one; its name
    ends in `.part` and `ending`, for writers that insist on one.
    """
    make_folder(path.parent)
    part = path.with_name(f"{path.name}.{os.getpid()}.part{ending}")
    try:
        with naming(path, part):
            yield part
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file at once, finished or absent."""
    with finished(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file at once, finished or absent."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with a final newline, finished or absent."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The content of a readable JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def all_finished(texts: Mapping[Path, str]) -> Iterator[None]:
    """Write UTF-8 files that belong together: all are beside their places before the block runs,
    and take them only if it succeeds.  What fails before leaves the old ones as they are."""
    with contextlib.ExitStack() as stack:
        for path, text in texts.items():
            # Told here, where the path is known, and not of a folder that was there.
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            stack.enter_context(finished(path)).write_bytes(text.encode("utf-8"))
        yield


def json_line(value: Any) -> str:
    """One line of a .jsonl file."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def read_json(path: Path, error: type[E6TagError], remedy: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: file to read.
        error: class raised where the file is missing or is not a JSON object.
        remedy: what the user can do then; ends the message.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} is missing. {remedy}") from None
    except (ValueError, UnicodeDecodeError) as problem:
        raise error(f"{path} is damaged: not JSON ({problem}). {remedy}") from None
    if not isinstance(value, dict):
        raise error(f"{path} is damaged: expected a JSON object. {remedy}")
    return value


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; a second process is refused.

    Raises:
        ConfigError: another process works in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another e6tag process is working in {folder}. Wait for it, or name another."
            ) from None
        yield
