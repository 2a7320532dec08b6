"""What a training will cost: multiply-adds a picture, memory of a step.

Counted from the shapes of the network's layers, so that it can be told before anything is spent.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras

from e6tag.errors import ConfigError
from e6tag.layers import AttentionPooling, HeteroscedasticLogits
from e6tag.vector_noise import VectorNoiseLogits

SMALL_CARD_GB = 4.0
"""the card that the defaults are meant for"""
RESERVED_GB = 0.6
"""for the driver's context, kernels and fragments; an assumption: no GPU was at hand"""
COPIES = 1.2
"""Bytes of a step for each byte of the layers' outputs.  On a CPU (float32, 96 px, peak resident
memory at two batch sizes) a picture took 0.94 of them with the ResNet, 0.80 with Lite0."""
NODE_TENSORS = 6
"""tensors of (batch, tags, nodes) that the quadrature of the label noise has at once"""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training step needs."""

    state: int
    """weights, their gradients, what the optimiser holds of each"""
    picture: int
    """for each picture of a batch"""

    def gigabytes(self, batch_size: int) -> float:
        """Of a whole step, with what the system reserves (10^9 bytes)."""
        return (self.state + batch_size * self.picture) / 1e9 + RESERVED_GB

    def largest_batch(self, memory_gb: float) -> int:
        """Pictures that fit; 0 where not even one does."""
        return max(0, int(((memory_gb - RESERVED_GB) * 1e9 - self.state) // self.picture))


def multiply_adds(network: Any) -> int:
    """Multiplications of weights and of attention for one picture, forwards.

    Args:
        network: a Keras model whose layers have fixed shapes but for the batch.
    """
    return sum(layer_multiply_adds(layer) for layer in network.layers)


def layer_multiply_adds(layer: Any) -> int:
    """`multiply_adds` of one layer; 0 where it multiplies no matrices."""
    if isinstance(layer, AttentionPooling):
        _, height, width, _ = layer.input.shape
        tokens, mixed = height * width, layer.heads * layer.key_size
        kernels = [layer.query.kernel, layer.key.kernel, layer.value.kernel]
        return tokens * sum(map(size, kernels)) + 2 * tokens**2 * mixed
    if isinstance(layer, HeteroscedasticLogits):
        parts = [layer.location, layer.diagonal] + ([layer.multiplier] if layer.num_factors else [])
        return sum(size(kernel) for kernel, _ in parts)
    if isinstance(layer, VectorNoiseLogits):
        maps = 2 if layer.num_factors else 1
        tag_layer = size(layer.location[0])
        return (2 + layer.num_factors) * tag_layer + maps * size(layer.diagonal[0])
    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return math.prod(layer.output.shape[1:3]) * size(layer.kernel)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.output.shape[1:-1]) * size(layer.kernel)
    return 0


def size(variable: Any) -> int:
    """Numbers in a variable."""
    return math.prod(variable.shape)


def kept_numbers(layer: Any) -> int:
    """Numbers that a layer makes of one picture and keeps for the way back."""
    if isinstance(layer, keras.layers.InputLayer):
        return math.prod(layer.output.shape[1:])
    numbers = sum(math.prod(output.shape[1:]) for output in keras.tree.flatten(layer.output))
    if isinstance(layer, AttentionPooling):
        _, height, width, channels = layer.input.shape
        tokens, mixed = height * width, layer.heads * layer.key_size
        numbers += tokens * (channels + 4 * mixed) + 2 * tokens**2 * layer.heads
    elif isinstance(layer, HeteroscedasticLogits):
        numbers += NODE_TENSORS * layer.nodes * layer.num_tags
    elif isinstance(layer, VectorNoiseLogits):
        numbers += (NODE_TENSORS * layer.nodes + layer.num_factors) * layer.num_tags
    return numbers


def step_memory(learner: Any) -> StepMemory:
    """Memory of a training step, on each of the devices that share its batch.

    Args:
        learner: a compiled `Learner` whose optimiser is built.
    """
    width = keras.backend.standardize_dtype(keras.mixed_precision.dtype_policy().compute_dtype)
    num_bytes = 2 if width in ("float16", "bfloat16") else 4
    numbers = sum(kept_numbers(layer) for layer in learner.network.layers)
    weights = sum(map(size, learner.variables)) + sum(map(size, learner.trainable_variables))
    slots = sum(map(size, learner.optimizer.variables))
    return StepMemory(
        4 * (weights + slots), int(COPIES * num_bytes * numbers / learner.num_devices)
    )


def check_fit(memory: StepMemory, batch_size: int, accumulate: int, memory_gb: float) -> None:
    """Refuse a step that needs more memory than there is.

    Raises:
        ConfigError: naming options that would fit.
    """
    needed = memory.gigabytes(batch_size)
    if needed <= memory_gb:
        return
    fitting = memory.largest_batch(memory_gb)
    if fitting:
        advice = f"--batch-size {fitting} --accumulate {-(-batch_size * accumulate // fitting)}"
    else:
        advice = "a smaller --image-size, --width or another --backbone"
    raise ConfigError(
        f"a step of {batch_size} pictures needs about {needed:.1f} GB, more than --memory-gb "
        f"{memory_gb:g}. Use {advice}."
    )


def describe_cost(learner: Any, batch_size: int) -> str:
    """One line on what a picture and a step cost."""
    memory = step_memory(learner)
    needed, fitting = memory.gigabytes(batch_size), memory.largest_batch(SMALL_CARD_GB)
    fits = "fits" if needed <= SMALL_CARD_GB else "does not fit"
    return (
        f"cost: {multiply_adds(learner.network) / 1e6:,.0f} million multiply-adds a picture; a "
        f"step needs about {needed:.2g} GB and {fits} a card of {SMALL_CARD_GB:g} GB "
        f"(--batch-size {fitting} would)"
    )
