"""Strategies: what each promises, with an exact solver as the judge of the fewest posts."""

import numpy as np
import pytest
from e621_like import dense, labels_of
from hypothesis import given
from hypothesis import strategies as st

from e6tag import choices, posts
from e6tag.choices import Labels
from e6tag.sampling import NO_TAG, STRATEGIES, choose

COVERING = ["random", "cover", "quota"]


LISTS = st.lists(st.sets(st.integers(0, 5)), max_size=14)
SEEDS = st.integers(0, 5)
WANTED = st.integers(0, 5) | st.lists(st.integers(0, 5), min_size=6, max_size=6).map(np.array)


@given(LISTS)
def test_labels_are_one_table_read_in_two_ways(lists):
    labels = labels_of(lists)
    table = dense(labels)
    assert labels.available.tolist() == table.sum(axis=0).tolist()
    for column in range(6):
        assert labels.with_tag(column).tolist() == np.flatnonzero(table[:, column]).tolist()
    rows = np.arange(0, len(labels), 2)
    assert labels.count(rows).tolist() == table[rows].sum(axis=0).tolist()
    assert dense(labels.take(rows)).tolist() == table[rows].tolist()
    values = np.array([1, 20, 300, 4000, 50000, 600000])
    assert labels.sum_of(values).tolist() == (table @ values).tolist()
    assert labels.sum_of(values / 3) == pytest.approx(table @ values / 3)


@given(LISTS, st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_rarest_marked_tag_of_each_post_is_found(lists, marked):
    labels = labels_of(lists)
    rows = np.arange(len(labels))[::-1]
    expected = [
        min(
            (tag for tag in lists[row] if marked[tag]),
            key=lambda tag: (labels.available[tag], tag),
            default=NO_TAG,
        )
        for row in rows.tolist()
    ]
    assert labels.rarest_of(rows, np.array(marked)).tolist() == expected


@pytest.mark.parametrize("num_tags", [40, 70_000])
def test_labels_are_the_same_whether_read_in_one_piece_or_many(monkeypatch, num_tags):
    rng = np.random.default_rng(0)
    lists = [rng.choice(num_tags, rng.integers(0, 9), replace=False) for _ in range(100)]
    whole = labels_of(lists, num_tags)
    rows, sums = whole.rows, whole.sum_of(np.arange(num_tags))
    taken = whole.take(np.arange(99, 0, -2))
    monkeypatch.setattr(choices, "CHUNK_POSTS", 7)
    monkeypatch.setattr(posts, "CHUNK_ROWS", 7)
    pieces = Labels.of(whole.offsets, whole.columns, num_tags)
    assert pieces.rows.tolist() == rows.tolist()
    assert pieces.sum_of(np.arange(num_tags)).tolist() == sums.tolist()
    assert pieces.take(np.arange(99, 0, -2)).columns.tolist() == taken.columns.tolist()


@pytest.mark.parametrize("strategy", COVERING)
@given(lists=LISTS, wanted=WANTED, seed=SEEDS)
def test_every_tag_gets_what_is_wanted_or_all_there_is(strategy, lists, wanted, seed):
    labels = labels_of(lists)
    choice = choose(strategy, labels, wanted, np.random.default_rng(seed))
    reached = labels.count(choice.rows)
    assert (reached >= np.minimum(labels.available, wanted)).all()


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@given(lists=LISTS, wanted=st.integers(0, 5), seed=SEEDS, budget=st.none() | st.integers(0, 9))
def test_choices_are_distinct_and_repeatable(strategy, lists, wanted, seed, budget):
    labels = labels_of(lists)
    choice = choose(strategy, labels, wanted, np.random.default_rng(seed), budget)
    again = choose(strategy, labels, wanted, np.random.default_rng(seed), budget)
    assert len(set(choice.rows.tolist())) == len(choice.rows)
    assert budget is None or len(choice.rows) == min(budget, len(labels))
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
