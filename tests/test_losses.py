import keras
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from e6tag import losses

LAW = settings(deadline=None, max_examples=40)
LOGITS = np.array([-2.0, 0.5, 3.0, -4.0])
LABELS = np.array([1.0, 0.0, 1.0, 0.0])
BCE = [2.12692801, 0.97407698, 0.04858735, 0.01814993]
FOCAL = [0.412519545, 0.283058701, 2.73208e-5, 4.40368e-6]


def double(values):
    return ops.convert_to_tensor(np.asarray(values, dtype="float64"))


def gradient(function, values):
    """Derivative of the sum of function(values), by TensorFlow."""
    import tensorflow as tf

    x = tf.Variable(np.asarray(values, dtype="float64"))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x).numpy()


# Cross-entropy and focal loss: golden values of torchvision 0.29.1 and timm 1.0.31.


def test_cross_entropy_has_the_golden_values_and_gradients():
    loss = losses.binary_cross_entropy(double(LABELS), double(LOGITS))
    np.testing.assert_allclose(loss, BCE, atol=1e-8)
    slopes = gradient(lambda z: losses.binary_cross_entropy(double(LABELS), z), LOGITS)
    np.testing.assert_allclose(
        slopes, [-0.88079709, 0.62245935, -0.04742587, 0.01798621], atol=1e-8
    )


def test_focal_has_the_golden_values_and_gradients():
    np.testing.assert_allclose(losses.focal(double(LABELS), double(LOGITS)), FOCAL, rtol=1e-5)
    slopes = gradient(lambda z: losses.focal(double(LABELS), z), LOGITS)
    np.testing.assert_allclose(slopes, [-0.26917843, 0.39461387, -7.8718e-5, 1.30129e-5], rtol=1e-4)


def test_focal_without_alpha_has_the_golden_values():
    loss = losses.focal(double(LABELS), double(LOGITS), alpha=None)
    np.testing.assert_allclose(loss, [1.65007818, 0.37741160, 1.09283e-4, 5.87157e-6], rtol=1e-5)


def test_focal_is_elementwise_where_a_mean_over_tags_would_leak():
    loss = losses.focal(double([1.0, 0, 0, 0]), double([-2.0, -2, -4, 0]))
    np.testing.assert_allclose(loss, [0.41251957, 0.00135267, 4.4037e-6, 0.12996510], rtol=1e-4)
    slopes = gradient(lambda z: losses.focal(double([1.0, 0, 0, 0]), z)[0], [-2.0, -2, -4, 0])
    assert slopes[0] < -0.2 and not slopes[1:].any()


def test_focal_equals_keras_own_before_its_mean():
    rng = np.random.default_rng(0)
    labels, logits = (rng.random((64, 5)) < 0.3).astype("float32"), rng.normal(size=(64, 5)) * 4
    for alpha, gamma in ((0.25, 2.0), (0.7, 1.0)):
        theirs = keras.losses.BinaryFocalCrossentropy(
            apply_class_balancing=True, alpha=alpha, gamma=gamma, from_logits=True
        )(labels, logits.astype("float32"))
        ours = np.mean(losses.focal(labels, ops.convert_to_tensor(logits, "float32"), alpha, gamma))
        assert ours == pytest.approx(float(theirs), rel=1e-5)


