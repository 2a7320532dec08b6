import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from e6tag import metrics, reliability

LAW = settings(deadline=None, max_examples=60)

# A reference problem of 40 pictures and 6 tags, and what scikit-learn 1.9.1 and torchmetrics 1.9.0
# computed for it.
PREVALENCES = np.array([0.5, 0.3, 0.2, 0.15, 0.1, 0.1])


def pseudo_random(shift: float) -> np.ndarray:
    i, j = np.ogrid[1:41, 1:7]
    return np.mod(np.sin(i * 12.9898 + j * 78.233 + shift) * 43758.5453, 1.0)


TRUTH = (pseudo_random(1) < PREVALENCES).astype(np.uint8)
SCORES = np.clip(0.55 * pseudo_random(0) + 0.45 * TRUTH * pseudo_random(2), 0, 1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties; tags and pictures of one class occur."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 6)))
    truth = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    levels = draw(st.sampled_from([1, 2, 3, 1000]))
    return truth, draw(arrays.arrays(np.int64, shape, elements=st.integers(0, levels))) / levels


def sklearn_per_tag(function, truth, scores):
    def one(y, s):
        needs_both = function is sk.roc_auc_score
        if y.sum() == 0 or (needs_both and y.sum() == len(y)):
            return np.nan
        return function(y, s)

    return [one(y, s) for y, s in zip(truth.T, scores.T, strict=True)]


def test_the_reference_problem_is_the_one_the_golden_numbers_are_of():
    assert TRUTH.sum(axis=0).tolist() == [18, 11, 8, 11, 2, 3]
    expected = [0.40704665, 0.04064726, 0.230945, 0.45397471, 0.0856415, 0.44870214]
    np.testing.assert_allclose(SCORES[0], expected, atol=1e-8)


def test_golden_values():
    figures = metrics.evaluate(TRUTH, SCORES)
    expected = {
        "macro_auc": 0.8280589011,
        "micro_auc": 0.8254464736,
        "macro_ap": 0.7595287074,
        "micro_ap": 0.7384616870,
        "lrap": 0.8674305556,
        "brier": 0.1417299743,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert metrics.precision_at_k(TRUTH, SCORES, 2) == pytest.approx(0.4375)
    uniform = metrics.expected_calibration_error(TRUTH, SCORES, np.linspace(0, 1, 16))
    assert uniform == pytest.approx(0.1751354072, abs=1e-7)  # torchmetrics, bins of equal width


def test_golden_values_per_tag():
    tags = metrics.per_tag(TRUTH, SCORES)
    auc = [0.83333333, 0.84952978, 0.86328125, 0.89968652, 1, 0.52252252]
    ap = [0.86574979, 0.81160952, 0.66376870, 0.82581989, 1, 0.39022436]
    np.testing.assert_allclose(tags.roc_auc, auc, atol=1e-8)
    np.testing.assert_allclose(tags.average_precision, ap, atol=1e-8)
    assert tags.positives.tolist() == [18, 11, 8, 11, 2, 3]


def test_golden_thresholds_without_shrinkage_reach_the_golden_f1():
    thresholds = metrics.best_f1_thresholds(TRUTH, SCORES, shrinkage=0.0)
    expected = [0.51337, 0.51474, 0.53594, 0.49327, 0.57449, 0.61524]
    np.testing.assert_allclose(thresholds, expected, atol=1e-5)
    reached = sk.f1_score(TRUTH, thresholds <= SCORES, average=None)
    np.testing.assert_allclose(reached, [0.7742, 0.7778, 0.6154, 0.7273, 1, 0.5], atol=1e-4)


@LAW
@given(problems())
def test_roc_auc_and_average_precision_equal_scikit_learn(problem):
    truth, scores = problem
    tags = metrics.per_tag(truth, scores)
    auc = sklearn_per_tag(sk.roc_auc_score, truth, scores)
    ap = sklearn_per_tag(sk.average_precision_score, truth, scores)
    np.testing.assert_allclose(tags.roc_auc, auc, atol=1e-9)
    np.testing.assert_allclose(tags.average_precision, ap, atol=1e-9)
    np.testing.assert_array_equal(metrics.roc_auc_per_tag(truth, scores), tags.roc_auc)
    np.testing.assert_array_equal(
        metrics.average_precision_per_tag(truth, scores), tags.average_precision
    )


@LAW
@given(problems())
def test_micro_figures_and_lrap_equal_scikit_learn(problem):
    truth, scores = problem
    flat = truth.reshape(-1, 1), scores.reshape(-1, 1)
    auc, ap = (sklearn_per_tag(f, *flat)[0] for f in (sk.roc_auc_score, sk.average_precision_score))
    np.testing.assert_allclose(metrics.roc_auc_micro(truth, scores), auc, atol=1e-9)
    np.testing.assert_allclose(metrics.average_precision_micro(truth, scores), ap, atol=1e-9)
    expected = sk.label_ranking_average_precision_score(truth, scores)
    assert metrics.label_ranking_average_precision_score(truth, scores) == pytest.approx(expected)


@LAW
@given(problems())
def test_coverage_error_and_brier_scores_equal_scikit_learn(problem):
    truth, scores = problem
    assert metrics.coverage_error(truth, scores) == pytest.approx(sk.coverage_error(truth, scores))
    found = metrics.reliability_per_tag(truth, scores)
    expected = [np.mean((y - s) ** 2) for y, s in zip(truth.T, scores.T, strict=True)]
    np.testing.assert_allclose(found.brier, expected, atol=1e-12)
    assert metrics.brier(truth, scores) == pytest.approx(np.mean(expected))
    if 0 < truth[:, 0].sum() < len(truth):
        assert found.brier[0] == pytest.approx(sk.brier_score_loss(truth[:, 0], scores[:, 0]))


def test_bias_is_2_for_twice_as_sure_as_right():
    truth = np.array([[1, 0, 0], [0, 0, 1]])
    scores = np.array([[1.0, 0.5, 0.2], [1.0, 0.0, 0.3]])
    np.testing.assert_allclose(
        metrics.reliability_per_tag(truth, scores).bias, [2.0, np.nan, 0.5], atol=1e-12
    )


@LAW
@given(
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
        lambda shape: st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
            lambda kind: arrays.arrays(
                kind, shape, elements=st.floats(-9, 9, width=np.dtype(kind).itemsize * 8)
            )
        )
    )
)
def test_order_statistics_are_those_of_sorting(values):
    ranks = np.arange(values.size)
    labels = np.zeros(values.shape, bool)
    found = reliability.order_statistics(labels, values, ranks)
    np.testing.assert_array_equal(found, np.sort(values, axis=None))


