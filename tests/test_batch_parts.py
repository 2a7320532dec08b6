"""A batch in parts: what Keras' own steps on the parts make."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import write_dataset
from tiny_training import train

from e6tag.batch_parts import check_parts, in_order, mean_gradients
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError
from e6tag.preparation import assemble

TAGS, SIZE = 6, 32


def learner(parts, **more):
    options = {
        "backbone": "resnet", "depth": (1, 1), "width": 8, "image_size": SIZE, "factors": 2,
        "pooling": "attention", "pooled_stages": 5, "heteroscedastic": True,
        "optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant", "ema": 0.0,
    } | more  # fmt: skip
    return assemble(TrainConfig(batch_parts=parts, **options), np.full(TAGS, 0.2), 100)


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    return pictures, (rng.random((count, TAGS)) < 0.3).astype(np.float32)


def eager_gradients(model, pictures, labels):
    with tf.GradientTape() as tape:
        outputs = model(pictures.astype(np.float32), training=True)
        loss = model.compute_loss(y=labels, y_pred=outputs)
    return float(loss), [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([1, 2, 3, 4]), st.integers(2, 3), st.integers(0, 1000))
def test_gradients_are_the_mean_of_those_of_the_parts_alone(parts, size, seed):
    model = learner(parts)
    pictures, labels = batch(parts * size, seed)
    traced = tf.function(lambda x, y: mean_gradients(model, x, y, parts))
    loss, gradients = traced(tf.constant(pictures, tf.float32), tf.constant(labels))
    alone = [
        eager_gradients(model, x, y)
        for x, y in zip(np.split(pictures, parts), np.split(labels, parts), strict=True)
    ]
    assert float(loss) == pytest.approx(np.mean([one for one, _ in alone]), rel=1e-5)
    for index, gradient in enumerate(gradients):
        expected = np.mean([found[index] for _, found in alone], axis=0)
        scale = max(1e-3, np.abs(expected).max())
        np.testing.assert_allclose(gradient, expected, atol=1e-4 * scale)


@pytest.mark.parametrize("likelihood", ["marginal", "joint"])
def test_the_same_pictures_in_every_part_make_the_step_of_one(likelihood):
    """Keras' own step is the oracle: same pictures, same statistics, same mean."""
    pictures, labels = batch(4)
    one, many = learner(1, likelihood=likelihood), learner(3, likelihood=likelihood)
    many.set_weights(one.get_weights())
    losses = [one.step(pictures, labels) for _ in range(3)]
    tripled = np.tile(pictures, (3, 1, 1, 1)), np.tile(labels, (3, 1))
    assert [many.step(*tripled) for _ in range(3)] == pytest.approx(losses, rel=1e-4)
    assert losses[0] != losses[-1]
    assert int(many.optimizer.iterations) == 3
    for ours, theirs in zip(many.trainable_variables, one.trainable_variables, strict=True):
        scale = max(1e-2, np.abs(theirs.numpy()).max())
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * scale, err_msg=ours.path)


def test_moving_statistics_follow_each_part_in_order():
    model = learner(2)
    moving = next(v for v in model.non_trainable_variables if v.path.endswith("moving_mean"))
    layer = next(
        one for one in model.network._flatten_layers() if getattr(one, "moving_mean", 0) is moving
    )
    before = moving.numpy()
    pictures, labels = batch(8)
    seen = []
    for half in np.split(pictures, 2):
        twin = learner(1)
        twin.set_weights(model.get_weights())
        twin(half.astype(np.float32), training=True)
        index = [v.path for v in model.variables].index(moving.path)
        after = twin.variables[index].numpy()
        seen.append((after - layer.momentum * before) / (1 - layer.momentum))
    model.step(pictures, labels)
    expected = before
    for mean in seen:
        expected = layer.momentum * expected + (1 - layer.momentum) * mean
    np.testing.assert_allclose(moving.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_sums_are_made_in_order():
    terms = [np.float32(1e8), np.float32(-1e8), np.float32(1.0)]
    assert in_order(terms) == 1.0
    assert in_order(terms[::-1]) == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((32, 3, 1), "--batch-size 33"),
        ((32, 2, 2), "--batch-parts 1"),
        ((1, 2, 1), "--batch-size 2"),
    ],
)
def test_what_cannot_be_taken_in_parts_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        check_parts(*arguments)


def test_whole_batches_are_for_any_devices():
    check_parts(7, 1, 7)


def test_refused_by_the_command_before_anything_is_made(tmp_path):
    data = write_dataset(tmp_path / "data", 60)
    code, out, err = train(data, tmp_path / "run", "--batch-parts", "3")
    assert (code, out) == (2, "")
    assert "--batch-size 18" in err


SUMS = """
from e6tag.devices import choose_device
choose_device("cpu", False, 1, 2)
import sys
import numpy as np, tensorflow as tf
from tensorflow.python.eager import context
from e6tag.batch_parts import mean_gradients
from e6tag.config import TrainConfig
from e6tag.preparation import assemble
described = {"pooling": "attention", "pooled_stages": 5, "heteroscedastic": True}
options = {"depth": (1, 1), "width": 8, "image_size": 32} | described | eval(sys.argv[1])
learner = assemble(TrainConfig(backbone="resnet", **options), np.full(6, 0.2), 100)
pictures, labels = tf.zeros((4, 32, 32, 3)), tf.zeros((4, 6))
gradients = tf.function(lambda: mean_gradients(learner, pictures, labels, 2))
context.context().enable_graph_collection()
gradients()
graphs = context.context().export_run_metadata().partition_graphs
sums = [node.input for graph in graphs for node in graph.node if node.op == "AddN"]
terms = [sum(not name.startswith("^") for name in inputs) for inputs in sums]
print(len(terms), max(terms))
"""


@pytest.mark.parametrize(
    "options",
    [{}, {"likelihood": "joint", "loss": "bce"}, {"pooling": "ml-decoder", "loss": "focal-robust"}],
    ids=["default", "joint", "decoder"],
)
def test_what_tensorflow_runs_adds_gradients_in_pairs(options):
    """The graph after its optimisation, which joins pairs unless it is told not to."""
    done = run_command(["-c", SUMS, repr(options)], ROOT)
    assert done.returncode == 0, done.stderr.decode()[-600:]
    count, most = map(int, done.stdout.split())
    assert count > 10 and most == 2
