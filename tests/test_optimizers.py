"""Optimisers against NumPy, and accumulated steps against one big one."""

import keras
import numpy as np
import pytest

from e6tag import optimizers
from e6tag.learner import Learner
from e6tag.objective import Objective
from e6tag.optimizers import make_optimizer

START, GRADIENT = [1.0, -2.0, 3.0], [0.1, -0.2, 0.3]
PLAIN = {"weight_decay": 0.0, "clip_norm": 0.0, "ema": 0.0}
# Three steps at rate .01, computed with Keras 3.15 and checked by hand.
GOLDEN = {
    "sgd": [0.99439, -1.98878, 2.98316984],
    "lion": [0.97, -1.97, 2.97],
}


def after(optimizer, steps=3, start=START, gradient=GRADIENT, name="kernel"):
    variable = keras.Variable(np.array(start, np.float32), name=name)
    optimizer.build([variable])
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, np.float32))])
    return np.asarray(variable)


@pytest.mark.parametrize("name", GOLDEN)
def test_three_steps_have_the_golden_values(name):
    found = after(make_optimizer(name, 0.01, **PLAIN))
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-6)


def test_adamw_and_lamb_have_the_golden_values_with_decay():
    adamw = after(make_optimizer("adamw", 0.01, **PLAIN | {"weight_decay": 0.01}))
    np.testing.assert_allclose(adamw, [0.9697039, -1.9694036, 2.9691036], rtol=1e-6)
    lamb = after(make_optimizer("lamb", 0.01, **PLAIN | {"weight_decay": 0.1}))
    np.testing.assert_allclose(lamb, [0.9329854, -1.9299885, 2.9269912], rtol=1e-6)


def test_muon_moves_a_matrix_along_an_orthogonal_one():
    gradient = np.random.default_rng(0).standard_normal((6, 4))
    zeros = np.zeros((6, 4))
    moved = after(make_optimizer("muon", 0.01, **PLAIN), 1, zeros, gradient, "projection")
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    # Newton and Schulz's five iterations leave singular values between .7 and 1.2.
    scale = 0.01 * np.sqrt(6) * 0.2
    values = np.diag(left.T @ (-moved / scale) @ right.T)
    assert (values > 0.6).all() and (values < 1.3).all()


def test_muon_leaves_the_head_and_what_is_no_matrix_to_adam():
    kind = make_optimizer("muon", 0.01, **PLAIN)
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs, keras.layers.Dense(2, name="tags")(keras.layers.Dense(3, name="projection")(inputs))
    )
    by_adam = {v.path for v in model.trainable_variables if kind._should_use_adamw(v)}
    assert by_adam == {"projection/bias", "tags/kernel", "tags/bias"}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "muon"])
def test_slow_variables_move_at_their_share_of_the_rate(name):
    paths = []
    for slow in ((), ("kernel",)):
        optimizer = make_optimizer(name, 0.01, **PLAIN, slow=(slow, 0.25))
        paths.append(np.array(START) - after(optimizer, 1))
    np.testing.assert_allclose(paths[1], 0.25 * paths[0], rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "lamb", "lion", "muon"])
def test_biases_are_not_decayed(name):
    optimizer = make_optimizer(name, 0.1, **PLAIN | {"weight_decay": 0.5})
    zero = [0.0] * 3
    np.testing.assert_array_equal(after(optimizer, 2, gradient=zero, name="bias"), START)
    decayed = after(make_optimizer(name, 0.1, **PLAIN | {"weight_decay": 0.5}), 2, gradient=zero)
    np.testing.assert_allclose(decayed, np.array(START) * 0.95**2, rtol=1e-5)


def test_the_global_norm_is_clipped():
    found = after(make_optimizer("sgd", 1.0, **PLAIN | {"clip_norm": 0.5}), 1)
    expected = np.array(START) - 0.5 * np.array(GRADIENT) / np.linalg.norm(GRADIENT)
    expected = np.where(np.linalg.norm(GRADIENT) > 0.5, expected, np.array(START) - GRADIENT)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    big = after(make_optimizer("sgd", 1.0, **PLAIN | {"clip_norm": 0.5}), 1, gradient=[3, 0, 4])
    np.testing.assert_allclose(big, np.array(START) - np.array([0.3, 0, 0.4]), rtol=1e-6)


def learner(**options):
    """A small network without batch normalisation, as training drives one."""
    keras.utils.set_random_seed(1)
    pictures = keras.Input((4, 4, 3), name="pictures")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pictures))
    logits = keras.layers.Dense(5, name="tags")(keras.layers.Dense(6, "tanh", name="body")(flat))
    made = Learner(
        keras.Model(pictures, {"logits": logits, "probabilities": logits}), Objective("bce", 5)
    )
    made.compile(optimizer=make_optimizer(**PLAIN | options), jit_compile=False)
    made.prepare(4)
    return made


def batches(count, size):
    rng = np.random.default_rng(3)
    return [
        (
            rng.integers(0, 256, (size, 4, 4, 3)).astype(np.uint8),
            rng.integers(0, 2, (size, 5)).astype(np.float32),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
def test_small_accumulated_steps_are_one_big_step(clip_norm):
    options = {"name": "sgd", "schedule": 0.1, "clip_norm": clip_norm}
    small, big = learner(**options, accumulate=3), learner(**options)
    parts = batches(6, 4)
    for pictures, labels in parts:
        small.step(pictures, labels)
    for start in (0, 3):
        big.step(*(np.concatenate(part) for part in zip(*parts[start : start + 3], strict=True)))
    assert int(small.optimizer.iterations) == int(big.optimizer.iterations) == 2
    for one, other in zip(small.trainable_variables, big.trainable_variables, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-6)


def test_averages_fade_by_the_update_whatever_is_accumulated():
    """The average after n small steps an update is, one step later, that of big steps."""
    options = {"name": "sgd", "schedule": 0.1, "ema": 0.5}
    small, big = learner(**options, accumulate=2), learner(**options)
    parts = batches(7, 4)
    for pictures, labels in parts:
        small.step(pictures, labels)
    for start in (0, 2, 4):
        big.step(*(np.concatenate(part) for part in zip(*parts[start : start + 2], strict=True)))
    with small.averaged(), big.averaged():
        for one, other in zip(small.trainable_variables, big.trainable_variables, strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-6)


def test_optimisers_are_those_that_the_options_name():
    from typing import get_args, get_type_hints

    from e6tag.config import TrainConfig

    assert set(get_args(get_type_hints(TrainConfig)["optimizer"])) == set(optimizers.kinds())
