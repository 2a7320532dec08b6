"""What all tests share."""

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).parents[1]


def run_command(
    arguments: list[str | Path],
    folder: Path,
    *,
    stdin: bytes | None = None,
    environment: dict[str, str] | None = None,
    seconds: float = 240,
) -> "subprocess.CompletedProcess[bytes]":
    """`python ARGUMENTS` as a user would run it, in `folder`."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=seconds,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        check=False,
    )


def run_here(verb: str, arguments: list[str | Path]) -> "subprocess.CompletedProcess[bytes]":
    """`e6tag VERB ARGUMENTS` in this process, for tests of what it says: no start to wait for."""
    from e6tag import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run(verb, [*map(str, arguments)], f"e6tag {verb}")
    texts = (stream.getvalue().encode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, code, *texts)


@pytest.fixture(autouse=True)
def words() -> Iterator[None]:
    """What is said is there for tests to look at, whatever a command before them silenced."""
    logger = logging.getLogger("e6tag")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT
