"""Several devices that share each batch: the same training as on one.

No GPU is needed: TensorFlow takes a CPU for several devices.
"""

import json
import signal

import numpy as np
import pytest
from tiny_data import write_dataset
from tiny_training import final_weights, kill_after_checkpoint, train

EVERYTHING = [
    "--accumulate", "3", "--trivial-augment", "--mixup", "0.4", "--repeat-factor", "0.3",
    "--progressive", "0.5", "--checkpoint-seconds", "0.2",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 240)


def trained(data, run, *options):
    code, _, err = train(data, run, *options)
    assert code == 0, err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return lines, final_weights(run), err


def check_same(data, folder, options, tolerance):
    one, (steps, weights), _ = trained(data, folder / "one", *options)
    two, (again, others), err = trained(data, folder / "two", *options, "--devices", "2")
    assert "as 2 devices" in err
    assert steps == again and weights.keys() == others.keys()
    # Lion takes the sign of gradients that are zero but for rounding.
    for name, value in weights.items() if "lion" not in options else ():
        scale = np.abs(value).max(initial=1e-3)
        np.testing.assert_allclose(others[name], value, atol=tolerance * scale, err_msg=name)
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=tolerance)
        assert theirs["macro_ap"] == pytest.approx(ours["macro_ap"], abs=0.02)


def test_two_devices_learn_what_one_does_with_batch_norm_clipping_and_ema(data, tmp_path):
    # Later, rounding has grown: to 2e-3 of the smallest shifts after two epochs.
    options = ["--epochs", "1", "--optimizer", "sgd", "--learning-rate", "0.01"]
    check_same(data, tmp_path, [*options, "--clip-norm", "1"], 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "lion", "muon"])
def test_so_they_do_with_every_optimiser_and_with_accumulation(data, tmp_path, optimizer):
    # Adam's like divide by small gradients' sizes: rounding is what those have.
    options = ["--epochs", "1", "--accumulate", "3", "--learning-rate", "1e-4"]
    check_same(data, tmp_path, [*options, "--optimizer", optimizer], 0.02)


@pytest.mark.parametrize("more", [["--optimizer", "adamw"]])
def test_two_devices_resume_to_the_same_bits(data, tmp_path, more):
    options = ["--epochs", "4", "--devices", "2", *EVERYTHING, *more]
    _, whole, _ = trained(data, tmp_path / "whole", *options)
    code, words, _ = kill_after_checkpoint(data, tmp_path / "r", signal.SIGKILL, *options, least=20)
    assert code == -signal.SIGKILL, words
    _, resumed, err = trained(data, tmp_path / "r", *options)
    assert "resuming at step" in err
    assert whole[0] == resumed[0]
    for name, value in whole[1].items():
        np.testing.assert_array_equal(value, resumed[1][name], err_msg=name)


def test_a_run_of_two_devices_goes_on_with_one(data, tmp_path):
    options = ["--epochs", "9", "--checkpoint-seconds", "0.2"]
    code, words, _ = kill_after_checkpoint(
        data, tmp_path / "r", signal.SIGKILL, *options, "--devices", "2"
    )
    assert code == -signal.SIGKILL, words
    lines, _, err = trained(data, tmp_path / "r", *options)
    assert "resuming at step" in err and len(lines) == 9


@pytest.mark.parametrize(
    "options, words",
    [
        (["--devices", "3"], "cannot share --batch-size 16 evenly. Use --batch-size 18"),
        (["--devices", "65"], "--devices must be from 0 to 64"),
    ],
)
def test_devices_that_cannot_be_are_one_line(data, tmp_path, options, words):
    code, _, err = train(data, tmp_path / "r", *options)
    assert code == 2
    assert words in err.strip().splitlines()[-1] and "Traceback" not in err


def test_every_device_has_the_same_variables_after_a_step(data):
    from conftest import ROOT, run_command

    code = """
import os, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
from pathlib import Path
from e6tag import shards
from e6tag.config import TrainConfig
from e6tag.devices import choose_device
from e6tag.preparation import build_learner, open_batches
options = TrainConfig(
    backbone="resnet", depth=(1, 1), width=8, image_size=32, batch_size=12, devices=3,
    pooling="attention", pooled_stages=5, heteroscedastic=True,
)
choose_device("cpu", False, 3)
train, _ = open_batches(options, shards.open_dataset(Path(sys.argv[1])))
learner = build_learner(options, train)
for step in range(3):
    learner.step(*train.training_batch(step))
for variable in [*learner.variables, *learner.optimizer.variables]:
    first, *others = [copy.numpy() for copy in variable.value.values]
    assert len(others) == 2 and all((first == other).all() for other in others), variable.path
print(len(learner.variables))
"""
    done = run_command(["-c", code, data], ROOT)
    assert int(done.stdout) > 20, done.stderr.decode()[-2000:]
