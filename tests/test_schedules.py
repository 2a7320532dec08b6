import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from e6tag import schedules
from e6tag.optimizers import make_schedule
from e6tag.schedules import SGD, OneCycle, one_cycle

LAW = settings(deadline=None, max_examples=60)

# torch.optim.lr_scheduler.OneCycleLR, total 100, max 4, cosine, pct_start .3, div 25, final 1e4.
GOLDEN = {
    0: (0.16, 0.95),
    10: (1.1806557939, 0.9234204220),
    29: (4, 0.85),
    30: (3.9979861411, 0.8500503467),
    45: (3.5061449074, 0.8623464267),
    60: (2.3571203611, 0.8910721553),
    90: (0.1609598111, 0.9459763886),
    99: (1.6e-5, 0.95),
}


@pytest.mark.parametrize("step", GOLDEN)
def test_one_cycle_has_the_golden_values(step):
    assert one_cycle(step, 100, 4.0) == pytest.approx(GOLDEN[step], abs=1e-9)


def test_arrays_and_tensors_give_what_single_steps_give():
    steps = np.array(list(GOLDEN))
    np.testing.assert_allclose(
        np.transpose(one_cycle(steps, 100, 4.0)), list(GOLDEN.values()), atol=1e-9
    )
    rate, momentum = OneCycle(100, 4.0).at(ops.convert_to_tensor(steps))
    np.testing.assert_allclose(
        np.stack([rate, momentum], axis=1), list(GOLDEN.values()), rtol=1e-5, atol=1e-6
    )


@LAW
@given(st.integers(1, 500), st.floats(0, 1), st.floats(1e-6, 10))
def test_rates_stay_between_their_ends_and_momentum_mirrors_them(total, warmup, peak):
    rate, momentum = one_cycle(np.arange(total), total, peak, warmup)
    low, high = schedules.MOMENTUM_RANGE
    assert np.isfinite(rate).all() and (rate > 0).all() and (rate <= peak * (1 + 1e-9)).all()
    assert (momentum >= low - 1e-12).all() and (momentum <= high + 1e-12).all()
    top = np.argmax(rate)
    assert (np.diff(rate[: top + 1]) >= -1e-12).all() and (np.diff(rate[top:]) <= 1e-12).all()
    assert np.argmin(momentum) == pytest.approx(top, abs=1)


def test_steps_after_the_end_stay_at_the_end():
    assert one_cycle(500, 100, 4.0) == pytest.approx((1.6e-5, 0.95))


def test_schedule_survives_its_config():
    schedule = OneCycle(50, 0.1, warmup=0.2, divisors=(10.0, 100.0), anneal="linear")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == schedule.get_config()
    assert float(again(17)) == float(schedule(17))


# SGD: plain NumPy velocity with the golden rates is the oracle.


def weight_after(optimizer, steps: int, gradient: float) -> float:
    """Weight of a compiled model, trained from 0 where the gradient is always the same."""
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, loss=lambda _, y: ops.mean(y), jit_compile=False)
    x = np.full((steps, 1), gradient, dtype="float32")
    model.fit(x, x, batch_size=1, epochs=1, shuffle=False, verbose=0)
    return float(model.get_weights()[0][0, 0])


def reference(steps: int, gradient: float, total: int, peak: float) -> float:
    weight = velocity = 0.0
    for step in range(steps):
        rate, momentum = one_cycle(step, total, peak)
        velocity = momentum * velocity - rate * gradient
        weight += velocity
    return weight


def test_momentum_follows_the_schedule_inside_a_compiled_fit():
    ours = weight_after(SGD(OneCycle(40, 0.1)), 40, 0.5)
    assert ours == pytest.approx(reference(40, 0.5, 40, 0.1), rel=1e-4)
    frozen = weight_after(keras.optimizers.SGD(OneCycle(40, 0.1), momentum=0.95), 40, 0.5)
    assert abs(ours - frozen) > 0.1 * abs(ours)


def test_momentum_that_is_held_is_keras_own():
    cycle = OneCycle(40, 0.1, 0.5, (40.0, 1.0), "linear", (0.99, 0.99))
    ours = weight_after(SGD(cycle), 40, 0.5)
    theirs = weight_after(keras.optimizers.SGD(cycle, momentum=0.99), 40, 0.5)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_triangle_rises_and_falls_between_the_same_rates():
    steps = np.arange(101)
    rate, momentum = one_cycle(
        steps, 101, 4.0, 51 / 101, (40.0, 1.0), "linear", momentum_range=(0.99, 0.99)
    )
    np.testing.assert_allclose(rate, np.interp(steps, [0, 50, 100], [0.1, 4.0, 0.1]), rtol=1e-9)
    np.testing.assert_allclose(momentum, 0.99)
    made = make_schedule("one-cycle", 4.0, 101, 51 / 101, "linear", (40.0, 1.0), (0.99, 0.99))
    np.testing.assert_allclose(made.at(ops.convert_to_tensor(steps)), [rate, momentum], rtol=1e-4)
    again = type(made).from_config(made.get_config())
    assert again.get_config() == made.get_config()


def test_a_restored_optimiser_goes_on_at_its_step():
    optimizer, variable = SGD(OneCycle(40, 0.1)), keras.Variable([0.0])
    optimizer.build([variable])
    optimizer.iterations.assign(25)
    optimizer.apply([ops.ones(1)])
    rate, _ = one_cycle(25, 40, 0.1)
    np.testing.assert_allclose(np.asarray(variable), [-rate], rtol=1e-5)