@LAW
@given(st.floats(-80, 80), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_focal_and_its_gradient_are_finite_and_never_above_cross_entropy(logit, label, gamma):
    z, y = np.array([logit]), double([label])
    loss = float(losses.focal(y, double(z), None, gamma)[0])
    assert 0 <= loss <= float(losses.binary_cross_entropy(y, double(z))[0]) * (1 + 1e-9)
    assert np.isfinite(gradient(lambda v: losses.focal(y, v, None, gamma), z)).all()


def test_focal_without_focus_is_cross_entropy():
    loss = losses.focal(double(LABELS), double(LOGITS), alpha=None, gamma=0.0)
    np.testing.assert_allclose(loss, BCE, atol=1e-8)


# The robust loss: golden values of Google's reference code in float64.

RESIDUALS = np.array([0.5, 1, 3, 3, 3])
SCALES = np.array([1, 1, 1, 0.5, 2])
RHO = {
    -np.inf: [0.1175030974, 0.3934693403, 0.9888910035, 0.9999999848, 0.6753475326],
    -2.0: [0.1176470588, 0.4, 1.3846153846, 1.8, 0.72],
    0.0: [0.1177830357, 0.4054651081, 1.7047480922, 2.9444389792, 0.7537718024],
    0.5: [0.1178696329, 0.4086580994, 1.8797296851, 3.7082039325, 0.7723002890],
    1.0: [0.1180339887, 0.4142135624, 2.1622776602, 5.0827625303, 0.8027756377],
    1.5: [0.1184676685, 0.4265023524, 2.7001662945, 7.9914107295, 0.8638227105],
    2.0: [0.125, 0.5, 4.5, 18.0, 1.125],
}
LOG_Z = {0.25: 1.3641634123, 0.5: 1.2917070310, 1: 1.1854952323, 1.5: 1.0871889193,
         1.999: 0.9206003492, 2: 0.9189385332}  # fmt: skip


@pytest.mark.parametrize("alpha", RHO)
def test_robust_has_the_golden_values(alpha):
    rho = losses.robust(double(RESIDUALS**2), alpha, double(SCALES))
    np.testing.assert_allclose(rho, RHO[alpha], atol=1e-9)


def test_robust_at_plus_infinity_is_the_exponential():
    rho = losses.robust(double(RESIDUALS**2), np.inf, 1.0)
    np.testing.assert_allclose(rho, np.expm1(RESIDUALS**2 / 2), rtol=1e-12)


@LAW
@given(st.floats(0, 100), st.floats(0.05, 10), st.floats(-8, 8))
def test_robust_at_alpha_two_is_half_the_square_and_smaller_alphas_forgive_more(x, scale, alpha):
    squared = double(x * x)
    half_square = float(losses.robust(squared, 2.0, scale))
    assert half_square == pytest.approx((x / scale) ** 2 / 2)
    lower = float(losses.robust(squared, min(alpha, 2.0), scale))
    assert 0 <= lower <= half_square * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [-np.inf, -2.0, 0.0, 1.0, 2.0])
def test_robust_has_finite_gradients_at_the_limits_in_every_argument(alpha):
    for x_squared in (0.0, 1e-12, 1.0, 1e4):
        rho = lambda s: losses.robust(double(x_squared), alpha, s)  # noqa: B023, E731
        assert np.isfinite(gradient(rho, 0.7)).all()
        assert np.isfinite(gradient(lambda x: losses.robust(x, alpha, 1.0), x_squared)).all()
        if np.isfinite(alpha):
            shape = gradient(lambda a: losses.robust(double(x_squared), a, 1.0), alpha)  # noqa: B023
            assert np.isfinite(shape).all()


def integral(alpha):
    """Z(alpha) by mpmath, in pieces, over x = sinh(t)."""
    a, rest = mpmath.mpf(alpha), 2 - mpmath.mpf(alpha)

    def density(t):
        rho = rest / a * mpmath.expm1(a / 2 * mpmath.log1p(mpmath.sinh(t) ** 2 / rest))
        return mpmath.exp(-rho) * mpmath.cosh(t)

    return 2 * mpmath.quad(density, [0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64])


def test_log_partition_has_the_golden_values():
    ours = losses.log_partition(double(list(LOG_Z)))
    np.testing.assert_allclose(ours, list(LOG_Z.values()), atol=1e-6)
    cauchy = losses.log_partition(double([0.0]))
    np.testing.assert_allclose(cauchy, np.log(np.pi * np.sqrt(2)), atol=1e-6)


