"""How do reading an export and planning from it grow, up to the size of e621?

Writes synthetic exports (`synthetic_export.py`) into a folder that you name, unless they are there,
then does each task in a process of its own and prints seconds, CPU seconds and the process's peak
memory.  Tasks:

    read           ours: all that planning needs, checked, tags as integers
    csv            ours, line by line: what `read` falls back to where a table is odd
    pandas         pandas.read_csv of the same columns with types; nothing is checked, and the
                   tags of a post stay one text
    pandas+tags    the same in pieces, tags split and made integers: as much as ours gives
    random, cover  ours: `read`, then a plan with that strategy; the seconds are the plan's own,
                   the memory is that of both

Usage: python benchmarks/export_scale.py FOLDER [--millions 0.1 0.4 1.6 6.4] [--ratings s]
           [--tasks read random csv pandas pandas+tags cover]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas
from synthetic_export import write_export

from e6tag.planning import PlanOptions, make_plan
from e6tag.sites import open_site
from e6tag.sites.base import Collection
from e6tag.sites.e621_posts import POST_COLUMNS, collect
from e6tag.sites.e621_tables import typed_chunks

DEFAULT_TASKS = ["read", "random", "csv", "pandas", "pandas+tags"]
ROWS_AT_ONCE = 200_000
PANDAS_KINDS = {"integer": "Int64", "boolean": "boolean", "text": "str", "time": "str"}


class Clock:
    """Seconds and CPU seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def report(self, note: str) -> None:
        """Print the child's one line of JSON."""
        figures = {
            "seconds": time.monotonic() - self.wall,
            "cpu": time.process_time() - self.cpu,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "note": note,
        }
        print(json.dumps(figures), flush=True)


def read(folder: Path, ratings: str) -> Collection:
    """The whole export by e6tag."""
    clock = Clock()
    collection = open_site("e621").read(folder)
    clock.report(f"{len(collection.posts.tag_indices) / 1e6:.0f} M tags of posts")
    return collection


def read_line_by_line(folder: Path, ratings: str) -> None:
    """posts.csv by the csv module."""
    clock = Clock()
    path = folder / "posts.csv.gz"
    posts, _ = collect(path, typed_chunks(path, POST_COLUMNS), frozenset("sqe"))
    clock.report(f"{len(posts.tag_indices) / 1e6:.0f} M tags of posts")


def pandas_options() -> Mapping[str, object]:
    """posts.csv for pandas.read_csv: the columns that we read, typed."""
    return {
        "usecols": list(POST_COLUMNS),
        "dtype": {name: PANDAS_KINDS[kind] for name, kind in POST_COLUMNS.items()},
        "parse_dates": ["created_at"],
        "date_format": "ISO8601",
        "true_values": ["t"],
        "false_values": ["f"],
        "na_values": {name: [""] for name in POST_COLUMNS},
        "keep_default_na": False,
    }


def read_with_pandas(folder: Path, ratings: str) -> None:
    """posts.csv by pandas, tags left as texts."""
    clock = Clock()
    frame = pandas.read_csv(folder / "posts.csv.gz", **pandas_options())
    clock.report(f"{len(frame) / 1e6:.1f} M rows")


def read_with_pandas_and_tags(folder: Path, ratings: str) -> None:
    """posts.csv by pandas in pieces, tags as integers."""
    clock = Clock()
    codes, frames, indices = {}, [], []
    options = pandas_options() | {"chunksize": ROWS_AT_ONCE}
    for frame in pandas.read_csv(folder / "posts.csv.gz", **options):
        tags = frame.pop("tag_string").fillna("").str.split(" ")
        frame["num_tags"] = tags.str.len()
        places, names = pandas.factorize(tags.explode())
        named = [codes.setdefault(name, len(codes)) for name in names]
        indices.append(np.array(named, np.int32)[places])
        frames.append(frame)
    table, tag_indices = pandas.concat(frames), np.concatenate(indices)
    clock.report(f"{len(tag_indices) / 1e6:.0f} M tags of {len(table) / 1e6:.1f} M rows")


def plan_by(strategy: str) -> Callable[[Path, str], None]:
    """A task: reading, then planning."""

    def task(folder: Path, ratings: str) -> None:
        site = open_site("e621")
        collection = site.read(folder)
        clock = Clock()
        plan = make_plan(collection, site, PlanOptions(ratings=ratings, strategy=strategy))
        clock.report(f"{len(plan.table)} of {len(collection.posts) - sum(plan.rejected.values())}")

    return task


TASKS: Mapping[str, Callable[[Path, str], object]] = {
    "read": read,
    "csv": read_line_by_line,
    "pandas": read_with_pandas,
    "pandas+tags": read_with_pandas_and_tags,
    "random": plan_by("random"),
    "cover": plan_by("cover"),
}


def measure(task: str, folder: Path, ratings: str) -> dict[str, object]:
    """The figures of a task, done in a new process."""
    command = [sys.executable, __file__, str(folder), "--child", task, "--ratings", ratings]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if found.returncode:
        return {"note": f"failed ({found.returncode})"}
    return json.loads(found.stdout)


def row(task: str, millions: str, found: Mapping[str, object]) -> str:
    """A row of the table."""
    figures = [f"{found[name]:.0f}" if name in found else "" for name in ("seconds", "cpu")]
    peak = f"{found['peak_mb'] / 1024:.2f}" if "peak_mb" in found else ""
    return f"| {task} | {millions} M | {' | '.join(figures)} | {peak} | {found['note']} |"


def main() -> None:
    """One row a task and size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--millions", nargs="+", default=["0.1", "0.4", "1.6", "6.4"])
    parser.add_argument("--tasks", nargs="+", default=DEFAULT_TASKS, choices=list(TASKS))
    parser.add_argument("--ratings", default="s")
    parser.add_argument("--child", choices=list(TASKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        TASKS[options.child](options.folder, options.ratings)
        return
    print("| task | posts | seconds | CPU seconds | peak GB | |\n|---|---|---|---|---|---|")
    for millions in options.millions:
        folder = options.folder / millions
        if not (folder / "pools.csv.gz").exists():
            write_export(folder, round(float(millions) * 1e6))
        for task in options.tasks:
            print(row(task, millions, measure(task, folder, options.ratings)), flush=True)


if __name__ == "__main__":
    main()
