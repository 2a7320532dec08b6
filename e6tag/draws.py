"""Strategies that draw posts tag by tag, from the rarest tag up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.choices import NO_TAG, Demands, Draft, Labels, Part


def fill_random(labels: Labels, demands: Demands, draft: Draft, rng: np.random.Generator) -> Part:
    """Draw evenly among the posts with the tag until it has enough.

    A post's chance is 1 - product over its tags of (1 - share drawn for the tag), given how many
    posts each tag still lacked.  Weighted counts are right for tags that were drawn; posts that
    have only tags which rarer ones had filled already stand no chance, so weighted counts of the
    commonest tags fall short.
    """
    have = labels.count(draft.rows)
    is_chosen = draft.is_chosen.copy()
    missed = np.ones(len(labels))
    drawn, tags = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for column in labels.rarest_first().tolist():
        if demands[column] <= have[column]:
            continue
        rows = labels.with_tag(column)
        open_rows = rows[~is_chosen[rows]]
        num_drawn = int(demands[column] - have[column])
        new = rng.choice(open_rows, num_drawn, replace=False)
        # Posts chosen earlier would have stood the same chance: it is theirs as well.
        missed[rows] *= 1 - num_drawn / len(open_rows)
        is_chosen[new] = True
        np.add.at(have, labels.take(new).columns, 1)
        drawn.append(new)
        tags.append(np.full(num_drawn, column))
    return Part(np.concatenate(drawn), np.concatenate(tags), missed)


def fill_quota(labels: Labels, demands: Demands, draft: Draft, rng: np.random.Generator) -> Part:
    """Posts in random order, each credited to its rarest tag with fewer credited than wanted.

    A rarer tag never waits for a commoner one, so it may have its first posts before the other
    is looked at: the same choice as post by post, tag by tag.
    """
    place = np.empty(len(labels), np.int64)
    place[rng.permutation(len(labels))] = np.arange(len(labels))
    credited = np.bincount(draft.tags[draft.tags != NO_TAG], minlength=labels.num_tags)
    credit = np.where(draft.is_chosen, NO_TAG - 1, NO_TAG)
    for column in labels.rarest_first().tolist():
        rows = labels.with_tag(column)
        open_rows = rows[credit[rows] == NO_TAG]
        wanted = max(int(demands[column] - credited[column]), 0)
        credit[first_of(open_rows, place, wanted)] = column
    new = np.flatnonzero(credit > NO_TAG)
    new = new[np.argsort(place[new])]
    return Part(new, credit[new])


def first_of(rows: NDArray[Any], place: NDArray[np.int64], number: int) -> NDArray[Any]:
    """The rows with the lowest places."""
    if number >= len(rows):
        return rows
    return rows[np.argpartition(place[rows], number)[:number]]
