"""Choosing posts so that every tag gets its number of positives.

    random   tags from the rarest up, posts drawn evenly among those with the tag: close to what
             the site is like, given the tag; on e621-like data 1.7 times as many posts as cover
    cover    the fewest posts: greedy multi-cover, then dropping what is not needed; it favours
             posts with many tags
    quota    posts in random order, each credited to the rarest tag that still lacks some
    all      every post

All are pure functions of (labels, wanted, seed); what is equal is taken in order of post id.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.posts import take_csr

Strategy = Literal["random", "cover", "quota", "all"]

NO_TAG = -1


@dataclass(frozen=True)
class Labels:
    """Labels of posts, in both directions; rows are posts in ascending id order."""

    offsets: NDArray[np.int64]
    """(posts + 1,): post i has columns[offsets[i]:offsets[i + 1]]"""
    columns: NDArray[np.int32]
    num_tags: int
    tag_offsets: NDArray[np.int64]
    """(tags + 1,): tag t is on posts rows[tag_offsets[t]:tag_offsets[t + 1]]"""
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, offsets: NDArray[np.int64], columns: NDArray[np.int32], num_tags: int) -> "Labels":
        """From a CSR pair with distinct columns in each row."""
        lengths = np.diff(offsets)
        # NumPy sorts 16-bit numbers by radix, ten times as fast.
        keys = columns.astype(np.uint16) if num_tags <= 1 << 16 else columns
        order = np.argsort(keys, kind="stable")
        counts = np.bincount(columns, minlength=num_tags)
        tag_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(np.arange(len(lengths)), lengths)[order]
        return cls(offsets, columns, num_tags, tag_offsets, rows)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def available(self) -> NDArray[np.int64]:
        """(tags,): posts that have each tag."""
        return np.diff(self.tag_offsets)

    def of_post(self, row: int) -> NDArray[np.int32]:
        """Columns of the post in this row."""
        return self.columns[self.offsets[row] : self.offsets[row + 1]]

    def with_tag(self, column: int) -> NDArray[np.int64]:
        """Rows of the posts that have the tag, ascending."""
        return self.rows[self.tag_offsets[column] : self.tag_offsets[column + 1]]

    def count(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(tags,): how many of these posts have each tag."""
        _, columns = take_csr(self.offsets, self.columns, rows)
        return np.bincount(columns, minlength=self.num_tags)

    def count_marked(self, marked: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(posts,): how many of each post's tags are marked."""
        before = np.concatenate([[0], np.cumsum(marked[self.columns])])
        return np.diff(before[self.offsets])

    def rarest_first(self) -> NDArray[np.int64]:
        """Columns from the rarest tag up, ties by column."""
        return np.argsort(self.available, kind="stable")


@dataclass(frozen=True)
class Choice:
    """Posts that were chosen, in the order of choosing."""

    rows: NDArray[np.int64]
    tags: NDArray[np.int64]
    """column of the tag each was taken for, or NO_TAG"""
    weights: NDArray[np.float64]
    """1 / the chance of being chosen; 1 where there is no such chance (cover, quota)"""
    chances: NDArray[np.float64] | None = None
    """chance of every post there was, chosen or not; None where there is no such chance"""


def choose(
    strategy: Strategy,
    labels: Labels,
    wanted: int,
    rng: np.random.Generator,
    budget: int | None = None,
) -> Choice:
    """Choose posts so that each tag gets min(wanted, available) of them, or as the budget allows.

    Args:
        wanted: positives wanted for each tag.
        rng: where random choices come from.
        budget: at most this many posts.
    """
    choice = STRATEGIES[strategy](labels, wanted, rng)
    return choice if budget is None else cap(strategy, choice, budget, rng)


def cap(strategy: Strategy, choice: Choice, size: int, rng: np.random.Generator) -> Choice:
    """At most `size` posts of a choice.

    cover and quota keep the first of them; random and all an even draw, so that they stay what
    they are, with weights that say so.
    """
    num_posts = len(choice.rows)
    if num_posts <= size:
        return choice
    if strategy in ("cover", "quota"):
        return Choice(choice.rows[:size], choice.tags[:size], choice.weights[:size])
    kept = np.sort(rng.permutation(num_posts)[:size])
    # A budget of nothing keeps nothing, and there is no weight to correct.
    weights = choice.weights[kept] * (num_posts / max(size, 1))
    chances = None if choice.chances is None else choice.chances * (size / num_posts)
    return Choice(choice.rows[kept], choice.tags[kept], weights, chances)


def choose_all(labels: Labels, wanted: int, rng: np.random.Generator) -> Choice:
    """Every post."""
    num_posts = len(labels)
    ones = np.ones(num_posts)
    return Choice(np.arange(num_posts), np.full(num_posts, NO_TAG), ones, ones)


def choose_random(labels: Labels, wanted: int, rng: np.random.Generator) -> Choice:
    """Tags from the rarest up: draw evenly among the posts with the tag until it has enough.

    A post's weight is 1 / (1 - product over its tags of (1 - share drawn for the tag)): the
    inverse of its chance given how many posts each tag still lacked.  Weighted counts are right
    for tags that were drawn; posts that have only tags which rarer ones had filled already stand
    no chance, so weighted counts of the commonest tags fall short.
    """
    have = np.zeros(labels.num_tags, np.int64)
    is_chosen = np.zeros(len(labels), bool)
    log_missed = np.zeros(len(labels))
    drawn, tags = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for column in labels.rarest_first().tolist():
        rows = labels.with_tag(column)
        open_rows = rows[~is_chosen[rows]]
        num_drawn = min(wanted - int(have[column]), len(open_rows))
        if num_drawn <= 0:
            continue
        new = rng.choice(open_rows, num_drawn, replace=False)
        with np.errstate(divide="ignore"):
            # Posts chosen earlier would have stood the same chance: it is theirs as well.
            log_missed[rows] += np.log1p(-num_drawn / len(open_rows))
        is_chosen[new] = True
        have += labels.count(new)
        drawn.append(new)
        tags.append(np.full(num_drawn, column))
    chosen = np.concatenate(drawn)
    chances = -np.expm1(log_missed)
    return Choice(chosen, np.concatenate(tags), 1 / chances[chosen], chances)


def choose_cover(labels: Labels, wanted: int, rng: np.random.Generator) -> Choice:
    """The post with most tags that still lack positives, again and again; then prune.

    Within H(most tags of a post) of the fewest posts possible (Dobson 1982).
    """
    rows, tags = greedy(labels, wanted)
    kept = prune(labels, rows, np.minimum(labels.available, wanted))
    return Choice(rows[kept], tags[kept], np.ones(len(kept)))


def greedy(labels: Labels, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in greedy order, and for each the rarest tag that it was needed for.

    A post's gain is the number of its tags that lack positives.  It only changes when a tag gets
    its last one, so all gains are kept exact at the cost of visiting each label once.
    """
    lacking = np.minimum(labels.available, wanted)
    gain = labels.count_marked(lacking > 0)
    rows: list[int] = []
    tags: list[int] = []
    for level in range(int(gain.max(initial=0)), 0, -1):
        # Gains only fall: no post comes back to a level that was emptied.
        for row in np.flatnonzero(gain == level).tolist():
            if gain[row] != level:
                continue
            columns = labels.of_post(row)
            needed = columns[lacking[columns] > 0]
            rows.append(row)
            tags.append(int(needed[np.argmin(labels.available[needed])]))
            lacking[needed] -= 1
            for column in needed[lacking[needed] == 0].tolist():
                gain[labels.with_tag(column)] -= 1
            gain[row] = 0
    return np.array(rows, np.int64), np.array(tags, np.int64)


def prune(labels: Labels, rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in `rows` to keep: from the fewest tags up, posts that no tag needs are dropped."""
    spare = labels.count(rows) - wanted
    num_tags = np.diff(labels.offsets)[rows]
    keep = np.ones(len(rows), bool)
    for position in np.lexsort((rows, num_tags)).tolist():
        columns = labels.of_post(int(rows[position]))
        if (spare[columns] > 0).all():
            spare[columns] -= 1
            keep[position] = False
    return np.flatnonzero(keep)


def choose_quota(labels: Labels, wanted: int, rng: np.random.Generator) -> Choice:
    """Posts in random order, each credited to its rarest tag with fewer credited than wanted."""
    order = labels.rarest_first()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    credited = [0] * labels.num_tags
    rows, tags = [], []
    for row in rng.permutation(len(labels)).tolist():
        for place in np.sort(rank[labels.of_post(row)]).tolist():
            if credited[place] < wanted:
                credited[place] += 1
                rows.append(row)
                tags.append(int(order[place]))
                break
    return Choice(np.array(rows, np.int64), np.array(tags, np.int64), np.ones(len(rows)))


STRATEGIES: Mapping[Strategy, Callable[[Labels, int, np.random.Generator], Choice]] = {
    "random": choose_random,
    "cover": choose_cover,
    "quota": choose_quota,
    "all": choose_all,
}
