"""Bad data, disks and checkpoints under training: an error in one line or a counted skip, and
what was good before is there after."""

import json
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_command
from tiny_data import write_dataset, write_pictures
from tiny_training import SMALL, final_weights, kill_after_checkpoint, train

from e6tag.files import sha256
from e6tag.shards import read_manifest, write_manifest


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 120)


@pytest.fixture
def data(good, tmp_path):
    """A copy to spoil."""
    shutil.copytree(good, tmp_path / "data")
    return tmp_path / "data"


def last_line(err):
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def change_manifest(data, change):
    manifest = read_manifest(data)
    write_manifest(data, change(manifest))


def cut_shard(data, name, share):
    path = data / "shards" / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


# --- data ---------------------------------------------------------------------------------


def test_labels_that_the_vocabulary_does_not_have_are_refused(data, tmp_path):
    path = data / "tags.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    code, _, err = train(data, tmp_path / "r", "--epochs", "1")
    assert code == 4
    assert "tags.csv has 4 tags" in last_line(err)
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_a_vocabulary_in_another_order_is_refused_and_changes_no_meaning(tmp_path):
    write_pictures(tmp_path / "pictures", 60)
    options = ["--site", "folder", "--folder", "pictures", "--out", "data", "--min-side", "8"]
    done = run_command([ROOT / "download.py", *options], tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "data" / "tags.csv"
    assert json.loads((path.parent / "dataset.json").read_text())["tags_sha256"] == sha256(path)
    head, first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head, second, first, *rest]) + "\n")
    code, _, err = train(tmp_path / "data", tmp_path / "r", "--epochs", "1")
    assert code == 4
    assert "is not the one that the labels were made with" in last_line(err)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_named(data, tmp_path, split):
    def fail(manifest):
        return manifest.assign(
            status=manifest["status"].where(manifest["split"] != split, "failed")
        )

    change_manifest(data, fail)
    code, _, err = train(data, tmp_path / "r", "--epochs", "1")
    assert code == 4
    assert f"no pictures in split {split}" in last_line(err)


def test_a_tag_without_positives_is_said_and_does_no_harm(data, tmp_path):
    # facing_left has none anywhere; circle is taken from the training pictures only.
    def forget(manifest):
        labels = [
            row[row != 0] if split == "train" else row
            for row, split in zip(manifest["labels"], manifest["split"], strict=True)
        ]
        return manifest.assign(labels=pd.Series(labels, manifest.index))

    change_manifest(data, forget)
    code, out, err = train(data, tmp_path / "r", "--epochs", "1", "--json")
    assert code == 0, err
    assert "2 tags have no training pictures (circle, facing_left ...)" in err
    assert all(np.isfinite(value) for value in json.loads(out).values())


def test_a_truncated_shard_is_a_counted_skip(data, tmp_path):
    cut_shard(data, "train-00000.tar", 0.7)
    code, out, err = train(data, tmp_path / "r", "--epochs", "1")
    assert code == 1, err
    assert "the file ends before" in err and err.count("was left out") == 5
    assert "pictures were left out in all" in err
    assert "macro AP" in out and (tmp_path / "r" / "run.json").exists()


@pytest.mark.parametrize("name", ["train-00000.tar", "val-00000.tar"])
def test_a_shard_of_which_nothing_is_left_ends_the_run(data, tmp_path, name):
    cut_shard(data, name, 0)
    code, _, err = train(data, tmp_path / "r", "--epochs", "1")
    assert code == 4, err
    assert "can be read" in last_line(err) and "Run download.py again" in last_line(err)
    assert not (tmp_path / "r" / "run.json").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_picture_that_fails_to_decode_is_named_and_the_rest_trains(data, tmp_path, split):
    rows = read_manifest(data)
    row = rows[rows["split"] == split].iloc[3]
    path = data / "shards" / row["shard"]
    content = bytearray(path.read_bytes())
    # The picture's first and last bytes are right, all between is rubbish.
    start = int(row["offset"])
    content[start + 2 : start + int(row["length"]) - 2] = bytes(int(row["length"]) - 4)
    path.write_bytes(content)
    code, _, err = train(data, tmp_path / "r", "--epochs", "2")
    assert code == 1, err
    assert f"post {row['post_id']} was left out" in err
    assert (tmp_path / "r" / "run.json").exists()


