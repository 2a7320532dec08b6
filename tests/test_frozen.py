"""A frozen benchmark is small text, rebuilds to the same posts, and refuses other data."""

import json
import shutil
import tomllib

import numpy as np
import pytest
from conftest import run_command
from hypothesis import given
from hypothesis import strategies as st
from test_score_files import table_of, write
from tiny_run import NAMES, make_data, make_run

from e6tag import frozen
from e6tag.errors import DataError
from e6tag.shards import open_dataset, read_manifest, write_manifest

NUM_POSTS = 300


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "data", NUM_POSTS)
    return tmp_path / "data"


def benchmark(*arguments, folder, code=0):
    done = run_command(["-m", "e6tag", "benchmark", *arguments], folder)
    assert done.returncode == code, done.stderr.decode()
    return done


@given(st.sets(st.integers(0, 2**50)))
def test_posts_survive_their_code(posts):
    assert frozen.decode(frozen.encode(sorted(posts))) == sorted(posts)


@given(st.integers(0, 2**62))
def test_base_36_is_pythons(number):
    assert int(frozen.base36(number), 36) == number


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_any_name_survives_as_toml(name):
    assert tomllib.loads(f"a = {frozen.quoted(name)}\n")["a"] == name


def test_what_is_written_is_what_is_read_and_holds_one_post_a_group(data, tmp_path):
    manifest = read_manifest(data)
    test_rows = np.flatnonzero(manifest["split"] == "test")
    manifest.loc[test_rows[:4], "group"] = 7
    train_group = manifest.loc[manifest["split"] == "train", "group"].iloc[0]
    manifest.loc[test_rows[5], "group"] = train_group
    write_manifest(data, manifest)
    dataset = open_dataset(data)
    definition = frozen.freeze(dataset, "test", 'a "name"', 10)
    (tmp_path / "b.txt").write_text(frozen.as_text(definition), encoding="utf-8")
    assert frozen.read(tmp_path / "b.txt") == definition
    kept = manifest[manifest["post_id"].isin(definition.posts)]
    assert kept["group"].is_unique
    assert train_group not in set(kept["group"])
    assert len(definition.posts) == len(test_rows) - 4
    assert (tmp_path / "b.txt").stat().st_size < 40 * NUM_POSTS


def test_it_is_measured_on_exactly_its_posts(data, tmp_path):
    benchmark("make", "b.txt", "--data", data, folder=tmp_path)
    definition = frozen.read(tmp_path / "b.txt")
    table = table_of(data)
    write(table, tmp_path / "s.csv")
    done = benchmark(
        "run", "b.txt", "--data", data, "--predictions", "s.csv", "--json", folder=tmp_path
    )
    summary = json.loads(done.stdout)
    assert summary["num_pictures"] == len(definition.posts)
    assert summary["num_changed"] == 0
    assert summary["benchmark"].startswith("benchmark (")
    make_run(tmp_path / "run", data=data)
    told = benchmark("run", "b.txt", "--data", data, "--run", "run", folder=tmp_path).stdout
    assert told.decode().startswith("benchmark benchmark (")


def test_scores_of_its_posts_alone_are_enough(data, tmp_path):
    manifest = read_manifest(data)
    manifest.loc[np.flatnonzero(manifest["split"] == "test")[:9], "group"] = 7
    write_manifest(data, manifest)
    benchmark("make", "b.txt", "--data", data, folder=tmp_path)
    posts = frozen.read(tmp_path / "b.txt").posts
    assert len(posts) == NUM_POSTS // 3 - 8
    table = table_of(data)
    test_posts = manifest.loc[manifest["split"] == "test", "post_id"]
    fewer = table[table["post_id"].isin(posts) | ~table["post_id"].isin(test_posts)]
    write(table, tmp_path / "all.csv")
    write(fewer, tmp_path / "fewer.csv")
    write(fewer[fewer["post_id"] != posts[3]], tmp_path / "lacking.csv")
    words = ["run", "b.txt", "--data", data, "--json", "--predictions"]
    every, some = (
        json.loads(benchmark(*words, name, folder=tmp_path).stdout)["model"]
        for name in ("all.csv", "fewer.csv")
    )
    assert every == some
    done = benchmark(*words, "lacking.csv", folder=tmp_path, code=4)
    assert f"1 of the {len(posts)} posts of the test split are not there" in done.stderr.decode()


def test_posts_that_were_retagged_since_are_counted(data, tmp_path):
    benchmark("make", "b.txt", "--data", data, folder=tmp_path)
    manifest = read_manifest(data)
    labels = list(manifest["labels"])
    for row in np.flatnonzero(manifest["split"] == "test")[:3]:
        labels[row] = np.array(sorted(set(range(len(NAMES))) - set(labels[row])), np.int32)
    write_manifest(data, manifest.assign(labels=labels))
    write(table_of(data), tmp_path / "s.csv")
    done = benchmark(
        "run", "b.txt", "--data", data, "--predictions", "s.csv", "--json", folder=tmp_path
    )
    assert json.loads(done.stdout)["num_changed"] == 3
    assert b"3 of the" in done.stderr


def test_the_order_of_the_vocabulary_does_not_show(data):
    dataset = open_dataset(data)
    definition = frozen.freeze(dataset, "test", "a", 10)
    rows = dataset.split("test")
    rows = rows[rows["post_id"].isin(definition.posts)].sort_values("post_id")
    names = dataset.vocabulary.names
    turned = [np.array([len(names) - 1 - c for c in row]) for row in rows["labels"]]
    assert frozen.num_changed(definition, rows.assign(labels=turned), names[::-1]) == 0


@pytest.mark.parametrize("problem", ["missing posts", "missing tags", "damaged", "no file"])
def test_other_data_is_refused_and_says_how_to_get_the_right(data, tmp_path, problem):
    benchmark("make", "b.txt", "--data", data, folder=tmp_path)
    other = data
    if problem == "missing posts":
        manifest = read_manifest(data)
        lost = manifest.index[manifest["split"] == "test"][0]
        manifest.loc[lost, "status"] = "failed"
        write_manifest(data, manifest)
        words, code = (
            [f"the first is post {manifest.loc[lost, 'post_id']}", "python download.py"],
            4,
        )
    elif problem == "missing tags":
        text = (data / "tags.csv").read_text(encoding="utf-8")
        (data / "tags.csv").write_text(text.replace(NAMES[0], "other"), encoding="utf-8")
        words, code = [repr(NAMES[0]), "python download.py"], 4
    elif problem == "damaged":
        path = tmp_path / "b.txt"
        path.write_text(path.read_text().replace("num_posts = ", "num_posts = 1"))
        words, code = ["b.txt is no benchmark, or damaged"], 4
    else:
        (tmp_path / "b.txt").unlink()
        words, code = ["there is no file b.txt"], 2
    done = benchmark("run", "b.txt", "--data", other, "--run", "run", folder=tmp_path, code=code)
    (line,) = done.stderr.decode().splitlines()
    assert all(word in line for word in words), line


def test_nothing_to_freeze_is_an_error(data):
    manifest = read_manifest(data)
    write_manifest(data, manifest.assign(status="failed"))
    with pytest.raises(DataError, match="no picture of the test split"):
        frozen.freeze(open_dataset(data), "test", "a", 10)
    shutil.rmtree(data)
