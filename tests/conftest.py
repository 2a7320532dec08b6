"""What all tests share."""

import os
import subprocess
import sys
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


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT
