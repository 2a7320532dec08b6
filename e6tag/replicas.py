"""One training step over several devices, by `tf.distribute.MirroredStrategy`.

Each device holds all variables and takes an equal part of every batch; gradients are summed, and
each device makes the same update.  The result is that of one device, to rounding: batch
normalisation takes its statistics over the whole batch, and the gradient is clipped after it is
summed.  Keras' own `train_on_batch` would give every device the whole batch, and clip before.

Tried with several logical devices of a CPU only: no GPU was at hand.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from e6tag.errors import ConfigError


def make_strategy(num_devices: int) -> Any:
    """A strategy over the first so many devices of the kind that is used; None for one."""
    if num_devices == 1:
        return None
    gpus = tf.config.list_logical_devices("GPU")
    chosen = (gpus or tf.config.list_logical_devices("CPU"))[:num_devices]
    return tf.distribute.MirroredStrategy([device.name for device in chosen])


def check_share(batch_size: int, num_devices: int) -> None:
    """Refuse a batch that the devices cannot share evenly: the mean would be another.

    Raises:
        ConfigError: naming a batch size that fits.
    """
    if batch_size % num_devices:
        fitting = -(-batch_size // num_devices) * num_devices
        raise ConfigError(
            f"{num_devices} devices cannot share --batch-size {batch_size} evenly. "
            f"Use --batch-size {fitting}."
        )


class Replicas:
    """Steps and predictions of a learner whose variables were made in a strategy's scope.

    Args:
        learner: a `Learner`, compiled with an optimiser for replicas (`make_optimizer`).
        strategy: of the scope.
    """

    def __init__(self, learner: Any, strategy: Any):
        self.learner, self.strategy = learner, strategy
        self.traced_step = tf.function(self.global_step)
        self.traced_network = tf.function(lambda x: learner.network(x, training=False))

    @property
    def num_devices(self) -> int:
        """Devices that share a batch."""
        return int(self.strategy.num_replicas_in_sync)

    def step(self, pictures: NDArray[np.uint8], labels: NDArray[np.float32]) -> float:
        """One training step; the loss of the whole batch, whose size the devices must divide."""
        with self.strategy.scope(), whole_batch_statistics(self.learner.network):
            return float(self.traced_step(self.shared(pictures), self.shared(labels)))

    def predict(self, pictures: NDArray[np.uint8]) -> Any:
        """Outputs of the network, on the first device."""
        return self.traced_network(pictures)

    def shared(self, batch: NDArray[Any]) -> Any:
        """A part of the batch for each device."""
        parts = np.split(batch, self.num_devices)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
        )

    def global_step(self, pictures: Any, labels: Any) -> Any:
        """The traced step: gradients on each device, their sum, the same update on each."""
        variables = self.learner.trainable_variables
        loss, gradients = self.strategy.run(self.summed_gradients, args=(pictures, labels))

        def update(_: Any, *sums: Any) -> None:
            # Here every variable stands for the copy of the device that the update is made on.
            self.learner.optimizer.apply(sums, variables)

        first = variables[0].value
        self.strategy.extended.update(first, update, args=tuple(gradients), group=False)
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None)

    def summed_gradients(self, pictures: Any, labels: Any) -> tuple[Any, list[Any]]:
        """On one device: its part of the loss, and the gradients of the whole batch's."""
        learner, variables = self.learner, self.learner.trainable_variables
        with tf.GradientTape() as tape:
            outputs = learner(pictures, training=True)
            # A mean over an equal part of the batch.
            loss = learner.compute_loss(pictures, labels, outputs) / self.num_devices
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        context = tf.distribute.get_replica_context()
        return loss, context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


@contextlib.contextmanager
def whole_batch_statistics(network: Any) -> Iterator[None]:
    """Batch normalisation over all devices inside the block; saved models never say so."""
    layers = [
        layer for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]  # fmt: skip
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronized = False
