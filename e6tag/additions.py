"""Posts that a site has and a plan has not: which of them make up for what its tags lack."""

from collections.abc import Collection as Some
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.plan_options import PlanOptions
from e6tag.planning import joined
from e6tag.qualified import Qualified
from e6tag.sampling import NO_TAG, Choice, Labels
from e6tag.splits import NO_SPLIT, SPLITS

LASTING = ("hash", "artist")
"""kinds of split in which a new post's place does not depend on the rest of the site"""
STREAM = 2
"""of random numbers: apart from those that the plan was made with"""


def find_candidates(
    found: Qualified, kept: pd.DataFrame, known: Some[int], options: PlanOptions
) -> Qualified:
    """The posts that qualify and are not in the plan, with the splits that they can go to.

    Args:
        found: all posts that qualify today.
        kept: rows of the plan that stay.
        known: posts that are in the plan, or must not be.
        options: kind of split.

    Returns:
        posts of a group that is in the plan have its split; `NO_SPLIT` where a post fits none.
    """
    is_new = ~np.isin(found.posts.post_id, np.array(sorted(known), np.int64))
    is_new &= ~np.isin(found.posts.md5, kept["md5"].to_numpy().astype("S32"))
    rows = np.flatnonzero(is_new)
    new = Qualified(found.posts.take(rows), found.group[rows], found.split[rows], found.rejected)
    if options.split not in LASTING:
        return replace(new, split=np.full(len(rows), NO_SPLIT))
    homes = kept.drop_duplicates("group").set_index("group")["split"].reindex(new.group)
    home = homes.fillna("").to_numpy().astype(str)
    if options.split == "artist":
        # Neither the group nor the artist may straddle.
        return replace(new, split=np.where((home == "") | (home == new.split), new.split, NO_SPLIT))
    return replace(new, split=np.where(home == "", new.split, home))


def choose_added(
    labels: Labels,
    candidates: Qualified,
    kept: pd.DataFrame,
    before: pd.DataFrame,
    options: PlanOptions,
) -> Choice:
    """The candidates that bring tags which lack positives; with strategy all, every one.

    With a budget at most as many as went, for the tags that they had.

    Args:
        labels: of the candidates.
        candidates: posts to choose from, with their splits.
        kept: rows of the plan that stay.
        before: rows whose pictures the data had, or waited for.
        options: strategy, positives, budget, seed.
    """
    choices = []
    for number, name in enumerate(SPLITS):
        rows = np.flatnonzero(candidates.split == name)
        stay, had = (table[table["split"] == name] for table in (kept, before))
        rng = np.random.default_rng([options.seed, number, STREAM])
        if options.strategy == "all":
            choices.append(Choice(rows, np.full(len(rows), NO_TAG), np.ones(len(rows))))
            continue
        wanted = options.wanted(name) if options.budget is None else count(had, labels.num_tags)
        lacking = np.maximum(wanted - count(stay, labels.num_tags), 0)
        most = len(rows) if options.budget is None else len(had) - len(stay)
        picked, tags = pick(labels, rng.permutation(rows), lacking, most)
        weights = np.ones(len(picked))
        if options.strategy == "random":
            weights = np.maximum(labels.count(rows)[tags] / np.maximum(lacking[tags], 1), 1.0)
        choices.append(Choice(picked, tags, weights))
    return joined(choices)


def count(table: pd.DataFrame, num_tags: int) -> NDArray[np.int64]:
    """(tags,): rows of a plan that have each tag."""
    columns = np.concatenate([*table["labels"], np.zeros(0, int)]).astype(int)
    return np.bincount(columns, minlength=num_tags)


def pick(
    labels: Labels, rows: Sequence[int] | NDArray[np.int64], lacking: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that bring a lacking tag, in the order given, and the rarest such tag of each."""
    lacking = lacking.copy()
    is_useful = labels.sum_of((lacking > 0).astype(np.int32)) > 0
    picked: list[int] = []
    tags: list[int] = []
    for row in (row for row in np.asarray(rows).tolist() if is_useful[row]):
        if len(picked) >= most:
            break
        columns = labels.of_post(row)
        still = columns[lacking[columns] > 0]
        if len(still):
            picked.append(row)
            tags.append(int(still[np.argmin(labels.available[still])]))
            lacking[columns] -= 1
    return np.array(picked, np.int64), np.array(tags, np.int64)
