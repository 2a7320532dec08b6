"""What does a training step of ours cost beside the bare Keras model, and with how many tags?

Bare is what a Keras user would write: the same backbone (built by us, so that it is the same),
global average pooling, one Dense layer, cross-entropy summed over tags, keras.optimizers.AdamW at a
constant rate, compile() and train_on_batch().  Ours is `Learner.step` as train.py takes it:
one-cycle rates, clipping and EMA; a row without the last two, and one with all that was described
(attention, the heteroscedastic head, the focal-robust objective, means of earlier stages) are
beside it.  All take the same made-up pictures (uint8) and labels from memory, so no row decodes
anything; "decoding beside it" is not measured here (see input_pipeline.py), nor is validation or
saving.  The second table is ours with more and more tags.

Each measurement is a process of its own, all configurations by turns, as often as --repeats says;
medians and ranges of their seconds a step, CPU seconds with all threads, peak resident memory
(that of importing TensorFlow, about 0.5 GB, included).  The share is of pictures per second, round
by round, so that other work on the machine falls on both.

Usage: python benchmarks/training_step.py [--num-tags 1000] [--growth 1000 10000 100000]
           [--image-size 96] [--batch-size 32] [--steps 20] [--repeats 3] [--tables parts growth]
           [--sides plain ours described]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

WARM_UP = 3
"""steps before the clock starts: the first one is compiled"""
BATCHES = 4
"""different batches that take turns"""
TAGS_PER_PICTURE = 25
PLAIN = {"ema": 0.0, "clip_norm": 0.0}
DESCRIBED = {
    "pooling": "attention", "pooled_stages": 5, "heteroscedastic": True, "loss": "focal-robust",
}  # fmt: skip
SIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "bare": ("bare Keras model", {}),
    "plain": ("ours, nothing the bare one has not", PLAIN),
    "ours": ("**ours as it is**", {}),
    "described": ("ours: attention, stages before, label noise, focal-robust", DESCRIBED),
    "full": ("plain (the default)", {}),
    "rank": (
        "label noise in the vector, rank 256, vector of 512",
        {"heteroscedastic": True, "noise": "vector", "rank": 256, "vector_size": 512},
    ),
}


def synthetic(options: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of noise: pictures (batch, size, size, 3) uint8, labels (batch, K) float32."""
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    share = min(0.5, TAGS_PER_PICTURE / options.num_tags)
    found = []
    for _ in range(BATCHES):
        truth = rng.random((options.batch_size, options.num_tags), np.float32) < share
        found.append((rng.integers(0, 256, shape, np.uint8), truth.astype(np.float32)))
    return found


def config_of(options: argparse.Namespace) -> Any:
    """Training options of a row."""
    from e6tag.config import TrainConfig

    changes = SIDES[options.work][1]
    return TrainConfig(
        backbone=options.backbone, image_size=options.image_size, batch_size=options.batch_size,
        weights="none", freeze=0, **changes,
    )  # fmt: skip


def bare(options: argparse.Namespace) -> Any:
    """Backbone, pooling and a dense layer, compiled."""
    import keras

    from e6tag import models

    keras.utils.set_random_seed(0)
    config = config_of(options)
    pictures = keras.Input((options.image_size, options.image_size, 3))
    features = models.choose(config).build(pictures, config)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(pictures, keras.layers.Dense(options.num_tags)(pooled))

    def summed(truth: Any, logits: Any) -> Any:
        losses = keras.ops.binary_crossentropy(truth, logits, from_logits=True)
        return keras.ops.sum(losses, axis=-1)

    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    model.compile(optimizer=optimizer, loss=summed)
    return model


def ours(options: argparse.Namespace) -> Any:
    """The learner of a training run."""
    from e6tag.preparation import assemble

    share = min(0.5, TAGS_PER_PICTURE / options.num_tags)
    return assemble(config_of(options), np.full(options.num_tags, share), steps_per_epoch=100)


