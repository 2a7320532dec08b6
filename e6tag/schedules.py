"""One-cycle learning rate and momentum, as pure functions of the step.

Nothing is counted outside the optimiser's own step, so a resumed run goes on where it was.
"""

from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops

MOMENTUM_RANGE = (0.85, 0.95)
"""momentum at the peak of the rate, and at both ends"""


def cosine(start: Any, end: Any, share: Any, xp: ModuleType) -> Any:
    """Half a cosine from start (share 0) to end (share 1); shares outside are clipped."""
    return end + (start - end) * 0.5 * (1.0 + xp.cos(np.pi * xp.clip(share, 0.0, 1.0)))


def one_cycle(
    step: Any,
    total: int,
    peak: float,
    warmup: float = 0.3,
    div: float = 25.0,
    final_div: float = 1e4,
    xp: ModuleType = np,
) -> tuple[Any, Any]:
    """Rate and momentum of the one-cycle policy (Smith and Topin, arXiv:1708.07120).

    The rate rises from peak / div to the peak during the first `warmup` share of the steps and
    falls to peak / div / final_div at the last, along half cosines; momentum mirrors it between
    MOMENTUM_RANGE's ends.  Equal to torch.optim.lr_scheduler.OneCycleLR with two phases.

    Args:
        step: 0..total - 1, a float or an array of them; later steps stay at the end.
        total: number of steps.
        peak: largest rate.
        warmup: share of steps before the peak, 0..1.
        div: peak / first rate.
        final_div: first rate / last rate.
        xp: `numpy`, or `keras.ops` inside a training step.

    Returns:
        rate and momentum, of the step's shape.
    """
    top = warmup * total - 1.0
    rising = step / max(top, 1e-9)
    falling = (step - top) / max(total - 1.0 - top, 1e-9)
    first, low, high = peak / div, *MOMENTUM_RANGE
    rate = xp.where(
        step <= top,
        cosine(first, peak, rising, xp),
        cosine(peak, first / final_div, falling, xp),
    )
    momentum = xp.where(step <= top, cosine(high, low, rising, xp), cosine(low, high, falling, xp))
    return rate, momentum


@keras.saving.register_keras_serializable("e6tag")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """`one_cycle` as a Keras schedule, for any optimiser; arguments as there."""

    def __init__(
        self,
        total: int,
        peak: float,
        warmup: float = 0.3,
        div: float = 25.0,
        final_div: float = 1e4,
    ):
        super().__init__()
        self.total, self.peak, self.warmup = total, peak, warmup
        self.div, self.final_div = div, final_div

    def at(self, step: Any) -> tuple[Any, Any]:
        """Rate and momentum at a step (float32 tensors)."""
        step = ops.cast(step, "float32")
        return one_cycle(step, self.total, self.peak, self.warmup, self.div, self.final_div, xp=ops)

    def __call__(self, step: Any) -> Any:
        """Rate at a step."""
        return self.at(step)[0]

    def momentum(self, step: Any) -> Any:
        """Momentum at a step."""
        return self.at(step)[1]

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this schedule again."""
        return {
            "total": self.total,
            "peak": self.peak,
            "warmup": self.warmup,
            "div": self.div,
            "final_div": self.final_div,
        }


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
        """velocity = momentum(step) * velocity - rate * gradient; variable += velocity."""
        if self.cycle is None:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        momentum = ops.cast(self.cycle.momentum(self.iterations), variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign(velocity, momentum * velocity - rate * ops.cast(gradient, variable.dtype))
        self.assign_add(variable, velocity)
