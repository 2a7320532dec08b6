"""A network, its objective and its optimiser, as one thing that takes steps."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from e6tag.batch_parts import mean_gradients
from e6tag.joint import JointLikelihood
from e6tag.objective import Objective
from e6tag.replicas import Replicas


class Learner(keras.Model):
    """The network to train, together with the trained parts of its objective.

    Args:
        network: pictures to a dictionary with `logits`, `probabilities` and `vector`.
        objective: loss of the labels, one tag at a time.
        joint: loss of all labels of a picture together, which trains in the objective's place;
            the network's layer `tags` must be a `HeteroscedasticLogits` with factors.
        strategy: over several devices, in whose scope this is made.
        parts: of a batch, which are computed side by side on one device.
    """

    def __init__(
        self,
        network: keras.Model,
        objective: Objective,
        joint: JointLikelihood | None = None,
        strategy: Any = None,
        parts: int = 1,
    ):
        super().__init__(name="learner")
        self.network, self.objective, self.joint = network, objective, joint
        self.parts = parts
        self.replicas = None if strategy is None else Replicas(self, strategy)

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
            head = self.network.get_layer("tags")
            total = self.joint(head, y, self.head_input(y_pred["vector"]), step)
        else:
            total = self.objective(y, y_pred["logits"], step=step)
        for loss in self.losses:
            total = total + loss
        return total

    def train_step(self, data: Any) -> Any:
        """The traced step of one device: Keras' own, or that of a batch in parts."""
        if self.parts == 1:
            return super().train_step(data)
        pictures, labels = data[:2]
        loss, gradients = mean_gradients(self, pictures, labels, self.parts)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}

    def head_input(self, vector: Any) -> Any:
        """What the tag layer takes: the vector, or the fewer numbers of a low-rank layer."""
        names = {layer.name for layer in self.network.layers}
        return self.network.get_layer("tag_factors")(vector) if "tag_factors" in names else vector

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
        if self.replicas is not None:
            return self.replicas.step(pictures, labels)
        self.reset_metrics()
        return float(self.train_on_batch(pictures, labels, return_dict=True)["loss"])

    @cached_property
    def traced_rates(self) -> Any:
        """`rates` as one graph: the schedules' operations one by one take ten times as long."""
        import tensorflow as tf

        cycle = getattr(self.optimizer, "cycle", None)

        def rates() -> Any:
            # The count is of updates, of which a step is a part where gradients are accumulated.
            momentum = () if cycle is None else cycle.momentum(self.optimizer.iterations)
            return tf.convert_to_tensor(self.optimizer.learning_rate), momentum

        return tf.function(rates)

    def rates(self) -> tuple[float, float | None]:
        """Learning rate of the next step, and its momentum where that follows a schedule."""
        rate, momentum = self.traced_rates()
        return float(rate), None if isinstance(momentum, tuple) else float(momentum)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold the averaged weights (EMA) inside the block, where there are any.

        Batch normalisation's moving statistics are averages already and stay.
        """
        averages = getattr(self.optimizer, "_model_variables_moving_average", [])
        if not averages or int(self.optimizer.iterations.numpy()) == 0:
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
        if self.replicas is not None:
            return np.asarray(self.replicas.predict(pictures)["probabilities"])
        return np.asarray(self.predict_on_batch(pictures)["probabilities"])

    @property
    def num_devices(self) -> int:
        """Devices that share a batch."""
        return 1 if self.replicas is None else self.replicas.num_devices
