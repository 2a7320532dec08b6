"""What a run folder remembers of its options, and what it takes for the same run."""

from dataclasses import asdict, replace

import pytest

from e6tag import checkpoints
from e6tag.checkpoints import State
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError
from e6tag.files import write_json
from e6tag.training import shaping

NEW = ("asl_gamma_positive", "asl_gamma_negative", "asl_margin", "splc_epochs", "splc_threshold",
       "likelihood", "factor_samples")  # fmt: skip
"""Options that runs of earlier versions do not name."""


def begun(folder, config, without=()):
    options = {name: value for name, value in shaping(config).items() if name not in without}
    folder.mkdir(parents=True)
    write_json(folder / "state.json", asdict(State(options, "f", step=7)))
    return folder


def test_a_run_of_a_version_without_some_options_goes_on_with_their_defaults(tmp_path):
    folder = begun(tmp_path / "r" / "checkpoints", TrainConfig(), without=NEW)
    assert checkpoints.load_state(folder, shaping(TrainConfig()), "f").step == 7
    for name, other in [("likelihood", "joint"), ("asl_margin", 0.1), ("splc_epochs", 2)]:
        wanted = shaping(replace(TrainConfig(), **{name: other}))
        with pytest.raises(ConfigError, match=f"begun with {name} .*, not {other}"):
            checkpoints.load_state(folder, wanted, "f")


@pytest.mark.parametrize("name", NEW)
def test_each_new_option_makes_another_run(tmp_path, name):
    before = TrainConfig()
    value = getattr(before, name)
    other = "joint" if name == "likelihood" else value + 1
    folder = begun(tmp_path / "r" / "checkpoints", before)
    assert checkpoints.load_state(folder, shaping(before), "f").step == 7
    with pytest.raises(ConfigError, match=f"begun with {name} {value}, not {other}"):
        checkpoints.load_state(folder, shaping(replace(before, **{name: other})), "f")


def test_lists_that_a_run_does_not_name_are_their_defaults_too(tmp_path):
    folder = begun(tmp_path / "r" / "checkpoints", TrainConfig(), without=("depth",))
    assert checkpoints.load_state(folder, shaping(TrainConfig()), "f").step == 7
