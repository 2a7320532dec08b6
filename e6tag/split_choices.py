"""What each split takes: the strategy's choice, further posts at random, and a reserve."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e6tag.plan_options import PlanOptions
from e6tag.sampling import Choice, Labels, choose, lower_bound
from e6tag.splits import SPLITS

AT_RANDOM = -2
"""in place of a tag: taken at random, for no tag"""

LEAST_RESERVE = 2
"""further positives on top of the spare share: one failure in ten is too much for 5% of 10"""


@dataclass(frozen=True)
class SplitChoice:
    """What one split takes; rows are those of the labels of all splits."""

    planned: Choice
    """shuffled"""
    reserve: Choice
    """in the order of use"""
    wanted: int
    """positives wanted for each tag"""
    available: NDArray[np.int64]
    """(tags,): posts that have each tag"""
    reached: NDArray[np.int64]
    """(tags,): planned posts that have each tag"""
    bound: float | None
    """no plan that meets the demands has fewer posts; None where no demands shaped it"""


def choose_splits(
    labels: Labels, split: NDArray[np.str_], options: PlanOptions
) -> dict[str, SplitChoice]:
    """The choice in each split.

    Args:
        labels: of all posts that qualify.
        split: (posts,) name of the split of each.
        options: strategy, demands, budget, further posts, reserve, seed.
    """
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    parts = {name: labels.take(rows[name]) for name in SPLITS}
    extras = share_extras(parts, options)
    budgets = share_budget(parts, extras, options)
    return {
        name: moved(choose_split(parts[name], number, budgets[name], extras[name], options), rows)
        for number, (name, rows) in enumerate(rows.items())
    }


def choose_split(
    labels: Labels, number: int, budget: int | None, num_extra: int, options: PlanOptions
) -> SplitChoice:
    """What the split with this number takes; rows are those of its own labels."""
    wanted = options.wanted(SPLITS[number])
    rng = np.random.default_rng([options.seed, number])
    choice = choose(options.strategy, labels, wanted, rng, budget)
    bound = (choice.bound or lower_bound(labels, wanted)) if options.has_demands else None
    # Streams of their own: neither changes what the strategy takes.
    extra_rng, reserve_rng = (np.random.default_rng([options.seed, number, n]) for n in (1, 2))
    choice = add_random(labels, choice, num_extra, extra_rng)
    reserve = choose_reserve(labels, choice, wanted, options, reserve_rng)
    planned = ordered(choice, rng.permutation(len(choice.rows)))
    reached = labels.count(choice.rows)
    return SplitChoice(planned, reserve, wanted, labels.available, reached, bound)


def ordered(choice: Choice, order: NDArray[np.int64]) -> Choice:
    """The choice in another order."""
    return Choice(choice.rows[order], choice.tags[order], choice.weights[order], choice.chances)


def moved(chosen: SplitChoice, rows: NDArray[np.int64]) -> SplitChoice:
    """A split's choice with its rows as those of all posts."""
    planned, reserve = (
        Choice(rows[choice.rows], choice.tags, choice.weights)
        for choice in (chosen.planned, chosen.reserve)
    )
    return SplitChoice(
        planned, reserve, chosen.wanted, chosen.available, chosen.reached, chosen.bound
    )


