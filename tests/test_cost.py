"""Multiply-adds against TensorFlow's profiler and published figures; memory against its parts."""

import dataclasses

import keras
import numpy as np
import pytest

from e6tag import cost, models
from e6tag.config import TrainConfig
from e6tag.cost import StepMemory, check_fit, multiply_adds
from e6tag.errors import ConfigError
from e6tag.learner import Learner
from e6tag.models.efficientnet_lite import VARIANTS, classifier
from e6tag.objective import Objective
from e6tag.optimizers import make_optimizer

SMALL = dict(
    backbone="resnet",
    depth=(1, 1),
    width=8,
    image_size=64,
    vector_size=24,
    heads=2,
    key_size=8,
    factors=2,
    pooling="attention",
    pooled_stages=5,
    heteroscedastic=True,
)


def profiled(network, size):
    """Multiply-adds that TensorFlow counts in the frozen graph: convolutions and products."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2 as freeze,
    )

    spec = tf.TensorSpec((1, size, size, 3), tf.float32)
    graph = freeze(tf.function(network).get_concrete_function(spec)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    found = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    total, level = 0, found
    while level.children:
        level = level.children[0]
        if level.name in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            total += level.total_float_ops - sum(c.total_float_ops for c in level.children)
    return total / 2


@pytest.mark.parametrize("more", [{}, {"heads": 0, "heteroscedastic": False}])
def test_multiply_adds_are_what_tensorflow_counts(more):
    network = models.build_tagger(TrainConfig(**{**SMALL, **more}), np.full(7, 0.1))
    expected = profiled(network, 64)
    if more == {}:
        # The profiler knows no products of tokens with tokens.
        tokens, mixed = 8 * 8, 2 * 8
        expected += 2 * tokens**2 * mixed
    assert multiply_adds(network) == expected


# The table of tensorflow/tpu, models/official/efficientnet/lite, counts a little more than we do.
@pytest.mark.parametrize(("name", "millions"), [("lite0", 407), ("lite1", 631), ("lite2", 899)])
def test_efficientnet_lite_is_counted_as_tensorflow_counts_it(name, millions):
    variant = VARIANTS[f"efficientnet-{name}"]
    network = classifier(variant, variant.image_size)
    assert multiply_adds(network) == profiled(network, variant.image_size)
    assert multiply_adds(network) / 1e6 == pytest.approx(millions, rel=0.06)


def learner(optimizer="adamw", ema=0.99, **more):
    config = TrainConfig(**{**SMALL, **more})
    made = Learner(models.build_tagger(config, np.full(7, 0.1)), Objective("focal-robust", 7))
    chosen = make_optimizer(optimizer, 1e-3, weight_decay=0.0, clip_norm=0.0, ema=ema)
    made.compile(optimizer=chosen)
    made.prepare(config.image_size)
    return made


def test_the_state_is_weights_gradients_moments_and_averages():
    made = learner()
    trained = sum(v.numpy().size for v in made.trainable_variables)
    fixed = sum(v.numpy().size for v in made.non_trainable_variables)
    state = cost.step_memory(made).state
    # weight, gradient, two moments, average; the optimiser's counters are some numbers more
    assert 0 <= state / 4 - (5 * trained + fixed) < 10
    plain = cost.step_memory(learner("sgd", ema=0.0)).state
    assert 0 <= plain / 4 - (3 * trained + fixed) < 10


def test_a_picture_needs_the_sum_of_all_outputs_at_least():
    made = learner(heads=0, heteroscedastic=False)
    outputs = [layer.output for layer in made.network.layers]
    numbers = sum(keras.ops.size(np.zeros(o.shape[1:])) for o in outputs)
    assert cost.step_memory(made).picture == int(cost.COPIES * 4 * int(numbers))


def test_twice_the_side_needs_four_times_the_memory():
    small, large = (cost.step_memory(learner(image_size=s, heads=0)).picture for s in (64, 128))
    assert large / small == pytest.approx(4, rel=0.02)


def test_what_fits_is_the_largest_batch_that_does():
    memory = StepMemory(state=400_000_000, picture=10_000_000)
    batch = memory.largest_batch(4.0)
    assert memory.gigabytes(batch) <= 4.0 < memory.gigabytes(batch + 1)
    check_fit(memory, batch, 1, 4.0)
    with pytest.raises(ConfigError, match=f"--batch-size {batch} --accumulate 4"):
        check_fit(memory, 4 * batch, 1, 4.0)
    with pytest.raises(ConfigError, match="smaller --image-size"):
        check_fit(dataclasses.replace(memory, picture=10**11), 1, 1, 4.0)
