"""Strategies: what each promises, with an exact solver as the judge of the fewest posts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from e6tag.sampling import NO_TAG, STRATEGIES, Labels, choose, greedy

COVERING = ["random", "cover", "quota"]


def labels_of(lists, num_tags=6):
    rows = [sorted(set(found)) for found in lists]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Labels.of(offsets, np.array([c for row in rows for c in row], np.int32), num_tags)


def dense(labels):
    table = np.zeros((len(labels), labels.num_tags), int)
    for row in range(len(labels)):
        table[row, labels.of_post(row)] = 1
    return table


LISTS = st.lists(st.sets(st.integers(0, 5)), max_size=14)
SEEDS = st.integers(0, 5)


@given(LISTS)
def test_labels_are_one_table_read_in_two_ways(lists):
    labels = labels_of(lists)
    table = dense(labels)
    assert labels.available.tolist() == table.sum(axis=0).tolist()
    for column in range(6):
        assert labels.with_tag(column).tolist() == np.flatnonzero(table[:, column]).tolist()
    rows = np.arange(0, len(labels), 2)
    assert labels.count(rows).tolist() == table[rows].sum(axis=0).tolist()
    marked = np.array([True, False] * 3)
    assert labels.count_marked(marked).tolist() == table[:, marked].sum(axis=1).tolist()


@pytest.mark.parametrize("strategy", COVERING)
@given(lists=LISTS, wanted=st.integers(0, 5), seed=SEEDS)
def test_every_tag_gets_what_is_wanted_or_all_there_is(strategy, lists, wanted, seed):
    labels = labels_of(lists)
    choice = choose(strategy, labels, wanted, np.random.default_rng(seed))
    reached = labels.count(choice.rows)
    assert (reached >= np.minimum(labels.available, wanted)).all()


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@given(lists=LISTS, wanted=st.integers(0, 5), seed=SEEDS, budget=st.none() | st.integers(0, 9))
def test_choices_are_distinct_within_budget_and_repeatable(strategy, lists, wanted, seed, budget):
    labels = labels_of(lists)
    choice = choose(strategy, labels, wanted, np.random.default_rng(seed), budget)
    again = choose(strategy, labels, wanted, np.random.default_rng(seed), budget)
    assert len(set(choice.rows.tolist())) == len(choice.rows)
    assert len(choice.rows) <= (len(labels) if budget is None else budget)
    assert len(choice.rows) == len(choice.tags) == len(choice.weights)
    assert (choice.weights >= 1).all() and np.isfinite(choice.weights).all()
    assert choice.rows.tolist() == again.rows.tolist()
    assert choice.weights.tolist() == again.weights.tolist()


@pytest.mark.parametrize("strategy", COVERING)
@given(lists=LISTS, seed=SEEDS)
def test_each_post_has_the_tag_it_was_taken_for(strategy, lists, seed):
    labels = labels_of(lists)
    choice = choose(strategy, labels, 2, np.random.default_rng(seed))
    for row, tag in zip(choice.rows.tolist(), choice.tags.tolist(), strict=True):
        assert tag in labels.of_post(row)


def test_all_takes_all():
    labels = labels_of([{0}, set(), {1, 2}])
    choice = choose("all", labels, 1, np.random.default_rng(0))
    assert choice.rows.tolist() == [0, 1, 2]
    assert set(choice.tags.tolist()) == {NO_TAG}
    assert choice.weights.tolist() == [1, 1, 1]


# cover


def fewest(table, wanted):
    """The fewest posts that cover, by branch and bound."""
    needed = np.minimum(table.sum(axis=0), wanted)
    result = milp(
        np.ones(len(table)),
        integrality=np.ones(len(table)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(table.T, lb=needed),
    )
    return round(result.fun)


CASES = st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=14)


@settings(deadline=None)
@given(CASES, st.integers(1, 4))
def test_greedy_is_within_the_harmonic_bound_of_the_fewest(lists, wanted):
    labels = labels_of(lists)
    optimum = fewest(dense(labels), wanted)
    bound = sum(1 / i for i in range(1, max(map(len, lists)) + 1))
    rows, _ = greedy(labels, wanted)
    pruned = choose("cover", labels, wanted, np.random.default_rng(0)).rows
    assert optimum <= len(pruned) <= len(rows) <= bound * optimum + 1e-9


@given(CASES, st.integers(1, 4))
def test_no_post_of_a_cover_can_be_dropped(lists, wanted):
    labels = labels_of(lists)
    rows = choose("cover", labels, wanted, np.random.default_rng(0)).rows
    needed = np.minimum(labels.available, wanted)
    for position in range(len(rows)):
        assert (labels.count(np.delete(rows, position)) < needed).any()


def test_a_post_that_later_ones_made_needless_is_dropped():
    labels = labels_of([{1, 2, 3, 4}, {1, 2, 5}, {0, 3, 4}])
    assert greedy(labels, 1)[0].tolist() == [0, 1, 2]
    assert choose("cover", labels, 1, np.random.default_rng(0)).rows.tolist() == [1, 2]


@given(CASES, st.integers(1, 4))
def test_greedy_takes_a_post_of_largest_gain_each_time(lists, wanted):
    labels = labels_of(lists)
    table = dense(labels)
    lacking = np.minimum(table.sum(axis=0), wanted)
    rows, _ = greedy(labels, wanted)
    left = np.ones(len(table), bool)
    for row in rows.tolist():
        gains = np.where(left, table @ (lacking > 0), -1)
        assert gains[row] == gains.max() and row == np.argmax(gains)
        lacking = np.maximum(lacking - table[row], 0)
        left[row] = False
    assert not lacking.any()


def test_a_cover_takes_fewer_posts_than_the_other_strategies():
    table = np.random.default_rng(0).random((3000, 40)) < np.linspace(0.02, 0.4, 40)
    labels = labels_of([np.flatnonzero(row) for row in table], 40)
    sizes = {s: len(choose(s, labels, 30, np.random.default_rng(0)).rows) for s in COVERING}
    assert sizes["cover"] < sizes["random"] < sizes["quota"]


# random


def test_random_draws_evenly_among_the_posts_with_a_tag():
    labels = labels_of([{0}] * 20 + [{1}] * 5)
    taken = np.zeros(25)
    for seed in range(2000):
        taken[choose("random", labels, 5, np.random.default_rng(seed)).rows] += 1
    # 20 posts for 5 places: a quarter of the draws each, within 5 standard deviations.
    assert np.allclose(taken[:20] / 2000, 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 2000))
    assert (taken[20:] == 2000).all()


def test_weights_are_the_inverse_of_the_share_drawn():
    labels = labels_of([{0}] * 20 + [{1}] * 5)
    choice = choose("random", labels, 5, np.random.default_rng(0))
    assert choice.weights.tolist() == pytest.approx([1] * 5 + [4] * 5)


def test_weighted_counts_estimate_the_number_of_posts_with_each_tag_drawn():
    rng = np.random.default_rng(3)
    table = rng.random((2000, 12)) < np.linspace(0.03, 0.3, 12)
    labels = labels_of([np.flatnonzero(row) for row in table], 12)
    ratios = np.zeros(12)
    for seed in range(60):
        choice = choose("random", labels, 40, np.random.default_rng(seed))
        ratios += table[choice.rows].T @ choice.weights / labels.available / 60
    rarest = labels.rarest_first()
    # The rarest six are drawn in every run; the commonest are filled by the others' posts.
    assert ratios[rarest[:6]] == pytest.approx(np.ones(6), abs=0.05)
    assert (ratios < 1.1).all()


def test_an_even_draw_within_the_budget_is_weighted_for_it():
    labels = labels_of([{0}] * 30)
    for strategy, weight in (("random", 6), ("all", 6)):
        choice = choose(strategy, labels, 10, np.random.default_rng(0), budget=5)
        assert choice.weights.tolist() == pytest.approx([weight] * 5)


# quota


def credited_one_by_one(labels, wanted, order):
    """Each post to its rarest tag that lacks credit, written as the sentence says it."""
    available = labels.available
    credit = dict.fromkeys(range(labels.num_tags), 0)
    found = []
    for row in order:
        open_tags = [tag for tag in labels.of_post(row).tolist() if credit[tag] < wanted]
        if open_tags:
            tag = min(open_tags, key=lambda tag: (available[tag], tag))
            credit[tag] += 1
            found.append((row, tag))
    return found


@given(LISTS, st.integers(0, 4), SEEDS)
def test_quota_credits_each_post_to_its_rarest_open_tag(lists, wanted, seed):
    labels = labels_of(lists)
    choice = choose("quota", labels, wanted, np.random.default_rng(seed))
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    found = list(zip(choice.rows.tolist(), choice.tags.tolist(), strict=True))
    assert found == credited_one_by_one(labels, wanted, order)
