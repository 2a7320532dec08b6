"""A network, its objective and its optimiser, as one thing that takes steps."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from e6tag.joint import JointLikelihood
from e6tag.objective import Objective
from e6tag.schedules import SGD, OneCycle


class AdamW(keras.optimizers.AdamW):
    """AdamW in which some variables move at a fraction of the learning rate.

    A pretrained backbone must move less than the head that is learnt from nothing
    (discriminative rates, Howard & Ruder 2018, arXiv:1801.06146).
    """

    def __init__(self, slow_paths: Sequence[str] = (), slow_rate: float = 1.0, **options: Any):
        super().__init__(**options)
        self.slow_paths, self.slow_rate = frozenset(slow_paths), slow_rate

    def build(self, variables: Any) -> None:
        """Make the moments; note each variable's share of the rate (steps see no paths)."""
        super().build(variables)
        self.rates = [self.slow_rate if v.path in self.slow_paths else 1.0 for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, at its own rate."""
        rate = self.rates[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * rate)

    def get_config(self) -> dict[str, Any]:
        """Options, for saving."""
        slow = {"slow_paths": sorted(self.slow_paths), "slow_rate": self.slow_rate}
        return super().get_config() | slow


class Learner(keras.Model):
    """The network to train, together with the trained parts of its objective.

    Args:
        network: pictures to a dictionary with `logits`, `probabilities` and `vector`.
        objective: loss of the labels, one tag at a time.
        joint: loss of all labels of a picture together, which trains in the objective's place;
            the network's layer `tags` must be a `HeteroscedasticLogits` with factors.
    """

    def __init__(
        self, network: keras.Model, objective: Objective, joint: JointLikelihood | None = None
    ):
        super().__init__(name="learner")
        self.network, self.objective, self.joint = network, objective, joint

    def call(self, pictures: Any, training: bool | None = None) -> Any:
        """Outputs of the network."""
        return self.network(pictures, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Summed over tags, averaged over pictures; plus the layers' own losses."""
        # The optimiser's count is part of a checkpoint, so a resumed run knows its step.
        step = self.optimizer.iterations
        if self.joint is not None and training:
            total = self.joint(self.network.get_layer("tags"), y, y_pred["vector"], step)
        else:
            total = self.objective(y, y_pred["logits"], step=step)
        for loss in self.losses:
            total = total + loss
        return total

    def prepare(self, image_size: int) -> None:
        """Make every variable now: TensorFlow would trace the first step twice otherwise."""
        self.network(np.zeros((1, image_size, image_size, 3), np.float32))
        if not self.objective.built:
            outputs = self.network.output["logits"].shape
            self.objective.build((None, outputs[-1]))
        self.built = True
        self.optimizer.build(self.trainable_variables)

    def step(self, pictures: NDArray[np.uint8], labels: NDArray[np.float32]) -> float:
        """One training step; the loss of this batch."""
        self.reset_metrics()
        return float(self.train_on_batch(pictures, labels, return_dict=True)["loss"])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold the averaged weights (EMA) inside the block, where there are any.

        Batch normalisation's moving statistics are averages already and stay.
        """
        averages = getattr(self.optimizer, "_model_variables_moving_average", [])
        if not averages or int(self.optimizer.iterations) == 0:
            yield
            return
        variables = self.trainable_variables
        live = [variable.numpy() for variable in variables]
        for variable, average in zip(variables, averages, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(variables, live, strict=True):
                variable.assign(value)

    def predict_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (batch, tags) of a batch."""
        return np.asarray(self.predict_on_batch(pictures)["probabilities"])


def make_schedule(name: str, rate: float, total_steps: int, warmup: float) -> Any:
    """Learning rate over the run: one-cycle, or the same all the time."""
    return OneCycle(total_steps, rate, warmup) if name == "one-cycle" else rate


def make_optimizer(
    name: str,
    schedule: Any,
    *,
    weight_decay: float,
    clip_norm: float,
    ema: float,
    slow: tuple[Sequence[str], float],
) -> Any:
    """The optimiser of a run.

    Args:
        name: adamw or sgd (whose momentum follows a one-cycle schedule inversely).
        schedule: learning rate, a number or a function of the step.
        weight_decay: decoupled decay (AdamW only).
        clip_norm: largest global gradient norm; 0 for none.
        ema: decay of the averaged weights; 0 for none.
        slow: paths of variables and the fraction of the rate they move at (AdamW only).
    """
    common: dict[str, Any] = {
        "global_clipnorm": clip_norm or None,
        "use_ema": ema > 0,
        "ema_momentum": ema if ema > 0 else 0.99,
    }
    if name == "sgd":
        return SGD(schedule, **common)
    paths, rate = slow
    optimizer = AdamW(
        paths, rate, learning_rate=schedule, weight_decay=weight_decay or None, **common
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "latent"])
    return optimizer
