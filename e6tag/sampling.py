"""Choosing posts so that every tag gets its number of positives.

    random   tags from the rarest up, posts drawn evenly among those with the tag: close to what
             the site is like, given the tag; on e621-like data 1.8 times as many posts as cover
    cover    the fewest posts, within a hundredth of a proven bound on such data; it favours
             posts with many tags
    quota    posts in random order, each credited to the rarest tag that still lacks some
    all      every post

All are pure functions of (labels, wanted, seed); what is equal is taken in order of post id.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from e6tag.budget import some, spend
from e6tag.choices import NO_TAG, Choice, Demands, Draft, Fill, Labels, Part, Strategy
from e6tag.cover import fill_cover, pose
from e6tag.draws import fill_quota, fill_random

__all__ = ["NO_TAG", "STRATEGIES", "Choice", "Labels", "Strategy", "choose", "lower_bound"]

Wanted = int | NDArray[np.int64]
"""positives wanted: the same for all tags, or (tags,)"""


def choose(
    strategy: Strategy,
    labels: Labels,
    wanted: Wanted,
    rng: np.random.Generator,
    budget: int | None = None,
) -> Choice:
    """Choose posts so that each tag gets min(wanted, available) of them, or as the budget allows.

    Args:
        wanted: positives wanted for each tag; with a budget only their ratios matter.
        rng: where random choices come from.
        budget: exactly so many posts, or all there are; tags get positives as evenly as that
            allows, except with `all`, which takes an even draw.
    """
    draft = Draft(labels)
    if budget is None:
        part = STRATEGIES[strategy](labels, demands_of(labels, wanted), draft, rng)
        draft.add(part)
        return draft.choice(part.bound)
    if strategy == "all":
        draft.add(some(fill_all(labels, labels.available, draft, rng), budget, rng))
        return draft.choice()
    return spend(STRATEGIES[strategy], labels, per_tag(labels, wanted), budget, rng).choice()


def lower_bound(labels: Labels, wanted: Wanted) -> int:
    """Posts that any choice which gives each tag min(wanted, available) has at least: proven.

    As the bounds of parts of the posts add up, so do those of splits.
    """
    return pose(labels, demands_of(labels, wanted)).bound


def per_tag(labels: Labels, wanted: Wanted) -> NDArray[np.int64]:
    """(tags,): positives wanted."""
    return np.broadcast_to(np.asarray(wanted, np.int64), (labels.num_tags,))


def demands_of(labels: Labels, wanted: Wanted) -> Demands:
    """(tags,): positives wanted that there are."""
    return np.minimum(labels.available, per_tag(labels, wanted))


def fill_all(labels: Labels, demands: Demands, draft: Draft, rng: np.random.Generator) -> Part:
    """Every post."""
    num_posts = len(labels)
    return Part(np.arange(num_posts), np.full(num_posts, NO_TAG), np.zeros(num_posts))


STRATEGIES: Mapping[Strategy, Fill] = {
    "random": fill_random,
    "cover": fill_cover,
    "quota": fill_quota,
    "all": fill_all,
}
