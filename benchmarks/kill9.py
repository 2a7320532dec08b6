"""Is a download that is killed a hundred times the same, byte for byte, as one that is left alone?

One run of everything without interruption; one that `kill -9` ends at random moments, again and
again until it has been killed `--kills` times, each run started by the same command; and one
against a server that fails a fifth of all requests in random ways.  Shards, manifest and plan of
all three must have the same bytes.  Meanwhile the memory of the first run is looked at.

Usage: python benchmarks/kill9.py [--num 20000] [--kills 100] [--seed 0] [--folder DIR]
"""

import argparse
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from made_booru import make_booru, serving

from e6tag.shards import read_manifest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from flaky_server import FlakyServer, from_folder  # noqa: E402

START_SECONDS = 1.2
"""What a run needs, about, before it asks for the first picture."""
ALIKE = ("manifest.parquet", "plan.parquet", "tags.csv")


@dataclass
class Watched:
    """A run that was looked at."""

    seconds: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)
    """(pictures that are there, resident bytes)"""


def command(url: str, booru: Path, out: Path, rate: float) -> list[str]:
    """The download that all runs are of."""
    return [
        sys.executable, "-m", "e6tag", "download", "--base-url", url, "--out", str(out),
        "--export-dir", str(booru / "db_export"), "--strategy", "all", "--num-tags", "40",
        "--image-size", "96", "--contact", "benchmark", "--requests-per-second", str(rate),
        "--quiet",
    ]  # fmt: skip


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    """Start a run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )


def count_pictures(out: Path) -> int:
    """Pictures that a run has brought: those in shards (1,000 each, about) and the others."""
    shards = sum(1 for _ in out.glob("shards/*.tar"))
    return 1000 * shards + sum(1 for _ in out.glob("incoming/*/*.jpg"))


def resident_bytes(process_id: int) -> int:
    """Memory of a process, by /proc."""
    fields = Path(f"/proc/{process_id}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def left_alone(arguments: list[str], out: Path) -> Watched:
    """An uninterrupted run, its memory looked at twice a second."""
    watched, began = Watched(), time.monotonic()
    process = start(arguments)
    while process.poll() is None:
        try:
            watched.memory.append((count_pictures(out), resident_bytes(process.pid)))
        except (OSError, IndexError):
            break
        time.sleep(0.5)
    if process.wait():
        raise SystemExit(f"{arguments} ended with {process.returncode}")
    watched.seconds = time.monotonic() - began
    return watched


def killed(
    arguments: list[str], kills: int, mean_seconds: float, rng: random.Random
) -> list[float]:
    """Start and kill until killed often enough; seconds of each life."""
    seconds = []
    while len(seconds) < kills:
        process, began = start(arguments), time.monotonic()
        try:
            process.wait(rng.uniform(0, 2 * mean_seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            seconds.append(time.monotonic() - began)
        else:
            raise SystemExit(
                f"it was done after {len(seconds)} kills (exit code {process.returncode}): "
                "use more posts"
            )
    return seconds


def slow_enough(num: int, kills: int, mean_seconds: float) -> float:
    """Requests a second at which two thirds of the posts are fetched within all these lives.

    A life is uniform in [0, 2 mean], of which the start takes its share.
    """
    useful = (2 * mean_seconds - START_SECONDS) ** 2 / (4 * mean_seconds)
    return num / (1.5 * kills * useful)


def checksums(out: Path) -> dict[str, str]:
    """SHA-256 of what must be alike."""
    paths = [*sorted((out / "shards").iterdir()), *(out / name for name in ALIKE)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def compare(name: str, out: Path, expected: dict[str, str]) -> bool:
    """Say whether an output is the clean one."""
    found = checksums(out)
    wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    leftovers = list(out.rglob("*.part")) + list(out.glob("incoming"))
    good = not wrong and not leftovers
    print(f"{name}: {len(found)} files, {'all the same bytes' if good else (wrong, leftovers)}")
    return good


def memory_table(memory: list[tuple[int, int]], num: int) -> None:
    """Resident memory as the run went on."""
    print("| pictures there | resident MB (median of that tenth) |\n|---|---|")
    for tenth in (1, 2, 4, 6, 8, 9):
        inside = [size for count, size in memory if tenth <= 10 * count / num < tenth + 1]
        if inside:
            print(f"| {tenth * num // 10:,} | {statistics.median(inside) / 1e6:.0f} |")


def main() -> None:
    """All three runs; exit code 1 where one differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--mean-seconds", type=float, default=3.0, help="of life before a kill")
    parser.add_argument("--rate", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "e6tag-bench")
    options = parser.parse_args()
    name = f"tiny-{options.num}"
    booru, work = options.folder / name, options.folder / f"{name}-work"
    make_booru("tiny", options.num, booru)
    shutil.rmtree(work, ignore_errors=True)
    with serving(options.folder) as url:
        base = f"{url}/{name}"
        clean = left_alone(command(base, booru, work / "clean", options.rate), work / "clean")
        expected = checksums(work / "clean")
        stored = int((read_manifest(work / "clean")["status"] == "ok").sum())
        print(f"{stored} of {options.num} pictures in {clean.seconds:.0f} s, uninterrupted")
        memory_table(clean.memory, options.num)
        rng = random.Random(options.seed)
        rate = slow_enough(options.num, options.kills, options.mean_seconds)
        again = command(base, booru, work / "killed", rate)
        lives = killed(again, options.kills, options.mean_seconds, rng)
        lives.append(left_alone(command(base, booru, work / "killed", options.rate), work).seconds)
        print(
            f"killed {options.kills} times: {sum(lives):.0f} s in all, the last run "
            f"{lives[-1]:.0f} s; median life {statistics.median(lives[:-1]):.1f} s"
        )
        good = compare("killed", work / "killed", expected)
    good &= on_bad_days(options, booru, work / "flaky", expected)
    raise SystemExit(0 if good else 1)


def on_bad_days(
    options: argparse.Namespace, booru: Path, out: Path, expected: dict[str, str]
) -> bool:
    """The run against a server that fails a fifth of all requests."""
    with FlakyServer(from_folder(booru), share=0.2, seed=options.seed) as flaky:
        began, codes = time.monotonic(), []
        # Five failures in a row of one file are left to the next run of the same command.
        while codes[-1:] != [0] and len(codes) < 5:
            codes.append(start(command(flaky.url, booru, out, options.rate)).wait())
        print(
            f"20 % of requests failing: exit codes {codes} after {time.monotonic() - began:.0f} s, "
            f"{len(flaky.exchanges)} requests, failed: {dict(flaky.faults.most_common())}"
        )
    return compare("flaky", out, expected) and codes[-1] == 0


if __name__ == "__main__":
    main()
