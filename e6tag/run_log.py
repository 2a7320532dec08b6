"""What one run of a download did, for later: log/YYYYMMDDTHHMMSSZ.json, whatever ended it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e6tag import __version__, files
from e6tag.config import DownloadConfig
from e6tag.errors import E6TagError
from e6tag.obtaining import Failed, Obtained
from e6tag.plans import pinned_options
from e6tag.source import Source

NOTED_OPTIONS = ("requests_per_second", "connections", "retry_failed", "near_duplicates")
"""besides those that shape the data; none that says who asks"""


@dataclass
class Fetched:
    """What a run did; grows while it goes on."""

    num_pictures: int = 0
    num_failed: int = 0
    num_bytes: int = 0
    """of the files that pictures were made from"""
    num_asked: int = 0
    """posts that were to be fetched"""
    rounds: int = 0
    """times that posts of the reserve were taken"""
    causes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, result: Obtained | Failed) -> None:
        """Count a picture or a failure."""
        if isinstance(result, Failed):
            self.num_failed += 1
            self.causes[result.reason] = self.causes.get(result.reason, 0) + 1
        else:
            self.num_pictures += 1
            self.num_bytes += result.num_bytes


@contextlib.contextmanager
def logged(source: Source, fetched: Fetched) -> Iterator[None]:
    """A block that fetches: what it did is written down at its end, unless it asked for nothing."""
    started = datetime.now(UTC)
    ended = "finished"
    try:
        yield
    except BaseException as problem:
        ended = reason(problem)
        raise
    finally:
        fetched.seconds = time.monotonic() - source.clock
        if fetched.num_asked:
            write_log(source, fetched, started, ended)


def reason(problem: BaseException) -> str:
    """Why a run ended before its end."""
    if isinstance(problem, E6TagError | OSError):
        return f"stopped: {problem}"
    return "interrupted" if isinstance(problem, KeyboardInterrupt) else type(problem).__name__


def write_log(source: Source, fetched: Fetched, started: datetime, ended: str) -> None:
    """Write the run's file; where the disk refuses, what ended the run matters more."""
    client = source.client
    content = {
        "e6tag": __version__,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(fetched.seconds, 1),
        "ended": ended,
        "options": noted_options(source.config),
        "asked": fetched.num_asked,
        "pictures": fetched.num_pictures,
        "bytes": fetched.num_bytes,
        "failed": fetched.num_failed,
        "causes": dict(sorted(fetched.causes.items())),
        "rounds": fetched.rounds,
        "requests": client.requests if client else 0,
        "retries": client.retries if client else 0,
        "pauses": client.pauses if client else 0,
    }
    with contextlib.suppress(OSError):
        files.write_json(free_path(source.config.out / "log", started), content)


def noted_options(config: DownloadConfig) -> dict[str, Any]:
    """The options of a run, as JSON holds them, without names and addresses."""
    return pinned_options(config) | {name: getattr(config, name) for name in NOTED_OPTIONS}


def free_path(folder: Path, started: datetime) -> Path:
    """A name that no run has yet, should two begin in one second or the clock go back."""
    stem = started.strftime("%Y%m%dT%H%M%SZ")
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path
