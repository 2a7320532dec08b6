"""Pictures per second of the input pipeline: e6tag against DeepDanbooru's DatasetWrapper.

Both make batches of the same pictures, of the same size, from the same JPEGs: e6tag reads its
shards, DatasetWrapper (deepdanbooru 1.0.4, as its train_project uses it: tf.data with AUTOTUNE,
prefetching) reads files with the bytes that the shards hold, written out before.  Without
augmentation, and with each side's own: DeepDanbooru's default project (scale 0.9-1.1, rotation by
any angle, shift by 10 %) beside our crop, flip and one TrivialAugment operation, and beside crop
and flip alone, which is what train.py does unless told otherwise.  DatasetWrapper gives float32 in
0..1, ours uint8, which the network scales.  Files are in the page cache for both, so disks are not
measured; nor is starting up: the clock starts after --warm-up batches.

Then the demo's model (configs/demo.toml): its training rate with batches that are in memory, which
the pipeline must beat, and its rate when the pipeline feeds it.

Every measurement is a process of its own, all rows by turns, --repeats times; medians and ranges.
The ratios are taken round by round, so that other work on the machine falls on both sides.

The rival's environment (TensorFlow 2.17 is the last that tensorflow-io was built for):
    python3 -m venv RIVAL
    RIVAL/bin/pip install deepdanbooru==1.0.4 tensorflow-cpu==2.17.1 tensorflow-io==0.37.1

Usage: python benchmarks/input_pipeline.py --data data/demo [--rival RIVAL/bin/python]
           [--image-size 96] [--batch-size 32] [--num 3000] [--workers 2] [--repeats 3]
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OURS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "ours-none": ("**e6tag**, no augmentation", None),
    "ours-default": ("**e6tag**, crop, flip", {}),
    "ours-trivial": ("**e6tag**, crop, flip, TrivialAugment", {"trivial_augment": True}),
}
RIVAL: dict[str, tuple[str, dict[str, Any]]] = {
    "rival-none": (
        "DatasetWrapper, no augmentation",
        {"scale_range": None, "rotation_range": None, "shift_range": None},
    ),
    "rival-all": (
        "DatasetWrapper, scale, rotation, shift",
        {"scale_range": [0.9, 1.1], "rotation_range": [0.0, 360.0], "shift_range": [-0.1, 0.1]},
    ),
}
BESIDE = {"ours-none": "rival-none", "ours-default": "rival-all", "ours-trivial": "rival-all"}
TRAINING = {
    "memory": "the demo's model, batches in memory",
    "fed": "the demo's model, fed by the pipeline",
}
BATCHES_HELD = 16
STEPS = 25


def write_files(data: Path, num: int, folder: Path) -> None:
    """Training pictures as files, with what DatasetWrapper wants to know of them."""
    sys.path[:0] = [str(ROOT)]
    from e6tag.shards import open_dataset, read_stored

    dataset = open_dataset(data)
    names, listed = dataset.vocabulary.names, []
    rows = dataset.split("train")
    for _, row in rows.head(num).iterrows():
        path = folder / f"{row['post_id']}.jpg"
        place = row["shard"], int(row["offset"]), int(row["length"])
        path.write_bytes(read_stored(dataset.path, *place))
        listed.append((str(path), " ".join(names[column] for column in row["labels"])))
    (folder / "pictures.json").write_text(json.dumps({"tags": names, "pictures": listed}))


def timed(batches: Iterator[Any], options: argparse.Namespace) -> dict[str, float]:
    """Pictures per second of the batches after the first ones, and per CPU second."""
    for _ in itertools.islice(batches, options.warm_up):
        pass
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    for pictures, _ in batches:
        count += len(pictures)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"wall": count / seconds, "cpu": count / cpu, "cpu_ms": 1000 * cpu / count}


def rival_batches(options: argparse.Namespace) -> Iterator[Any]:
    """DatasetWrapper's batches: the pictures as often as it takes to have --num."""
    import deepdanbooru as dd

    about = json.loads((options.folder / "pictures.json").read_text())
    wanted = options.num + options.warm_up * options.batch_size
    chosen = list(itertools.islice(itertools.cycle(about["pictures"]), wanted))
    wrapper = dd.data.DatasetWrapper(
        ([path for path, _ in chosen], [tags for _, tags in chosen]),
        about["tags"], options.image_size, options.image_size, **RIVAL[options.work][1],
    )  # fmt: skip
    return iter(wrapper.get_dataset(options.batch_size))