# --- checkpoints --------------------------------------------------------------------------

LONG = ["--epochs", "6", "--checkpoint-seconds", "0.1"]


@pytest.fixture(scope="module")
def whole(good, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "r"
    code, _, err = train(good, run, *LONG)
    assert code == 0, err
    return final_weights(run)


@pytest.fixture
def stopped(good, tmp_path):
    """A run that was killed after its first checkpoints."""
    code, words, _ = kill_after_checkpoint(good, tmp_path / "r", signal.SIGKILL, *LONG)
    assert code == -signal.SIGKILL, words
    for rest in (tmp_path / "r" / "checkpoints").glob("*.part*"):
        rest.unlink()
    return tmp_path / "r"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_it_goes_on(data, run, whole):
    code, _, err = train(data, run, *LONG)
    assert code == 0, err
    assert "resuming at step" in err
    step, weights = final_weights(run)
    assert step == whole[0]
    for name, value in whole[1].items():
        np.testing.assert_array_equal(value, weights[name], err_msg=name)


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_last_one(good, stopped, whole):
    before = contents(stopped / "checkpoints")
    done = subprocess.run(
        [sys.executable, "train.py", "--data", good, "--run", stopped, *SMALL, *LONG, "--quiet"],
        cwd=ROOT, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert ".weights.h5" in last_line(done.stderr)
    assert contents(stopped / "checkpoints") == before
    check_it_goes_on(good, stopped, whole)


def test_a_checkpoint_of_another_version_is_refused_and_kept(good, stopped, whole):
    path = stopped / "checkpoints" / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"format": 2}))
    code, _, err = train(good, stopped, *LONG)
    assert code == 5
    assert "has format 2, this e6tag reads 1" in last_line(err)
    path.write_text(json.dumps(state | {"something": 1}))
    code, _, err = train(good, stopped, *LONG)
    assert code == 5 and "another version" in last_line(err)
    # What was written before there was a format is of the first one.
    older = {name: value for name, value in state.items() if name not in ("format", "e6tag")}
    path.write_text(json.dumps(older))
    check_it_goes_on(good, stopped, whole)


@pytest.mark.slow
def test_the_version_that_goes_on_is_said_where_it_is_another(good, stopped):
    path = stopped / "checkpoints" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"e6tag": "0.0.9"}))
    code, _, err = train(good, stopped, *LONG)
    assert code == 0 and "e6tag 0.0.9 began this run" in err


def test_a_checkpoint_of_another_config_is_refused_and_kept(good, stopped, whole):
    code, _, err = train(good, stopped, *LONG, "--depth", "1", "2")
    assert code == 2
    assert "was begun with depth [1, 1], not [1, 2]" in last_line(err)
    check_it_goes_on(good, stopped, whole)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [["1", "2"], ["1"]])
def test_weights_of_another_network_are_refused_and_kept(good, stopped, tmp_path, depth):
    code, words, _ = kill_after_checkpoint(
        good, tmp_path / "other", signal.SIGKILL, *LONG, "--depth", *depth
    )
    assert code == -signal.SIGKILL, words
    folder = stopped / "checkpoints"
    name = json.loads((folder / "state.json").read_text())["weights"]
    other = next((tmp_path / "other" / "checkpoints").glob("step-*.weights.h5"))
    shutil.copy(other, folder / name)
    before = contents(folder)
    code, _, err = train(good, stopped, *LONG)
    assert code == 5, err
    assert name in last_line(err)
    assert contents(folder) == before
