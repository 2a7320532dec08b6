import keras
import numpy as np
import pytest
from scipy import special

from e6tag import losses, metrics
from e6tag.layers import HeteroscedasticLogits
from e6tag.objective import Objective

# Training: many rare tags, four in ten positives missing from the training labels.

NUM_TAGS = 48


class Learner(keras.Model):
    """A small network and its objective, trained together."""

    def __init__(self, kind, shares):
        super().__init__()
        self.hidden = keras.layers.Dense(64, activation="silu")
        self.head = HeteroscedasticLogits(NUM_TAGS, 4, bias=np.log(shares / (1 - shares)))
        self.objective = Objective(kind, NUM_TAGS)

    def call(self, x):
        return self.head(self.hidden(x))[0]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.objective(y, y_pred)


def toy(count, seed):
    """Inputs, labels, and labels as a booru would have them."""
    task, rng = np.random.default_rng(7), np.random.default_rng(seed)
    weights = task.normal(size=(24, NUM_TAGS)) / np.sqrt(24)
    rarity = np.sqrt(2) * special.erfinv(1 - 2 * 0.3 / np.arange(1, NUM_TAGS + 1) ** 0.8)
    x = rng.normal(size=(count, 24)).astype("float32")
    labels = rng.random((count, NUM_TAGS)) < special.expit(8 * (x @ weights - rarity))
    return x, labels, (labels & (rng.random(labels.shape) > 0.4)).astype("float32")


@pytest.fixture(scope="module")
def learners():
    """Kind -> learner after 300 steps, and its figures on complete labels."""
    (x, _, seen), (test_x, truth, _) = toy(4000, seed=1), toy(3000, seed=2)
    results = {}
    for kind in ("bce", "focal-robust"):
        keras.utils.set_random_seed(0)
        learner = Learner(kind, (seen.sum(axis=0) + 0.5) / (len(seen) + 1))
        learner.compile(keras.optimizers.AdamW(5e-3), jit_compile=False)
        learner.fit(x, seen, batch_size=80, epochs=6, verbose=0)
        figures = metrics.evaluate(truth, learner.predict(test_x, batch_size=1000, verbose=0), 10)
        results[kind] = learner, figures
    return results


def test_every_loss_learns_far_more_than_the_priors(learners):
    _, truth, seen = toy(3000, seed=2)
    prior = metrics.evaluate(truth, metrics.prior_scores(seen.mean(axis=0), len(truth)), 10)
    for _, figures in learners.values():
        assert figures["macro_auc"] > 0.85 and prior["macro_auc"] == 0.5
        assert figures["macro_ap"] > 4 * prior["macro_ap"]


def test_the_robust_focal_loss_ranks_about_as_well_as_cross_entropy(learners):
    auc = {kind: figures["macro_auc"] for kind, (_, figures) in learners.items()}
    assert auc["focal-robust"] == pytest.approx(auc["bce"], abs=0.015)


def test_shapes_and_scales_move_in_training_and_are_saved(learners, tmp_path):
    learner, _ = learners["focal-robust"]
    alpha, scale = np.asarray(learner.objective.alpha), np.asarray(learner.objective.scale)
    assert (np.abs(alpha - 1) > 0.05).all()
    assert (scale < 0.9).all() and (scale >= losses.SMALLEST_SCALE).all()
    learner.save_weights(tmp_path / "learner.weights.h5")
    again = Learner("focal-robust", np.full(NUM_TAGS, 0.1))
    again(np.zeros((1, 24), "float32"))
    again.load_weights(tmp_path / "learner.weights.h5")
    np.testing.assert_array_equal(again.objective.alpha, alpha)
    np.testing.assert_array_equal(again.objective.scale, scale)
