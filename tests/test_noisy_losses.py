"""Asymmetric loss, Hill loss and SPLC: golden values, independent formulas, slopes, laws."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from e6tag import losses, noisy_losses
from e6tag.noisy_losses import asymmetric, hill, splc

LAW = settings(deadline=None, max_examples=40)
LOGITS = np.array([-2.0, 0.5, 3.0, -4.0])
LABELS = np.array([1.0, 0.0, 1.0, 0.0])
BCE = [2.12692801, 0.97407698, 0.04858735, 0.01814993]
LABEL, LOGIT = st.sampled_from([0.0, 1.0]), st.floats(-30, 30)
GAMMA = st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])


def double(values):
    return ops.convert_to_tensor(np.asarray(values, dtype="float64"))


def gradient(function, values, dtype="float64"):
    """Derivative of the sum of function(values), by TensorFlow."""
    import tensorflow as tf

    x = tf.Variable(np.asarray(values, dtype=dtype))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x).numpy()


# Oracles: the papers' formulas, a label at a time, in 60 digits.


def sigmoid(z):
    return 1 / (1 + mpmath.exp(-mpmath.mpf(z)))


def asymmetric_by_hand(y, z, plus, minus, margin):
    if y == 1:
        return sigmoid(-z) ** plus * -mpmath.log(sigmoid(z))
    shifted = max(sigmoid(z) - margin, mpmath.mpf(0))
    rest = min(sigmoid(-z) + margin, mpmath.mpf(1))
    return (shifted**minus if minus else 1) * -mpmath.log(rest)


def hill_by_hand(y, z):
    if y == 0:
        return (mpmath.mpf("1.5") - sigmoid(z)) * sigmoid(z) ** 2
    return sigmoid(1 - z) ** 2 * -mpmath.log(sigmoid(z - 1))


def splc_by_hand(y, z, correcting, threshold):
    z = z - 1 if y == 1 else z
    if y == 1 or (correcting and sigmoid(z) > threshold):
        return sigmoid(-z) ** 2 * -mpmath.log(sigmoid(z))
    return sigmoid(z) ** 2 * -mpmath.log(sigmoid(-z))


def by_hand(formula, label, *arguments):
    """The formula for every logit of FAR."""
    with mpmath.workdps(60):
        return np.array([float(formula(label, mpmath.mpf(z), *arguments)) for z in FAR])


# Golden values of timm 1.0.31 (gradients through the weights).


@pytest.mark.parametrize(
    ("settings_", "values", "slopes"),
    [
        ((1, 4, 0.05), [1.87339211, 0.09125301, 0.00230430, 0],
         [-0.99911737, 0.20887372, -0.00444423, 0]),
        ((0, 4, 0.05), [2.12692809, 0.09125301, 0.04858734, 0],
         [-0.88079709, 0.20887372, -0.04742587, 0]),
        ((0, 2, 0.05), [2.12692809, 0.27845687, 0.04858734, 0],
         [-0.88079709, 0.40875223, -0.04742587, 0]),
        ((0, 0, 0.0), BCE, [-0.88079709, 0.62245935, -0.04742587, 0.01798621]),
    ],
)  # fmt: skip
def test_asymmetric_has_the_golden_values_and_gradients(settings_, values, slopes):
    loss = asymmetric(double(LABELS), double(LOGITS), *settings_)
    np.testing.assert_allclose(loss, values, atol=1e-7)
    ours = gradient(lambda z: asymmetric(double(LABELS), z, *settings_), LOGITS)
    np.testing.assert_allclose(ours, slopes, atol=1e-7)


def test_the_default_settings_of_asymmetric_are_the_papers():
    loss = asymmetric(double(LABELS), double(LOGITS))
    assert float(ops.sum(loss)) == pytest.approx(2.26676846, abs=1e-7)


# Against the formulas, in float64 and, for logits that overflow when exponentiated, in float32.

FAR = [-1e4, -300.0, -90.0, -17.0, -3.1, -1e-3, 0.0, 0.4, 1.0, 2.7, 16.0, 90.0, 300.0, 1e4]


SETTINGS = [(0, 4, 0.05), (1, 4, 0.05), (2, 2, 0.2), (0, 0, 0.0), (1, 3, 0.0)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-6)])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_all_are_their_formulas_at_any_logit(dtype, tolerance, label):
    z = ops.convert_to_tensor(FAR, dtype)
    y = ops.zeros_like(z) + label
    pairs = [(asymmetric(y, z, *s), by_hand(asymmetric_by_hand, label, *s)) for s in SETTINGS]
    pairs.append((hill(y, z), by_hand(hill_by_hand, label)))
    for correcting in (True, False):
        ours = splc(y, z, correcting, 0.6)
        pairs.append((ours, by_hand(splc_by_hand, label, correcting, 0.6)))
    for ours, expected in pairs:
        np.testing.assert_allclose(ours, expected, rtol=20 * tolerance, atol=tolerance)


LOSSES = {
    "asymmetric": asymmetric,
    "asymmetric 1/2/.1": lambda y, z: asymmetric(y, z, 1.0, 2.0, 0.1),
    "hill": hill,
    "splc": splc,
    "splc, first epoch": lambda y, z: splc(y, z, False),
}


@pytest.mark.parametrize("name", LOSSES)
@LAW
@given(label=LABEL, logit=LOGIT)
def test_gradients_are_slopes(name, label, logit):
    y, step = double([label]), 1e-5
    # At the kinks (a margin, a threshold) there are two slopes.
    kinks = np.log([0.05 / 0.95, 0.1 / 0.9, 0.6 / 0.4])
    if np.abs(logit - kinks).min() < 2 * step:
        return
    ends = [float(LOSSES[name](y, double([logit + e]))[0]) for e in (-step, step)]
    ours = gradient(lambda z: LOSSES[name](y, z), [logit])[0]
    assert ours == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_in_float32_at_any_logit(name):
    for label in (0.0, 1.0):
        y = np.full(len(FAR), label, "float32")
        assert np.isfinite(gradient(lambda z: LOSSES[name](y, z), FAR, "float32")).all()  # noqa: B023


@pytest.mark.parametrize("name", LOSSES)
@LAW
@given(labels=st.lists(st.floats(0, 1), min_size=1, max_size=4), logit=LOGIT)
def test_none_is_negative_and_each_tag_stands_alone(name, labels, logit):
    whole = np.asarray(LOSSES[name](double(labels), double([logit] * len(labels))))
    assert (whole >= 0).all()
    alone = [float(LOSSES[name](double([y]), double([logit]))[0]) for y in labels]
    np.testing.assert_allclose(whole, alone, rtol=1e-9, atol=1e-14)


# Laws.


@LAW
@given(LABEL, LOGIT)
def test_asymmetric_without_gammas_and_margin_is_cross_entropy(label, logit):
    y, z = double([label]), double([logit])
    expected = float(losses.binary_cross_entropy(y, z)[0])
    assert float(asymmetric(y, z, 0, 0, 0)[0]) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@LAW
@given(LABEL, LOGIT, GAMMA)
def test_asymmetric_with_equal_gammas_and_no_margin_is_focal(label, logit, gamma):
    y, z = double([label]), double([logit])
    expected = float(losses.focal(y, z, None, gamma)[0])
    assert float(asymmetric(y, z, gamma, gamma, 0)[0]) == pytest.approx(
        expected, rel=1e-9, abs=1e-14
    )


@LAW
@given(LABEL, LOGIT, GAMMA, GAMMA, st.floats(0, 0.9), st.floats(0, 0.9))
def test_more_margin_and_more_gamma_never_cost_more(label, logit, gamma, more, margin, other):
    y, z, low, high = double([label]), double([logit]), *sorted((margin, other))
    small, large = sorted((gamma, more))
    loosest = float(asymmetric(y, z, large, large, high)[0])
    assert loosest <= float(asymmetric(y, z, small, small, low)[0]) + 1e-12


@LAW
@given(st.floats(0.001, 0.9), GAMMA)
def test_negatives_within_the_margin_have_no_loss_and_no_gradient(margin, gamma):
    inside = np.log(margin) - np.log1p(-margin) - np.array([1e-3, 1.0, 50.0])
    loss = lambda z: asymmetric(double(np.zeros(3)), z, 0, gamma, margin)  # noqa: E731
    assert not np.asarray(loss(double(inside))).any() and not gradient(loss, inside).any()


@LAW
@given(LOGIT)
def test_hills_negatives_pull_hardest_where_in_doubt(logit):
    p = 1 / (1 + np.exp(-logit))
    slope = gradient(lambda z: hill(double([0.0]), z), [logit])[0]
    assert slope == pytest.approx(3 * p**2 * (1 - p) ** 2, abs=1e-12)
    assert slope <= gradient(lambda z: hill(double([0.0]), z), [0.0])[0] == 3 / 16


@LAW
@given(LOGIT)
def test_positives_of_hill_and_splc_are_focal_with_a_margin(logit):
    y, z = double([1.0]), double([logit])
    expected = float(losses.focal(y, z - noisy_losses.MARGIN, None, 2.0)[0])
    assert float(hill(y, z)[0]) == float(splc(y, z)[0]) == pytest.approx(expected)


@LAW
@given(LABEL, LOGIT, st.floats(0.05, 0.95))
def test_splc_is_focal_of_the_labels_that_it_believes(label, logit, threshold):
    z = logit - label
    sure = 1 / (1 + np.exp(-z)) > threshold
    believed = 1.0 if label or sure else 0.0
    ours = float(splc(double([label]), double([logit]), True, threshold)[0])
    expected = float(losses.focal(double([believed]), double([z]), None, 2.0)[0])
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_a_forgotten_tag_is_pushed_down_by_cross_entropy_and_up_by_splc():
    slopes = {
        name: gradient(lambda z: loss(double([0.0]), z), [2.0])[0]  # noqa: B023
        for name, loss in (("bce", losses.binary_cross_entropy), ("splc", splc), ("hill", hill))
    }
    assert slopes["bce"] > 0.8 and 0 < slopes["hill"] < 0.1 and slopes["splc"] < 0
