"""What the rivals share: options, arrays, the clock, one-cycle by the clock, the result."""

import argparse
import math
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPORT_SECONDS = 30.0
"""between two lines on stderr"""


def parser(text: str) -> argparse.ArgumentParser:
    """The options every rival has."""
    made = argparse.ArgumentParser(description=text.split("\n")[0])
    made.add_argument("arrays", type=Path, help="folder of prepared arrays")
    made.add_argument("out", type=Path, help="OUT.npz to be written")
    made.add_argument("--minutes", type=float, default=10.0, help="wall clock to train for")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--validate", action="store_true", help="print validation macro AP at last")
    return made


def pictures(folder: Path, name: str) -> NDArray[np.uint8]:
    """Pictures (N, height, width, 3) of one set, 0 to 255, in memory."""
    return np.load(folder / f"{name}_pictures.npy")


def labels(folder: Path, name: str) -> NDArray[np.uint8]:
    """Labels (N, K) of one set, 0 or 1."""
    return np.load(folder / f"{name}_labels.npy")


def shares(truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Smoothed share (K) of the pictures that have each tag: never 0 or 1."""
    return (truth.sum(axis=0, dtype=float) + 0.5) / (len(truth) + 1)


@dataclass(frozen=True)
class Cycle:
    """Learning rate and momentum of one-cycle (Smith, 2018) with torch's and fastai's numbers."""

    peak: float
    """the highest learning rate"""
    warm: float = 0.3
    """share of the training in which the rate rises"""
    start_divisor: float = 25.0
    """peak / first rate"""
    end_divisor: float = 1e4
    """first rate / last rate"""
    momenta: tuple[float, float] = (0.95, 0.85)
    """at the first and last rate, and at the peak"""

    def at(self, progress: float) -> tuple[float, float]:
        """Rate and momentum at a share of the training, which may be a little over 1."""
        first = self.peak / self.start_divisor
        high, low = self.momenta
        if progress < self.warm:
            share = progress / self.warm
            return cosine(first, self.peak, share), cosine(high, low, share)
        share = min(1.0, (progress - self.warm) / (1.0 - self.warm))
        return cosine(self.peak, first / self.end_divisor, share), cosine(low, high, share)


def cosine(begin: float, end: float, share: float) -> float:
    """From `begin` at share 0 to `end` at share 1 along half a cosine."""
    return end + (begin - end) * (1.0 + math.cos(math.pi * share)) / 2.0


class Clock:
    """The time that a training has, from when this is made."""

    def __init__(self, minutes: float) -> None:
        if minutes <= 0:
            raise SystemExit(f"--minutes {minutes}: expected more than 0")
        self.budget = 60.0 * minutes
        self.began = time.monotonic()
        self.reported = 0.0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began

    @property
    def progress(self) -> float:
        """Share of the budget that is used; over 1 after its end."""
        return self.seconds / self.budget

    def report(self, passes: float, loss: float) -> None:
        """A line on stderr if the last one is half a minute old."""
        if self.seconds - self.reported >= REPORT_SECONDS:
            self.reported = self.seconds
            say(f"{self.seconds:.0f} s, {passes:.2f} passes, loss {loss:.4f}")


def say(line: str) -> None:
    """Print to stderr at once."""
    print(line, file=sys.stderr, flush=True)


def macro_ap(truth: NDArray[np.uint8], scores: NDArray[np.float32], positives: int = 3) -> float:
    """Mean average precision over the tags with at least `positives`; NaN if there is none."""
    from sklearn.metrics import average_precision_score

    tags = np.flatnonzero(truth.sum(axis=0, dtype=int) >= positives)
    each = [average_precision_score(truth[:, tag], scores[:, tag]) for tag in tags]
    return float(np.mean(each)) if each else math.nan


def versions(*packages: str) -> str:
    """Names and versions of installed packages, in one line."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def save(out: Path, scores: NDArray[np.float32], seconds: float, passes: float, about: str) -> None:
    """Write OUT.npz: test scores (N, K), wall seconds, passes over the training set, one line."""
    if not np.isfinite(scores).all():
        raise SystemExit("the scores are not finite: the training diverged; lower --learning-rate")
    with out.open("wb") as file:
        np.savez(
            file, scores=scores.astype(np.float32), seconds=seconds, passes=passes, about=about
        )
    say(f"{about}: {seconds:.1f} s, {passes:.2f} passes")
