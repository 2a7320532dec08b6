"""The objective: reduction, unknown labels, what is trained along."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from e6tag import objective as module
from e6tag.objective import Objective

LAW = settings(deadline=None, max_examples=25)
LOGITS = np.array([-2.0, 0.5, 3.0, -4.0])
LABELS = np.array([1.0, 0.0, 1.0, 0.0])


def gradient(function, values):
    """Derivative of the sum of function(values), by TensorFlow."""
    import tensorflow as tf

    x = tf.Variable(np.asarray(values, dtype="float32"))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x).numpy()


@pytest.mark.parametrize("kind", module.KINDS)
def test_objective_sums_over_tags_and_averages_over_pictures(kind):
    objective = Objective(kind, num_tags=4)
    labels, logits = LABELS.astype("float32")[None], LOGITS.astype("float32")[None]
    one = float(objective(labels, logits))
    assert one == pytest.approx(float(np.sum(objective.elements(labels, logits))), rel=1e-5)
    many = objective(np.repeat(labels, 3, 0).astype("uint8"), np.repeat(logits, 3, 0))
    assert float(many) == pytest.approx(one, rel=1e-5)
    golden = {"bce": 3.16774228, "focal": 0.69560997, "asl": 2.26676846}
    assert one == pytest.approx(golden.get(kind, one), rel=1e-5)


@pytest.mark.parametrize("kind", module.KINDS)
def test_unknown_labels_have_no_loss_and_no_gradient(kind):
    objective = Objective(kind, num_tags=4)
    known = np.array([[1, 0, 1, 0]])
    slopes = gradient(lambda z: objective(LABELS[None], z, known), LOGITS[None])
    assert slopes[0, [1, 3]].tolist() == [0, 0] and slopes[0, [0, 2]].all()
    elements = objective.elements(LABELS[None].astype("float32"), LOGITS[None].astype("float32"))
    loss = float(objective(LABELS[None], LOGITS[None], known=known))
    assert loss == pytest.approx(float(np.sum(np.asarray(elements) * known)), rel=1e-5)
    none_known = objective(LABELS[None], LOGITS[None], np.zeros((1, 4)))
    assert float(none_known) == 0.0


def test_unknown_labels_do_not_move_the_latents():
    import tensorflow as tf

    objective = Objective("focal-robust", num_tags=4)
    with tf.GradientTape() as tape:
        loss = objective(LABELS[None], LOGITS[None], known=np.array([[1, 0, 1, 1]]))
    alpha, scale = tape.gradient(loss, [w.value for w in objective.trainable_variables])
    assert not alpha[0, 1] and not scale[0, 1] and alpha[0, 0] and scale[0, 0]


def test_only_robust_kinds_have_trainable_variables():
    counts = {kind: len(Objective(kind, 3).trainable_variables) for kind in module.KINDS}
    assert {kind for kind, count in counts.items() if count} == {"focal-robust", "robust"}


def test_negative_focal_alpha_means_none():
    assert Objective("focal", 3, focal_alpha=-1.0).focal_alpha is None


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="focal-robust, focal, robust, bce, asl, hill, splc"):
        Objective("hinge", 3)


def test_objective_survives_its_config():
    objective = Objective("robust", 7, None, 1.5, (1.0, 2.0, 0.1), 0.7, 30, name="objective")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert again.get_config() == objective.get_config()


def test_objective_stays_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        objective = Objective("focal-robust", 4)
    finally:
        keras.config.set_dtype_policy("float32")
    loss = objective(LABELS[None], LOGITS.astype("float16")[None])
    assert (loss.dtype, objective.alpha_latent.dtype) == ("float32", "float32")


ROWS = (3, 4)
SOME = arrays.arrays(np.float32, ROWS, elements=st.floats(-50, 50, width=32))
TERNARY = arrays.arrays(np.float32, ROWS, elements=st.sampled_from([-1.0, 0.0, 1.0]))
MASK = arrays.arrays(bool, ROWS)


@pytest.mark.parametrize("kind", module.KINDS)
@LAW
@given(labels=TERNARY, logits=SOME, other=SOME, mask=MASK)
def test_a_label_of_minus_one_is_one_that_the_mask_hides(kind, labels, logits, other, mask):
    objective, hidden = Objective(kind, 4), (labels < 0) | ~mask
    by_value = np.where(hidden, -1, labels)
    loss = float(objective(by_value, logits))
    assert loss == float(objective(np.abs(labels), logits, known=~hidden))
    assert loss == float(objective(labels, logits, known=mask))
    assert loss == float(objective(by_value, np.where(hidden, other, logits)))
    slopes = gradient(lambda z: objective(by_value, z), logits)
    assert np.isfinite(slopes).all() and not slopes[hidden].any()
    elements = np.asarray(objective.elements(np.abs(labels), logits), float)
    expected = np.where(hidden, 0, elements).sum() / ROWS[0]
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", module.KINDS)
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_huge_logits_have_finite_losses_and_gradients_in_float32(kind, size):
    import tensorflow as tf

    objective, logits = Objective(kind, 5), tf.Variable([[-size, size, -size, size, size]])
    labels = np.array([[0, 0, 1, 1, -1]], np.int8)
    with tf.GradientTape() as tape:
        loss = objective(labels, logits)
    variables = [logits, *(w.value for w in objective.trainable_variables)]
    for value in (loss, *tape.gradient(loss, variables)):
        assert value.dtype == tf.float32 and np.isfinite(value.numpy()).all()


def test_splc_corrects_labels_from_its_first_step_on():
    objective, logits = Objective("splc", 1, splc_start=30), np.array([[2.0]], "float32")
    absent, present = np.array([[0]]), np.array([[1]])
    before, at, after = (float(objective(absent, logits, step=step)) for step in (29, 30, 31))
    truth = Objective("focal", 1, focal_alpha=None)
    assert before == pytest.approx(float(truth(absent, logits)))
    assert at == after == pytest.approx(float(truth(present, logits)))


def test_splc_leaves_an_unknown_label_unknown():
    objective = Objective("splc", 2)
    assert float(objective(np.array([[-1, -1]]), np.array([[5.0, -5.0]], "float32"))) == 0.0


def test_a_mean_over_tags_is_the_sum_divided_by_their_number_known_or_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (5, 7)).astype("float32")
    logits = rng.normal(size=(5, 7)).astype("float32")
    for kind in ("bce", "focal-robust"):
        total, mean = (
            float(Objective(kind, 7, reduction=how)(labels, logits)) for how in ("sum", "mean")
        )
        assert mean == pytest.approx(total / 7, rel=1e-6)
    assert Objective("bce", 7, reduction="mean").get_config()["reduction"] == "mean"
