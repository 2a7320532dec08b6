"""Prices of tags: what one more positive of each is worth, in posts.

To give tag t at least d_t positives with the fewest posts, each used once at most, is an integer
program.  The Lagrangian dual of its linear relaxation,

    maximise  sum_t d_t p_t + sum_i min(0, 1 - sum_{t on i} p_t)   over prices p >= 0,

has that relaxation's value: any prices prove a lower bound of the number of posts, and the best
ones say which posts are worth taking (`e6tag.cover`).

They are found by projected subgradient ascent with Polyak's steps (Polyak 1969; Held, Wolfe &
Crowder 1974): on a sample of the posts, then on those that the sample's prices leave in question,
with a look at all posts in between.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from e6tag.choices import Labels

Prices = NDArray[np.float64]
"""(tags,): not negative; a post is worth taking where its tags' prices sum to more than 1"""

SCALE = 1 << 20
"""Prices are rounded to whole multiples of 1 / SCALE: 64-bit integers hold their sums exactly."""
HIGHEST = 1 << 10
"""Cap of whole prices, in posts: no sum of them can overflow."""

SAMPLE_SHARE = 16
SMALLEST_SAMPLE = 1 << 14

ROUNDS, COLD_ROUNDS = 10, 40
"""Looks at all posts, after a sample's prices and without any."""
STEPS = 20

MARGIN = 0.3
"""Posts whose prices sum to less than 1 - MARGIN are out of question until the next look."""

REACH, COLD_REACH, LEAST_REACH = 0.03, 0.3, 3e-5
"""How far above the best value steps aim at first, and where the ascent ends: shares of it."""
SHRINK, PATIENCE = 0.6, 10
"""The aim is lowered by SHRINK after PATIENCE steps that were hardly better."""


@dataclass
class Ascent:
    """Where the ascent is, and the best it has seen."""

    prices: Prices
    reach: float
    """how far above the best value the steps aim, as a share of it"""
    best_prices: Prices = field(init=False)
    best: float = -np.inf
    stalled: int = 0

    def restart(self, prices: Prices, value: float) -> None:
        """Go on from these prices, with this value as the best."""
        self.prices = self.best_prices = prices
        self.best = value


def find_prices(labels: Labels, demands: NDArray[np.float64]) -> Prices:
    """Prices near the best of the dual; the same labels and demands give the same.

    Args:
        labels: of the posts that may be taken.
        demands: (tags,) positives wanted; fewer than there are, or prices have no bound.
    """
    if not demands.any():
        return np.zeros(labels.num_tags)
    size = len(labels) // SAMPLE_SHARE
    if size < SMALLEST_SAMPLE:
        cold = Ascent((demands > 0).astype(np.float64), COLD_REACH)
        return refine(labels, demands, cold, COLD_ROUNDS)
    rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:size])
    sample = labels.take(rows)
    # The sample may have fewer of a tag than its share of the demand.
    wanted = np.minimum(demands * (size / len(labels)), sample.available * 0.9)
    return refine(labels, demands, Ascent(find_prices(sample, wanted), REACH), ROUNDS)


def refine(labels: Labels, demands: NDArray[np.float64], ascent: Ascent, num_rounds: int) -> Prices:
    """Rounds of steps on the posts in question; the best prices, as all posts judge them."""
    sums = labels.sum_of(ascent.prices)
    scale = best_scale(float(demands @ ascent.prices), sums)
    best_prices, best_sums = ascent.prices * scale, sums * scale
    best = dual_value(demands, best_prices, best_sums)
    margin = MARGIN
    for _ in range(num_rounds):
        ascent.restart(best_prices, best)
        climb(labels.take(np.flatnonzero(best_sums > 1 - margin)), demands, ascent, STEPS)
        sums = labels.sum_of(ascent.best_prices)
        value = dual_value(demands, ascent.best_prices, sums)
        if value < best:
            # Posts that were left out have come into question.
            ascent.reach *= SHRINK
            margin += MARGIN
        else:
            best_prices, best_sums, best = ascent.best_prices, sums, value
        if ascent.reach < LEAST_REACH:
            break
    return best_prices


def best_scale(income: float, sums: NDArray[np.float64]) -> float:
    """The s that maximises s * income + sum of min(0, 1 - s * sums): the dual along a ray."""
    descending = -np.sort(-sums)
    place = int(np.searchsorted(np.cumsum(descending), income))
    return float(1 / max(descending[min(place, len(sums) - 1)], 1 / HIGHEST))


def dual_value(demands: NDArray[np.float64], prices: Prices, sums: NDArray[np.float64]) -> float:
    """The dual's value, in posts.

    Args:
        demands: (tags,).
        prices: (tags,).
        sums: (posts,) of the prices of each post's tags.
    """
    return float(demands @ prices + np.minimum(1 - sums, 0).sum())


def climb(labels: Labels, demands: NDArray[np.float64], ascent: Ascent, num_steps: int) -> None:
    """Steps of Polyak's length along the subgradient: demands minus what priced posts have.

    Each tag's price moves in proportion to the share of its demand that is missing.
    """
    scale = 1 / np.maximum(demands, 1e-9)
    for _ in range(num_steps):
        sums = labels.sum_of(ascent.prices)
        value = dual_value(demands, ascent.prices, sums)
        if is_stuck(ascent, value):
            continue
        gradient = demands - labels.count(np.flatnonzero(sums > 1))
        gradient[(ascent.prices <= 0) & (gradient < 0)] = 0
        steepness = float(gradient @ (gradient * scale))
        if steepness == 0 or ascent.reach < LEAST_REACH:
            break
        step = (ascent.best * (1 + ascent.reach) - value) / steepness
        ascent.prices = np.maximum(ascent.prices + step * gradient * scale, 0)


def is_stuck(ascent: Ascent, value: float) -> bool:
    """Keep the best; when it has long been no better, return to it and aim lower."""
    ascent.stalled += 1
    if value > ascent.best:
        if value > ascent.best * (1 + ascent.reach / 50):
            ascent.stalled = 0
        ascent.best, ascent.best_prices = value, ascent.prices
    if ascent.stalled <= PATIENCE:
        return False
    ascent.reach *= SHRINK
    ascent.stalled = 0
    ascent.prices = ascent.best_prices
    return True


def to_whole(prices: Prices) -> NDArray[np.int64]:
    """Prices in whole multiples of 1 / SCALE."""
    return np.rint(np.minimum(prices, HIGHEST) * SCALE).astype(np.int64)


def proven(labels: Labels, demands: NDArray[np.int64], prices: NDArray[np.int64]) -> int:
    """Posts that any choice has at least: the dual's value of whole prices, without rounding."""
    over = np.maximum(labels.sum_of(prices) - SCALE, 0)
    value = int(demands @ prices) - int(over.sum())
    return max(-(-value // SCALE), int(demands.max(initial=0)))
