"""Passes that fit a time: the most that do, and the run that they make."""

import json

import numpy as np
import pytest
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import write_dataset
from tiny_training import SMALL, final_weights

from e6tag.config import TrainConfig
from e6tag.schedules import picture_size
from e6tag.time_budget import Pace, passes_within, seconds_at, total_seconds

PACE = st.floats(1e-3, 0.1)


@settings(deadline=None)
@given(st.floats(0.01, 3), st.integers(1, 5), st.sampled_from([1.0, 0.5]), PACE, PACE, PACE, PACE)
def test_one_more_pass_would_not_fit(minutes, every, start, small, large, look_small, look_large):
    config = TrainConfig(
        minutes=minutes, validate_every=every, progressive=start, image_size=64, epochs=1
    )
    paces = [Pace(32, small, look_small), Pace(64, large, look_large)]

    def seconds(epochs):
        total = 0.0
        for epoch in range(epochs):
            size = picture_size(epoch, epochs, 64, start)
            share = (size**2 - 32**2) / (64**2 - 32**2)
            total += 300 * (small + share * (large - small))
            if (epoch + 1) % every == 0 or epoch + 1 == epochs:
                total += 50 * (look_small + share * (look_large - look_small))
        return total

    found = passes_within(config, paces, 300, 50)
    assert found == 1 or seconds(found) <= 60 * minutes * (1 + 1e-9)
    assert found == 10_000 or seconds(found + 1) >= 60 * minutes * (1 - 1e-9) or start < 1
    made = TrainConfig(
        minutes=minutes, validate_every=every, progressive=start, image_size=64, epochs=found
    )
    assert total_seconds(made, paces, 300, 50) == pytest.approx(seconds(found))


def test_measured_sizes_take_what_was_measured():
    paces = [Pace(32, 0.1, 0.01), Pace(64, 0.5, 0.04)]
    assert seconds_at(paces, 32, "training") == 0.1
    assert seconds_at(paces, 64, "validation") == 0.04


def test_a_timed_run_is_the_run_of_its_passes_and_resumes_as_itself(tmp_path):
    data = write_dataset(tmp_path / "data", 120)

    def train(run, *more):
        done = run_command(
            ["train.py", "--data", data, "--run", tmp_path / run, *SMALL, *more], ROOT
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stderr.decode()

    every = ("--progressive", "0.5", "--validate-every", "3")
    err = train("timed", "--minutes", "0.03", *every)
    epochs = json.loads((tmp_path / "timed/run.json").read_text())["config"]["epochs"]
    assert f"{epochs} passes fit 0.03 minutes here" in err
    again = train("timed", "--minutes", "0.03", *every)
    assert "is trained already" in again
    train("counted", "--epochs", str(epochs), *every)
    text = (tmp_path / "timed/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["epoch"] for line in lines] == [
        epoch for epoch in range(1, epochs + 1) if epoch % 3 == 0 or epoch == epochs
    ]
    (step, timed), (other_step, counted) = (
        final_weights(tmp_path / name) for name in ("timed", "counted")
    )
    assert step == other_step and timed.keys() == counted.keys()
    for name, value in timed.items():
        np.testing.assert_array_equal(value, counted[name], err_msg=name)
