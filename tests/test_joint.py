"""The joint likelihood: golden values, integrals, slopes, laws, and that draws have no state."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import ops
from scipy import special

from e6tag import joint, quadrature
from e6tag.joint import JointLikelihood, StepSeed
from e6tag.layers import HeteroscedasticLogits
from e6tag.learner import Learner
from e6tag.objective import Objective

LAW = settings(deadline=None, max_examples=25)
MU = np.array([0.5, -1.0, 2.0])
LOADINGS = np.array([[1, -0.5], [0.3, 0.8], [-1.2, 0.4]])
DIAGONAL = np.logaddexp(0, [0.0, -1.0, 1.0]) + 0.001
LABELS = np.array([1.0, 0.0, 1.0])
SMALL = arrays.arrays(np.float64, (3, 2), elements=st.floats(-1.5, 1.5, width=32))
TRUTH = arrays.arrays(np.float64, 3, elements=st.sampled_from([-1.0, 0.0, 1.0]))


def double(values):
    return ops.convert_to_tensor(np.asarray(values, dtype="float64"))


def grid(points):
    """Gauss-Hermite rule of the two factors: points (1, N, 2) and weights (N,)."""
    e, w = quadrature.gauss_hermite(points)
    draws = np.stack(np.meshgrid(e, e, indexing="ij"), -1).reshape(1, -1, 2)
    return draws, np.outer(w, w).ravel()


def conditional(draws, loadings=LOADINGS, labels=LABELS, mu=MU, diagonal=DIAGONAL, t=1.0, nodes=40):
    """-log p(labels | e) of each draw, with all loadings free (V = 1 * factors)."""
    labels = np.asarray(labels)
    shifts = joint.factor_shifts(double(np.ones((1, 3))), double(loadings.T), double(draws))
    counts = ops.convert_to_tensor(labels[None] >= 0)
    known = double(np.maximum(labels, 0)[None])
    means = double(mu[None, None]) + shifts
    return np.asarray(joint.conditional_nll(known, counts, means, double(diagonal[None]), t, nodes))


def exact(points=40, **changes):
    """-log p(labels) with the factors integrated by quadrature."""
    draws, weights = grid(points)
    return -special.logsumexp(-conditional(draws, **changes)[0], b=weights)


def marginal(labels=LABELS, loadings=LOADINGS, t=1.0, nodes=100):
    s = np.sqrt((loadings**2).sum(axis=1) + DIAGONAL**2)
    logits = np.asarray(quadrature.marginal_logits(double(MU), double(s), t, nodes))
    loss = np.logaddexp(0, logits) - np.maximum(labels, 0) * logits
    return loss[np.asarray(labels) >= 0].sum()


# Golden values: factors and noise both by Gauss-Hermite in float64.


def test_joint_has_the_golden_values():
    turned = LOADINGS * [[1], [1], [-1]]
    independent = np.sqrt((LOADINGS**2).sum(axis=1) + DIAGONAL**2)
    assert exact(nodes=80) == pytest.approx(1.16928523, abs=1e-6)
    assert exact(nodes=80, loadings=turned) == pytest.approx(1.04843323, abs=1e-6)
    none = exact(nodes=100, loadings=0 * LOADINGS, diagonal=independent)
    assert none == pytest.approx(1.11704175, abs=1e-6)
    # What the marginal loss sees is the same in all three.
    assert marginal() == pytest.approx(1.11704175, abs=1e-6)
    assert marginal(loadings=turned) == marginal()


def test_joint_is_the_frequency_of_the_labels_among_sampled_pictures():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(400_000, 2)), rng.normal(size=(400_000, 3))
    p = special.expit(MU + shared @ LOADINGS.T + own * DIAGONAL)
    likelihoods = np.where(LABELS == 1, p, 1 - p).prod(axis=1)
    error = 4 * likelihoods.std() / np.sqrt(len(p))
    assert np.exp(-exact()) == pytest.approx(likelihoods.mean(), abs=error)


def test_all_sets_of_labels_together_are_certain():
    sets = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    assert sum(np.exp(-exact(labels=labels)) for labels in sets) == pytest.approx(1, abs=1e-9)


def test_many_draws_come_to_the_integral():
    draws = np.random.default_rng(1).normal(size=(1, 200_000, 2))
    nll = conditional(draws, nodes=12)
    likelihoods = np.exp(-nll[0])
    error = 4 * likelihoods.std() / likelihoods.mean() / np.sqrt(likelihoods.size)
    ours = float(joint.mixture_nll(double(nll))[0])
    assert ours == pytest.approx(exact(nodes=12), abs=error)
    assert error < 0.01


# Laws.


@LAW
@given(TRUTH, st.floats(0.5, 2))
def test_without_factors_joint_is_marginal_whatever_is_drawn(labels, temperature):
    draws = np.random.default_rng(2).normal(size=(1, 5, 2))
    nothing = 0 * LOADINGS
    nll = conditional(draws, nothing, labels, t=temperature, nodes=8)
    expected = marginal(labels, nothing, t=temperature, nodes=8)
    assert float(joint.mixture_nll(double(nll))[0]) == pytest.approx(expected, abs=1e-12)


@LAW
@given(SMALL, TRUTH, st.floats(0, 6.3))
def test_a_rotation_of_the_factors_leaves_joint_alone(loadings, labels, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before = exact(points=32, loadings=loadings, labels=labels, nodes=12)
    after = exact(points=32, loadings=loadings @ turn, labels=labels, nodes=12)
    assert after == pytest.approx(before, abs=2e-4)


@LAW
@given(SMALL, st.integers(0, 2), st.sampled_from([0.0, 1.0]))
def test_of_one_known_label_joint_is_marginal(loadings, column, label):
    labels = np.full(3, -1.0)
    labels[column] = label
    ours = exact(points=32, loadings=loadings, labels=labels, nodes=32)
    assert ours == pytest.approx(marginal(labels, loadings), abs=2e-4)


@LAW
@given(arrays.arrays(np.float64, (2, 7), elements=st.floats(0, 1e5)))
def test_the_mean_over_draws_lies_between_best_and_mean(nll):
    ours = np.asarray(joint.mixture_nll(double(nll)))
    assert (nll.min(axis=1) - 1e-9 <= ours).all()
    assert (ours <= nll.mean(axis=1) * (1 + 1e-12) + 1e-9).all()
    np.testing.assert_allclose(ours, -special.logsumexp(-nll, axis=1) + np.log(7), atol=1e-9)


def test_each_picture_has_factors_of_its_own():
    rng = np.random.default_rng(3)
    multiplier, factors, draws = (rng.normal(size=s) for s in ((4, 3), (2, 3), (4, 5, 2)))
    expected = np.einsum("bk,rk,bsr->bsk", multiplier, factors, draws)
    ours = joint.factor_shifts(double(multiplier), double(factors), double(draws))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


# With the head: slopes, unknown labels, far logits, draws.


def head_and_vectors(num_tags=4, num_factors=2, count=3):
    keras.utils.set_random_seed(0)
    head = HeteroscedasticLogits(num_tags, num_factors, dtype="float64")
    vectors = np.random.default_rng(0).normal(size=(count, 5))
    head.build((None, 5))
    for weight in head.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape) * 0.6)
    return head, vectors


def slopes_of(head, labels, vectors, step=0):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = JointLikelihood(8, 5)(head, labels, vectors, step)
    return loss, tape.gradient(loss, [weight.value for weight in head.trainable_variables])


def test_gradients_are_slopes_and_reach_every_weight():
    head, vectors = head_and_vectors()
    labels = np.array([[1, 0, 1, 0], [0, 0, -1, 1], [1, 1, 0, -1]])
    _, gradients = slopes_of(head, labels, vectors)
    assert len(gradients) == 7
    for weight, gradient in zip(head.trainable_variables, gradients, strict=True):
        start, place = weight.numpy(), np.unravel_index(1, weight.shape)
        ends = []
        for change in (-1e-5, 1e-5):
            moved = start.copy()
            moved[place] += change
            weight.assign(moved)
            ends.append(float(JointLikelihood(8, 5)(head, labels, vectors, 0)))
        weight.assign(start)
        slope = (ends[1] - ends[0]) / 2e-5
        assert np.asarray(gradient)[place] == pytest.approx(slope, rel=1e-5, abs=1e-9)
        assert np.abs(gradient).max() > 1e-4


def test_unknown_labels_have_no_loss_and_no_gradient():
    head, vectors = head_and_vectors()
    loss, gradients = slopes_of(head, np.full((3, 4), -1), vectors)
    assert float(loss) == pytest.approx(0, abs=1e-12)
    assert max(np.abs(g).max() for g in gradients) < 1e-12
    _, gradients = slopes_of(head, np.array([[1, 0, -1, 0]] * 3), vectors)
    for gradient in gradients:
        assert not np.asarray(gradient)[..., 2].any() and np.asarray(gradient)[..., 0].all()


def test_far_latents_have_finite_losses_and_gradients_in_float32():
    head = HeteroscedasticLogits(4, 2)
    head.build((None, 5))
    head.location[1].assign([1e4, -1e4, 1e4, -1e4])
    loss, gradients = slopes_of(head, np.array([[1, 1, 0, 0]] * 3), np.ones((3, 5), "float32"))
    assert float(loss) == pytest.approx(2e4, rel=1e-3)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_draws_are_a_function_of_seed_and_step():
    def draw(seed, step):
        return np.asarray(keras.random.normal((4, 50, 3), seed=StepSeed(seed, step)))

    np.testing.assert_array_equal(draw(7, 30), draw(7, 30))
    others = [draw(7, 30), draw(7, 31), draw(8, 30), draw(2**32 - 1, 30)]
    for first in range(4):
        for second in range(first):
            assert abs(np.corrcoef(others[first].ravel(), others[second].ravel())[0, 1]) < 0.2
    together = np.stack([draw(7, step) for step in range(60)])
    error = 4 / np.sqrt(together.size)
    assert abs(together.mean()) < error and abs(together.var() - 1) < 1.5 * error


def test_a_seed_leaves_no_variable_behind():
    head, vectors = head_and_vectors()
    before = len(head.variables)
    once, again = (slopes_of(head, np.ones((3, 4)), vectors, 3)[0] for _ in range(2))
    assert float(once) == float(again) != float(slopes_of(head, np.ones((3, 4)), vectors, 4)[0])
    assert len(head.variables) == before


def tagger():
    """A network with a head, as a learner takes it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    logits, _ = HeteroscedasticLogits(4, 2, name="tags")(inputs)
    outputs = {"logits": logits, "probabilities": ops.sigmoid(logits), "vector": inputs * 1.0}
    return keras.Model(inputs, outputs)


