"""Recipes in configs/: each is read, builds, and says what it needs and what to expect."""

import contextlib
import dataclasses
import re

import numpy as np
import pytest
from conftest import ROOT, run_command
from tiny_data import write_dataset

from e6tag import cli, cost, models, preparation, shards, training
from e6tag.config import TrainConfig
from e6tag.learner import Learner
from e6tag.objective import Objective
from e6tag.optimizers import make_optimizer

RECIPES = sorted((ROOT / "configs").glob("*.toml"))
SMALLER = {
    "demo": ["--image-size", "32", "--weights", "none"],
    "base": ["--image-size", "64"],
    "cpu-hour": ["--image-size", "32", "--weights", "none"],
    "original": ["--depth", "1", "1", "1", "1", "1", "1", "--image-size", "64"],
}
"""what makes the network of a recipe small; all else stays as it is there"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 60)


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request):
    return request.param


def header(path):
    """The comment that a recipe begins with, its lines joined."""
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    return " ".join(line.removeprefix("#").strip() for line in lines)


def test_there_are_recipes_of_each_size():
    assert {"demo", "cpu-hour", "base", "original"} <= {path.stem for path in RECIPES}


def test_a_header_has_command_hardware_time_and_figures_and_says_which(recipe):
    words = header(recipe)
    assert words.startswith(f"python train.py --config configs/{recipe.name} ")
    assert re.search(r"Hardware: [^.]*\b(CPU|GPU)", words)
    assert re.search(r"\b(seconds|minutes|hours|days)\b", words)
    assert re.search(r"\b(Seen|Predicted)\b", words, re.IGNORECASE)
    assert "macro AP" in words


def test_a_command_in_a_header_has_options_that_there_are(recipe):
    words = header(recipe)
    found = set(re.findall(r"--[a-z][a-z-]+", words))
    known = {f"--{name.replace('_', '-')}" for name in TrainConfig.__dataclass_fields__}
    assert found <= known


def dry_run(recipe, data, run, *more):
    options = ["--config", recipe, "--data", data, "--run", run, "--device", "cpu", "--dry-run"]
    return run_command(["train.py", *options, *more], ROOT)


def smaller(recipe):
    """Flags that make a recipe quick; recipes without their own are tried with smaller pictures."""
    return [*SMALLER.get(recipe.stem, ["--image-size", "64"]), "--batch-size", "2"]


@pytest.mark.slow
def test_a_recipe_builds_and_takes_steps(recipe, data, tmp_path):
    done = dry_run(recipe, data, tmp_path / "r", *smaller(recipe))
    assert done.returncode == 0, done.stderr.decode()
    assert b"model: " in done.stderr and b"time: about" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "accumulate", "gigabytes"), [(64, 2, 8), (32, 4, 4)])
def test_the_base_recipe_fits_its_cards(batch, accumulate, gigabytes):
    path = ROOT / "configs" / "base.toml"
    config = cli.read_config(TrainConfig, path)
    learner = Learner(models.build_tagger(config, np.full(1024, 0.03)), Objective("bce", 1024))
    learner.compile(optimizer=make_optimizer(
        config.optimizer, 1e-3, weight_decay=0.0, clip_norm=1.0, ema=config.ema,
        accumulate=accumulate,
    ))  # fmt: skip
    learner.prepare(config.image_size)
    cost.check_fit(cost.step_memory(learner), batch, accumulate, gigabytes)
    assert batch * accumulate == config.batch_size * config.accumulate
    if batch != config.batch_size:
        assert f"--batch-size {batch} --accumulate {accumulate}" in header(path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_original_takes_three_steps_at_its_true_size(tmp_path):
    data = write_dataset(tmp_path / "data", 10, num_tags=1024)
    config = cli.read_config(TrainConfig, ROOT / "configs" / "original.toml")
    assert (config.batch_size, config.epochs, config.learning_rate) == (12, 4, 4.0)
    config = dataclasses.replace(config, run=tmp_path / "r", data=data, batch_size=2)
    session = preparation.prepare(config, shards.open_dataset(data))
    assert session.learner.network.count_params() == 68_604_608
    # 6,221,185,024 and what six stages at stride 32 instead of 128 add, and the head.
    assert 7.3e9 < cost.multiply_adds(session.learner.network) < 7.5e9
    before = session.learner.network.get_layer("stage6_block3_second").kernel.numpy()
    with contextlib.closing(session.train.training(0, 3, 1)) as stream:
        losses = [session.learner.step(*batch) for batch in stream]
    assert len(losses) == 3 and np.isfinite(losses).all()
    training.check_weights(session)
    after = session.learner.network.get_layer("stage6_block3_second").kernel.numpy()
    assert np.abs(after - before).max() > 0
