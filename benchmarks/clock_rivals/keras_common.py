"""What the Keras rows of the equal-clock benchmark share: arrays, clock, batches, result file."""

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Batch = tuple[NDArray[Any], NDArray[np.float32]]
Step = Callable[[NDArray[Any], NDArray[np.float32], float], float]
"""pictures (B,H,W,3), labels (B,K), progress 0-1 -> loss"""
REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class Arrays:
    """Training pictures uint8 (N,H,W,3), their labels uint8 (N,K), and the pictures to score."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    asked: NDArray[np.uint8]


def parser(about: str | None, batch: int) -> argparse.ArgumentParser:
    """The options that every row has."""
    made = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    made.add_argument("arrays", type=Path)
    made.add_argument("out", type=Path)
    made.add_argument("--minutes", type=float, default=10.0)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--batch", type=int, default=batch)
    made.add_argument("--score", default="test", help="set to score; val for choosing options")
    return made


def start(options: argparse.Namespace, threads: int = 2) -> Arrays:
    """Fix threads and seeds, then read the arrays into memory."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(options.seed)
    names = ("train_pictures", "train_labels", f"{options.score}_pictures")
    return Arrays(*(np.load(options.arrays / f"{name}.npy") for name in names))


class Clock:
    """Wall clock of one training."""

    def __init__(self, minutes: float) -> None:
        self.budget = 60 * minutes
        self.began = time.monotonic()

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began

    def progress(self) -> float:
        """Share of the budget that is over; 1 or more when it is."""
        return self.seconds() / self.budget


def shuffled(count: int, batch: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Indices of endless passes in a new order each; a pass's incomplete last batch is left out."""
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(count)
        yield from order[: count // batch * batch].reshape(-1, batch)


def ahead(
    make: Callable[[NDArray[np.intp]], Batch], indices: Iterator[NDArray[np.intp]], threads: int
) -> Iterator[Batch]:
    """Batches in the order of `indices`, made by threads while the previous ones are used."""
    pool = ThreadPoolExecutor(threads)
    waiting = deque(pool.submit(make, next(indices)) for _ in range(2 * threads))
    try:
        while True:
            waiting.append(pool.submit(make, next(indices)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def warp(
    pictures: NDArray[np.uint8], linear: NDArray[Any], shift: NDArray[Any], beyond: str
) -> NDArray[np.float32]:
    """Pictures whose point c + v shows what c + `linear` v + `shift` showed; c is the middle.

    linear (B,2,2) and shift (B,2) are in x, y and pixels; `beyond` the edge: REFLECT or NEAREST.
    """
    height, width = pictures.shape[1:3]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = middle + shift - linear @ middle
    rows = np.concatenate([linear, offset[:, :, None]], axis=2).reshape(-1, 6)
    made = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(pictures, tf.float32),
        transforms=np.pad(rows, ((0, 0), (0, 2))).astype(np.float32),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=beyond,
    )
    return np.asarray(made.numpy(), np.float32)


def turned(radians: NDArray[Any]) -> NDArray[Any]:
    """Rotations (B,2,2) by angles (B,)."""
    cos, sin = np.cos(radians), np.sin(radians)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def make_step(model: Any, loss: Callable[[Any, Any], Any], rate: Callable[[float], float]) -> Step:
    """One update of a compiled-in optimiser's rate by progress, then of the weights."""
    optimizer = model.optimizer

    @tf.function
    def update(pictures: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(labels, model(pictures, training=True)))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    def step(pictures: NDArray[Any], labels: NDArray[np.float32], progress: float) -> float:
        optimizer.learning_rate = rate(progress)
        return float(update(tf.constant(pictures), tf.constant(labels)))

    return step


def train(step: Step, batches: Iterator[Batch], clock: Clock, count: int) -> float:
    """Train until the clock is out; passes over the `count` pictures that were made."""
    seen, told, losses = 0, 0.0, []
    while (progress := clock.progress()) < 1:
        pictures, labels = next(batches)
        losses.append(step(pictures, labels, progress))
        seen += len(pictures)
        if clock.seconds() - told >= REPORT_SECONDS:
            told = clock.seconds()
            tell(f"{told:.0f} s, {seen / count:.2f} passes, loss {np.mean(losses):.5f}")
            losses = []
    tell(f"{clock.seconds():.0f} s, {seen / clock.seconds():.0f} pictures a second")
    return seen / count


def tell(line: str) -> None:
    """A progress line."""
    print(line, file=sys.stderr, flush=True)


def predict(model: Any, pictures: NDArray[np.uint8], scale: float = 1.0) -> NDArray[np.float32]:
    """Scores (N,K) of pictures (N,H,W,3), multiplied by `scale` first; diverged weights say 0."""
    parts = (pictures[i : i + 50] for i in range(0, len(pictures), 50))
    run = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
    scores = np.concatenate([run(tf.constant(x.astype(np.float32) * scale)) for x in parts])
    if not np.isfinite(scores).all():
        tell("warning: the training diverged, some scores are not numbers and count as 0")
    return np.nan_to_num(scores)


def write(
    out: Path, scores: NDArray[np.float32], clock_seconds: float, passes: float, about: str
) -> None:
    """The result file of a row."""
    versions = f"keras {keras.__version__}, tensorflow {tf.__version__}"
    np.savez(out, scores=scores, seconds=clock_seconds, passes=passes, about=f"{about}; {versions}")
