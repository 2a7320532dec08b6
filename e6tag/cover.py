"""The fewest posts that give every tag its positives: set multi-cover, near its lower bound.

Posts that no choice can do without are taken at once.  For the others, tags are priced
(`e6tag.prices`); the post whose still lacking tags are worth most is taken, again and again;
then, from the cheapest up, posts that no tag needs any more are dropped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e6tag.choices import NO_TAG, Labels
from e6tag.prices import SCALE, proven, find_prices, to_whole

Demands = NDArray[np.int64]
"""(tags,): positives wanted of each tag, at most as many as there are"""

LEVELS = 64
"""Steps in which gains are visited, to the price of a post: exact order inside each."""


@dataclass(frozen=True)
class Priced:
    """A covering task with the posts taken that all choices need, and prices for the rest."""

    forced: NDArray[np.int64]
    """rows of posts with a tag that wants all its posts, ascending"""
    lacking: Demands
    """what these leave to be covered"""
    prices: NDArray[np.int64]
    """(tags,): in posts / SCALE"""
    bound: int
    """no choice that gives every tag its demand has fewer posts: proven, in whole numbers"""


def price(labels: Labels, demands: Demands) -> Priced:
    """Forced posts, prices and the lower bound that they prove."""
    is_scarce = (labels.available <= demands) & (demands > 0)
    is_forced = labels.sum_of(is_scarce.astype(np.int32)) > 0
    forced = np.flatnonzero(is_forced)
    lacking = np.maximum(demands - labels.count(forced), 0)
    # Few labels are left where most posts are forced.
    rest = labels.take(np.flatnonzero(~is_forced)) if len(forced) else labels
    prices = to_whole(find_prices(rest, lacking.astype(np.float64)))
    return Priced(forced, lacking, prices, len(forced) + proven(rest, lacking, prices))


def cover(labels: Labels, priced: Priced) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of a near smallest choice, and for each the rarest tag that it was needed for."""
    rows, tags = greedy(labels, priced.lacking, priced.prices, priced.forced)
    kept = prune(labels, rows, priced)
    forced_tags = rarest(labels, priced.forced, labels.available < 0)
    return np.concatenate([priced.forced, rows[kept]]), np.concatenate([forced_tags, tags[kept]])


def rarest(labels, rows, open_):
    return np.full(len(rows), NO_TAG)


def greedy(
    labels: Labels,
    lacking: Demands,
    prices: NDArray[np.int64],
    taken: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in greedy order, and for each the rarest tag that it was needed for.

    A post's gain is the price of its tags that lack positives.  It only changes when a tag gets
    its last one, so all gains are kept exact at the cost of visiting each label once.
    """
    lacking = lacking.copy()
    prices = np.where(lacking > 0, np.maximum(prices, 1), 0)
    gain = labels.sum_of(prices)
    gain[taken] = 0
    rows: list[int] = []
    tags: list[int] = []
    while (top := int(gain.max(initial=0))) > 0:
        least = max(top - max(SCALE, top) // LEVELS, 1)
        found = np.flatnonzero(gain >= least)
        for row in found[np.argsort(-gain[found], kind="stable")].tolist():
            if gain[row] < least:
                continue
            columns = labels.of_post(row)
            needed = columns[lacking[columns] > 0]
            rows.append(row)
            tags.append(int(needed[np.argmin(labels.available[needed])]))
            lacking[needed] -= 1
            for column in needed[lacking[needed] == 0].tolist():
                gain[labels.with_tag(column)] -= prices[column]
            gain[row] = 0
    return np.array(rows, np.int64), np.array(tags, np.int64)


def prune(labels: Labels, rows: NDArray[np.int64], priced: Priced) -> NDArray[np.int64]:
    """Positions in `rows` to keep: from the fewest tags up, posts that no tag needs are dropped."""
    chosen = labels.take(rows)
    spare = chosen.available - priced.lacking
    droppable = np.flatnonzero(chosen.sum_of((spare <= 0).astype(np.int32)) == 0)
    value = chosen.sum_of(priced.prices)[droppable]
    keep = np.ones(len(rows), bool)
    for position in droppable[np.lexsort((rows[droppable], value))].tolist():
        columns = chosen.of_post(position)
        if (spare[columns] > 0).all():
            spare[columns] -= 1
            keep[position] = False
    return np.flatnonzero(keep)