def work(options: argparse.Namespace) -> None:
    """One configuration, in this process; prints what it took."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    batches = synthetic(options)
    model = (bare if options.work == "bare" else ours)(options)
    take = model.train_on_batch if options.work == "bare" else model.step
    for step in range(WARM_UP):
        take(*batches[step % BATCHES])
    began, cpu = time.perf_counter(), time.process_time()
    for step in range(options.steps):
        take(*batches[step % BATCHES])
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    # The bare model's parameters include no averages either: only what is trained is counted.
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = {"seconds": seconds / options.steps, "cpu": cpu / options.steps, "peak": peak}
    print(json.dumps(found | {"parameters": parameters}))


def measure(options: argparse.Namespace, side: str, num_tags: int) -> dict[str, float]:
    """One configuration in a process of its own."""
    command = [sys.executable, __file__, "--work", side, "--num-tags", str(num_tags)]
    for name in ("backbone", "image_size", "batch_size", "steps"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def by_turns(
    options: argparse.Namespace, rows: list[tuple[str, int]]
) -> dict[tuple[str, int], list[dict[str, float]]]:
    """All configurations, one after the other, again and again."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {row: [] for row in rows}
    for _ in range(options.repeats):
        for row in rows:
            found[row].append(measure(options, *row))
    return found


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    low, high = (format(value, form) for value in (min(values), max(values)))
    return f"{statistics.median(values):{form}} ({low}-{high})"


def times_of(runs: list[dict[str, float]], name: str) -> list[float]:
    """One figure of all runs, milliseconds where it is a time."""
    scale = 1000 if name in ("seconds", "cpu") else 1
    return [run[name] * scale for run in runs]


def parts(options: argparse.Namespace) -> None:
    """The table of ours beside the bare model."""
    rows = [(side, options.num_tags) for side in ("bare", *options.sides)]
    found = by_turns(options, rows)
    print(f"{options.num_tags:,} tags:\n")
    print(
        "| | parameters | ms a step | pictures/s | share of the bare model's | CPU ms | peak GB |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        runs = found[row]
        pace = [options.batch_size / run["seconds"] for run in runs]
        shares = [b["seconds"] / r["seconds"] for b, r in zip(found[rows[0]], runs, strict=True)]
        print(
            f"| {SIDES[row[0]][0]} | {runs[0]['parameters']:,} "
            f"| {spread(times_of(runs, 'seconds'), '.1f')} | {statistics.median(pace):.0f} "
            f"| {spread(shares, '.0%')} | {statistics.median(times_of(runs, 'cpu')):.0f} "
            f"| {statistics.median(times_of(runs, 'peak')):.2f} |"
        )
    print()


def growth(options: argparse.Namespace) -> None:
    """The table of more and more tags."""
    rows = [(side, tags) for side in ("full", "rank") for tags in options.growth]
    found = by_turns(options, rows)
    print("| head | tags | parameters | ms a step | peak GB | more per tag: parameters | us | kB |")
    print("|---|---|---|---|---|---|---|---|")
    for place, (side, tags) in enumerate(rows):
        runs, grown = found[side, tags], ["", "", ""]
        middle = {name: statistics.median(times_of(runs, name)) for name in runs[0]}
        if place and rows[place - 1][0] == side:
            before = found[rows[place - 1]]
            more = {n: middle[n] - statistics.median(times_of(before, n)) for n in middle}
            each = tags - rows[place - 1][1]
            grown = [
                f"{more['parameters'] / each:,.0f}",
                f"{more['seconds'] * 1e3 / each:.2f}",
                f"{more['peak'] * 1e6 / each:.1f}",
            ]
        print(
            f"| {SIDES[side][0]} | {tags:,} | {runs[0]['parameters']:,} "
            f"| {spread(times_of(runs, 'seconds'), '.0f')} | {middle['peak']:.2f} "
            f"| {' | '.join(grown)} |"
        )
    print()


def main() -> None:
    """The tables, or one configuration in a child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-tags", type=int, default=1000)
    parser.add_argument("--growth", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--backbone", default="resnet")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=["plain", "ours", "described"],
        help="rows of the first table, beside the bare model's",
    )  # fmt: skip
    parser.add_argument("--tables", nargs="+", choices=["parts", "growth"], default=None)
    parser.add_argument("--work", choices=SIDES)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    print(f"{options.backbone}, {options.image_size} px, batch {options.batch_size}, "
          f"n = {options.repeats}\n")  # fmt: skip
    for table in options.tables or ["parts", "growth"]:
        {"parts": parts, "growth": growth}[table](options)


if __name__ == "__main__":
    main()
