import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import ops
from scipy import integrate, special, stats

from e6tag import layers, quadrature
from e6tag.layers import AttentionPooling, HeteroscedasticLogits

LAW = settings(deadline=None, max_examples=30)
MU = np.array([0.5, -1.0, 2.0])
LOADINGS = np.array([[1, -0.5], [0.3, 0.8], [-1.2, 0.4]])
DIAGONAL = np.logaddexp(0, [0.0, -1.0, 1.0]) + 0.001
SMALL = arrays.arrays(np.float64, (3, 2), elements=st.floats(-2, 2, width=32))


def double(values):
    return ops.convert_to_tensor(np.asarray(values, dtype="float64"))


def probability(s, temperature=1.0, nodes=8, mu=MU):
    return special.expit(quadrature.marginal_logits(double(mu), double(s), temperature, nodes))


# Golden values: Gauss-Hermite with 100 nodes, and edward2 0.0.2's sampling layer.


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, [0.59272527, 0.29858080, 0.78712523]),
        (0.5, [0.62429949, 0.21264309, 0.83777700]),
        (2.0, [0.55664536, 0.38300376, 0.70133219]),
    ],
)
def test_marginal_has_the_golden_values(temperature, expected):
    s = layers.latent_scale(double(LOADINGS), double(DIAGONAL))
    np.testing.assert_allclose(s, [1.31599404, 0.91036279, 1.82408437], atol=1e-8)
    np.testing.assert_allclose(probability(s, temperature, nodes=100), expected, atol=1e-8)
    tolerance = {0.5: 6e-3, 1.0: 4e-4, 2.0: 1e-5}[temperature]
    np.testing.assert_allclose(probability(s, temperature), expected, atol=tolerance)


def test_marginal_without_factors_has_the_golden_values():
    expected = [0.61096058, 0.27328294, 0.82315056]
    np.testing.assert_allclose(probability(DIAGONAL, nodes=100), expected, atol=1e-8)


def test_efficient_factors_have_the_golden_values():
    factors, multiplier = [[1, 0.3, -1.2], [-0.5, 0.8, 0.4]], [1, 0.5, 2]
    s = layers.efficient_scale(double(multiplier), double(factors), double(DIAGONAL))
    expected = [0.59272527, 0.28061792, 0.72490469]
    np.testing.assert_allclose(probability(s, nodes=100), expected, atol=1e-8)


def test_marginal_agrees_with_sampling_the_correlated_latents():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(200_000, 2)), rng.normal(size=(200_000, 3))
    draws = special.expit(MU + shared @ LOADINGS.T + own * DIAGONAL)
    s = layers.latent_scale(double(LOADINGS), double(DIAGONAL))
    error = 4 * draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(probability(s, nodes=32) - draws.mean(axis=0)) < error).all()


@LAW
@given(st.floats(-8, 8), st.floats(0.01, 1.0), st.floats(0.8, 3))
def test_marginal_is_the_integral(mu, s, temperature):
    density = lambda e: special.expit((mu + s * e) / temperature) * stats.norm.pdf(e)  # noqa: E731
    expected = integrate.quad(density, -12, 12, epsabs=1e-11)[0]
    ours = probability([s], temperature, mu=np.array([mu]))
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-3)


