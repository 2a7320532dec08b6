"""How fast a training goes, and how long it will still take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Clock:
    """Seconds of a training: all of them, and those of this epoch's steps.

    A step's include the wait for its pictures.  Not counted as a step's are validation,
    checkpoints, and the first step of a network, which is mostly its compilation.
    """

    earlier: float
    """seconds of training before this start of the program"""
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    """when the last checkpoint was written"""
    steps: int = 0
    """of this epoch, as far as they are counted"""
    step_seconds: float = 0.0
    """that those took"""
    first_seconds: float = 0.0
    """of the first step of the present network"""
    between_seconds: float = 0.0
    """of the last validation and its checkpoint"""
    mark: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds of training in all."""
        return self.earlier + time.monotonic() - self.began

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self.mark = self.mark, time.monotonic()
        return self.mark - before

    def step_done(self, is_first: bool) -> None:
        """A step was taken, the first of its network or another."""
        seconds = self.lap()
        if is_first:
            self.first_seconds = seconds
        else:
            self.steps += 1
            self.step_seconds += seconds

    def saving_done(self, epoch_ended: bool) -> None:
        """A checkpoint was written, after a validation where an epoch ended."""
        seconds = self.lap()
        self.saved = self.mark
        if epoch_ended:
            self.between_seconds, self.steps, self.step_seconds = seconds, 0, 0.0

    def seconds_a_step(self) -> float:
        """Mean of this epoch's steps; the first one's where there is no other."""
        return self.step_seconds / self.steps if self.steps else self.first_seconds


class Remaining:
    """What is left of a run whose pictures may grow.

    Args:
        sizes: side of the pictures of each epoch, in pixels.
        steps_per_epoch: of every epoch.
    """

    def __init__(self, sizes: Sequence[int], steps_per_epoch: int):
        self.pixels = np.square(np.array(sizes, np.float64))
        self.after = self.pixels.sum() - np.cumsum(self.pixels)
        self.steps_per_epoch = steps_per_epoch

    def seconds(self, step: int, seconds_a_step: float, seconds_an_epoch: float) -> float:
        """Time that a run still takes.

        Args:
            step: training steps done, 1 to all.
            seconds_a_step: of the last ones; those of larger pictures take longer by their pixels.
            seconds_an_epoch: of what comes after each epoch.
        """
        epoch = (step - 1) // self.steps_per_epoch
        here = (epoch + 1) * self.steps_per_epoch - step
        later = self.steps_per_epoch * self.after[epoch] / self.pixels[epoch]
        ends = len(self.pixels) - step // self.steps_per_epoch
        return float((here + later) * seconds_a_step + ends * seconds_an_epoch)


def in_words(seconds: float) -> str:
    """A time left, to the precision that it is known: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