def test_where_there_are_fewer_than_30_tags_all_are_looked_at():
    figures = metrics.evaluate(TRUTH, SCORES)
    assert figures["precision_at_30"] == pytest.approx(TRUTH.mean())
    assert figures["recall_at_30"] == 1.0


@LAW
@given(problems(), st.integers(1, 4))
def test_ties_at_k_count_as_the_mean_over_all_their_orders(problem, k):
    truth, scores = (values[:, :4] for values in problem)
    k = min(k, truth.shape[1])
    columns = [list(order) for order in itertools.permutations(range(truth.shape[1]))]
    hits = [first_k(truth[:, order], scores[:, order], k) for order in columns]
    assert metrics.precision_at_k(truth, scores, k) == pytest.approx(np.mean(hits) / k)


def first_k(truth, scores, k):
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(truth, best, axis=1).sum(axis=1).mean()


def test_recall_at_k_leaves_out_pictures_without_tags():
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    scores = np.array([[0.9, 0.1, 0.5], [0.3, 0.2, 0.1], [0.1, 0.8, 0.3]])
    assert metrics.recall_at_k(truth, scores, 1) == pytest.approx((0.5 + 1) / 2)
    assert metrics.recall_at_k(truth, scores, 99) == 1.0
    assert np.isnan(metrics.recall_at_k(truth[1:2], scores[1:2], 1))


def test_undefined_figures_are_nan_and_stay_out_of_means():
    truth = np.array([[1, 0, 1], [1, 0, 0]])
    scores = np.array([[0.2, 0.3, 0.9], [0.1, 0.3, 0.4]])
    tags = metrics.per_tag(truth, scores)
    np.testing.assert_array_equal(tags.roc_auc, [np.nan, np.nan, 1.0])
    np.testing.assert_array_equal(tags.average_precision, [1.0, np.nan, 1.0])
    figures = metrics.evaluate(truth, scores)
    assert (figures["macro_auc"], figures["num_tags_scored"], figures["num_tags"]) == (1.0, 1, 3)


def test_rare_tags_stay_out_of_macro_figures_only():
    figures = metrics.evaluate(TRUTH, SCORES, min_positives=5)
    kept = TRUTH.sum(axis=0) >= 5
    assert figures["num_tags_scored"] == kept.sum() == 4
    expected = sk.average_precision_score(TRUTH[:, kept], SCORES[:, kept], average="macro")
    assert figures["macro_ap"] == pytest.approx(expected)
    assert figures["micro_ap"] == pytest.approx(0.7384616870)


