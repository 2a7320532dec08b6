"""Iterative stratification of groups: every tag in the right shares, the rarest first.

Sechidis, Tsoumakas & Vlahavas: On the Stratification of Multi-Label Data (ECML PKDD 2011), on
groups of posts: what is dealt out is a group, and it counts as many times as it has posts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.posts import take_csr
from e6tag.sampling import Labels
from e6tag.splits import SHARES, hash64, named, number_groups


def stratified_split(group: NDArray[np.int64], labels: Labels) -> NDArray[np.str_]:
    """The split of each post; a group is never torn.  The same posts give the same split.

    Args:
        group: (posts,) group ids.
        labels: of the posts.
    """
    ids, place = number_groups(group)
    # The order within a tag is of no account; by id it would put the oldest into train.
    turn = np.argsort(hash64(ids), kind="stable")
    position = np.empty_like(turn)
    position[turn] = np.arange(len(turn))
    sums = GroupSums.of(position[place], labels, len(ids))
    return named(stratify(sums, SHARES)[position[place]])


class GroupSums:
    """How many posts of each group have each tag: the groups' labels, and how often."""

    def __init__(
        self, labels: Labels, counts: NDArray[np.int64], num_posts: NDArray[np.int64]
    ) -> None:
        """Labels of groups, as many counts as they have columns, and posts of each group."""
        self.labels, self.counts, self.num_posts = labels, counts, num_posts

    @classmethod
    def of(cls, place: NDArray[np.int64], labels: Labels, num_groups: int) -> "GroupSums":
        """From the group number and the labels of each post."""
        num_tags = max(labels.num_tags, 1)
        keys = np.repeat(place, np.diff(labels.offsets)) * num_tags + labels.columns
        keys.sort()
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        counts = np.diff(np.append(starts, len(keys)))
        row, columns = np.divmod(keys[starts], num_tags)
        sizes = np.bincount(row, minlength=num_groups)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        of_groups = Labels.of(offsets, columns.astype(np.int32), labels.num_tags)
        return cls(of_groups, counts, np.bincount(place, minlength=num_groups))

    def take(self, rows: NDArray[Any]) -> tuple[NDArray[np.int64], ...]:
        """Labels of these groups as entries: position in `rows`, column, count."""
        offsets, columns = take_csr(self.labels.offsets, self.labels.columns, rows)
        _, counts = take_csr(self.labels.offsets, self.counts, rows)
        return np.repeat(np.arange(len(rows)), np.diff(offsets)), columns, counts


def stratify(sums: GroupSums, shares: Sequence[float]) -> NDArray[np.int64]:
    """The part of each group: tags from the one with fewest posts left, groups in turn.

    Each group of the tag goes to the part that lacks most posts of the tag, among those to the
    one that lacks most posts at all.  Large groups come first: small ones can make up for them.

    Args:
        sums: groups, their tags and posts.
        shares: of the parts; they sum to 1.

    Returns:
        (groups,) number of a part.
    """
    split = np.full(len(sums.num_posts), -1)
    _, columns, counts = sums.take(np.arange(len(split)))
    left = np.bincount(columns, counts, sums.labels.num_tags)
    lacking = np.outer(shares, left)
    room = [share * float(sums.num_posts.sum()) for share in shares]
    while left.any():
        tag = int(np.argmin(np.where(left > 0, left, np.inf)))
        rows = sums.labels.with_tag(tag)
        rows = rows[split[rows] < 0]
        entry, columns, counts = sums.take(rows)
        amounts = counts[columns == tag]
        order = np.argsort(-amounts, kind="stable")
        parts = np.empty(len(rows), np.int64)
        dealt = deal(amounts[order], sums.num_posts[rows[order]], lacking[:, tag].tolist(), room)
        parts[order] = dealt
        split[rows] = parts
        np.subtract.at(lacking, (parts[entry], columns), counts)
        np.subtract.at(left, columns, counts)
    rest = np.flatnonzero(split < 0)
    sizes = sums.num_posts[rest]
    split[rest] = deal(sizes, sizes, list(room), room)
    return split


def deal(
    amounts: NDArray[np.int64], sizes: NDArray[np.int64], lacking: list[float], room: list[float]
) -> list[int]:
    """The part that each group goes to, one after the other; takes them off `lacking` and `room`.

    Args:
        amounts: posts of the tag in each group.
        sizes: posts of each group.
        lacking: posts of the tag that each part lacks.
        room: posts that each part lacks.
    """
    parts = []
    for amount, size in zip(amounts.tolist(), sizes.tolist(), strict=True):
        part = max(range(len(room)), key=lambda number: (lacking[number], room[number]))
        lacking[part] -= amount
        room[part] -= size
        parts.append(part)
    return parts