def test_log_partition_is_the_integral_and_its_gradient_the_integrals():
    alphas = np.array([0.001, 0.02, 0.1, 0.3, 0.8, 1.2, 1.7, 1.9, 1.99, 1.999])
    expected = [float(mpmath.log(integral(alpha))) for alpha in alphas]
    np.testing.assert_allclose(losses.log_partition(double(alphas)), expected, atol=1e-6)
    single = losses.log_partition(ops.convert_to_tensor(alphas, "float32"))
    np.testing.assert_allclose(single, expected, atol=1e-6)
    slopes = gradient(losses.log_partition, alphas[2:-2])
    both = [[mpmath.log(integral(a + e)) for a in alphas[2:-2]] for e in (-1e-4, 1e-4)]
    numeric = [float(high - low) / 2e-4 for low, high in zip(*both, strict=True)]
    np.testing.assert_allclose(slopes, numeric, atol=1e-4)


def test_negative_log_likelihood_has_the_golden_values():
    x, alpha, scale = (
        np.array(v) for v in ([0, 1, 3, 1, -2.0], [1, 1, 1, 0.5, 1.5], [1, 1, 1, 0.5, 2])
    )
    nll = losses.robust_nll(double(x**2), double(alpha), double(scale))
    golden = [1.1854952, 1.5997088, 3.3477729, 1.7499076, 2.2068385]
    np.testing.assert_allclose(nll, golden, atol=1e-6)


def test_adaptive_likelihood_has_the_golden_values_and_gradients_of_the_latents():
    latents, x = ([-1.0, 0, 2], [-1.0, 0, 1]), np.array([[0.1, -1, 2], [0, 3, -4]])

    def nll(alpha, scale):
        shapes = losses.alpha_of(alpha), losses.scale_of(scale, lowest=1e-5)
        return losses.robust_nll(double(x**2), *shapes)

    golden = [
        [0.5893874830, 1.5997087948, 2.1507912273],
        [0.5687666024, 3.3477728926, 3.6047434130],
    ]
    np.testing.assert_allclose(nll(double(latents[0]), double(latents[1])), golden, atol=1e-6)
    by_alpha = gradient(lambda a: nll(a, double(latents[1])), latents[0])
    by_scale = gradient(lambda c: nll(double(latents[0]), c), latents[1])
    np.testing.assert_allclose(by_alpha, [-0.1884437951, 0.1841614705, 0.2066320793], atol=2e-6)
    np.testing.assert_allclose(by_scale, [1.5488985979, -0.9817724477, -1.2856601151], atol=1e-7)


def test_focal_robust_at_alpha_two_and_scale_one_is_focal_plus_a_constant():
    loss = losses.focal(double(LABELS), double(LOGITS))
    loss = losses.inside_robust(loss, 2.0 * np.ones(1), np.ones(1))
    np.testing.assert_allclose(loss, np.array(FOCAL) + 0.9189385332, atol=1e-6)


@pytest.mark.parametrize("logit", [-200.0, -30.0, 0.0, 30.0, 200.0])
def test_focal_robust_has_finite_gradients_for_hopeless_and_for_perfect_predictions(logit):
    for label in (0.0, 1.0):
        slope = gradient(
            lambda z, label=label: losses.inside_robust(
                losses.focal(double([label]), z), np.ones(1), 0.1 * np.ones(1)
            ),
            [logit],
        )
        assert np.isfinite(slope).all()


@LAW
@given(st.floats(-1e6, 1e6))
def test_latents_stay_inside_their_ranges(latent):
    low, high = losses.ALPHA_RANGE
    assert low <= float(losses.alpha_of(double(latent))) <= high
    assert float(losses.scale_of(double(latent))) >= losses.SMALLEST_SCALE
    assert float(losses.scale_of(double(0.0))) == pytest.approx(losses.INITIAL_SCALE)
