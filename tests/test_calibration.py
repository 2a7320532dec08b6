"""Calibration: right against scikit-learn, monotone, better on pictures it was not fitted on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from e6tag import calibration
from e6tag.errors import RunError
from e6tag.metrics import brier, expected_calibration_error


def distorted(seed, num, num_tags=8, slope=0.4, bias=-0.5):
    """(labels, scores, true probabilities): logits are shrunk and shifted, as focal loss does."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 2.0, (num, num_tags))
    true = calibration.sigmoid(logits)
    scores = calibration.sigmoid(slope * logits + bias).astype(np.float32)
    return rng.random(true.shape) < true, scores, true


def test_what_a_known_law_distorted_is_undone():
    labels, scores, _ = distorted(0, 4000)
    fitted = calibration.fit(labels, scores)
    assert fitted.slope == pytest.approx(1 / 0.4, rel=0.1)
    assert fitted.bias == pytest.approx(0.5 / 0.4, abs=0.2)
    held_labels, held_scores, held_true = distorted(1, 4000)
    after = fitted.apply(held_scores)
    assert np.abs(after - held_true).mean() < 0.01
    error = expected_calibration_error
    assert error(held_labels, after) < error(held_labels, held_scores) / 5
    assert brier(held_labels, after) < brier(held_labels, held_scores)


def test_without_a_prior_it_is_scikit_learns_logistic_regression():
    labels, scores, _ = distorted(2, 500, num_tags=3)
    z = calibration.logit(scores)
    slope, bias = calibration.newton(z, labels, (1.0, 0.0), (1e4, 1e4))
    for column in range(3):
        oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        oracle.fit(z[:, [column]], labels[:, column])
        assert slope[column] == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
        assert bias[column] == pytest.approx(oracle.intercept_[0], rel=1e-4, abs=1e-5)


def test_the_fit_is_a_minimum_of_the_penalised_loss():
    labels, scores, _ = distorted(3, 200, num_tags=4)
    z, centre, sd = calibration.logit(scores), (1.5, 0.2), (0.3, 0.5)
    at = np.stack(calibration.newton(z, labels, centre, sd))
    mean, weight = np.array(centre)[:, None], np.array([[sd[0] ** -2], [sd[1] ** -2]])
    best = calibration.penalty(z, labels, at, mean, weight)
    for step in np.random.default_rng(0).normal(0, 0.01, (20, 2, 1)):
        assert (calibration.penalty(z, labels, at + step, mean, weight) >= best - 1e-9).all()


def test_a_tag_with_few_positives_keeps_near_the_common_law():
    labels, scores, _ = distorted(4, 400)
    labels[:, 0] = False
    labels[7, 0] = True
    fitted = calibration.fit(labels, scores)
    assert 1.0 < fitted.slope[0] < 4.0
    assert np.isfinite(fitted.bias).all()


@settings(max_examples=40, deadline=None)
@given(
    labels=arrays.arrays(bool, (15, 3)),
    scores=arrays.arrays(np.float32, (15, 3), elements=st.floats(0, 1, width=32)),
)
def test_the_order_within_a_tag_never_changes_and_probabilities_stay_some(labels, scores):
    fitted = calibration.fit(labels, scores)
    after = fitted.apply(scores)
    assert ((after >= 0) & (after <= 1)).all()
    for before, changed in zip(scores.T, after.T, strict=True):
        assert (np.diff(changed[np.argsort(before, kind="stable")]) >= -1e-12).all()


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-12, 1e-30])
def test_scores_that_are_all_tiny_keep_their_average_precision(scale):
    labels, scores, _ = distorted(7, 400, num_tags=4)
    tiny = (scores * scale).astype(np.float32)
    after = calibration.fit(labels, tiny).apply(tiny)
    for column in range(4):
        assert len(np.unique(after[:, column])) == len(np.unique(tiny[:, column]))
        exact = average_precision_score(labels[:, column], tiny[:, column])
        found = average_precision_score(labels[:, column], after[:, column])
        assert found == pytest.approx(exact, abs=1e-12)


def test_steep_laws_and_the_ends_keep_the_order():
    scores = np.array([0, 1e-40, 1e-9, 1e-8, 1e-7, 2e-7, 1e-3, 0.5, 1 - 1.2e-7, 1 - 6e-8, 1])
    column = scores.astype(np.float32)[:, None]
    for slope in (0.05, 1.0, 2.0):
        law = calibration.Platt(np.array([slope]), np.array([-1.0]))
        assert (np.diff(law.apply(column)[:, 0]) > 0).all()
    below = calibration.Platt(np.array([4.0]), np.array([0.0])).apply(column)[:, 0]
    assert (np.diff(below[:8]) > 0).all()


@settings(max_examples=40, deadline=None)
@given(
    cuts=arrays.arrays(np.float64, 4, elements=st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0, np.inf])),
    scores=arrays.arrays(
        np.float32, (9, 4), elements=st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0])
    ),
)
def test_calibrated_cut_offs_let_the_same_pictures_through(cuts, scores):
    law = calibration.Platt(np.array([0.2, 1.0, 3.0, 1.0]), np.array([1.0, 0.0, -2.0, 0.3]))
    # A number as a file holds it is compared as the model's float32 is.
    passed = scores.astype(np.float64) >= cuts
    assert np.array_equal(law.apply(scores) >= law.apply_to_thresholds(cuts), passed)


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([[5, 5, 5, 5], [4, 4, 4, 4], [3, 3, 3, 3]], 2),
        ([[5, 5, 5, 5], [4, 7, 4, 4.5], [9, 9, 9, 9]], 0),
        ([[5, 5, 5, 5], [4.9, 4.8, 4.9, 4.9], [5, 5, 5, 5]], 1),
        ([[5, 5, 5, 5], [5, 5, 5, 5], [5, 5, 5, 5]], 0),
    ],
)
def test_a_law_of_its_own_for_each_tag_must_be_worth_it(losses, chosen):
    assert calibration.simplest(np.array(losses, float)) == chosen


def test_tags_that_differ_get_laws_that_differ():
    one, other = distorted(5, 3000, slope=0.4, bias=-1.5), distorted(6, 3000, slope=0.8, bias=1.0)
    labels, scores = (np.concatenate([one[i], other[i]], axis=1) for i in (0, 1))
    fitted = calibration.fit(labels, scores)
    assert fitted.slope[:8] == pytest.approx(2.5, rel=0.25)
    assert fitted.slope[8:] == pytest.approx(1.25, rel=0.25)


def test_near_copies_stay_in_one_fold():
    groups = np.array([5, 5, 9, 1, 9, 9, 2, 1])
    fold = calibration.folds(groups)
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    assert set(calibration.folds(np.arange(100))) == set(range(calibration.NUM_FOLDS))


def test_a_file_gives_back_what_was_written(tmp_path):
    law = calibration.Platt(np.array([0.5, 1.25]), np.array([-3.0, 1e-3]))
    calibration.write(tmp_path / "calibration.csv", ["a,b", "é"], law)
    again = calibration.read(tmp_path / "calibration.csv", ["é", "a,b"])
    assert again.slope.tolist() == [1.25, 0.5]
    assert again.bias.tolist() == [1e-3, -3.0]


@pytest.mark.parametrize(
    "text",
    ["", "name,slope,bias\na,1,0\n", "name,slope,bias\na,1,0\nb,-1,0\n",
     "name,slope,bias\na,1,0\nb,nan,0\n", "name,slope,bias\na,1,0\nb,x,0\n"],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "calibration.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=r"calibration\.csv is damaged.*Run eval\.py"):
        calibration.read(path, ["a", "b"])
