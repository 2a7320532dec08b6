"""Which posts of the reserve are fetched in the place of planned ones that cannot be had.

topup.parquet  these posts, in rounds: written before any of them is asked for

The choice depends on the plan, the reserve and the posts that are lost, and on nothing else: a
run that was stopped makes the same one again.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.shard_work import free_names
from e6tag.shards import EXAMPLES_PER_SHARD
from e6tag.splits import SPLITS
from e6tag.tables import TOPUP_SCHEMA, write_table


def choose_topup(
    posts: pd.DataFrame,
    lost: NDArray[np.bool_],
    num_planned: int,
    reserve: pd.DataFrame,
    num_tags: int,
    wanted: Mapping[str, int] | None,
) -> pd.DataFrame:
    """Rows of the reserve to fetch next, each split's in the reserve's order.

    Args:
        posts: of the plan, then those that replace some already.
        lost: (posts,) those that will not be had.
        num_planned: how many of the posts are the plan's.
        reserve: posts that are left to take.
        num_tags: size of the vocabulary.
        wanted: positives of each tag, by split: as many are made up for, or as many as the plan
            has; None: a post is replaced with a post.

    Returns:
        rows of the reserve; empty where nothing lacks, or nothing there helps.
    """
    chosen = []
    for split in SPLITS:
        of_split = (posts["split"] == split).to_numpy()
        have, planned = of_split & ~lost, of_split & (np.arange(len(posts)) < num_planned)
        there = reserve[reserve["split"] == split]
        if wanted is None:
            chosen.append(there.iloc[: max(0, int(planned.sum()) - int(have.sum()))])
            continue
        target = np.minimum(count(posts[planned], num_tags), wanted[split])
        chosen.append(there.iloc[useful(there, target - count(posts[have], num_tags))])
    return pd.concat(chosen, ignore_index=True)


def count(posts: pd.DataFrame, num_tags: int) -> NDArray[np.int64]:
    """(tags,): posts that have each tag."""
    columns = np.concatenate([*posts["labels"], np.zeros(0, int)]).astype(int)
    return np.bincount(columns, minlength=num_tags)


def useful(reserve: pd.DataFrame, lacking: NDArray[np.int64]) -> list[int]:
    """Places of the posts that bring a tag which lacks positives still, taken in order.

    Args:
        reserve: of one split, in the order of use.
        lacking: (tags,) positives that each tag lacks; not above 0 where it has enough.
    """
    lacking = lacking.copy()
    places = []
    for place, labels in enumerate(reserve["labels"]):
        if (lacking[labels] > 0).any():
            lacking[labels] -= 1
            places.append(place)
    return places


def pin_topup(
    out: Path, before: pd.DataFrame, chosen: pd.DataFrame, shards: Collection[str]
) -> pd.DataFrame:
    """Write down a round of posts, in shards of their own that come after those there are.

    Args:
        out: data folder.
        before: topup.parquet as it is: `TOPUP_SCHEMA`.
        chosen: rows of the reserve.
        shards: names of all shards that the folder has so far.

    Returns:
        topup.parquet as it is now.
    """
    names = {split: free_names(split, frozenset(shards)) for split in SPLITS}
    parts = [
        rows.iloc[start : start + EXAMPLES_PER_SHARD].assign(shard=next(names[str(split)]))
        for split, rows in chosen.groupby("split", sort=False)
        for start in range(0, len(rows), EXAMPLES_PER_SHARD)
    ]
    table = pd.concat([*([before] if len(before) else []), *parts], ignore_index=True)
    write_table(out / "topup.parquet", table, TOPUP_SCHEMA)
    return table
