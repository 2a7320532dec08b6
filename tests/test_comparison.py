"""Comparing two predictors: a planted difference is found, and chance is not sold as news."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_command
from scipy import stats
from test_score_files import table_of, write
from tiny_run import NAMES, make_data, make_run

from e6tag import comparison, foreign
from e6tag.config import EvalConfig
from e6tag.scoring import Scored


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "data"
    make_data(folder, 600)
    return folder


def compared(data, one, other, *options, code=0):
    command = [
        ROOT / "eval.py", "--compare", one, other, "--data", data, "--min-positives", "5",
        "--json", "--quiet", "--out", data.parent / "out", *options,
    ]  # fmt: skip
    done = run_command(command, data.parent)
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout) if not code else done.stderr.decode()


def test_a_tag_made_worse_is_found_and_the_others_are_not(data, tmp_path):
    table = table_of(data)
    worse = table.copy()
    worse[NAMES[0]] = np.random.default_rng(0).random(len(table)).astype(np.float32)
    paths = write(table, tmp_path / "a.csv"), write(worse, tmp_path / "b.parquet")
    summary = compared(data, *paths)
    assert [tag["name"] for tag in summary["worse"]] == [NAMES[0]]
    assert summary["better"] == []
    figure = summary["figures"]["macro_ap"]
    assert figure["difference"] == pytest.approx(figure["b"] - figure["a"])
    assert figure["low"] < figure["difference"] < figure["high"] < 0
    turned = compared(data, *paths[::-1])
    assert [tag["name"] for tag in turned["better"]] == [NAMES[0]]
    assert turned["figures"]["macro_ap"]["difference"] == pytest.approx(-figure["difference"])
    listed = pd.read_csv(data.parent / "out" / "compare.csv")
    assert set(listed["name"]) <= set(NAMES)


def test_the_same_scores_twice_differ_in_nothing(data, tmp_path):
    path = write(table_of(data), tmp_path / "a.npz")
    summary = compared(data, path, path)
    assert summary["better"] == summary["worse"] == []
    assert all(figure["difference"] in (0, None) for figure in summary["figures"].values())


def test_only_tags_that_both_know_count(data, tmp_path):
    table = table_of(data)
    fewer = table.drop(columns=[NAMES[2]])
    summary = compared(data, write(table, tmp_path / "a.csv"), write(fewer, tmp_path / "b.csv"))
    assert summary["num_tags"] == len(NAMES) - 1


def test_a_run_can_be_compared_with_scores(data, tmp_path):
    make_run(tmp_path / "run", data=data)
    summary = compared(data, tmp_path / "run", write(table_of(data), tmp_path / "b.csv"))
    assert summary["figures"]["macro_ap"]["difference"] > 0


def test_val_is_compared_on_the_pictures_that_both_have(data, tmp_path):
    path = write(table_of(data), tmp_path / "b.csv")
    options = EvalConfig(predictions=path, data=data, split="val")
    one, other = foreign.of_scores(options), foreign.of_scores(options)
    kept = np.arange(5, len(one.splits["val"].rows))
    val = one.splits["val"]
    fewer = Scored(val.rows.iloc[kept], val.labels[kept], val.probabilities[kept])
    one = dataclasses.replace(one, splits={**one.splits, "val": fewer})
    pair = comparison.in_common(one, other, "val")
    assert all(subject.splits["val"].rows["post_id"].size == len(kept) for subject in pair)
    assert comparison.measure(options, *pair).summary["num_pictures"] == len(kept)


def test_one_run_is_no_comparison(data, tmp_path):
    path = write(table_of(data), tmp_path / "a.csv")
    done = run_command([ROOT / "eval.py", "--compare", path, "--data", data], tmp_path)
    assert done.returncode == 2
    assert b"--compare takes two" in done.stderr


def test_p_values_are_scipys():
    z = np.array([0.0, 0.5, 1.959964, 4.0])
    assert comparison.two_sided(z) == pytest.approx(2 * stats.norm.sf(z))


def test_tags_told_apart_are_those_of_benjamini_and_hochberg():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(200), rng.random(20) / 1e4])
    gap = rng.normal(size=220)
    tags = pd.DataFrame({"p_value": p, "difference": gap})
    sure = stats.false_discovery_control(p) <= comparison.FALSE_SHARE
    assert ((comparison.told_apart(tags) != "") == sure).all()
    assert set(comparison.told_apart(tags)[sure & (gap > 0)]) == {"better"}


def test_of_two_equals_hardly_any_tag_is_listed():
    rng = np.random.default_rng(1)
    listed = 0
    for _ in range(200):
        z = np.abs(rng.normal(size=100))
        table = pd.DataFrame(
            {"p_value": comparison.two_sided(z), "difference": rng.normal(size=100)}
        )
        listed += (comparison.told_apart(table) != "").any()
    assert listed <= 0.16 * 200
