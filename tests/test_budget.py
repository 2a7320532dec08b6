"""A budget: spent to the last post, and tags come out as even as it allows."""

import numpy as np
import pytest
from e621_like import dense, e621_like, labels_of
from hypothesis import given
from hypothesis import strategies as st

from e6tag.budget import Levels, highest
from e6tag.choices import Part
from e6tag.sampling import NO_TAG, STRATEGIES, choose

LISTS = st.lists(st.sets(st.integers(0, 5)), max_size=14)
WANTED = st.integers(0, 5) | st.lists(st.integers(0, 5), min_size=6, max_size=6).map(np.array)
LEVELLING = ["random", "cover", "quota"]


@pytest.fixture(scope="module")
def labels():
    return e621_like(6000, 64)


def counts(labels, choice):
    return np.sort(labels.count(choice.rows))


def cut(strategy, choice, size, rng):
    """The strategy's own choice, cut to the budget: the rival."""
    rows = rng.permutation(choice.rows) if strategy == "random" else choice.rows
    return np.sort(rows[:size])


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@given(lists=LISTS, wanted=WANTED, budget=st.integers(0, 16), seed=st.integers(0, 3))
def test_a_budget_is_spent_exactly(strategy, lists, wanted, budget, seed):
    labels = labels_of(lists)
    choice, again = (
        choose(strategy, labels, wanted, np.random.default_rng(seed), budget) for _ in range(2)
    )
    assert len(choice.rows) == min(budget, len(labels)) == len(set(choice.rows.tolist()))
    assert len(choice.tags) == len(choice.weights) == len(choice.rows)
    assert choice.rows.tolist() == again.rows.tolist()
    for row, tag in zip(choice.rows.tolist(), choice.tags.tolist(), strict=True):
        assert tag == NO_TAG or tag in lists[row]


@pytest.mark.parametrize("strategy", ["random", "cover"])
@pytest.mark.parametrize("budget", [20, 300, 1500, 4000])
def test_tags_are_no_less_even_than_in_a_choice_cut_to_the_budget(labels, strategy, budget):
    rng = np.random.default_rng(0)
    whole = choose(strategy, labels, 100, np.random.default_rng(0))
    rival = np.sort(labels.count(cut(strategy, whole, budget, rng)))
    found = counts(labels, choose(strategy, labels, 100, np.random.default_rng(0), budget))
    # An even draw of a random choice is as even on the average, and uneven by chance.
    assert found[0] >= rival[0]
    assert np.sqrt(found).sum() >= np.sqrt(rival).sum() * (0.99 if strategy == "random" else 1)


@pytest.mark.parametrize("budget", [20, 300, 1500, 4000])
def test_credits_of_a_quota_are_no_less_even_than_when_cut(labels, budget):
    whole = choose("quota", labels, 100, np.random.default_rng(0))
    found = choose("quota", labels, 100, np.random.default_rng(0), budget)
    credited, rival = (
        np.bincount(tags[tags != NO_TAG], minlength=64)
        for tags in (found.tags, whole.tags[:budget])
    )
    assert credited.min() >= rival.min()
    assert np.sqrt(credited).sum() >= np.sqrt(rival).sum()


@pytest.mark.parametrize("strategy", LEVELLING)
def test_a_larger_budget_never_lowers_the_lowest_tag(labels, strategy):
    lowest = [
        counts(labels, choose(strategy, labels, 50, np.random.default_rng(0), budget))[0]
        for budget in (0, 200, 800, 3200, 6000)
    ]
    assert lowest == sorted(lowest) and lowest[0] == 0
    assert lowest[-1] == labels.available.min()


def test_a_cover_gives_every_tag_the_level_that_its_budget_pays_for(labels):
    for level in (10, 60, 150):
        needed = len(choose("cover", labels, level, np.random.default_rng(0)).rows)
        choice = choose("cover", labels, 100, np.random.default_rng(0), needed)
        reached = labels.count(choice.rows)
        # What the search may leave on the table: one level.
        assert (reached >= np.minimum(labels.available, level - 1)).all()


@pytest.mark.parametrize("strategy", LEVELLING)
def test_tags_that_want_four_times_as_much_come_first(labels, strategy):
    def lowest(wanted):
        choice = choose(strategy, labels, wanted, np.random.default_rng(0), 400)
        credited = np.bincount(choice.tags, minlength=64)
        reached = credited if strategy == "quota" else labels.count(choice.rows)
        return reached[::2].min(), reached[1::2].min()

    low, high = lowest(np.where(np.arange(64) % 2, 100, 25))
    assert low >= high // 4
    assert high > lowest(50)[1] and low < lowest(50)[0]


def test_posts_without_tags_are_the_last_to_be_taken():
    labels = labels_of([{0}, set(), {1}, set(), {0, 1}])
    for strategy in LEVELLING:
        choice = choose(strategy, labels, 1, np.random.default_rng(0), 4)
        assert {0, 2, 4} <= set(choice.rows.tolist())
        assert choice.tags.tolist()[-1] == NO_TAG
        assert choice.weights[-1] == (2 if strategy == "random" else 1)
        assert choice.weights[:3].tolist() == [1, 1, 1]


def test_weights_within_a_budget_estimate_the_number_of_posts_with_each_drawn_tag():
    rng = np.random.default_rng(3)
    table = rng.random((2000, 12)) < np.linspace(0.03, 0.3, 12)
    labels = labels_of([np.flatnonzero(row) for row in table], 12)
    ratios = np.zeros(12)
    for seed in range(60):
        choice = choose("random", labels, 40, np.random.default_rng(seed), 250)
        ratios += dense(labels)[choice.rows].T @ choice.weights / labels.available / 60
    assert ratios[labels.rarest_first()[:6]] == pytest.approx(np.ones(6), abs=0.06)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 200))
def test_the_level_that_is_found_is_paid_for_and_the_next_is_not_far(steps, budget):
    sizes = np.cumsum([0, *steps])
    labels = labels_of([{0}] * len(steps), 1)
    levels = Levels(labels, np.array([5]))
    assert levels.top == len(steps)

    def start(level):
        return Part(np.arange(sizes[level]), np.zeros(sizes[level], int))

    level, part = highest(start, levels, budget)
    assert len(part.rows) == sizes[level] <= budget
    if level < levels.top and sizes[-1] <= budget:
        # Where so little is left that another level is not to be expected, the search ends.
        assert level * budget // max(int(sizes[level]), 1) <= level


def test_with_sizes_that_rise_evenly_the_highest_level_is_found():
    labels = labels_of([{0}] * 500, 1)
    levels = Levels(labels, np.array([100]))
    tried = []

    def start(level):
        tried.append(level)
        return Part(np.arange(7 * level), np.zeros(7 * level, int))

    assert [highest(start, levels, budget)[0] for budget in (0, 6, 7, 69, 700, 3500, 9000)] == [
        0, 0, 1, 9, 100, 500, 500,
    ]  # fmt: skip
    assert len(tried) < 40
