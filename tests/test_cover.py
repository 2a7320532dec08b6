"""The fewest posts: exact solvers judge the choice, and the bound that is proven with it."""

from fractions import Fraction

import numpy as np
import pytest
from e621_like import dense, e621_like, labels_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix

from e6tag.cover import LEVELS, cover, greedy, pose
from e6tag.prices import SCALE, find_prices, proven, to_whole
from e6tag.sampling import choose, lower_bound

CASES = st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=14)
WANTED = st.lists(st.integers(0, 4), min_size=6, max_size=6).map(np.array)
PRICES = st.lists(st.integers(0, 2 * SCALE), min_size=6, max_size=6).map(np.array)
NOBODY = np.zeros(0, np.int64)


def demands_of(labels, wanted):
    return np.minimum(labels.available, wanted)


def fewest(labels, demands):
    """The fewest posts that cover, by branch and bound."""
    result = milp(
        np.ones(len(labels)),
        integrality=np.ones(len(labels)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(dense(labels).T, lb=demands),
    )
    return round(result.fun)


def relaxed(labels, demands):
    """Value of the linear relaxation, by an interior point method."""
    shape = (len(labels), labels.num_tags)
    matrix = csr_matrix((np.ones(len(labels.columns)), labels.columns, labels.offsets), shape)
    result = linprog(
        np.ones(len(labels)), A_ub=-matrix.T, b_ub=-demands, bounds=(0, 1), method="highs-ipm"
    )
    return result.fun


def made_up(num_posts, num_tags, seed=0, spread=0.5):
    """Posts of unequal tags; with `spread` some posts have many."""
    rng = np.random.default_rng(seed)
    share = np.minimum(0.6 * np.arange(1, num_tags + 1) ** -0.75, 0.9)
    busy = np.exp(rng.normal(0, spread, num_posts))[:, None]
    return labels_of(
        [np.flatnonzero(row) for row in rng.random((num_posts, num_tags)) < share * busy], num_tags
    )


# against exact solvers


@settings(deadline=None)
@given(CASES, WANTED)
def test_a_cover_is_between_its_bound_and_the_harmonic_bound_of_the_fewest(lists, wanted):
    labels = labels_of(lists)
    demands = demands_of(labels, wanted)
    rows, bound = cover(labels, demands)
    optimum = fewest(labels, demands)
    assert (labels.count(rows) >= demands).all() and len(set(rows.tolist())) == len(rows)
    harmonic = sum(1 / i for i in range(1, max(map(len, lists)) + 1))
    assert bound <= optimum <= len(rows) <= harmonic * optimum + 1e-9
    assert lower_bound(labels, wanted) == bound


@settings(deadline=None)
@given(CASES, WANTED, PRICES)
def test_any_prices_prove_a_bound_that_no_choice_is_below(lists, wanted, prices):
    labels = labels_of(lists)
    demands = demands_of(labels, wanted)
    assert proven(labels, demands, prices) <= fewest(labels, demands)


@given(CASES, WANTED, PRICES)
def test_the_bound_is_the_dual_value_without_rounding(lists, wanted, prices):
    labels = labels_of(lists)
    demands = demands_of(labels, wanted)
    exact = [Fraction(price, SCALE) for price in prices.tolist()]
    value = sum(d * p for d, p in zip(demands.tolist(), exact, strict=True))
    value += sum(min(Fraction(0), 1 - sum(exact[c] for c in set(tags))) for tags in lists)
    bound = proven(labels, demands, prices)
    assert bound == max(-(-value // 1), demands.max())


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (made_up(3000, 60), 40),
        (made_up(3000, 60, 1, spread=0), 10),
        (made_up(4000, 128, 2), np.arange(128)),
        (labels_of(made_up(1500, 60, 3).columns.reshape(-1, 1).tolist(), 60), 200),
        (e621_like(8000, 256), 40),
    ],
    ids=["zipf", "even", "varied", "one tag each", "e621-like"],
)
def test_bound_and_cover_are_close_to_the_linear_relaxation(labels, wanted):
    demands = demands_of(labels, wanted)
    best = relaxed(labels, demands)
    rows, bound = cover(labels, demands)
    # Whole posts: the bound is rounded up.
    assert 0.985 * best <= bound <= np.ceil(best - 1e-6)
    assert best - 1e-6 <= len(rows) <= 1.03 * best + 1
    assert (labels.count(rows) >= demands).all()


def test_on_e621_like_posts_a_cover_is_within_a_hundredth_of_the_relaxation():
    labels = e621_like(40_000)
    demands = demands_of(labels, 51)
    rows, bound = cover(labels, demands)
    best = relaxed(labels, demands)
    assert 0.999 * best <= bound <= np.ceil(best)
    assert len(rows) <= 1.01 * best
    assert (labels.count(rows) >= demands).all()


def test_prices_from_a_sample_are_as_good_as_prices_from_all():
    labels = e621_like(20_000, 128)
    demands = demands_of(labels, 100).astype(float)
    best = relaxed(labels, demands)
    for smallest in (500, 1 << 14):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("e6tag.prices.SMALLEST_SAMPLE", smallest)
            prices = find_prices(labels, demands)
        assert proven(labels, demands.astype(int), to_whole(prices)) >= 0.998 * best


# by hand


def test_posts_that_every_choice_needs_are_forced_and_counted_in_the_bound():
    labels = labels_of([{0, 1}, {1}, {1}, {1, 2}, {2}, {2}])
    task = pose(labels, np.array([1, 3, 1, 0, 0, 0]))
    assert task.forced.tolist() == [0]
    assert task.bound == 3
    rows, bound = cover(labels, task.demands)
    assert len(rows) == bound == 3 and {0, 3} <= set(rows.tolist())


def test_a_post_that_later_ones_made_needless_is_dropped():
    labels = labels_of([{1, 2, 3, 4}, {1, 2, 5}, {0, 3, 4}, {0}, {5}])
    demands = np.ones(6, int)
    assert greedy(labels, demands, np.full(6, SCALE), NOBODY).tolist() == [0, 1, 2]
    assert sorted(cover(labels, demands)[0].tolist()) == [1, 2]


def test_nothing_wanted_takes_nothing():
    assert cover(labels_of([{0}, {1}]), np.zeros(6, int))[1] == 0
    assert cover(labels_of([]), np.zeros(6, int))[0].tolist() == []


# laws of the parts


@given(CASES, WANTED)
def test_no_post_of_a_cover_can_be_dropped(lists, wanted):
    labels = labels_of(lists)
    demands = demands_of(labels, wanted)
    rows, _ = cover(labels, demands)
    for position in range(len(rows)):
        assert (labels.count(np.delete(rows, position)) < demands).any()


@given(CASES, WANTED, PRICES, st.integers(0, 2))
def test_greedy_takes_a_post_of_nearly_the_largest_gain_each_time(lists, wanted, prices, num_taken):
    labels = labels_of(lists)
    taken = np.arange(min(num_taken, len(labels)))
    table = dense(labels)
    lacking = np.maximum(demands_of(labels, wanted) - labels.count(taken), 0)
    left = np.ones(len(table), bool)
    left[taken] = False
    for row in greedy(labels, lacking, prices, taken).tolist():
        gains = np.where(left, table @ (np.maximum(prices, 1) * (lacking > 0)), -1)
        assert gains[row] >= gains.max() - max(SCALE, gains.max()) // LEVELS
        lacking = np.maximum(lacking - table[row], 0)
        left[row] = False
    assert not lacking.any()


@given(CASES, WANTED)
def test_greedy_with_equal_prices_takes_the_most_needed_tags_first_ties_by_row(lists, wanted):
    labels = labels_of(lists)
    table = dense(labels)
    lacking = demands_of(labels, wanted)
    left = np.ones(len(table), bool)
    for row in greedy(labels, lacking, np.full(6, SCALE), NOBODY).tolist():
        gains = np.where(left, table @ (lacking > 0), -1)
        assert row == np.argmax(gains)
        lacking = np.maximum(lacking - table[row], 0)
        left[row] = False


def test_a_cover_is_the_same_each_time_whatever_the_seed():
    labels = e621_like(3000, 64)
    one, other = (choose("cover", labels, 20, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.rows.tolist() == other.rows.tolist()
    assert one.bound == other.bound == lower_bound(labels, 20) > 0
