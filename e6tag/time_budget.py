"""From minutes to passes: as many as this machine makes in the time that it is given."""

import contextlib
import itertools
import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from e6tag import checkpoints
from e6tag.batches import Batches
from e6tag.config import TrainConfig
from e6tag.errors import RunError
from e6tag.files import read_json
from e6tag.preparation import build_learner, open_batches
from e6tag.schedules import picture_size
from e6tag.session import is_due
from e6tag.shards import Dataset

log = logging.getLogger(__name__)

MOST_STEPS, MOST_SECONDS = 24, 6.0
"""when a trial has seen enough of how long steps take"""
MOST_EPOCHS = 10_000


@dataclass(frozen=True)
class Pace:
    """Seconds that one picture takes at one size."""

    image_size: int
    training: float
    validation: float


def as_begun(config: TrainConfig) -> TrainConfig:
    """The options with the passes that a run in the folder was begun with for its `minutes`.

    Its schedule is made for them, however fast this machine is by now.
    """
    begun = epochs_begun(config) if config.minutes else 0
    return replace(config, epochs=begun) if begun else config


def with_epochs(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The options with as many passes as fit their `minutes`, where these ask for any."""
    if not config.minutes or epochs_begun(config):
        return config
    sizes = {size_at(config, 0, 2), config.image_size}
    paces = [measure(config, dataset, size) for size in sorted(sizes)]
    keras.utils.clear_session()
    counts = (len(dataset.split("train")), len(dataset.split("val")))
    epochs = passes_within(config, paces, *counts)
    taken = total_seconds(replace(config, epochs=epochs), paces, *counts)
    log.info("%d passes fit %g minutes here: about %.1f", epochs, config.minutes, taken / 60)
    if taken > 60 * config.minutes:
        log.warning("one pass takes longer than --minutes; fewer pictures or a smaller "
                    "--image-size would fit")  # fmt: skip
    return replace(config, epochs=epochs)


def epochs_begun(config: TrainConfig) -> int:
    """Passes of the run in the folder; 0 where there is none yet."""
    finished, begun = config.run / "run.json", config.run / "checkpoints" / checkpoints.STATE
    if finished.exists():
        options = read_json(finished, RunError, checkpoints.REMEDY).get("config")
    elif begun.exists():
        options = read_json(begun, RunError, checkpoints.REMEDY).get("options")
    else:
        return 0
    epochs = options.get("epochs") if isinstance(options, dict) else None
    return epochs if isinstance(epochs, int) else 0


def size_at(config: TrainConfig, epoch: int, epochs: int) -> int:
    """Side of the pictures in pixels in one of so many epochs."""
    return picture_size(epoch, epochs, config.image_size, config.progressive)


def measure(config: TrainConfig, dataset: Dataset, size: int) -> Pace:
    """Take some steps to see how long they are; what they change is not kept."""
    keras.utils.clear_session()
    sized = replace(config, image_size=size)
    train, val = open_batches(sized, dataset)
    learner = build_learner(sized, train)
    return Pace(
        size,
        step_seconds(learner, train, config.workers) / config.batch_size,
        prediction_seconds(learner, val, config.workers),
    )


def step_seconds(learner: Any, batches: Batches, workers: int) -> float:
    """Mean seconds of a training step, its batch included; the learner is changed."""
    taken: list[float] = []
    stream = batches.training(0, MOST_STEPS, workers)
    with contextlib.closing(stream):
        began = time.monotonic()
        for pictures, labels in stream:
            learner.step(pictures, labels)
            taken.append(time.monotonic() - began)
            began = time.monotonic()
            if sum(taken[1:]) > MOST_SECONDS:
                break
    # The first one is compiled.  Slow ones are part of what a run takes: no median.
    return float(np.mean(taken[1:] or taken))


def prediction_seconds(learner: Any, batches: Batches, workers: int) -> float:
    """Seconds that predicting takes a picture."""
    stream = batches.plain(workers)
    with contextlib.closing(stream):
        first, *rest = itertools.islice(stream, 4)
        learner.predict_pictures(first[0])
        began = time.monotonic()
        for pictures, _ in rest:
            learner.predict_pictures(pictures)
        num = sum(len(pictures) for pictures, _ in rest)
    return (time.monotonic() - began) / max(num, 1)


def seconds_at(paces: list[Pace], size: int, kind: str) -> float:
    """Seconds of a picture of a size: between two measured ones along a line of its pixels."""
    pixels = [pace.image_size**2 for pace in paces]
    return float(np.interp(size**2, pixels, [getattr(pace, kind) for pace in paces]))


def total_seconds(config: TrainConfig, paces: list[Pace], num_train: int, num_val: int) -> float:
    """Seconds of training and of validating between passes."""
    total = 0.0
    for epoch in range(config.epochs):
        size = size_at(config, epoch, config.epochs)
        total += num_train * seconds_at(paces, size, "training")
        if is_due(epoch + 1, config):
            total += num_val * seconds_at(paces, size, "validation")
    return total


def passes_within(config: TrainConfig, paces: list[Pace], num_train: int, num_val: int) -> int:
    """The most passes, at least one, that take no longer than `minutes`."""
    low, high = 1, MOST_EPOCHS + 1
    while high - low > 1:
        middle = (low + high) // 2
        tried = replace(config, epochs=middle)
        if total_seconds(tried, paces, num_train, num_val) <= 60 * config.minutes:
            low = middle
        else:
            high = middle
    return low
