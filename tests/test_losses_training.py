import functools

import keras
import numpy as np
import pytest
from scipy import special

from e6tag import losses, metrics
from e6tag.joint import JointLikelihood
from e6tag.layers import HeteroscedasticLogits
from e6tag.learner import Learner
from e6tag.objective import Objective

# Training: many rare tags, four in ten positives missing from the training labels.

NUM_TAGS = 48


KINDS = ("bce", "focal-robust", "asl", "hill", "splc", "joint")
EPOCHS, STEPS = 6, 50


def make_learner(kind, shares):
    """A small network and what trains it: an objective, or the joint likelihood."""
    x = keras.Input((24,))
    vector = keras.layers.Dense(64, activation="silu")(x)
    head = HeteroscedasticLogits(NUM_TAGS, 4, bias=np.log(shares / (1 - shares)), name="tags")
    logits, _ = head(vector)
    outputs = {"logits": logits, "vector": vector, "probabilities": keras.ops.sigmoid(logits)}
    objective = Objective("bce" if kind == "joint" else kind, NUM_TAGS, splc_start=STEPS)
    joint = JointLikelihood(8) if kind == "joint" else None
    return Learner(keras.Model(x, outputs), objective, joint)


def toy(count, seed):
    """Inputs, labels, and labels as a booru would have them."""
    task, rng = np.random.default_rng(7), np.random.default_rng(seed)
    weights = task.normal(size=(24, NUM_TAGS)) / np.sqrt(24)
    rarity = np.sqrt(2) * special.erfinv(1 - 2 * 0.3 / np.arange(1, NUM_TAGS + 1) ** 0.8)
    x = rng.normal(size=(count, 24)).astype("float32")
    labels = rng.random((count, NUM_TAGS)) < special.expit(8 * (x @ weights - rarity))
    return x, labels, (labels & (rng.random(labels.shape) > 0.4)).astype("float32")


@functools.cache
def learned(kind):
    """A learner after 300 steps, and its figures on complete labels."""
    (x, _, seen), (test_x, truth, _) = toy(80 * STEPS, seed=1), toy(3000, seed=2)
    keras.utils.set_random_seed(0)
    learner = make_learner(kind, (seen.sum(axis=0) + 0.5) / (len(seen) + 1))
    learner.compile(keras.optimizers.AdamW(5e-3), jit_compile=False)
    learner.fit(x, seen, batch_size=80, epochs=EPOCHS, verbose=0)
    scores = learner.predict(test_x, batch_size=1000, verbose=0)["probabilities"]
    return learner, metrics.evaluate(truth, scores, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_learns_far_more_than_the_priors(kind):
    _, truth, seen = toy(3000, seed=2)
    prior = metrics.evaluate(truth, metrics.prior_scores(seen.mean(axis=0), len(truth)), 10)
    _, figures = learned(kind)
    assert figures["macro_auc"] > 0.85 and prior["macro_auc"] == 0.5
    assert figures["macro_ap"] > 4 * prior["macro_ap"]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_loss_ranks_about_as_well_as_cross_entropy(kind):
    (_, ours), (_, plain) = learned(kind), learned("bce")
    assert ours["macro_auc"] == pytest.approx(plain["macro_auc"], abs=0.015)


def test_shapes_and_scales_move_in_training_and_are_saved(tmp_path):
    learner, _ = learned("focal-robust")
    alpha, scale = np.asarray(learner.objective.alpha), np.asarray(learner.objective.scale)
    assert (np.abs(alpha - 1) > 0.05).all()
    assert (scale < 0.9).all() and (scale >= losses.SMALLEST_SCALE).all()
    learner.save_weights(tmp_path / "learner.weights.h5")
    again = make_learner("focal-robust", np.full(NUM_TAGS, 0.1))
    again(np.zeros((1, 24), "float32"))
    again.load_weights(tmp_path / "learner.weights.h5")
    np.testing.assert_array_equal(again.objective.alpha, alpha)
    np.testing.assert_array_equal(again.objective.scale, scale)
