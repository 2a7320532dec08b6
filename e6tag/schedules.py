"""Learning rates (one-cycle, warm-up and cosine, range test) and momentum, functions of the step.

Nothing is counted outside the optimiser's own step, so a resumed run goes on where it was.
"""

import itertools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops

MOMENTUM_RANGE = (0.85, 0.95)
"""momentum at the peak of the rate, and at both ends"""
DIVISORS = (25.0, 1e4)
"""peak / first rate, first rate / last rate"""


def cosine(start: Any, end: Any, share: Any, xp: ModuleType) -> Any:
    """Half a cosine from start (share 0) to end (share 1); shares outside are clipped."""
    return end + (start - end) * 0.5 * (1.0 + xp.cos(np.pi * xp.clip(share, 0.0, 1.0)))


def linear(start: Any, end: Any, share: Any, xp: ModuleType) -> Any:
    """A straight line from start (share 0) to end (share 1); shares outside are clipped."""
    return start + (end - start) * xp.clip(share, 0.0, 1.0)


ANNEAL = {
    "cosine": (cosine, False),
    "linear": (linear, False),
    "cosine-annihilate": (cosine, True),
    "linear-annihilate": (linear, True),
}
"""Ways from one rate to the next, and whether a third phase follows."""


def one_cycle(  # noqa: PLR0913 (all that shapes a cycle)
    step: Any,
    total: int,
    peak: float,
    warmup: float = 0.3,
    divisors: tuple[float, float] = DIVISORS,
    anneal: str = "cosine",
    xp: ModuleType = np,
    momentum_range: tuple[float, float] = MOMENTUM_RANGE,
) -> tuple[Any, Any]:
    """Rate and momentum of the one-cycle policy (Smith and Topin, arXiv:1708.07120).

    The rate rises from peak / d1 to the peak during the first `warmup` share of the steps and
    falls to peak / d1 / d2 at the last; momentum mirrors it between `momentum_range`'s ends.  In
    the three phases of the "-annihilate" kinds it falls to peak / d1 in as many steps as it rose,
    as in the paper, and to peak / d1 / d2 in those that are left, at constant momentum.  Equal to
    torch.optim.lr_scheduler.OneCycleLR with two or three phases.

    Args:
        step: 0..total - 1, a float or an array of them; later steps stay at the end.
        total: number of steps.
        peak: largest rate.
        warmup: share of steps before the peak, 0..1.
        divisors: d1 = peak / first rate, d2 = first rate / last rate.
        anneal: one of ANNEAL; a `warmup` above 0.5 counts as 0.5 in three phases.
        xp: `numpy`, or `keras.ops` inside a training step.
        momentum_range: momentum at the peak of the rate, and at both ends.

    Returns:
        rate and momentum, of the step's shape.
    """
    (way, annihilate), (low, high) = ANNEAL[anneal], momentum_range
    first, end = peak / divisors[0], total - 1.0
    top = (min(warmup, 0.5) if annihilate else warmup) * total - 1.0
    # Steps at which a phase ends, with the rate and the momentum there.
    points = [(0.0, first, high), (top, peak, low)]
    points += [(2.0 * top, first, high)] if annihilate else []
    points += [(end, first / divisors[1], high)]
    rate = momentum = None
    for (start, *old), (stop, *new) in reversed(list(itertools.pairwise(points))):
        # Counted from the end, which makes both ends exact however short a phase is.
        share = 1.0 - (stop - step) / max(stop - start, 1e-9)
        phase = [way(a, b, share, xp) for a, b in zip(old, new, strict=True)]
        within = step <= stop
        rate = phase[0] if rate is None else xp.where(within, phase[0], rate)
        momentum = phase[1] if momentum is None else xp.where(within, phase[1], momentum)
    return rate, momentum


def warmup_cosine(
    step: Any, total: int, peak: float, warmup: float = 0.05, xp: ModuleType = np
) -> Any:
    """Rate that rises along a line, then falls to 0 along half a cosine, of the step's shape.

    Goyal et al. (arXiv:1706.02677) for the rise, Loshchilov and Hutter (arXiv:1608.03983), one
    cycle, for the fall.  The first step has a rate above 0, and so has the last: none is wasted.

    Args:
        step: 0..total - 1, a float or an array of them; later steps stay at 0.
        total: number of steps.
        peak: largest rate.
        warmup: share of the steps in which the rate rises, 0..1.
        xp: `numpy`, or `keras.ops` inside a training step.
    """
    rise = float(int(warmup * total))
    falling = cosine(peak, 0.0, (step - rise) / max(total - rise, 1.0), xp)
    return xp.where(step < rise, peak * (step + 1.0) / max(rise, 1.0), falling)