def open_batches(options: argparse.Namespace, changes: dict[str, Any] | None) -> Any:
    """Our batches of the training split."""
    sys.path[:0] = [str(ROOT)]
    from e6tag.augmentation import Augmentation
    from e6tag.batches import Batches
    from e6tag.shards import open_dataset

    change = None if changes is None else Augmentation(**changes)
    return Batches(
        open_dataset(options.data), "train", options.image_size, options.batch_size,
        augmentation=change,
    )  # fmt: skip


def our_batches(options: argparse.Namespace) -> Iterator[Any]:
    """Ours, for --num pictures."""
    batches = open_batches(options, OURS[options.work][1])
    steps = options.warm_up + options.num // options.batch_size
    return batches.training(0, steps, options.workers)


def training_rate(options: argparse.Namespace) -> dict[str, float]:
    """Pictures per second of the demo's model."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    batches = open_batches(options, {})
    from e6tag.config import TrainConfig
    from e6tag.preparation import build_learner

    # configs/demo.toml says no more than this of the model.
    config = TrainConfig(image_size=options.image_size, batch_size=options.batch_size)
    learner = build_learner(config, batches)
    warm_up = 3
    stream = batches.training(0, warm_up + STEPS, options.workers)
    if options.work == "memory":
        held = list(itertools.islice(stream, BATCHES_HELD))
        stream.close()
        stream = itertools.islice(itertools.cycle(held), warm_up + STEPS)
    options.warm_up = warm_up

    def steps() -> Iterator[Any]:
        for pictures, labels in stream:
            learner.step(pictures, labels)
            yield pictures, labels

    return timed(steps(), options)


def work(options: argparse.Namespace) -> dict[str, float]:
    """One measurement, in this process."""
    if options.work in TRAINING:
        return training_rate(options)
    make: Callable[[argparse.Namespace], Iterator[Any]] = (
        rival_batches if options.work in RIVAL else our_batches
    )
    return timed(make(options), options)


def measure(options: argparse.Namespace, row: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    python = options.rival if row in RIVAL else sys.executable
    command = [python, __file__, "--work", row]
    for name in ("data", "folder", "image_size", "batch_size", "num", "workers", "warm_up"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    low, high = (format(value, form) for value in (min(values), max(values)))
    return f"{statistics.median(values):{form}} ({low}-{high})"


def ratio(mine: list[dict[str, float]], theirs: list[dict[str, float]], name: str) -> str:
    """How many times as much of one figure, round by round."""
    return spread([a[name] / b[name] for a, b in zip(mine, theirs, strict=True)], ".1f")


def table(found: dict[str, list[dict[str, float]]]) -> None:
    """Pictures per second of every row; ratios to the rival's, and to the training rate."""
    print(
        "| | pictures/s | of the rival's | per CPU second | of the rival's | of training's rate |"
    )
    print("|---|---|---|---|---|---|")
    for row, name in [(r, n) for r, (n, _) in (RIVAL | OURS).items()] + list(TRAINING.items()):
        if row not in found:
            continue
        runs, beside = found[row], found.get(BESIDE.get(row, ""))
        against = [ratio(runs, beside, figure) if beside else "" for figure in ("wall", "cpu")]
        print(
            f"| {name} | {spread([run['wall'] for run in runs], ',.0f')} | {against[0]} "
            f"| {spread([run['cpu'] for run in runs], ',.0f')} | {against[1]} "
            f"| {ratio(runs, found['memory'], 'wall')} |"
        )


def compare(options: argparse.Namespace) -> None:
    """All rows, by turns."""
    rows = [*(RIVAL if options.rival else ()), *OURS, *TRAINING]
    found: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        if options.rival:
            write_files(options.data, options.num, options.folder)
        for _ in range(options.repeats):
            for row in rows:
                found[row].append(measure(options, row))
    print(
        f"{options.data}: {options.num} pictures to {options.image_size} px, "
        f"batch {options.batch_size}, {options.workers} threads of ours, n = {options.repeats}\n"
    )
    table(found)


def main() -> None:
    """All rows, or one of them in a child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--rival", default="", help="Python of an environment with deepdanbooru")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--warm-up", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", choices=[*OURS, *RIVAL, *TRAINING])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
