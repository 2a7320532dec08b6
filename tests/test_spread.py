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


def test_the_interval_of_the_contrast_is_that_of_a_bootstrap():
    rng = np.random.default_rng(3)
    num, num_tags = 400, 30
    p = rng.beta(0.5, 2.0, (num, num_tags))
    sd = rng.random(p.shape)
    groups = np.arange(num) // 2
    # Near-copies have the same labels, so that pictures are not independent.
    truth = (rng.random((num // 2, num_tags)) < p[::2])[groups]
    found = spread.contrast(truth, p, sd, groups)
    level = spread.levels(p.ravel(), sd.ravel()).reshape(p.shape)
    wide, narrow = (level == spread.NUM_LEVELS - 1), level == 0
    squares = (p - truth) ** 2
    assert found.ratio == pytest.approx(squares[wide].mean() / squares[narrow].mean())
    sums = np.stack(
        [(values * inside).sum(axis=1).reshape(-1, 2).sum(axis=1)
         for inside in (wide, narrow) for values in (squares, np.ones_like(p))]
    )  # fmt: skip
    drawn = rng.multinomial(num // 2, np.full(num // 2, 2 / num), 4000) @ sums.T
    ratios = (drawn[:, 0] / drawn[:, 1]) / (drawn[:, 2] / drawn[:, 3])
    low, high = np.percentile(ratios, [2.5, 97.5])
    assert found.low == pytest.approx(low, rel=0.03)
    assert found.high == pytest.approx(high, rel=0.03)


def test_the_contrast_tells_doubt_that_means_something():
    rng = np.random.default_rng(4)
    p, doubt = rng.random((4000, 10)), rng.random((4000, 10))
    truth = rng.random(p.shape) < p + doubt * (0.5 - p)
    assert spread.contrast(truth, p, doubt).low > 1.05
    empty = spread.contrast(rng.random(p.shape) < p, p, doubt)
    assert empty.low < 1 < empty.high


def test_no_contrast_without_spread_without_errors_or_of_one_group():
    rng = np.random.default_rng(5)
    p, sd = rng.random((20, 3)), rng.random((20, 3))
    assert spread.contrast(p > 0.5, p, np.ones_like(p)) is None
    assert spread.contrast(np.ones_like(p), np.ones_like(p), sd) is None
    assert spread.contrast(p > 0.5, p, sd, np.zeros(20)) is None