def test_with_a_constant_rate_momentum_is_keras_own():
    ours, theirs = (
        weight_after(SGD(0.01), 10, 1.0),
        weight_after(keras.optimizers.SGD(0.01, momentum=0.9), 10, 1.0),
    )
    assert ours == pytest.approx(theirs)


def test_sgd_survives_its_config():
    optimizer = SGD(OneCycle(40, 0.1), global_clipnorm=1.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert again.cycle.get_config() == optimizer.cycle.get_config()
    assert again.global_clipnorm == 1.0


# torch.optim.lr_scheduler.OneCycleLR, linear, three phases, total 100, pct_start .45, div 40,
# final 100.
THREE_PHASES = {
    0: (0.1, 0.95),
    10: (0.9863636364, 0.9272727273),
    44: (4, 0.85),
    45: (3.9113636364, 0.8522727273),
    60: (2.5818181818, 0.8863636364),
    88: (0.1, 0.95),
    89: (0.091, 0.95),
    99: (0.001, 0.95),
}


@pytest.mark.parametrize("step", THREE_PHASES)
def test_linear_annealing_with_annihilation_has_the_golden_values(step):
    found = one_cycle(step, 100, 4.0, 0.45, (40.0, 100.0), "linear-annihilate")
    assert found == pytest.approx(THREE_PHASES[step], abs=1e-9)


def test_linear_annealing_is_a_line_to_the_peak_and_one_from_it():
    rate, momentum = one_cycle(np.arange(100), 100, 4.0, anneal="linear")
    np.testing.assert_allclose(rate, np.interp(np.arange(100), [0, 29, 99], [0.16, 4, 1.6e-5]))
    np.testing.assert_allclose(momentum, np.interp(np.arange(100), [0, 29, 99], [0.95, 0.85, 0.95]))


@LAW
@given(st.integers(2, 500), st.floats(0, 1), st.sampled_from(sorted(schedules.ANNEAL)))
def test_every_form_stays_within_its_ends_and_equals_its_keras_schedule(total, warmup, anneal):
    steps = np.arange(total)
    rate, momentum = one_cycle(steps, total, 2.0, warmup, anneal=anneal)
    assert (rate > 0).all() and (rate <= 2.0 * (1 + 1e-9)).all()
    assert (momentum > 0.85 - 1e-9).all() and (momentum < 0.95 + 1e-9).all()
    ours = OneCycle(total, 2.0, warmup, anneal=anneal)(ops.convert_to_tensor(steps))
    np.testing.assert_allclose(ours, rate, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("total, warmup", [(100, 0.1), (37, 0.5), (10, 0.0)])
def test_warmup_cosine_is_keras_own_with_no_step_at_rate_zero(total, warmup):
    rise = int(warmup * total)
    oracle = keras.optimizers.schedules.CosineDecay(
        0.0 if rise else 3.0, total - rise, warmup_target=3.0 if rise else None, warmup_steps=rise
    )
    expected = [float(oracle(step + 1 if step < rise else step)) for step in range(total)]
    found = schedules.warmup_cosine(np.arange(total), total, 3.0, warmup)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (found > 0).all()
    again = schedules.WarmupCosine.from_config(
        schedules.WarmupCosine(total, 3.0, warmup).get_config()
    )
    np.testing.assert_allclose(again(np.arange(total)), expected, rtol=1e-4, atol=1e-6)


def test_the_range_test_has_the_golden_rates():
    golden = {0: 1e-5, 33: 1e-3, 50: 0.0107226722, 99: 10}  # torch-lr-finder
    for step, rate in golden.items():
        assert schedules.exponential(step, 100, 1e-5, 10.0) == pytest.approx(rate, rel=1e-8)
        assert float(schedules.Exponential(100, 1e-5, 10.0)(step)) == pytest.approx(rate, rel=1e-4)


def test_nesterov_with_a_constant_rate_is_keras_own():
    ours, theirs = (
        weight_after(SGD(0.01, nesterov=True), 10, 1.0),
        weight_after(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), 10, 1.0),
    )
    assert ours == pytest.approx(theirs)


def test_nesterov_looks_ahead_with_the_momentum_of_the_step():
    weight = velocity = 0.0
    for step in range(40):
        rate, momentum = one_cycle(step, 40, 0.1)
        velocity = momentum * velocity - rate * 0.5
        weight += momentum * velocity - rate * 0.5
    found = weight_after(SGD(OneCycle(40, 0.1), nesterov=True), 40, 0.5)
    assert found == pytest.approx(weight, rel=1e-4)


@pytest.mark.parametrize(
    "epochs, expected",
    [
        (1, [96]), (2, [80, 96]), (3, [64, 80, 96]), (5, [64, 80, 80, 96, 96]),
        (6, [64, 64, 80, 80, 96, 96]),
    ],
)  # fmt: skip
def test_pictures_grow_in_three_sizes(epochs, expected):
    assert [schedules.picture_size(e, epochs, 96, 2 / 3) for e in range(epochs)] == expected
    assert schedules.picture_size(epochs, epochs, 96, 2 / 3) == 96


@LAW
@given(st.integers(1, 60), st.integers(16, 600), st.floats(0.1, 1))
def test_pictures_never_shrink_and_the_last_third_is_full(epochs, full, start):
    sizes = [schedules.picture_size(e, epochs, full, start) for e in range(epochs)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) <= 3
    assert all(size == full for size in sizes[-(epochs // 3) - (epochs < 3) :])
    if start == 1:
        assert set(sizes) == {full}
