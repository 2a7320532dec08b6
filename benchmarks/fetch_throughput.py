"""Pictures per second of CPU time: e6tag's download against img2dataset, on loopback, unlimited.

Both fetch the same addresses from the same server process (its time is not counted), make the
longest side 320, and write JPEGs of quality 92 into tars of 1,000.  e6tag also plans, compares
each original's MD5, checks sizes, computes SHA-256 and writes a manifest; img2dataset runs with
its best settings, without and with its own MD5 check.  CPU time is user + system of the whole
process tree, its start included; the start alone is measured on eight tiny pictures and shown.

img2dataset goes into an environment of its own:
    python -m venv RIVAL && RIVAL/bin/pip install img2dataset==1.47.0
With --rates it measures something else: the most requests that reach the server within any one
second when e6tag keeps to a rate, over eight connections, a tenth of its requests failing.

Usage: python benchmarks/fetch_throughput.py --rates 1 2 10 50 200
       python benchmarks/fetch_throughput.py --img2dataset RIVAL/bin/img2dataset
           [--set photos|mixed] [--num 2000] [--runs 3] [--folder DIR] [--tune]
"""

import argparse
import bisect
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from made_booru import make_booru, serving

from e6tag.images import decode

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from flaky_server import FlakyServer, from_folder  # noqa: E402

SIZE, QUALITY, PER_SHARD = 320, 92, 1000
HEADER = """\
| client | pictures | per CPU second (range) | ratio | start, CPU s | without it | ratio | wall |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Figures:
    """What one run of a client took."""

    cpu_seconds: float
    wall_seconds: float
    num_pictures: int


def timed(command: list[str]) -> tuple[float, float]:
    """(CPU, wall) seconds of a command with all its children; it must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def environment() -> dict[str, str]:
    """This checkout's e6tag is the one that is measured."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def download_command(url: str, booru: Path, out: Path, rate: float, connections: int) -> list[str]:
    """A download of everything."""
    return [
        sys.executable, "-m", "e6tag", "download", "--base-url", url, "--out", str(out),
        "--export-dir", str(booru / "db_export"), "--strategy", "all", "--num-tags", "40",
        "--image-size", str(SIZE), "--jpeg-quality", str(QUALITY), "--contact", "benchmark",
        "--requests-per-second", str(rate), "--connections", str(connections), "--quiet",
    ]  # fmt: skip


def ours(url: str, booru: Path, out: Path, connections: int, *more: str) -> Figures:
    """One run of e6tag."""
    command = [*download_command(url, booru, out, 1e6, connections), *more]
    cpu, wall = timed(command)
    manifest = pd.read_parquet(out / "manifest.parquet")
    return Figures(cpu, wall, int((manifest["status"] == "ok").sum()))


def theirs(program: str, listing: Path, out: Path, check: bool, pace: tuple[int, int]) -> Figures:
    """One run of img2dataset with (processes, threads)."""
    md5 = ["--compute_hash", "md5", "--verify_hash", '["md5","md5"]']
    command = [
        program, "--url_list", str(listing), "--input_format", "parquet", "--url_col", "url",
        "--output_folder", str(out), "--output_format", "webdataset", "--image_size", str(SIZE),
        "--resize_mode", "keep_ratio_largest", "--resize_only_if_bigger", "True",
        "--encode_quality", str(QUALITY), "--encode_format", "jpg", "--extract_exif", "False",
        "--number_sample_per_shard", str(PER_SHARD), "--enable_wandb", "False",
        "--processes_count", str(pace[0]), "--thread_count", str(pace[1]),
        *(md5 if check else ["--compute_hash", "None"]),
    ]  # fmt: skip
    cpu, wall = timed(command)
    stats = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
    return Figures(cpu, wall, sum(entry["successes"] for entry in stats))


def write_listing(path: Path, url: str, paths: list[str]) -> Path:
    """img2dataset's input: address and MD5 of each picture."""
    md5 = [Path(name).stem for name in paths]
    pd.DataFrame({"url": [url + name for name in paths], "md5": md5}).to_parquet(path)
    return path


