"""The reserve: what stands in for planned posts that fail, and how it is pinned."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_planning import OPTIONS, SITE, booru

from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError, DataError
from e6tag.files import read_json, sha256, write_json
from e6tag.plan_options import PlanOptions
from e6tag.planning import make_plan
from e6tag.plans import read_plan, write_plan
from e6tag.sampling import STRATEGIES, Choice, Labels, choose
from e6tag.split_choices import LEAST_RESERVE, add_random, choose_reserve, spare_of
from e6tag.splits import SPLITS
from e6tag.tables import PLAN_SCHEMA


@pytest.fixture(scope="module")
def collection():
    return booru(900)


def counts(table, split):
    found = table.loc[table["split"] == split, "labels"].explode().value_counts()
    return np.array([found.get(column, 0) for column in range(13)])


def everything(collection):
    return make_plan(collection, SITE, replace(OPTIONS, strategy="all")).table


@pytest.mark.parametrize("strategy", ["random", "cover", "quota"])
@pytest.mark.parametrize("spare", [0.05, 0.5, 1])
def test_each_tag_has_its_share_of_further_positives_as_far_as_there_are_any(
    collection, strategy, spare
):
    options = replace(OPTIONS, strategy=strategy, spare=spare, positives=60)
    plan = make_plan(collection, SITE, options)
    assert plan.reserve.columns.tolist() == PLAN_SCHEMA.names
    assert not set(plan.reserve["post_id"]) & set(plan.table["post_id"])
    assert plan.reserve["post_id"].is_unique
    every = everything(collection)
    split = dict(zip(every["post_id"], every["split"], strict=True))
    assert plan.reserve["split"].tolist() == [split[i] for i in plan.reserve["post_id"]]
    for name in SPLITS:
        wanted = math.ceil(spare * options.wanted(name)) + 2
        left = counts(every, name) - counts(plan.table, name)
        assert (counts(plan.reserve, name) >= np.minimum(wanted, left)).all()
    assert plan.reserve["split"].tolist() == sorted(plan.reserve["split"], key=SPLITS.index)


def test_the_plan_is_the_same_with_any_reserve_and_with_none(collection):
    options = replace(OPTIONS, extra_random=30)
    plans = [make_plan(collection, SITE, replace(options, spare=spare)) for spare in (0, 0.05, 1)]
    sizes = [len(plan.reserve) for plan in plans]
    assert 0 == sizes[0] < sizes[1] < sizes[2]
    for plan in plans[1:]:
        assert plan.table.equals(plans[0].table)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_within_a_budget_posts_replace_posts(collection, strategy):
    plan = make_plan(collection, SITE, replace(OPTIONS, strategy=strategy, budget=100, spare=0.1))
    assert not set(plan.reserve["post_id"]) & set(plan.table["post_id"])
    for name in SPLITS:
        num_planned, num_spare = (
            int((table["split"] == name).sum()) for table in (plan.table, plan.reserve)
        )
        assert 0 < num_spare <= math.ceil(0.1 * num_planned) + LEAST_RESERVE


def test_all_posts_leave_no_reserve(collection):
    assert not len(make_plan(collection, SITE, replace(OPTIONS, strategy="all")).reserve)


def test_splits_of_which_nothing_is_wanted_have_no_reserve(collection):
    reserve = make_plan(collection, SITE, replace(OPTIONS, val_positives=0)).reserve
    assert set(reserve["split"]) == {"train"}


@given(st.integers(0, 10**6), st.integers(0, 100))
def test_the_spare_share_is_rounded_up(number, percent):
    exact = -(-number * percent // 100)
    assert spare_of(number, percent / 100) == (exact + LEAST_RESERVE if exact else 0)


def test_the_weight_is_the_inverse_of_the_chance_of_being_in_plan_or_reserve():
    """Counted: how often each of 40 posts with one tag is in either, over many draws."""
    labels = Labels.of(np.arange(41), np.zeros(40, np.int32), 1)
    options = PlanOptions(positives=10, spare=0.3)
    num_in, weights = np.zeros(40), set()
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        planned = choose("random", labels, 10, rng)
        reserve = choose_reserve(labels, planned, 10, options, rng)
        num_in[np.concatenate([planned.rows, reserve.rows])] += 1
        weights |= set(np.round(reserve.weights, 9).tolist())
    # 10 are planned and 5 in reserve.
    assert weights == {round(40 / 15, 9)}
    assert num_in / 2000 == pytest.approx(np.full(40, 15 / 40), abs=5 * np.sqrt(0.25 / 2000))


def test_where_there_are_no_chances_weights_are_one():
    labels = Labels.of(np.arange(41), np.zeros(40, np.int32), 1)
    rng = np.random.default_rng(0)
    planned = add_random(labels, choose("cover", labels, 10, rng), 5, rng)
    assert isinstance(planned, Choice) and planned.chances is not None
    reserve = choose_reserve(labels, planned, 10, PlanOptions(strategy="cover"), rng)
    assert set(reserve.weights.tolist()) == {1.0} and not set(reserve.rows) & set(planned.rows)


@pytest.mark.parametrize("spare", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_is_from_none_to_all(collection, spare):
    with pytest.raises(ConfigError, match="--spare"):
        make_plan(collection, SITE, replace(OPTIONS, spare=spare))


@pytest.fixture
def pinned(collection, tmp_path):
    config = DownloadConfig(out=tmp_path, positives=6, val_positives=2, num_tags=13)
    return write_plan(config, SITE, collection, make_plan(collection, SITE, OPTIONS), {})


def test_what_is_pinned_is_what_was_planned(pinned, collection, tmp_path):
    plan = make_plan(collection, SITE, OPTIONS)
    assert pinned.info["reserve"] == sha256(tmp_path / "reserve.parquet")
    assert pinned.reserve["post_id"].tolist() == plan.reserve["post_id"].tolist()
    assert pinned.reserve["reason"].tolist() == plan.reserve["reason"].tolist()


@pytest.mark.parametrize("harm", ["missing", "damaged", "another"])
def test_a_reserve_that_is_not_the_pinned_one_is_named(pinned, tmp_path, harm):
    path = tmp_path / "reserve.parquet"
    if harm == "missing":
        path.unlink()
    else:
        content = (tmp_path / "plan.parquet").read_bytes()
        path.write_bytes(content if harm == "another" else content[:-9])
    with pytest.raises(DataError, match=r"reserve\.parquet is .*Delete dataset\.json"):
        read_plan(tmp_path)


def test_a_folder_without_a_reserve_opens(pinned, tmp_path):
    info = read_json(tmp_path / "dataset.json", ConfigError, "")
    del info["reserve"]
    write_json(tmp_path / "dataset.json", info)
    (tmp_path / "reserve.parquet").unlink()
    found = read_plan(tmp_path)
    assert not len(found.reserve) and found.reserve.columns.tolist() == PLAN_SCHEMA.names


def test_an_earlier_plans_reserve_does_not_stay_behind(pinned, collection, tmp_path):
    options = replace(OPTIONS, spare=0)
    config = DownloadConfig(out=tmp_path, positives=6, val_positives=2, num_tags=13, spare=0)
    plan = write_plan(config, SITE, collection, make_plan(collection, SITE, options), {})
    assert plan.info["reserve"] is None and not (tmp_path / "reserve.parquet").exists()
