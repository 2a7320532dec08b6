"""Two trainings of one seed, in processes of their own: the same metrics and the same bits."""

import json

import numpy as np
import onnxruntime
import pytest
from conftest import ROOT, run_command
from tiny_data import write_dataset
from tiny_training import final_weights, train

MEASURED = ("seconds", "pictures_per_second")
"""What differs between two runs."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 120)


def trained(data, run, *options):
    code, _, err = train(data, run, "--epochs", "3", *options)
    assert code == 0, err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line[name] > 0 for line in lines for name in MEASURED)
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines], final_weights(
        run
    )


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--mixup", "0.4", "--trivial-augment", "--progressive", "0.5", "--image-size", "48"],
    ],
    ids=["plain", "everything"],
)
def test_two_runs_of_one_seed_are_the_same_whatever_the_workers(data, tmp_path, options):
    lines, (step, weights) = trained(data, tmp_path / "a", *options, "--workers", "1")
    again, (steps, others) = trained(data, tmp_path / "b", *options, "--workers", "4")
    assert lines == again and len(lines) == 3
    assert step == steps and weights.keys() == others.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)
    for name in ("thresholds.csv", "tags.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    one, other = (onnx_outputs(tmp_path / run / "model.onnx") for run in "ab")
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5, atol=1e-6, err_msg=name)


def onnx_outputs(path):
    """Outputs by name of two pictures.  (tf2onnx joins equal constants in an order of its own, so
    that two exports of the same weights differ in names and order.)"""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (pictures,) = session.get_inputs()
    shape = (2, *pictures.shape[1:])
    values = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {pictures.name: values}), strict=True))


def test_another_seed_is_another_training(data, tmp_path):
    _, (_, weights) = trained(data, tmp_path / "a", "--seed", "0")
    _, (_, others) = trained(data, tmp_path / "b", "--seed", "1")
    assert any((value != others[name]).any() for name, value in weights.items())


REPEATED = """
import sys, threading
parts = int(sys.argv[1])
from e6tag.devices import choose_device
choose_device("cpu", False, 1, parts)
import numpy as np, tensorflow as tf
from e6tag.batch_parts import mean_gradients
from e6tag.config import TrainConfig
from e6tag.preparation import assemble
learner = assemble(TrainConfig(
    weights="none", image_size=96, pooling="attention", pooled_stages=5, heteroscedastic=True
), np.full(50, 0.05), 100)
rng = np.random.default_rng(0)
pictures = tf.constant(rng.uniform(0, 255, (32, 96, 96, 3)), tf.float32)
labels = tf.constant(rng.random((32, 50)) < 0.05, tf.float32)
gradients = tf.function(lambda: mean_gradients(learner, pictures, labels, parts)[1])
first = [value.numpy() for value in gradients()]
# Work beside it changes what is ready first.
done = threading.Event()
def other_work():
    while not done.is_set():
        np.sort(np.arange(200_000)[::-1])
others = [threading.Thread(target=other_work, daemon=True) for _ in range(2)]
[thread.start() for thread in others]
for _ in range(40):
    for value, other in zip(gradients(), first):
        assert np.array_equal(value, other)
done.set()
"""


@pytest.mark.parametrize("parts", [1, 2])
def test_a_gradient_of_the_true_size_is_the_same_to_the_last_bit(parts):
    """It differed where operations overlapped and three gradients were added (one operation after
    the other, and sums of pairs in batch parts, do not); tiny networks never did."""
    done = run_command(["-c", REPEATED, str(parts)], ROOT)
    assert done.returncode == 0, done.stderr.decode()[-600:]