def pictures_of(folder: Path) -> list[np.ndarray]:
    """All pictures in a folder of tars, in order of their bytes' mean colour."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    found.append(np.asarray(decode(tar.extractfile(member).read())))
    return sorted(found, key=lambda pixels: (pixels.shape, pixels.mean()))


def compare(one: Path, other: Path) -> str:
    """In how far two outputs show the same."""
    pairs = list(zip(pictures_of(one), pictures_of(other), strict=True))
    same = [a.shape == b.shape for a, b in pairs]
    errors = [np.square(a.astype(float) - b).mean() for a, b in pairs if a.shape == b.shape]
    psnr = 10 * np.log10(255**2 / np.median(errors))
    return f"{sum(same)} of {len(same)} pictures of the same size; median PSNR {psnr:.1f} dB"


def row(
    name: str, runs: list[Figures], start: float, rival: list[Figures], rival_start: float
) -> None:
    """Print a line of the table: pictures per second of CPU time, with and without the start."""
    rates = [run.num_pictures / run.cpu_seconds for run in runs]
    whole = statistics.median(rates) / median_rate(rival, 0.0)
    steady = median_rate(runs, start)
    wall = statistics.median(run.num_pictures / run.wall_seconds for run in runs)
    print(
        f"| {name} | {runs[0].num_pictures} | {statistics.median(rates):.0f} "
        f"({min(rates):.0f}-{max(rates):.0f}) | {whole:.2f} | {start:.1f} | {steady:.0f} "
        f"| {steady / median_rate(rival, rival_start):.2f} | {wall:.0f} |",
        flush=True,
    )


def median_rate(runs: list[Figures], start: float) -> float:
    """Pictures per CPU second after `start` seconds of it."""
    return statistics.median(run.num_pictures / (run.cpu_seconds - start) for run in runs)


def main() -> None:
    """Alternate the clients, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--img2dataset", default="img2dataset")
    parser.add_argument("--set", default="photos", choices=["photos", "mixed"])
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "e6tag-bench")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/e6tag-bench"))
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--pace", default="1x16", help="img2dataset's processes x threads")
    parser.add_argument("--rates", type=int, nargs="+", help="measure rates, then stop")
    parser.add_argument("--tune", action="store_true", help="try paces of img2dataset, then stop")
    options = parser.parse_args()
    if options.rates:
        return measure_rates(options.rates, options.folder)
    booru, work = options.folder / options.set, options.work
    paths = make_booru(options.set, options.num, booru)
    make_booru("tiny", 8, options.folder / "start")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with serving(options.folder) as url:
        if options.tune:
            listing = write_listing(work / "all.parquet", f"{url}/{options.set}", paths)
            tune(options.img2dataset, listing, work)
        else:
            race(options, url, work)


def tune(program: str, listing: Path, work: Path) -> None:
    """Which pace suits img2dataset best here?"""
    for pace in ((1, 8), (1, 16), (1, 64), (2, 8), (2, 32)):
        found = theirs(program, listing, work / f"{pace}", False, pace)
        print(pace, f"{found.num_pictures / found.cpu_seconds:.1f} pictures per CPU second")


def race(options: argparse.Namespace, url: str, work: Path) -> None:
    """The runs, by turns; then the table and what the outputs look like."""

    def mine(name: str, out: Path, *more: str) -> Figures:
        return ours(f"{url}/{name}", options.folder / name, out, options.connections, *more)

    clients = {
        "img2dataset, no hash": rival(options, url, work, check=False),
        "img2dataset, MD5 checked": rival(options, url, work, check=True),
        "e6tag, look-alikes not sought": lambda name, out: mine(name, out, "--no-near-duplicates"),
        "e6tag": mine,
    }
    starts = {name: run("start", work / f"start {name}") for name, run in clients.items()}
    runs: dict[str, list[Figures]] = defaultdict(list)
    for turn in range(options.runs):
        for name, run in clients.items():
            runs[name].append(run(options.set, work / f"{turn} {name}"))
    print(HEADER)
    best = "img2dataset, MD5 checked"
    for name in clients:
        start, best_start = starts[name].cpu_seconds, starts[best].cpu_seconds
        row(name, runs[name], start, runs[best], best_start)
    print(compare(work / "0 e6tag" / "shards", work / f"0 {best}"))


def measure_rates(rates: list[int], folder: Path) -> None:
    """The busiest second at the server for each rate that was asked for."""
    print("| requests a second | sent | on average | busiest second | failed on purpose |")
    print("|---|---|---|---|---|")
    for rate in rates:
        booru = folder / f"rate-{rate}"
        make_booru("tiny", max(20, 8 * rate), booru)
        with FlakyServer(from_folder(booru), share=0.1) as server:
            out = folder / "rate-out"
            shutil.rmtree(out, ignore_errors=True)
            command = download_command(server.url, booru, out, rate, connections=8)
            subprocess.run(command, capture_output=True, env=environment())
            times = sorted(exchange.seconds for exchange in server.exchanges)
        average = (len(times) - 1) / (times[-1] - times[0])
        busiest = max(bisect.bisect_left(times, moment + 1.0) - i for i, moment in enumerate(times))
        failed = sum(server.faults.values())
        print(f"| {rate} | {len(times)} | {average:.2f} | {busiest} | {failed} |", flush=True)


def rival(
    options: argparse.Namespace, url: str, work: Path, check: bool
) -> Callable[[str, Path], Figures]:
    """img2dataset, to be called with the name of a set and an output folder."""
    processes, threads = map(int, options.pace.split("x"))

    def run(name: str, out: Path) -> Figures:
        paths = json.loads((options.folder / name / "paths.json").read_text())
        listing = write_listing(work / f"{name}.parquet", f"{url}/{name}", paths)
        return theirs(options.img2dataset, listing, out, check, (processes, threads))

    return run


if __name__ == "__main__":
    main()