@LAW
@given(SMALL, st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3), st.floats(0, 6.3))
def test_signs_and_rotations_of_the_factors_leave_the_marginal_alone(loadings, signs, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before = layers.latent_scale(double(loadings), double(DIAGONAL))
    for other in (loadings * np.array(signs)[:, None], loadings @ turn):
        after = layers.latent_scale(double(other), double(DIAGONAL))
        np.testing.assert_allclose(probability(after), probability(before), atol=1e-9)


@LAW
@given(st.floats(-300, 300), st.floats(0.001, 5))
def test_logits_are_odd_in_the_mean_and_finite_in_float32(mu, s):
    both = ops.convert_to_tensor([mu, -mu], "float32"), ops.convert_to_tensor([s, s], "float32")
    plus, minus = np.asarray(quadrature.marginal_logits(*both))
    assert np.isfinite(plus) and plus == pytest.approx(-minus, abs=1e-4, rel=1e-5)


def test_far_tails_keep_their_digits_where_a_difference_of_probabilities_would_not():
    logits = quadrature.marginal_logits(ops.convert_to_tensor([-60.0, 60.0]), ops.zeros(2) + 1e-3)
    np.testing.assert_allclose(logits, [-60, 60], rtol=1e-5)


def in_logarithms(mu, s, temperature):
    """The same quadrature in float64, each side of the logit as a sum of exponentials."""
    points, weights = np.polynomial.hermite_e.hermegauss(8)
    z = (mu[..., None] + s[..., None] * points) / temperature
    sides = [np.log(weights) + special.log_expit(side) for side in (z, -z)]
    return np.subtract(*(special.logsumexp(side, axis=-1) for side in sides))


@LAW
@given(
    arrays.arrays(np.float64, (2, 3), elements=st.floats(-200, 200)),
    arrays.arrays(np.float64, (1, 3), elements=st.floats(0.001, 40)),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_marginal_and_its_slopes_are_those_of_the_quadrature_in_logarithms(mu, s, temperature):
    import tensorflow as tf

    means, deviations = tf.Variable(mu), tf.Variable(s)
    with tf.GradientTape() as tape:
        logits = quadrature.marginal_logits(means, deviations, temperature)
    by_mean, by_deviation = tape.gradient(logits, [means, deviations])
    wide, h = np.broadcast_to(s, mu.shape), 1e-4
    np.testing.assert_allclose(logits, in_logarithms(mu, wide, temperature), rtol=1e-9, atol=1e-9)
    up, down = (in_logarithms(mu + d, wide, temperature) for d in (h, -h))
    np.testing.assert_allclose(by_mean, (up - down) / (2 * h), atol=1e-5)
    up, down = (in_logarithms(mu, wide + d, temperature) for d in (h, -h))
    slopes = ((up - down) / (2 * h)).sum(axis=0, keepdims=True)
    np.testing.assert_allclose(by_deviation, slopes, atol=1e-5)


@LAW
@given(st.floats(-1e4, 1e4), st.floats(0.001, 1e3))
def test_slopes_are_finite_in_float32_however_far_the_latents_are(mu, s):
    found = quadrature.node_sums(*(ops.convert_to_tensor([v], "float32") for v in (mu, s)), 8)
    assert np.isfinite(np.concatenate(found)).all()


def test_no_noise_gives_the_plain_logit():
    np.testing.assert_allclose(
        quadrature.marginal_logits(double(MU), double(np.zeros(3)), 0.5), MU / 0.5, atol=1e-12
    )


def test_quadrature_is_exact_for_moments_of_the_normal():
    points, weights = quadrature.gauss_hermite(8)
    moments = [weights @ points**power for power in (0, 1, 2, 4, 6, 14)]
    np.testing.assert_allclose(moments, [1, 0, 1, 3, 15, 135135], atol=1e-8, rtol=1e-9)


def test_inverse_softplus_inverts():
    for value in (0.01, 0.2, 3.0, 50.0):
        assert np.logaddexp(0, layers.inverse_softplus(value)) == pytest.approx(value)


# The head.


def vectors(count=64, size=16):
    return np.random.default_rng(0).normal(size=(count, size)).astype("float32")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_head_starts_close_to_the_prior_with_little_noise(temperature):
    keras.utils.set_random_seed(0)
    shares = np.array([0.001, 0.02, 0.3, 0.7])
    head = HeteroscedasticLogits(4, 8, temperature, bias=special.logit(shares))
    logits, scale = head(vectors(size=256))
    np.testing.assert_allclose(special.expit(logits).mean(axis=0), shares, rtol=0.1)
    relative = np.asarray(scale) / temperature
    assert relative.min() > 0.1 and np.median(relative) < 0.3


def test_head_has_parameters_linear_in_the_number_of_tags():
    def count(tags):
        head = HeteroscedasticLogits(tags, num_factors=5)
        head.build((None, 16))
        return head.count_params()

    assert count(7) == 3 * 7 * 17 + 7 * 5
    assert count(14) == 2 * count(7)


def test_head_without_factors_keeps_its_own_noise():
    logits, scale = HeteroscedasticLogits(3, num_factors=0)(vectors())
    assert logits.shape == scale.shape == (64, 3)
    assert (np.asarray(scale) > 0.05).all()


def test_every_weight_of_the_head_receives_a_gradient():
    import tensorflow as tf

    head = HeteroscedasticLogits(3, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(head(vectors())[0] - 1.0))
    gradients = tape.gradient(loss, [weight.value for weight in head.trainable_variables])
    assert len(gradients) == 7 and all(np.abs(g).max() > 0 for g in gradients)


def test_head_never_leaves_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        head = HeteroscedasticLogits(3, 2)
    finally:
        keras.config.set_dtype_policy("float32")
    logits, scale = head(vectors().astype("float16"))
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in (logits, scale, *head.weights)}
    assert dtypes == {"float32"}


def test_a_bias_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="2 values for 3 tags"):
        HeteroscedasticLogits(3, bias=[0.1, 0.2])