def share_extras(parts: Mapping[str, Labels], options: PlanOptions) -> dict[str, int]:
    """Further random posts of each split: the same share of its posts as in train.

    Held-out posts need the same mixture: a threshold found without quiet pictures is too low.
    A budget is for those of all splits.
    """
    most = max(len(parts["train"]), 1)
    num_posts = sum(len(part) for part in parts.values())
    num_train = options.extra_random
    if options.budget is not None:
        num_train = min(num_train, options.budget * most // max(num_posts, 1))
    return {name: min(num_train * len(part) // most, len(part)) for name, part in parts.items()}


def share_budget(
    parts: Mapping[str, Labels], extras: Mapping[str, int], options: PlanOptions
) -> dict[str, int | None]:
    """What the strategy may take in each split: in proportion to what it would without a limit.

    Further random posts count: the budget is what all of a plan comes to.
    """
    if options.budget is None:
        return dict.fromkeys(SPLITS)
    sizes = []
    for number, name in enumerate(SPLITS):
        rng = np.random.default_rng([options.seed, number])
        choice = choose(options.strategy, parts[name], options.wanted(name), rng)
        sizes.append(len(choice.rows))
    budget = max(options.budget - sum(extras.values()), 0)
    limits = [len(parts[name]) - extras[name] for name in SPLITS]
    return dict(zip(SPLITS, in_proportion(budget, sizes, limits), strict=True))


def in_proportion(total: int, shares: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Whole parts of min(total, sum of limits) in proportion to shares, none over its limit.

    What is over one limit goes to the others; shares of nothing get what is left then.
    """
    parts = np.zeros(len(shares), np.int64)
    while (left := min(total, sum(limits)) - int(parts.sum())) > 0:
        room = np.asarray(limits) - parts
        weights = np.where(room > 0, shares, 0)
        weights = weights if weights.any() else room
        edges = np.cumsum([0, *weights]) * left // int(weights.sum())
        parts += np.minimum(np.diff(edges), room)
    return [int(part) for part in parts]


def add_random(labels: Labels, choice: Choice, num_extra: int, rng: np.random.Generator) -> Choice:
    """The choice, and further posts drawn evenly from those that it left.

    A post that was chosen with chance p, or else drawn with chance q, is there with chance
    1 - (1 - p)(1 - q): its weight is the inverse (Horvitz & Thompson 1952).  Where a strategy
    has no chances p is 1 for what it took and 0 for the rest, which makes weighted counts exact
    on average for every tag.
    """
    left = rows_left(labels, choice)
    drawn = np.sort(rng.choice(left, min(num_extra, len(left)), replace=False))
    if not len(drawn):
        return choice
    chances = choice.chances
    if chances is None:
        chances = np.zeros(len(labels))
        chances[choice.rows] = 1
    chances = 1 - (1 - chances) * (1 - len(drawn) / len(left))
    rows = np.concatenate([choice.rows, drawn])
    tags = np.concatenate([choice.tags, np.full(len(drawn), AT_RANDOM)])
    return Choice(rows, tags, 1 / chances[rows], chances)


def rows_left(labels: Labels, choice: Choice) -> NDArray[np.int64]:
    """Rows that were not chosen, ascending."""
    is_left = np.ones(len(labels), bool)
    is_left[choice.rows] = False
    return np.flatnonzero(is_left)


def choose_reserve(
    labels: Labels, planned: Choice, wanted: int, options: PlanOptions, rng: np.random.Generator
) -> Choice:
    """Posts to fetch where planned ones fail, in the order of use, by the same strategy.

    They bring each tag the spare share of the positives wanted and `LEAST_RESERVE` more, beyond
    the plan and as far as there are any; within a budget, as many posts as that.
    """
    if options.budget is None:
        # All takes all: it leaves nothing to replace a post with.
        size, budget = spare_of(wanted, options.spare), None
        wanted = size
    else:
        size = budget = spare_of(len(planned.rows), options.spare)
    left = rows_left(labels, planned)[: None if size else 0]
    choice = choose(options.strategy, labels.take(left), wanted, rng, budget)
    if options.strategy != "cover":
        # An even draw has no order; the first of a cover are those with most tags.
        choice = ordered(choice, rng.permutation(len(choice.rows)))
    return Choice(left[choice.rows], choice.tags, reserve_weights(planned, left, choice))


def spare_of(number: int, share: float) -> int:
    """What is kept in reserve for so many; nothing for nothing."""
    if not number or not share:
        return 0
    # 0.07 * 100 is 7.000000000000001.
    return math.ceil(round(share * number, 9)) + LEAST_RESERVE


def reserve_weights(
    planned: Choice, left: NDArray[np.int64], choice: Choice
) -> NDArray[np.float64]:
    """1 / the chance of being in the plan or in the reserve; 1 where there is no such chance."""
    if planned.chances is None or choice.chances is None:
        return np.ones(len(choice.rows))
    missed = (1 - planned.chances[left[choice.rows]]) * (1 - 1 / choice.weights)
    weights: NDArray[np.float64] = 1 / (1 - missed)
    return weights
