"""Keras' optimisers as training uses them: by name, with slower rates for a pretrained backbone.

Weight decay is Keras' decoupled one (variable -= rate * decay * variable) for all but SGD.  Keras'
Lamb therefore decays outside of the trust ratio, which the paper does not.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras.src.optimizers.base_optimizer import BaseOptimizer

from e6tag.errors import ConfigError
from e6tag.schedules import DIVISORS, MOMENTUM_RANGE, SGD, Exponential, OneCycle, WarmupCosine

NOT_DECAYED = ["bias", "gamma", "beta", "latent"]
"""names of variables that weight decay would only harm"""
WITHOUT_DECAY = ("sgd", "nesterov")
HEAD = "tags"
"""layer whose matrices Muon must leave to Adam: the last one"""


class SlowRates:
    """Lets some variables of a Keras optimiser move at a fraction of the learning rate.

    A pretrained backbone must move less than the head that is learnt from nothing
    (discriminative rates, Howard & Ruder 2018, arXiv:1801.06146).
    """

    def __init__(self, slow_paths: Sequence[str] = (), slow_rate: float = 1.0, **options: Any):
        super().__init__(**options)
        self.slow_paths, self.slow_rate = frozenset(slow_paths), slow_rate

    def build(self, variables: Any) -> None:
        """Make the moments; note each variable's share of the rate (steps see no paths)."""
        super().build(variables)  # type: ignore[misc]
        self.rates = [self.slow_rate if v.path in self.slow_paths else 1.0 for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, at its own rate."""
        rate = self.rates[self._get_variable_index(variable)]  # type: ignore[attr-defined]
        super().update_step(gradient, variable, learning_rate * rate)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """Options, for saving."""
        slow = {"slow_paths": sorted(self.slow_paths), "slow_rate": self.slow_rate}
        return super().get_config() | slow  # type: ignore[misc]


class LocalUpdates:
    """Lets a Keras optimiser be applied on one device alone, to gradients that are summed.

    Keras' TensorFlow optimisers exchange gradients and updates between devices themselves, but
    after clipping, and cannot inside of the condition that accumulation needs.  These are the
    methods that the other backends use.  (`replicas.Replicas` needs them.)
    """

    _backend_update_step = BaseOptimizer._backend_update_step
    _apply_weight_decay = BaseOptimizer._apply_weight_decay
    _backend_increment_gradient_accumulators = (
        BaseOptimizer._backend_increment_gradient_accumulators
    )


def kinds() -> dict[str, Any]:
    """Optimisers by name: those that this Keras has."""
    found: dict[str, Any] = {"sgd": SGD, "nesterov": SGD}
    for name in ("AdamW", "Lamb", "Lion", "Muon"):
        if hasattr(keras.optimizers, name):
            found[name.lower()] = getattr(keras.optimizers, name)
    return found


def make_schedule(
    name: str,
    rate: float,
    total_steps: int,
    warmup: float,
    anneal: str = "cosine",
    divisors: tuple[float, float] = DIVISORS,
    momentum_range: tuple[float, float] = MOMENTUM_RANGE,
) -> Any:
    """Learning rate over the run's updates, as Keras takes it.

    Args:
        name: one-cycle, cosine or constant.
        rate: its largest value.
        total_steps: updates of the run.
        warmup: share of them in which the rate rises; unused when constant.
        anneal: of one-cycle, one of `schedules.ANNEAL`.
        divisors: of one-cycle, peak / first rate and first rate / last rate.
        momentum_range: of one-cycle, momentum at the peak and at both ends, for SGD.
    """
    if name == "one-cycle":
        return OneCycle(total_steps, rate, warmup, divisors, anneal, momentum_range)
    return WarmupCosine(total_steps, rate, warmup) if name == "cosine" else rate


def range_schedule(total_steps: int, low: float, high: float) -> Any:
    """Learning rate of a range test."""
    return Exponential(total_steps, low, high)


def make_optimizer(
    name: str,
    schedule: Any,
    *,
    weight_decay: float,
    clip_norm: float,
    ema: float,
    slow: tuple[Sequence[str], float] = ((), 1.0),
    accumulate: int = 1,
) -> Any:
    """The optimiser of a run.

    Args:
        name: sgd, nesterov (whose momentum follows a one-cycle schedule inversely), adamw, lamb
            (arXiv:1904.00962), lion (arXiv:2302.06675) or muon (for matrices; what is no matrix,
            convolutions included, and the head get Adam's step, as its authors say).
        schedule: learning rate, a number or a function of the number of updates.
        weight_decay: decoupled decay; not for the first two.
        clip_norm: largest global gradient norm; 0 for none.
        ema: decay per update of the averaged weights; 0 for none.
        slow: paths of variables and the fraction of the rate they move at.
        accumulate: steps whose mean gradient makes an update.

    Raises:
        ConfigError: this Keras does not have the optimiser.
    """
    if name not in kinds():
        raise ConfigError(
            f"Keras {keras.__version__} has no optimiser {name}. One of: {', '.join(kinds())}."
        )
    options: dict[str, Any] = {
        "learning_rate": schedule,
        "global_clipnorm": clip_norm or None,
        "use_ema": ema > 0,
        # Keras averages after every step, whether it was an update or not.
        "ema_momentum": ema ** (1 / accumulate) if ema > 0 else 0.99,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
    }
    options |= own_options(name, weight_decay)
    kind = type(name, (SlowRates, LocalUpdates, kinds()[name]), {})
    optimizer = kind(*slow, **options)
    if name not in WITHOUT_DECAY:
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def own_options(name: str, weight_decay: float) -> dict[str, Any]:
    """Options that one optimiser has and another has not."""
    if name in WITHOUT_DECAY:
        return {"nesterov": name == "nesterov"}
    if name == "muon":
        return {
            "weight_decay": weight_decay,
            "adam_weight_decay": weight_decay,
            "exclude_layers": [f"(^|/){HEAD}/"],
        }
    return {"weight_decay": weight_decay}
