"""Cut-offs keep their rule's law; a promised precision is kept."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn import metrics as oracle

from e6tag import thresholds
from e6tag.metrics import best_f1_thresholds
from e6tag.ranking import ranking_curve


def drawn(seed, num=400, num_tags=6, shift=1.5):
    rng = np.random.default_rng(seed)
    truth = rng.random((num, num_tags)) < np.linspace(0.05, 0.5, num_tags)
    scores = 1 / (1 + np.exp(-(shift * truth - 1 + rng.normal(size=truth.shape))))
    return truth, scores.astype(np.float32)


TRUTHS = arrays.arrays(bool, (12, 3))
SCORES = arrays.arrays(np.float32, (12, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


@given(truth=TRUTHS, scores=SCORES)
def test_per_tag_best_f1_is_that_of_the_metrics(truth, scores):
    fitted = thresholds.fit(truth, scores, np.arange(3)).thresholds
    np.testing.assert_allclose(fitted, best_f1_thresholds(truth, scores), rtol=2e-5)


@given(truth=TRUTHS, scores=SCORES)
def test_a_balanced_cut_off_predicts_as_many_as_there_are_as_far_as_ties_allow(truth, scores):
    y, s = truth.ravel(), scores.ravel()
    cut = thresholds.balanced_threshold(ranking_curve(y, s))
    if not y.any():
        assert cut == 0.5
        return
    gaps = [abs((s >= other).sum() - y.sum()) for other in np.unique(s[y])]
    assert abs((s >= cut).sum() - y.sum()) == min(gaps)


def test_where_nothing_ties_balanced_means_precision_is_recall():
    truth, scores = drawn(3, num=1000, num_tags=1)
    cut = thresholds.balanced_threshold(ranking_curve(truth[:, 0], scores[:, 0]))
    predicted = scores[:, 0] >= cut
    precision = oracle.precision_score(truth[:, 0], predicted)
    assert precision == pytest.approx(oracle.recall_score(truth[:, 0], predicted), abs=0.05)


@pytest.mark.parametrize("rule", ["f1", "balanced"])
@pytest.mark.parametrize(
    ("shared", "groups"),
    [
        ("per-tag", [0, 1, 2, 3, 4, 5]),
        ("per-category", [0, 1, 0, 1, 0, 1]),
        ("global", [0, 0, 0, 0, 0, 0]),
    ],
)
def test_tags_that_share_a_group_share_a_cut_off_fitted_on_all_of_it(rule, shared, groups):
    truth, scores = drawn(0)
    found = thresholds.groups_of(["a", "b"] * 3, shared)
    assert found.tolist() == groups
    fitted = thresholds.fit(truth, scores, found, rule).thresholds
    choose = thresholds.RULES[rule]
    common = choose(ranking_curve(truth.ravel(), scores.ravel()))
    for group in set(groups):
        columns = np.flatnonzero(found == group)
        own = choose(ranking_curve(truth[:, columns].ravel(), scores[:, columns].ravel()))
        n = truth[:, columns].sum()
        expected = (n * own + 10 * common) / (n + 10)
        assert fitted[columns] == pytest.approx(expected, rel=2e-5)


@given(
    number=st.integers(1, 300), share=st.floats(0.05, 0.99), part=st.floats(0, 1), big=st.booleans()
)
def test_the_tail_is_scipys_or_above(number, share, part, big):
    number = number * 20 if big else number
    hits = round(part * number)
    exact = stats.binom.sf(hits - 1, number, share)
    bound = thresholds.tail_bound(hits, number, share)
    if number <= thresholds.EXACT_TAIL and hits > number * share:
        assert bound == pytest.approx(exact, rel=1e-6, abs=1e-12)
    assert bound >= exact - 1e-9


@given(st.floats(1e-9, 2.0))
def test_rounding_is_up_and_by_little(value):
    rounded = thresholds.round_up(value)
    assert value <= rounded <= value * (1 + 2e-5)
    assert float(f"{rounded:.6g}") == rounded


def test_never_stays_never():
    assert thresholds.round_up(math.inf) == math.inf
    assert thresholds.round_down(math.inf) == math.inf


@given(st.floats(1e-9, 2.0))
def test_rounding_down_is_by_little_too(value):
    rounded = thresholds.round_down(value)
    assert value * (1 - 2e-5) <= rounded <= value
    assert float(f"{rounded:.6g}") == rounded


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decimals", [1, 2, 7])
def test_the_cut_off_reaches_the_best_f1_of_scores_as_a_file_holds_them(seed, decimals):
    truth, scores = drawn(seed)
    scores = np.round(scores.astype(np.float64), decimals).astype(np.float32)
    fitted = thresholds.fit(truth, scores, np.zeros(6, np.int64)).thresholds
    y, s = truth.ravel(), scores.ravel()
    best = max(oracle.f1_score(y, s >= cut) for cut in np.unique(s[y]))
    assert oracle.f1_score(y, s >= fitted[0]) == pytest.approx(
        best, abs=1e-9 if decimals < 7 else 2e-4
    )


def population(rng, num, slope):
    """Scores and labels with P(label | score) known: a logistic law of the score."""
    scores = rng.random(num)
    return rng.random(num) < 1 / (1 + np.exp(-slope * (scores - 0.6))), scores


def true_precision(cut, slope, rng):
    """Of all that score above a cut-off, by a fine integral."""
    grid = np.linspace(max(cut, 0.0), 1.0, 20_001)
    return np.mean(1 / (1 + np.exp(-slope * (grid - 0.6)))) if cut < 1 else 1.0


@pytest.mark.parametrize("slope", [6.0, 12.0, 30.0])
def test_a_promised_precision_is_kept_in_95_of_100_tags(slope):
    rng = np.random.default_rng(int(slope))
    target, num_given, num_broken = 0.8, 0, 0
    for _ in range(400):
        cut = thresholds.promised_threshold(*population(rng, 600, slope), target)
        if math.isfinite(cut):
            num_given += 1
            num_broken += true_precision(cut, slope, rng) < target
    assert num_given > 100
    # 5% of all tries may fail; the chance of more than 7.5% of 400 is below 1 in 100.
    assert num_broken <= 0.075 * 400


def test_a_promise_takes_as_many_as_it_can():
    rng = np.random.default_rng(0)
    truth, scores = population(rng, 50_000, 30.0)
    cut = thresholds.promised_threshold(truth, scores, 0.8)
    best = next(c for c in np.linspace(0, 1, 1001) if true_precision(c, 30.0, rng) >= 0.8)
    assert best <= cut <= best + 0.05


def test_a_tag_that_cannot_keep_the_promise_is_withheld_and_listed():
    truth, scores = drawn(1, shift=0.0)
    truth[:, 5], scores[:, 5] = scores[:, 0] > 0.2, scores[:, 0]
    fitted = thresholds.fit(truth, scores, np.arange(6), target_precision=0.9)
    assert fitted.withheld.tolist() == [True] * 5 + [False]
    assert fitted.rule == "precision>=0.9"
    assert not (scores[:, :5] >= fitted.thresholds[:5]).any()


@pytest.mark.parametrize("num", [0, 1, 5])
def test_too_few_pictures_promise_nothing(num):
    assert thresholds.promised_threshold(np.ones(num, bool), np.ones(num), 0.9) == math.inf


def test_equal_scores_are_let_in_or_out_together():
    truth, scores = np.arange(400) < 390, np.repeat([0.9, 0.1], 200)
    cut = thresholds.promised_threshold(truth, scores, 0.9)
    assert 0.1 < cut <= 0.9


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from(["f1", "balanced", None]))
def test_the_table_says_what_the_cut_offs_do(seed, rule):
    truth, scores = drawn(seed, num=120)
    target = 0.7 if rule is None else None
    fitted = thresholds.fit(truth, scores, np.arange(6), rule or "f1", target)
    for column, row in enumerate(fitted.table.to_dict("records")):
        predicted = scores[:, column] >= fitted.thresholds[column]
        assert row["val_positives"] == truth[:, column].sum()
        for name, score in (("precision", oracle.precision_score), ("recall", oracle.recall_score)):
            expected = score(truth[:, column], predicted, zero_division=np.nan)
            assert row[f"val_{name}"] == pytest.approx(expected, nan_ok=True)
