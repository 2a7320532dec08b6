"""The rival row "the original as written" is wired as the original was.

The oracle is shares of the original's own loss, measured where it ran (TensorFlow 2.15): values and
gradients at logits -2, -2, -4, 0 with labels 1, 0, 0, 0.
"""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

LOGITS = [[-2.0, -2.0, -4.0, 0.0]]
LABELS = np.array([[1, 0, 0, 0]], np.float32)
LOG_PARTITION = 1.1854952325
CORRECT = np.array([[-0.26917843, np.nan, 1.30129e-5, np.nan]])
"""gradients of the focal loss as published"""


@pytest.fixture(scope="module")
def original() -> ModuleType:
    folder = str(Path(__file__).parents[1] / "benchmarks/clock_rivals")
    sys.path.insert(0, folder)
    import original

    sys.path.remove(folder)
    return original


def test_the_loss_has_the_original_s_values(original: ModuleType) -> None:
    value = original.focal_of_mean(LABELS, tf.sigmoid(LOGITS)).numpy()
    np.testing.assert_allclose(value, [[0.14377348, 0.00789992, 1.7986e-4, 0.13899150]], rtol=1e-4)


def test_the_robust_loss_has_the_original_s_values(original: ModuleType) -> None:
    value = original.robust(original.focal_of_mean(LABELS, tf.sigmoid(LOGITS))).numpy()
    expected = [[0.0102826, 3.1e-5, 1.6e-8, 0.0096130]]
    np.testing.assert_allclose(value - LOG_PARTITION, expected, atol=5e-7)


def test_a_missed_tag_gets_too_little_gradient_and_an_absent_one_too_much(
    original: ModuleType,
) -> None:
    z = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        value = original.focal_of_mean(LABELS, tf.sigmoid(z))
    slopes = tape.gradient(value, z).numpy()
    np.testing.assert_allclose(slopes[0, [0, 2]], [-0.121, 0.00212], rtol=5e-3)
    np.testing.assert_allclose((slopes / CORRECT)[0, [0, 2]], [1 / 2.2, 160], rtol=0.03)


def test_as_logits_nothing_is_below_one_half(original: ModuleType) -> None:
    low, zero = tf.constant([[-9.0, -3.0]]), tf.constant([[0.0, 0.0]])
    labels = np.array([[1, 0]], np.float32)
    raised = original.focal_of_mean(labels, low, from_logits=True)
    np.testing.assert_allclose(raised, original.focal_of_mean(labels, zero, from_logits=True))
    np.testing.assert_allclose(raised, [[0.25 * np.log(2) / 4, 0.75 * np.log(2) / 4]], rtol=1e-5)


def test_the_rate_is_the_original_s_triangle(original: ModuleType) -> None:
    rates = [original.triangular(step / 100, 0.1, 4.0) for step in (0, 10, 25, 50, 75, 99)]
    np.testing.assert_allclose(rates, [0.1, 0.8, 2, 4, 2, 0.1], rtol=1e-9)


def test_the_samples_mean_is_the_integral(original: ModuleType) -> None:
    """mu = 0.5, -1, 2 and deviations of softplus(0, -1, 1) + 0.001, by Gauss-Hermite of 100."""
    layer = original.SampledSigmoid(3, samples=10, test_samples=200_000)
    layer(np.zeros((1, 1), np.float32))
    layer.location.bias.assign([0.5, -1, 2])
    layer.deviation.bias.assign([0, -1, 1])
    p = layer(np.zeros((1, 1), np.float32)).numpy()
    np.testing.assert_allclose(p, [[0.61096058, 0.27328294, 0.82315056]], atol=2e-3)