# Attention pooling.


def test_pooling_starts_with_the_mean_of_the_map():
    features = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype("float32")
    pooled = AttentionPooling(heads=2, key_size=7)(features)
    assert pooled.shape == (5, 6 + 14)
    np.testing.assert_allclose(pooled[:, :6], features.mean(axis=(1, 2)), atol=1e-6)


def test_attention_equals_keras_own():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 9, 2 * 4)).astype("float32") for _ in range(3))
    theirs = keras.layers.MultiHeadAttention(2, 4)
    heads = [x.reshape(2, 9, 2, 4) for x in (q, k, v)]
    theirs.build((2, 9, 8), (2, 9, 8))
    expected, _ = theirs._compute_attention(*heads)
    np.testing.assert_allclose(layers.attend(q, k, v, 2), np.reshape(expected, q.shape), atol=1e-5)


def test_attention_of_equal_keys_is_the_mean_of_the_values():
    values = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    mixed = layers.attend(values, np.ones_like(values), values, heads=3)
    expected = np.broadcast_to(values.mean(axis=1, keepdims=True), values.shape)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_pooling_does_not_depend_on_where_things_are():
    features = np.random.default_rng(0).normal(size=(2, 3, 3, 6)).astype("float32")
    pooling = AttentionPooling(2, 4)
    np.testing.assert_allclose(pooling(features), pooling(features[:, ::-1, ::-1]), atol=1e-5)


def test_every_weight_of_the_pooling_receives_a_gradient():
    import tensorflow as tf

    features, pooling = np.random.default_rng(0).normal(size=(4, 3, 3, 6)), AttentionPooling(2, 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(pooling(features.astype("float32"))))
    gradients = tape.gradient(loss, [weight.value for weight in pooling.trainable_variables])
    assert len(gradients) == 7 and all(np.abs(g).max() > 0 for g in gradients)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (HeteroscedasticLogits(3, 2, 0.5, 4, bias=[0.1, -1, 2]), (5,)),
        (HeteroscedasticLogits(3, 0), (5,)),
        (AttentionPooling(2, 4), (3, 3, 5)),
    ],
)
def test_layers_survive_saving_with_their_weights(layer, shape, tmp_path):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # safe mode: runs no code
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    for ours, theirs in zip(
        keras.tree.flatten(model(x)), keras.tree.flatten(again(x)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert again.layers[1].get_config() == layer.get_config()
