"""What does each way of training a tagger reach in the same minutes on the same machine?

Every row is a process of its own that trains on the same pictures for the same wall-clock time,
then scores the same three test sets (`clock_data.py` says what they hold).  Rivals decide on their
learning rate by the clock, so that their schedule ends with it; ours chooses its number of passes
by `--minutes`, and its whole process is counted: start, timing, compiling, validating, exporting.
Rivals get decoded pictures in memory; ours reads and decodes its shards while it trains.

Rows that are done are kept in WORK/rows, so a run that was broken off goes on.

Usage: python benchmarks/equal_clock.py BOORU WORK --torch PYTHON --deepdanbooru PYTHON
           [--minutes 10] [--seeds 2] [--rows NAME ...]
       (BOORU: see clock_data.py; the two interpreters have benchmarks/clock_rivals/*.txt installed)
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from clock_data import PICTURE_PX, SETS, prepare
from numpy.typing import NDArray
from PIL import Image

from e6tag import metrics
from e6tag.files import write_json
from e6tag.images import letterbox
from e6tag.inference import open_session

ROOT = Path(__file__).parents[1]
RIVALS = ROOT / "benchmarks" / "clock_rivals"
MIN_POSITIVES = 5
"""Tags with fewer in a test set do not enter its means."""
OURS = {
    "ours, from scratch": (1.2, [
        "--config", "configs/cpu-hour.toml", "--backbone", "resnet", "--learning-rate", "2e-3",
        "--image-size", "96", "--progressive", "1", "--no-flip", "--trivial-augment",
    ]),
    "ours, pretrained": (1.6, ["--config", "configs/cpu-hour.toml"]),
}  # fmt: skip
"""row: minutes that go into starting, timing steps and exporting (more where pictures grow: each
size is compiled), and its options"""
RIVAL_ROWS = {
    "(a) the original as written": ("original.py", "ours"),
    "(b) DeepDanbooru": ("deepdanbooru.py", "deepdanbooru"),
    "(c) torch ResNet-18": ("torch_resnet18.py", "torch"),
    "(d) linear probe of Lite0": ("linear_probe.py", "torch"),
    "(e) ridge on HOG, thumbnail, colours": ("ridge_features.py", "torch"),
    "(f) torch fine-tune of Lite0": ("torch_lite0.py", "torch"),
    "(g) shares only": ("prior.py", "torch"),
}
"""row: its script, and the interpreter that has what it needs"""
WITHOUT_SEED = ("(d)", "(e)", "(g)")
"""rows in which nothing is random"""


def train_ours(options: argparse.Namespace, row: str, seed: int, folder: Path) -> dict:
    """One training by train.py; seconds are of the whole process."""
    began = time.monotonic()
    starting, recipe = OURS[row]
    command = [
        sys.executable, "train.py", *recipe, "--data", str(options.work / "data"),
        "--run", str(folder / "run"), "--seed", str(seed), "--quiet",
        "--minutes", str(options.minutes - starting),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    passes = json.loads((folder / "run/run.json").read_text())["config"]["epochs"]
    np.save(folder / "scores.npy", predict(folder / "run/model.onnx", options.work / "arrays"))
    return {"seconds": seconds, "passes": passes, "about": " ".join(recipe)}


def predict(model: Path, arrays: Path) -> NDArray[np.float32]:
    """Probabilities (N, K) of the test pictures, in the size that the model takes."""
    session = open_session(model, threads=2)
    pictures = np.load(arrays / "test_pictures.npy", mmap_mode="r")
    given = session.get_inputs()[0]
    name, size = given.name, given.shape[1]
    if size != PICTURE_PX:
        pictures = np.stack([letterbox(Image.fromarray(picture), size) for picture in pictures])
    dtype = np.uint8 if "uint8" in given.type else np.float32
    batches = (pictures[i : i + 64].astype(dtype) for i in range(0, len(pictures), 64))
    return np.concatenate([session.run(["probabilities"], {name: x})[0] for x in batches])


def train_rival(options: argparse.Namespace, row: str, seed: int, folder: Path) -> dict:
    """One training by a rival's script, in its own environment."""
    script, where = RIVAL_ROWS[row]
    python = {"ours": sys.executable, "torch": options.torch, "deepdanbooru": options.deepdanbooru}
    out = folder / "out.npz"
    command = [
        str(python[where]), str(RIVALS / script), str(options.work / "arrays"), str(out),
        "--minutes", str(options.minutes), "--seed", str(seed),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    with np.load(out, allow_pickle=False) as made:
        np.save(folder / "scores.npy", made["scores"])
        return {name: made[name].item() for name in ("seconds", "passes", "about")}


def figures(work: Path, scores: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Macro AP and AUC of each test set."""
    places = pd.read_csv(work / "data/places.csv").set_index("post_id")["place"]
    kept = places.loc[np.load(work / "arrays/test_post_id.npy")].to_numpy()
    labels = np.load(work / "arrays/test_labels.npy")
    return {name: of_set(labels[kept == name], scores[kept == name]) for name in SETS}


def of_set(labels: NDArray[np.uint8], scores: NDArray[np.float32]) -> dict[str, float]:
    """Means over the tags with enough positives."""
    tags = np.flatnonzero(labels.sum(axis=0, dtype=int) >= MIN_POSITIVES)
    labels, scores = labels[:, tags], scores[:, tags]
    ap = metrics.average_precision_per_tag(labels, scores)
    auc = metrics.roc_auc_per_tag(labels, scores)
    return {"ap": float(ap.mean()), "auc": float(auc.mean()), "tags": len(tags)}


def measure(options: argparse.Namespace, row: str, seed: int) -> dict:
    """The result of one row and seed, from its file where it was made before."""
    folder = options.work / "rows" / f"{row.replace(' ', '-').replace(',', '')}-{seed}"
    result = folder / "result.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if row in OURS:
            about = train_ours(options, row, seed, folder)
        else:
            about = train_rival(options, row, seed, folder)
        scores = np.load(folder / "scores.npy")
        write_json(result, about | {"sets": figures(options.work, scores)})
    return json.loads(result.read_text())


def cell(results: list[dict], name: str, kind: str) -> str:
    """Mean over seeds, with the distance between the highest and the lowest."""
    values = [result["sets"][name][kind] for result in results]
    spread = f" ({max(values) - min(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def print_row(row: str, results: list[dict]) -> None:
    """One line of the table."""
    cells = [cell(results, name, kind) for name in SETS for kind in ("ap", "auc")]
    seconds = np.mean([result["seconds"] for result in results])
    passes = np.mean([result["passes"] for result in results])
    print(f"| {row} | {seconds:.0f} | {passes:.1f} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """The table of all rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("booru", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--torch", type=Path, required=True, help="interpreter with torch")
    parser.add_argument("--deepdanbooru", type=Path, help="interpreter with deepdanbooru")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=5500)
    parser.add_argument("--rows", nargs="*", default=[*OURS, *RIVAL_ROWS])
    options = parser.parse_args()
    options.work = options.work.resolve()
    prepare(options.booru, options.work, options.pictures)
    sets = " | ".join(f"{name} AP | AUC" for name in SETS)
    print(f"| row | seconds | passes | {sets} |\n|{'---|' * 9}")
    chosen = [row for row in [*OURS, *RIVAL_ROWS] if row.startswith(tuple(options.rows))]
    for row in chosen:
        seeds = 1 if row.startswith(WITHOUT_SEED) else options.seeds
        print_row(row, [measure(options, row, seed) for seed in range(seeds)])


if __name__ == "__main__":
    main()
