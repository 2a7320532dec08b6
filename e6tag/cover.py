"""The fewest posts that give every tag its positives: set multi-cover, close to its lower bound.

Posts that every choice needs are taken first.  For the others tags are priced (`e6tag.prices`);
the post whose still lacking tags are worth most is taken, again and again; then, from the
cheapest up, posts that no tag needs any more are dropped.  Where that leaves more than a
hundredth above the proven bound, parts of the choice are dropped and filled anew.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e6tag.choices import Demands, Draft, Labels, Part
from e6tag.prices import SCALE, find_prices, proven, to_whole

LEVELS = 64
"""Gains are visited from the highest down in steps of 1 / LEVELS of a post."""

CLOSE = 1.01
MOST_ROUNDS = 50
LABELS_IN_ALL = 50_000_000
"""Labels to look at in all rounds of filling anew, together."""
DROPPED_SHARE = 0.3


@dataclass(frozen=True)
class Task:
    """What is to be covered: the posts that all choices have, and prices for the rest."""

    demands: Demands
    forced: NDArray[np.int64]
    """rows of posts with a tag that wants all its posts, ascending"""
    prices: NDArray[np.int64]
    """(tags,): in posts / SCALE"""
    bound: int
    """no choice that meets the demands has fewer posts: proven, in whole numbers"""


def pose(labels: Labels, demands: Demands) -> Task:
    """Forced posts, prices of tags, and the lower bound that they prove.

    Args:
        demands: at most as many as there are.
    """
    is_forced = labels.sum_of(scarce(labels, demands).astype(np.int32)) > 0
    forced = np.flatnonzero(is_forced)
    rest = labels.take(np.flatnonzero(~is_forced)) if len(forced) else labels
    lacking = np.maximum(demands - (labels.available - rest.available), 0)
    prices = to_whole(find_prices(rest, lacking.astype(np.float64)))
    return Task(demands, forced, prices, len(forced) + proven(rest, lacking, prices))


def scarce(labels: Labels, demands: Demands) -> NDArray[np.bool_]:
    """(tags,): tags that want all their posts."""
    return (demands > 0) & (labels.available <= demands)


def fill_cover(labels: Labels, demands: Demands, draft: Draft, rng: np.random.Generator) -> Part:
    """A nearly smallest choice; what goes on with a draft is greedy only."""
    if len(draft):
        lacking = np.maximum(demands - labels.count(draft.rows), 0)
        rows, bound = greedy(labels, lacking, unit_prices(labels), draft.rows), 0
    else:
        rows, bound = cover(labels, demands)
    return Part(rows, labels.rarest_of(rows, demands > 0), bound=bound)


def cover(labels: Labels, demands: Demands) -> tuple[NDArray[np.int64], int]:
    """Rows of a nearly smallest choice, and the lower bound of all choices.

    Within H(most tags of a post) of the fewest posts: greedy choice without prices is (Dobson
    1982), and it is taken where prices do no better.
    """
    task = pose(labels, demands)
    rows = complete(labels, task, task.prices, task.forced)
    if len(rows) > CLOSE * task.bound:
        plain = complete(labels, task, unit_prices(labels), task.forced)
        rows = rebuild(labels, task, min(rows, plain, key=len))
    return rows, task.bound


def unit_prices(labels: Labels) -> NDArray[np.int64]:
    """(tags,): all tags are worth the same."""
    return np.full(labels.num_tags, SCALE, np.int64)


def rebuild(labels: Labels, task: Task, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop some at random, fill anew, keep what is no larger: again and again."""
    rng = np.random.default_rng(0)
    for _ in range(min(MOST_ROUNDS, LABELS_IN_ALL // max(len(labels.columns), 1))):
        kept = rows[rng.random(len(rows)) >= DROPPED_SHARE]
        found = complete(labels, task, task.prices, kept)
        rows = found if len(found) <= len(rows) else rows
    return rows


def complete(
    labels: Labels, task: Task, prices: NDArray[np.int64], kept: NDArray[np.int64]
) -> NDArray[np.int64]:
    """These rows and those that greedy choice adds, without what is not needed."""
    lacking = np.maximum(task.demands - labels.count(kept), 0)
    rows = np.concatenate([kept, greedy(labels, lacking, prices, kept)])
    return rows[prune(labels, rows, task.demands, prices)]


def greedy(
    labels: Labels,
    lacking: Demands,
    prices: NDArray[np.int64],
    taken: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Rows in greedy order, besides those taken, until no tag lacks positives.

    A post's gain is the price of its tags that lack positives.  It only changes when a tag gets
    its last one, so all gains are kept exact at the cost of visiting each label once.
    """
    lacking = lacking.copy()
    prices = np.where(lacking > 0, np.maximum(prices, 1), 0)
    gain = labels.sum_of(prices)
    gain[taken] = 0
    rows: list[int] = []
    while (top := int(gain.max(initial=0))) > 0:
        least = max(top - max(SCALE, top) // LEVELS, 1)
        found = np.flatnonzero(gain >= least)
        for row in found[np.argsort(-gain[found], kind="stable")].tolist():
            # Gains only fall: a post whose gain has fallen waits for a lower level.
            if gain[row] < least:
                continue
            columns = labels.of_post(row)
            needed = columns[lacking[columns] > 0]
            rows.append(row)
            lacking[needed] -= 1
            for column in needed[lacking[needed] == 0].tolist():
                gain[labels.with_tag(column)] -= prices[column]
            gain[row] = 0
    return np.array(rows, np.int64)


def prune(
    labels: Labels, rows: NDArray[np.int64], demands: Demands, prices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions in `rows` to keep: from the cheapest up, posts that no tag needs are dropped."""
    chosen = labels.take(rows)
    spare = chosen.available - demands
    # Spare positives only get fewer: a post that is needed now stays needed.
    loose = np.flatnonzero(chosen.sum_of((spare <= 0).astype(np.int32)) == 0)
    keep = np.ones(len(rows), bool)
    for position in loose[np.lexsort((rows[loose], chosen.sum_of(prices)[loose]))].tolist():
        columns = chosen.of_post(position)
        if (spare[columns] > 0).all():
            spare[columns] -= 1
            keep[position] = False
    return np.flatnonzero(keep)
