"""Noise in the vector: against a dense covariance, sampling, and what must not grow."""

import keras
import numpy as np
import pytest
from scipy import special

from e6tag import cost, export, models, preparation
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError
from e6tag.vector_noise import VectorNoiseLogits

D, R, K = 6, 3, 4


def head(**options):
    made = VectorNoiseLogits(K, R, **options)
    made.build((None, D))
    rng = np.random.default_rng(0)
    for weight in made.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    return made


def noise_of(made, h):
    """V (D, R) and d (D) of one vector, in NumPy from the head's weights."""
    w = {weight.name: weight.numpy().astype(float) for weight in made.weights}
    d = np.logaddexp(0, h @ w["diagonal_kernel"] + w["diagonal_bias"]) + 1e-3
    v = h @ w["multiplier_kernel"] + w["multiplier_bias"]
    return v[:, None] * w["factors"].T, d, w["location_kernel"], w["location_bias"]


def test_deviations_and_probabilities_are_those_of_the_dense_covariance_and_of_sampling():
    made, rng = head(nodes=32), np.random.default_rng(1)
    vectors = rng.normal(size=(3, D))
    logits, scale = (np.asarray(x) for x in made(vectors.astype("float32")))
    for h, p, s in zip(vectors, special.expit(logits), scale, strict=True):
        v, d, kernel, bias = noise_of(made, h)
        covariance = kernel.T @ (v @ v.T + np.diag(d**2)) @ kernel
        np.testing.assert_allclose(s, np.sqrt(np.diag(covariance)), rtol=1e-4)
        shared, own = rng.normal(size=(200_000, R)), rng.normal(size=(200_000, D))
        draws = special.expit((h + shared @ v.T + own * d) @ kernel + bias)
        error = 4.5 * draws.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(p - draws.mean(axis=0)) < error + 1e-5).all()


def test_beside_the_tag_layer_parameters_do_not_grow_with_the_tags():
    for tags in (10, 1000):
        made = VectorNoiseLogits(tags, R, learn_temperature=True)
        made.build((None, D))
        assert made.count_params() - (D + 1) * tags == 2 * D * (D + 1) + R * D + 1


def test_a_learned_temperature_starts_at_the_one_asked_for_and_keeps_its_range():
    made = VectorNoiseLogits(K, R, 2.0, learn_temperature=True)
    made.build((None, D))
    for latent, expected in ((0, 2), (50, 3), (-50, 1)):
        made.latent.assign(latent)
        assert float(made.tau()) == pytest.approx(expected)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_gradients_are_finite_and_reach_every_weight(size):
    import tensorflow as tf

    made = head(learn_temperature=True)
    if not size:
        made.location[0].assign(np.zeros((D, K)))
    vectors = np.random.default_rng(0).normal(size=(5, D)) * size
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.softplus(made(vectors.astype("float32"))[0]))
    gradients = tape.gradient(loss, [weight.value for weight in made.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert size != 1 or all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("rank", [0, 5])
def test_a_tagger_with_it_starts_at_the_shares_is_saved_and_exported(rank, tmp_path):
    keras.utils.set_random_seed(0)
    options = TrainConfig(
        backbone="resnet", depth=(1, 1), width=8, image_size=32, vector_size=12, heads=2,
        key_size=4, pooling="attention", pooled_stages=5, heteroscedastic=True,
        noise="vector", learn_temperature=True, rank=rank,
    )  # fmt: skip
    shares = np.array([0.01, 0.05, 0.2, 0.5, 0.9])
    network = models.build_tagger(options, shares)
    pictures = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype("float32")
    outputs = network(pictures)
    predicted = np.asarray(outputs["probabilities"]).mean(axis=0)
    np.testing.assert_allclose(predicted, shares, rtol=0.15)
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")(pictures)
    for name, value in outputs.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    export.export_onnx(network, tmp_path / "model.onnx", 32)
    numbers = rank or 12
    assert cost.layer_multiply_adds(network.get_layer("tags")) == (
        (2 + 8) * numbers * 5 + 2 * numbers**2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heteroscedastic": True, "noise": "vector", "likelihood": "joint"}, "needs --noise tags"),
        ({"learn_temperature": True}, "needs --noise vector"),
    ],
)
def test_what_it_cannot_do_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        preparation.check_noise(TrainConfig(**options))