SIDE_STEP = 16
"""sides of smaller pictures are multiples of this"""


def picture_size(epoch: int, epochs: int, full: int, start: float) -> int:
    """Side of the pictures of an epoch: three sizes, a third of the run each, up to the full one.

    Progressive resizing as in EfficientNetV2 (arXiv:2104.00298, section 4): small pictures teach
    the coarse things at a fraction of the time.  The last third has the full size, and so has a
    run of one epoch.

    Args:
        epoch: 0..epochs - 1; later ones have the full size.
        epochs: of the run.
        full: last side, in pixels.
        start: first side as a share of it, up to 1.
    """
    third = min(2, (3 * (epoch + 1) - 1) // epochs)
    if third == 2 or start >= 1:
        return full
    side = full * (start + (1 - start) * third / 2)
    return min(full, max(SIDE_STEP, SIDE_STEP * round(side / SIDE_STEP)))


def exponential(step: Any, total: int, low: float, high: float, xp: ModuleType = np) -> Any:
    """Rate of Smith's range test (arXiv:1506.01186): low (high / low)^(step / (total - 1))."""
    return low * xp.exp(np.log(high / low) * step / max(total - 1.0, 1.0))


@keras.saving.register_keras_serializable("e6tag")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """`one_cycle` as a Keras schedule, for any optimiser; arguments as there."""

    def __init__(
        self,
        total: int,
        peak: float,
        warmup: float = 0.3,
        divisors: Sequence[float] = DIVISORS,
        anneal: str = "cosine",
        momentum_range: Sequence[float] = MOMENTUM_RANGE,
    ):
        super().__init__()
        self.arguments: dict[str, Any] = {
            "total": total, "peak": peak, "warmup": warmup,
            "divisors": tuple(divisors), "anneal": anneal,
            "momentum_range": tuple(momentum_range),
        }  # fmt: skip

    def at(self, step: Any) -> tuple[Any, Any]:
        """Rate and momentum at a step (float32 tensors)."""
        return one_cycle(ops.cast(step, "float32"), **self.arguments, xp=ops)

    def __call__(self, step: Any) -> Any:
        """Rate at a step."""
        return self.at(step)[0]

    def momentum(self, step: Any) -> Any:
        """Momentum at a step."""
        return self.at(step)[1]

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this schedule again."""
        return dict(self.arguments)


@keras.saving.register_keras_serializable("e6tag")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """`warmup_cosine` as a Keras schedule; arguments as there."""

    def __init__(self, total: int, peak: float, warmup: float = 0.05):
        super().__init__()
        self.arguments: dict[str, Any] = {"total": total, "peak": peak, "warmup": warmup}

    def __call__(self, step: Any) -> Any:
        """Rate at a step."""
        return warmup_cosine(ops.cast(step, "float32"), **self.arguments, xp=ops)

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this schedule again."""
        return dict(self.arguments)


@keras.saving.register_keras_serializable("e6tag")
class Exponential(keras.optimizers.schedules.LearningRateSchedule):
    """`exponential` as a Keras schedule; arguments as there."""

    def __init__(self, total: int, low: float, high: float):
        super().__init__()
        self.arguments: dict[str, Any] = {"total": total, "low": low, "high": high}

    def __call__(self, step: Any) -> Any:
        """Rate at a step."""
        return exponential(ops.cast(step, "float32"), **self.arguments, xp=ops)

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this schedule again."""
        return dict(self.arguments)


@keras.saving.register_keras_serializable("e6tag")
class SGD(keras.optimizers.SGD):
    """SGD with momentum that follows a `OneCycle` schedule, inversely to the rate.

    Keras' own momentum is a Python number that is frozen into the compiled step: changing it
    during training does nothing.  Here it is computed from the optimiser's step counter.

    Args:
        learning_rate: a `OneCycle`; with any other rate or schedule momentum stays the same.
        momentum: used with those.
        kwargs: as of keras.optimizers.SGD.
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.9, **kwargs: Any):
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        if isinstance(learning_rate, dict):
            learning_rate = keras.saving.deserialize_keras_object(learning_rate)
        self.cycle = learning_rate if isinstance(learning_rate, OneCycle) else None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """velocity = momentum(step) * velocity - rate * gradient; variable += velocity.

        Nesterov adds momentum(step) * velocity - rate * gradient once more instead.
        """
        if self.cycle is None:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        momentum = ops.cast(self.cycle.momentum(self.iterations), variable.dtype)
        change = -ops.cast(learning_rate, variable.dtype) * ops.cast(gradient, variable.dtype)
        self.assign(velocity, momentum * velocity + change)
        self.assign_add(variable, momentum * velocity + change if self.nesterov else velocity)