def test_only_training_is_joint():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype("float32"), rng.integers(0, 2, (6, 4)).astype("float32")
    learners = [Learner(tagger(), Objective("bce", 4), way) for way in (None, JointLikelihood(64))]
    for learner in learners:
        learner.compile(keras.optimizers.SGD(0.0))
    marginal_, joint_ = learners
    np.testing.assert_array_equal(marginal_.predict_pictures(x), joint_.predict_pictures(x))
    plain = [learner.test_on_batch(x, y, return_dict=True)["loss"] for learner in learners]
    assert plain[0] == plain[1]
    steps = [learner.step(x, y) for learner in (marginal_, joint_, joint_)]
    assert steps[0] == pytest.approx(plain[0], rel=1e-6)
    # The second step draws other factors than the first.
    assert len(set(steps)) == 3 and steps[1] == pytest.approx(steps[2], rel=0.01)
    assert {w.path for w in marginal_.network.weights} == {w.path for w in joint_.network.weights}


def test_with_a_low_rank_layer_joint_takes_what_the_head_takes():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    narrow = keras.layers.Dense(3, use_bias=False, name="tag_factors")
    logits, _ = HeteroscedasticLogits(4, 2, name="tags")(narrow(inputs))
    outputs = {"logits": logits, "probabilities": ops.sigmoid(logits), "vector": inputs * 1.0}
    network = keras.Model(inputs, outputs)
    learner = Learner(network, Objective("bce", 4), JointLikelihood(16))
    learner.compile(keras.optimizers.SGD(0.0))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype("float32"), rng.integers(0, 2, (6, 4)).astype("float32")
    expected = JointLikelihood(16)(network.get_layer("tags"), y, x @ np.asarray(narrow.kernel), 0)
    assert learner.step(x, y) == pytest.approx(float(expected), rel=1e-5)
