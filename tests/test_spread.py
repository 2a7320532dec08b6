"""The table of spread compares decisions of equal probability only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e6tag import spread


def test_doubt_that_means_something_shows_and_doubt_that_does_not_does_not():
    rng = np.random.default_rng(0)
    p = rng.random((4000, 10))
    doubt = rng.random(p.shape)
    # Where the model doubts, the truth is nearer to a coin's than its probability says.
    truth = rng.random(p.shape) < p + doubt * (0.5 - p)
    telling = spread.spread_table(truth, p, doubt)
    excess = telling["brier"] - telling["expected"]
    assert excess.iloc[-1] > excess.iloc[0] + 0.03
    empty = spread.spread_table(rng.random(p.shape) < p, p, doubt)
    excess = empty["brier"] - empty["expected"]
    assert np.abs(excess).max() < 0.01


def test_a_spread_that_only_follows_the_probability_says_nothing():
    rng = np.random.default_rng(1)
    p = rng.random((3000, 10))
    table = spread.spread_table(rng.random(p.shape) < p, p, 1 + p)
    assert np.ptp(table["probability"]) < 0.02
    assert np.ptp(table["brier"] - table["expected"]) < 0.02


@given(st.integers(0, 100), st.integers(1, 400))
def test_levels_are_of_equal_size_and_ordered_within_each_stratum(seed, num):
    rng = np.random.default_rng(seed)
    p, sd = rng.random(num), rng.random(num)
    level = spread.levels(p, sd)
    assert set(level) <= set(range(spread.NUM_LEVELS))
    order = np.argsort(p, kind="stable")
    for stratum in range(spread.NUM_STRATA):
        inside = order[np.arange(num) * spread.NUM_STRATA // num == stratum]
        ranked = level[inside[np.argsort(sd[inside], kind="stable")]]
        assert (np.diff(ranked) >= 0).all()


def test_figures_are_means_by_brute_force():
    rng = np.random.default_rng(2)
    p, sd = rng.random((50, 8)).astype(np.float32), rng.random((50, 8)).astype(np.float32)
    truth = rng.random(p.shape) < p
    table = spread.spread_table(truth, p, sd)
    level = spread.levels(p.ravel().astype(float), sd.ravel().astype(float))
    assert table["pairs"].sum() == p.size
    for row in table.to_dict("records"):
        inside = level == row["level"]
        q, y = p.ravel()[inside].astype(float), truth.ravel()[inside]
        assert row["observed"] == pytest.approx(y.mean())
        assert row["brier"] == pytest.approx(np.mean((q - y) ** 2))
        assert row["expected"] == pytest.approx(np.mean(q * (1 - q)))
        assert row["log_loss"] == pytest.approx(-np.mean(np.log(np.where(y, q, 1 - q))))


def test_a_model_without_spread_gets_no_table():
    assert spread.spread_table(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2))).empty
