"""Trainings of seconds in processes of their own, and what they leave behind."""

import json
import os
import subprocess
import sys
import time

from conftest import ROOT, run_command

SMALL = [
    "--backbone", "resnet", "--depth", "1", "1", "--width", "8", "--image-size", "32",
    "--vector-size", "24", "--heads", "2", "--key-size", "8", "--factors", "2",
    "--pooling", "attention", "--pooled-stages", "5", "--heteroscedastic",
    "--batch-size", "16", "--ema", "0.9", "--learning-rate", "5e-3", "--device", "cpu",
]  # fmt: skip


def train(data, run, *more):
    done = run_command(["train.py", "--data", data, "--run", run, *SMALL, *more], ROOT)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def final_weights(run):
    import h5py
    import keras  # noqa: F401  (registers the file reader)

    state = json.loads((run / "checkpoints" / "state.json").read_text())
    found = {}
    with h5py.File(run / "checkpoints" / state["weights"]) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return state["step"], found


def step_of(state):
    return json.loads(state.read_text())["step"] if state.exists() else 0


def kill_after_checkpoint(data, run, number, *more, least=1):
    process = subprocess.Popen(
        [sys.executable, "train.py", "--data", str(data), "--run", str(run), *SMALL, *more],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
    )  # fmt: skip
    state = run / "checkpoints" / "state.json"
    deadline = time.monotonic() + 200
    while step_of(state) < least and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(number)
    words = process.communicate(timeout=60)[1].decode()
    return process.returncode, words, time.monotonic() - began
