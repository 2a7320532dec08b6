"""The range test: what it reads off curves whose shape is known, and what it leaves behind."""

import csv

import numpy as np
import pandas as pd
import pytest

from e6tag import rate_range
from e6tag.errors import RunError
from e6tag.rate_range import Proposal, averages, has_diverged, propose, smooth, until_divergence

RATES = np.logspace(-6, 1, 200)


def curve(centre=-3.0, blow_up=-0.5, noise=0.0, offset=0.0, seed=0):
    """A loss that falls by 1, steepest at 10^centre, and rises from 10^blow_up on."""
    x = np.log10(RATES)
    fall = 2.0 - 1.0 / (1.0 + np.exp(-4 * (x - centre)))
    rise = np.expm1(np.maximum(0, x - blow_up) * 6)
    return fall + rise + noise * np.random.default_rng(seed).standard_normal(200) + offset


def test_averages_are_pandas_exponentially_weighted_means():
    values = np.random.default_rng(0).standard_normal(50)
    expected = pd.Series(values).ewm(alpha=0.05, adjust=True).mean()
    np.testing.assert_allclose(averages(values), expected)


def test_smoothing_keeps_a_constant_and_does_not_shift_a_symmetric_peak():
    np.testing.assert_allclose(smooth(np.full(30, 4.0)), 4.0)
    peak = np.exp(-(np.linspace(-3, 3, 101) ** 2))
    assert np.argmax(smooth(peak)) == 50
    np.testing.assert_allclose(smooth(peak), smooth(peak)[::-1])


@pytest.mark.parametrize("offset", [0.0, -50.0, 300.0])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_steepest_descent_is_found_where_it_was_put(noise, offset):
    losses = until_divergence(curve(noise=noise, offset=offset))
    found = propose(RATES[: len(losses)], losses)
    assert abs(np.log10(found.steepest) + 3) < 0.5
    assert found.rate <= found.lowest / 10 < 1


def test_divergence_ends_the_test_whatever_the_sign_of_the_loss():
    assert has_diverged([1.0, float("nan")])
    assert has_diverged([1.0, float("inf")])
    assert not has_diverged([1.0, 0.9, 1.1])
    assert has_diverged([1.0] * 20 + [1000.0])
    assert has_diverged([-1.0] * 20 + [1000.0])
    assert len(until_divergence(iter(curve()))) < 200
    assert len(until_divergence(iter([1.0, 2.0, float("nan"), 5.0]))) == 2


def test_the_proposal_is_never_above_a_tenth_of_the_lowest():
    assert Proposal(1e-3, 1e-1).rate == 1e-3
    assert Proposal(5e-2, 1e-1).rate == pytest.approx(1e-2)


@pytest.mark.parametrize("losses", [np.linspace(1, 2, 100), np.array([1.0, 0.5]), np.array([])])
def test_a_loss_that_never_falls_proposes_nothing(losses):
    with pytest.raises(RunError, match="no learning rate made the loss fall"):
        propose(RATES[: len(losses)], losses)


def test_the_files_hold_the_curve(tmp_path):
    losses = until_divergence(curve(noise=0.01))
    rates = RATES[: len(losses)]
    rate_range.write_curve(tmp_path, rates, losses)
    rate_range.write_plot(tmp_path, rates, losses, propose(rates, losses))
    rows = list(csv.DictReader((tmp_path / "lr_range.csv").read_text("utf-8").splitlines()))
    np.testing.assert_allclose([float(row["loss"]) for row in rows], losses, rtol=1e-6)
    np.testing.assert_allclose([float(r["learning_rate"]) for r in rows], rates, rtol=1e-6)
    assert (tmp_path / "lr_range.png").read_bytes().startswith(b"\x89PNG")
