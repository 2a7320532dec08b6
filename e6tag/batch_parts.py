"""One training step as several small ones side by side, each on a thread of its own.

A CPU shares one large operation between its cores badly: the small maps of a network's end are
not worth sharing, and its cores wait for each other after every operation.  So each core takes a
part of the batch through the whole network, in one graph, and the gradients meet once.

Batch normalisation takes its statistics over a part: "ghost" batches (Hoffer et al. 2017,
arXiv:1705.08741), so that the number of parts belongs to the recipe, not to the machine.
"""

from typing import Any

import tensorflow as tf

from e6tag.errors import ConfigError


def check_parts(batch_size: int, num_parts: int, num_devices: int) -> None:
    """Refuse a batch that cannot be taken in equal parts: the mean would be another.

    Raises:
        ConfigError: naming what would fit.
    """
    if num_parts > 1 and num_devices > 1:
        raise ConfigError(
            "--batch-parts is for one device. Use --batch-parts 1, or leave --devices out."
        )
    if batch_size % num_parts:
        fitting = -(-batch_size // num_parts) * num_parts
        raise ConfigError(
            f"--batch-size {batch_size} cannot be taken in {num_parts} equal parts. "
            f"Use --batch-size {fitting}."
        )


def mean_gradients(learner: Any, pictures: Any, labels: Any, num_parts: int) -> tuple[Any, Any]:
    """Loss and gradients of a batch, each the mean of its parts'; inside a `tf.function` only.

    All gradients are added in pairs, whose sum does not depend on which is ready first: several
    would be added in the order in which they come, where operations overlap (`devices`).

    Args:
        learner: a compiled `Learner`.
        pictures: (batch, height, width, 3); `num_parts` divides the batch.
        labels: (batch, num_tags).
        num_parts: of equal size, in order.

    Returns:
        The loss, and for each trainable variable its gradient, scaled as the optimiser wants it.
    """
    variables = [variable.value for variable in learner.trainable_variables]
    losses, gradients = [], []
    for x, y in zip(tf.split(pictures, num_parts), tf.split(labels, num_parts), strict=True):
        # Of equal parts, the mean of means is the batch's mean.
        loss = learner.compute_loss(x, y, learner(x, training=True)) / num_parts
        losses.append(loss)
        gradients.append(
            tf.gradients(
                learner.optimizer.scale_loss(loss),
                variables,
                aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
        )
    return in_order(losses), [in_order(parts) for parts in zip(*gradients, strict=True)]


def in_order(parts: Any) -> Any:
    """Their sum, added one after the other: the same bits whichever was ready first."""
    total, *others = parts
    for other in others:
        total = total + other
    return total