def test_precomputed_tags_change_nothing():
    tags = metrics.per_tag(TRUTH, SCORES)
    assert metrics.evaluate(TRUTH, SCORES, 3, tags) == metrics.evaluate(TRUTH, SCORES, 3)


@LAW
@given(problems())
def test_figures_of_order_are_invariant_under_monotone_maps(problem):
    truth, scores = problem
    before, after = metrics.evaluate(truth, scores), metrics.evaluate(truth, np.exp(3 * scores) - 9)
    for name in ("macro_ap", "macro_auc", "micro_ap", "micro_auc", "precision_at_5", "lrap"):
        np.testing.assert_allclose(after[name], before[name], err_msg=name)


@LAW
@given(problems(), st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order_of_pictures(problem, random):
    truth, scores = problem
    order = list(range(len(truth)))
    random.shuffle(order)
    before, after = metrics.evaluate(truth, scores), metrics.evaluate(truth[order], scores[order])
    np.testing.assert_allclose(list(after.values()), list(before.values()), atol=1e-12)


@LAW
@given(problems())
def test_no_threshold_beats_the_chosen_one(problem):
    truth, scores = problem
    chosen = metrics.best_f1_thresholds(truth, scores, shrinkage=0.0)
    for y, s, cut in zip(truth.T, scores.T, chosen, strict=True):
        if y.any():
            rivals = [sk.f1_score(y, s >= other) for other in np.unique(s)]
            assert sk.f1_score(y, s >= cut) == pytest.approx(max(rivals))


def test_shrinkage_goes_from_own_to_common_threshold():
    own = metrics.best_f1_thresholds(TRUTH, SCORES, 0.0)
    common = metrics.best_f1_thresholds(TRUTH, SCORES, 1e12)
    np.testing.assert_allclose(common, common[0])
    half = metrics.best_f1_thresholds(TRUTH, SCORES, shrinkage=11.0)
    assert half[1] == pytest.approx((own[1] + common[1]) / 2)  # 11 positives


def test_a_tag_without_positives_gets_the_common_threshold():
    truth = TRUTH.copy()
    truth[:, 2] = 0
    thresholds = metrics.best_f1_thresholds(truth, SCORES, 0.0)
    assert thresholds[2] == metrics.best_f1_thresholds(truth, SCORES, 1e15)[2]
    nothing = metrics.best_f1_thresholds(np.zeros((3, 2)), np.zeros((3, 2)))
    assert nothing.tolist() == [0.5, 0.5]


def test_equal_mass_bins_hold_equal_numbers_and_the_error_is_their_mean_gap():
    rng = np.random.default_rng(1)
    scores = rng.random((300, 5)) ** 4
    truth = rng.random((300, 5)) < scores**0.8
    bins = metrics.calibration(truth, scores)
    assert bins.counts.tolist() == [100] * 15
    order = np.argsort(scores.ravel())
    parts = zip(*(np.split(v.ravel()[order], 15) for v in (scores, truth)), strict=True)
    expected = np.mean([abs(s.mean() - y.mean()) for s, y in parts])
    assert metrics.expected_calibration_error(truth, scores) == pytest.approx(expected)


def test_constant_scores_have_one_bin_and_auc_one_half():
    truth = np.array([[1, 0], [0, 1], [0, 0]])
    prior = metrics.prior_scores([1 / 3, 1 / 3], 3)
    assert metrics.expected_calibration_error(truth, prior) == pytest.approx(0)
    figures = metrics.evaluate(truth, prior)
    assert (figures["macro_auc"], figures["macro_ap"]) == pytest.approx((0.5, 1 / 3))


def test_prior_scores_repeat_the_shares():
    assert metrics.prior_scores([0.25, 0.5], 2).tolist() == [[0.25, 0.5], [0.25, 0.5]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        metrics.evaluate(np.array([[1, 0]]), np.array([[bad, 0.0]]))


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="expected the same"):
        metrics.per_tag(np.zeros((2, 3)), np.zeros((2, 2)))


def test_no_pictures_give_nan_without_warnings():
    figures = metrics.evaluate(np.zeros((0, 3)), np.zeros((0, 3)))
    assert np.isnan(figures["macro_ap"]) and np.isnan(figures["lrap"])
    assert figures["num_pictures"] == 0


def test_float32_scores_of_chance_rank_like_chance():
    rng = np.random.default_rng(0)
    scores, truth = rng.random((4000, 512), dtype=np.float32), rng.random((4000, 512)) < 0.03
    figures = metrics.evaluate(truth, scores)
    assert figures["macro_auc"] == pytest.approx(0.5, abs=0.01)
    assert figures["precision_at_5"] == pytest.approx(0.03, abs=0.01)
