"""Exact ROC AUC, average precision and best threshold of every tag: e6tag against scikit-learn.

Makes scores and labels as .npy files, maps them, and measures each side in a process of its own
(seconds, CPU seconds, peak memory).  scikit-learn runs roc_auc_score, average_precision_score and
precision_recall_curve tag after tag; where --sklearn-tags says fewer than all, its time is scaled
to all of them and marked so.  Then figures over all pairs (micro), and all of `metrics.evaluate`.

Usage: python benchmarks/metrics.py [--num-pictures 500000] [--num-tags 1024] [--sklearn-tags 1024]
           [--folder DIR] [--evaluate]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

ROWS = 4096
FEWEST, MOST = 30, 0.3
"""positives of the rarest tag; share of the most common one"""
SIDES = ("e6tag", "sklearn", "micro", "evaluate")


def make(folder: Path, num_pictures: int, num_tags: int) -> tuple[Path, Path]:
    """Binormal scores of tags from rare to common, float32, and labels, uint8; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{num_pictures}-{num_tags}.npy" for name in ("scores", "labels")]
    if all(path.exists() for path in paths):
        return paths[0], paths[1]
    shape, rng = (num_pictures, num_tags), np.random.default_rng(0)
    shares = np.geomspace(FEWEST / num_pictures, MOST, num_tags).astype(np.float32)
    shares = rng.permutation(shares)
    scores = np.lib.format.open_memmap(paths[0], "w+", np.float32, shape)
    labels = np.lib.format.open_memmap(paths[1], "w+", np.uint8, shape)
    for start in range(0, num_pictures, ROWS):
        rows = slice(start, min(start + ROWS, num_pictures))
        size = (rows.stop - rows.start, num_tags)
        truth = rng.random(size, dtype=np.float32) < shares
        logits = rng.standard_normal(size, dtype=np.float32) + 1.8 * truth + np.log(shares)
        scores[rows], labels[rows] = 1 / (1 + np.exp(-logits)), truth
    scores.flush()
    labels.flush()
    return paths[0], paths[1]


def ours(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC, AP and threshold of each tag, (3, K)."""
    from e6tag import metrics

    tags = metrics.per_tag(labels, scores)
    return np.stack([tags.roc_auc, tags.average_precision, tags.best_threshold])


def loop(labels: np.ndarray, scores: np.ndarray, num_tags: int) -> np.ndarray:
    """The same of the first tags by scikit-learn, (3, num_tags)."""
    from sklearn import metrics as sk

    rows = []
    for tag in range(num_tags):
        truth, column = np.array(labels[:, tag]), np.array(scores[:, tag])
        precision, recall, thresholds = sk.precision_recall_curve(truth, column)
        with np.errstate(invalid="ignore"):
            f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
        best = thresholds[np.flatnonzero(f1 >= f1.max() - 1e-12)[-1]]
        auc, ap = sk.roc_auc_score(truth, column), sk.average_precision_score(truth, column)
        rows.append((auc, ap, best))
    return np.array(rows).T


def work(side: str, paths: list[Path], num_tags: int, out: Path) -> None:
    """One side, in this process; prints what it took."""
    scores, labels = (np.load(path, mmap_mode="r") for path in paths)
    started, cpu = time.perf_counter(), time.process_time()
    if side == "sklearn":
        np.save(out, loop(labels, scores, num_tags))
    elif side == "e6tag":
        np.save(out, ours(labels, scores))
    else:
        from e6tag import metrics

        (metrics.micro_curve if side == "micro" else metrics.evaluate)(labels, scores)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak}))


def measure(side: str, paths: tuple[Path, Path], num_tags: int, out: Path) -> dict[str, float]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--work", side, "--sklearn-tags", str(num_tags)]
    command += ["--paths", *map(str, paths), "--out", str(out)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


def compare(options: argparse.Namespace) -> None:
    """The table."""
    # In a process of its own: parents hand their peak memory down to children.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        made = pool.submit(make, options.folder, options.num_pictures, options.num_tags)
        paths = made.result()
    outs = {side: options.folder / f"{side}.npy" for side in SIDES}
    some = min(options.sklearn_tags or options.num_tags, options.num_tags)
    scale = options.num_tags / some
    print(f"{options.num_pictures:,} pictures x {options.num_tags:,} tags\n")
    print("| | wall s | CPU s | peak GB |\n|---|---|---|---|")
    found = {}
    for side in ("e6tag", "sklearn", "micro", *(["evaluate"] if options.evaluate else [])):
        found[side] = measure(side, paths, some, outs[side])
        if side == "sklearn" and scale > 1:
            found[side] |= {key: found[side][key] * scale for key in ("seconds", "cpu")}
        note = f" ({some} tags, times scaled)" if side == "sklearn" and scale > 1 else ""
        row = found[side]
        print(f"| {side}{note} | {row['seconds']:.1f} | {row['cpu']:.1f} | {row['peak']:.2f} |")
    times = found["sklearn"]["seconds"] / found["e6tag"]["seconds"]
    mine, theirs = np.load(outs["e6tag"])[:, :some], np.load(outs["sklearn"])
    gaps = np.abs(mine - theirs).max(axis=1)
    print(
        f"\n{times:.1f} times as fast (CPU: {found['sklearn']['cpu'] / found['e6tag']['cpu']:.1f})"
    )
    print("largest difference: AUC {:.1e}, AP {:.1e}, threshold {:.1e}".format(*gaps))


def main() -> None:
    """Both sides, or one of them in a child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-pictures", type=int, default=500_000)
    parser.add_argument("--num-tags", type=int, default=1024)
    parser.add_argument("--sklearn-tags", type=int, default=0, help="0 for all")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "e6tag-metrics"
    )
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--work", choices=SIDES)
    parser.add_argument("--paths", type=Path, nargs=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.paths, options.sklearn_tags, options.out)
    else:
        compare(options)


if __name__ == "__main__":
    main()
