"""Spending a number of posts exactly, so that tags come out as even as it allows.

Each strategy meets the highest level that the budget pays for: so many positives for every tag,
or all there are.  What is left goes to the next levels, in the strategy's own way; when every tag
has all its posts, to posts without tags.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from e6tag.choices import NO_TAG, Demands, Draft, Fill, Labels, Part

HALVE_EVERY = 6


def spend(
    fill: Fill,
    labels: Labels,
    wanted: NDArray[np.int64],
    budget: int,
    rng: np.random.Generator,
) -> Draft:
    """A choice of exactly min(budget, posts) posts.

    Args:
        fill: the strategy.
        wanted: (tags,) positives, whose ratios are kept.
    """
    levels = Levels(labels, wanted)
    seed = int(rng.integers(1 << 32))
    num_posts = min(budget, len(labels))

    def start(level: int) -> Part:
        return fill(labels, levels.demands(level), Draft(labels), np.random.default_rng(seed))

    draft = Draft(labels)
    level, part = highest(start, levels, num_posts)
    draft.add(part)
    step = 1
    while len(draft) < num_posts and level < levels.top:
        level, step = min(level + step, levels.top), step * 2
        part = fill(labels, levels.demands(level), draft, rng)
        draft.add(some(part, num_posts - len(draft), rng))
    draft.add(some(untouched(draft, part.missed is not None, rng), num_posts - len(draft), rng))
    return draft


class Levels:
    """Demands that rise together, from none to all posts of every tag."""

    def __init__(self, labels: Labels, wanted: NDArray[np.int64]) -> None:
        """Ratios as in `wanted`; the tag that wants most wants the level."""
        self.available = labels.available
        self.wanted = wanted
        self.most = int(wanted.max(initial=0))
        asked = wanted > 0
        full = -(-self.available[asked] * self.most // wanted[asked])
        self.top = int(full.max(initial=0))

    def demands(self, level: int) -> Demands:
        """(tags,): positives at this level."""
        return np.minimum(self.available, -(-self.wanted * level // max(self.most, 1)))


def highest(start: Callable[[int], Part], levels: Levels, num_posts: int) -> tuple[int, Part]:
    """About the highest level whose choice has at most so many posts, and that choice.

    False position, with halving where it is slow; a level that promises less than one more is
    the last, for choices of large sites take seconds.
    """
    low, best = 0, start(0)
    high, high_size = levels.top + 1, 0
    guess = max(levels.most, 1)
    num_tries = 0
    while True:
        num_tries += 1
        level = min(guess, high - 1)
        part = start(level)
        if len(part.rows) <= num_posts:
            low, best = level, part
        else:
            high, high_size = level, len(part.rows)
        if num_tries % HALVE_EVERY == 0:
            guess = (low + high) // 2
        elif high_size:
            ahead = (num_posts - len(best.rows)) / (high_size - len(best.rows))
            guess = low + int((high - low) * ahead)
        else:
            guess = low * num_posts // max(len(best.rows), 1)
        if guess <= low or high - low <= 1:
            return low, best


def some(part: Part, number: int, rng: np.random.Generator) -> Part:
    """At most so many posts of a part: the first, or an even draw where it was drawn."""
    num_posts = len(part.rows)
    if num_posts <= number:
        return part
    if part.missed is None:
        return Part(part.rows[:number], part.tags[:number])
    kept = np.sort(rng.permutation(num_posts)[:number])
    missed = 1 - (1 - part.missed) * (number / num_posts)
    return Part(part.rows[kept], part.tags[kept], missed)


def untouched(draft: Draft, is_drawn: bool, rng: np.random.Generator) -> Part:
    """All posts that are not chosen yet, in random order."""
    rows = rng.permutation(np.flatnonzero(~draft.is_chosen))
    missed = draft.is_chosen.astype(np.float64) if is_drawn else None
    return Part(rows, np.full(len(rows), NO_TAG), missed)
