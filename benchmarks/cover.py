"""How many posts does it take to give every tag its positives, and how long to choose them?

Makes an e621-like site (tests/e621_like.py) and lets each method choose from it, each in a process
of its own, one after the other: the linear relaxation (HiGHS, which no choice can be below), our
cover with the bound that it proves, greedy choice without prices, the original's loop, scans in
order of id.

Usage: python benchmarks/cover.py [--posts 400000] [--tags 1024] [--positives 512] [--lp]
                                  [--methods cover greedy ...]
       python benchmarks/cover.py --growth 100000 400000 1600000 6400000
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from e621_like import e621_like  # noqa: E402

from e6tag.cover import cover, greedy, prune, unit_prices  # noqa: E402
from e6tag.sampling import Labels, choose  # noqa: E402

FEWEST_TAGS = 16
"""Posts with fewer of the tags are no use to the original."""


def by_cover(labels, demands):
    """Ours; with the bound."""
    return cover(labels, demands)


def by_greedy(labels, demands):
    """The most lacking tags first, then without what is not needed: the textbook's."""
    prices = unit_prices(labels)
    rows = greedy(labels, demands, prices, np.zeros(0, np.int64))
    return rows[prune(labels, rows, demands, prices)], 0


def by_original(labels, demands):
    """As the original: posts of 16 tags or more in order of id, credited to one lacking tag."""
    rank = np.argsort(labels.rarest_first())
    lacking = demands.copy()
    rows = []
    for row in np.flatnonzero(np.diff(labels.offsets) >= FEWEST_TAGS).tolist():
        columns = labels.of_post(row)
        open_columns = columns[lacking[columns] > 0]
        if len(open_columns):
            lacking[open_columns[np.argmin(rank[open_columns])]] -= 1
            rows.append(row)
    return np.array(rows, np.int64), 0


def scan(labels, demands, fewest_tags):
    """Posts in order of id that have a lacking tag, credited to all their tags."""
    lacking = demands.copy()
    rows = []
    for row in np.flatnonzero(np.diff(labels.offsets) >= fewest_tags).tolist():
        columns = labels.of_post(row)
        if (lacking[columns] > 0).any():
            lacking[columns] -= 1
            rows.append(row)
    return np.array(rows, np.int64), 0


def by_random(labels, demands):
    """Our default."""
    return choose("random", labels, demands, np.random.default_rng(0)).rows, 0


def by_relaxation(labels, demands):
    """The linear relaxation with every post used once at most: its value, no posts."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    shape = (len(labels), labels.num_tags)
    matrix = csr_matrix((np.ones(len(labels.columns)), labels.columns, labels.offsets), shape)
    result = linprog(
        np.ones(len(labels)), A_ub=-matrix.T, b_ub=-demands, bounds=(0, 1), method="highs-ipm"
    )
    return np.zeros(0, np.int64), result.fun


METHODS = {
    "lp": ("linear relaxation (HiGHS)", by_relaxation),
    "cover": ("**cover**", by_cover),
    "greedy": ("greedy without prices, pruned", by_greedy),
    "random": ("random (the default)", by_random),
    "scan": ("scan in id order, all tags credited", lambda labels, d: scan(labels, d, 0)),
    "scan16": ("the same, posts of 16 tags or more", lambda labels, d: scan(labels, d, 16)),
    "original": ("the original's loop", by_original),
}


def run_one(name: str, path: Path, positives: int) -> None:
    """In a process of its own: choose, and print what came of it."""
    stored = np.load(path)
    labels = Labels.of(stored["offsets"], stored["columns"], int(stored["num_tags"]))
    demands = np.minimum(labels.available, positives)
    start, start_cpu = time.monotonic(), time.process_time()
    rows, bound = METHODS[name][1](labels, demands)
    found = {
        "posts": len(rows),
        "bound": bound,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "short": int((labels.count(rows) < demands).sum()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    print(json.dumps(found))


def measure(name: str, path: Path, positives: int) -> dict[str, float]:
    """One method in a child."""
    command = [sys.executable, __file__, "--child", name, str(path), "--positives", str(positives)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(child.stdout)


def make(num_posts: int, num_tags: int, folder: str) -> Path:
    """The site, as a file."""
    labels = e621_like(num_posts, num_tags)
    path = Path(folder) / f"{num_posts}.npz"
    np.savez(path, offsets=labels.offsets, columns=labels.columns, num_tags=num_tags)
    return path


def compare(options: argparse.Namespace) -> None:
    """One row a method."""
    with tempfile.TemporaryDirectory() as folder:
        path = make(options.posts, options.tags, folder)
        names = [*(["lp"] if options.lp else []), *options.methods]
        found = {name: measure(name, path, options.positives) for name in names}
    bound = found["cover"]["bound"]
    relaxed = found["lp"]["bound"] if options.lp else float("nan")
    print(
        f"{options.posts} posts, {options.tags} tags, {options.positives} positives each; ", end=""
    )
    print(f"relaxation {relaxed:.1f}, bound proven by cover {bound}\n")
    print("| | posts | / relaxation | / our bound | tags short | seconds | CPU s | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        row = found[name]
        posts = row["bound"] if name == "lp" else row["posts"]
        short = "" if name == "lp" else row["short"]
        print(
            f"| {METHODS[name][0]} | {posts:,.0f} | {posts / relaxed:.4f} | {posts / bound:.4f} "
            f"| {short} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['peak_mb']:.0f} |"
        )


def grow(options: argparse.Namespace) -> None:
    """One row a number of posts."""
    print("| posts of the site | posts chosen | / our bound | seconds | CPU s | peak MB |")
    print("|---|---|---|---|---|---|")
    for num_posts in options.growth:
        with tempfile.TemporaryDirectory() as folder:
            row = measure("cover", make(num_posts, options.tags, folder), options.positives)
        print(
            f"| {num_posts:,} | {row['posts']:,} | {row['posts'] / row['bound']:.4f} "
            f"| {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['peak_mb']:.0f} |",
            flush=True,
        )


def main() -> None:
    """Parse, then compare or grow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=400_000)
    parser.add_argument("--tags", type=int, default=1024)
    parser.add_argument("--positives", type=int, default=512)
    parser.add_argument("--lp", action="store_true", help="solve the linear relaxation as well")
    methods = [name for name in METHODS if name != "lp"]
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--growth", nargs="+", type=int, help="cover of so many posts each")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_one(options.child[0], Path(options.child[1]), options.positives)
    elif options.growth:
        grow(options)
    else:
        options.methods = ["cover", *(name for name in options.methods if name != "cover")]
        compare(options)


if __name__ == "__main__":
    main()
