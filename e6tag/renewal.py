"""What a plan becomes when its site has changed: the same posts in the same order, and new ones.

Posts that must go stay in the plan as rows, and are purged.  A post never moves to another split:
where new links make a group straddle, its held-out posts are purged, and new posts go where their
group is.
"""

from collections.abc import Collection as Some
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.additions import choose_added, count, find_candidates
from e6tag.eligibility import REASONS
from e6tag.errors import DataError
from e6tag.labels import labels_of, names_of
from e6tag.plan_options import PlanOptions, rating_letters
from e6tag.planning import SHORTFALL_COLUMNS, plan_table
from e6tag.plans import PinnedPlan, plan_options
from e6tag.posts import Posts
from e6tag.purge import NOT_LISTED, REPLACED, causes_of, check_plausible
from e6tag.qualified import Qualified, artists_of, first_split, qualify
from e6tag.sampling import NO_TAG, Choice, Labels
from e6tag.sites.base import Collection
from e6tag.source import Source
from e6tag.splits import SPLITS, groups, number_groups
from e6tag.tables import PLAN_SCHEMA, no_rows
from e6tag.tags import Vocabulary

STRADDLES = "straddles"
"""cause for removing a post: it is linked now with posts of another split"""
CAUSES = frozenset({*REASONS, NOT_LISTED, REPLACED, STRADDLES})
"""Causes that today's exports can do away with; what was removed for others stays away."""


@dataclass(frozen=True)
class Renewal:
    """A plan as it is to be, and how it differs from what it was."""

    table: pd.DataFrame
    """columns of `PLAN_SCHEMA`: the old rows in their order, then the added ones"""
    topup: pd.DataFrame
    """columns of `TOPUP_SCHEMA`: the old rows in their order"""
    reserve: pd.DataFrame
    """columns of `PLAN_SCHEMA`: what is still fit to replace a post, in the order of use"""
    purged: Mapping[int, str]
    """posts of the table that must not be in the data, and why"""
    replaced: Sequence[int]
    """posts that show another picture now"""
    num_retagged: int
    """posts with other labels, artists or rating"""
    num_added: int
    num_available: int
    """posts that qualify and were not in the plan"""
    shortfalls: pd.DataFrame
    """`SHORTFALL_COLUMNS`: tags that lack positives still"""
    rejected: Mapping[str, int]
    """posts of the site that do not qualify, by cause"""


def renew(
    source: Source, plan: PinnedPlan, collection: Collection, purged_before: Mapping[int, str]
) -> Renewal:
    """Compare a plan with what the site says today.

    Args:
        source: the site, and the folder's options.
        plan: as it is.
        collection: what the site says today.
        purged_before: posts that are not in the data any more, and why.

    Raises:
        DataError: that is older than the plan, or does not seem to be the same site's.
    """
    options, vocabulary = plan_options(source.config), plan.vocabulary
    artists = artists_of(collection, source.site)
    purged, replaced = changes_of_posts(source, plan, collection)
    purged |= {i: cause for i, cause in purged_before.items() if cause not in CAUSES}
    today = rows_today(without(plan.posts, purged), collection, vocabulary, artists)
    purged = purged | find_straddling(today, collection, artists, options)
    kept = without(today, purged)
    found = qualify(collection, source.site, options, rating_letters(options), artists)
    taken_before = {*plan.posts["post_id"].tolist(), *purged}
    candidates = find_candidates(found, kept, taken_before, options)
    labels = labels_today(candidates.posts, collection, vocabulary)
    choice = choose_added(labels, candidates, kept, without(plan.posts, purged_before), options)
    added = plan_table(candidates, labels, choice, [*vocabulary.names, options.strategy])
    taken = candidates.posts.take(choice.rows)
    added["artists"] = names_of(taken, collection.relations, artists)
    left = without(still_fit(plan.reserve, found.posts), {*taken_before, *added["post_id"]})
    left = rows_today(left, collection, vocabulary, artists)
    return Renewal(
        table=stacked([in_order(plan.table, today), added]),
        topup=in_order(plan.topup, today).assign(shard=plan.topup["shard"].to_numpy()),
        reserve=left[fits(left, stacked([kept, added]))],
        purged=purged,
        replaced=[post_id for post_id in replaced if post_id not in purged],
        num_retagged=count_retagged(plan.posts, today),
        num_added=len(added),
        num_available=len(candidates.posts),
        shortfalls=find_shortfalls(kept, labels, candidates, choice, vocabulary, options),
        rejected=found.rejected,
    )


def without(table: pd.DataFrame, post_ids: Some[int]) -> pd.DataFrame:
    """Rows of all other posts."""
    return table[~table["post_id"].isin(list(post_ids))]


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table below the other, with the plan's columns."""
    # Pandas warns of empty ones, whose types count for nothing.
    parts = [table[PLAN_SCHEMA.names] for table in tables if len(table)]
    return pd.concat(parts, ignore_index=True) if parts else no_rows(PLAN_SCHEMA)


def changes_of_posts(
    source: Source, plan: PinnedPlan, collection: Collection
) -> tuple[dict[int, str], list[int]]:
    """Posts that must go, each with its cause, and posts that show another picture.

    Raises:
        DataError: the exports are older than the plan, or do not seem to be of its site.
    """
    posts = plan.posts[["post_id", "md5"]]
    newest = int(posts["post_id"].max())
    if source.is_remote and not (len(collection.posts) and newest <= collection.posts.post_id[-1]):
        raise DataError(
            f"these exports are older than {source.config.out}, which has post {newest}. "
            "Name newer ones with --export-dir."
        )
    causes = causes_of(source, posts, collection, REASONS)
    check_plausible(source, causes, len(posts))
    replaced = [post_id for post_id, cause in causes.items() if cause == REPLACED]
    return {i: cause for i, cause in causes.items() if cause != REPLACED}, replaced


def rows_of(table: pd.DataFrame, posts: Posts) -> NDArray[np.int64]:
    """Where the posts of a plan are among the site's."""
    return np.searchsorted(posts.post_id, table["post_id"].to_numpy())


def labels_today(posts: Posts, collection: Collection, vocabulary: Vocabulary) -> Labels:
    """Labels of posts by the site's relations of today."""
    return Labels.of(*labels_of(posts, vocabulary, collection.relations), len(vocabulary))


def rows_today(
    table: pd.DataFrame,
    collection: Collection,
    vocabulary: Vocabulary,
    artists: frozenset[str],
) -> pd.DataFrame:
    """Rows of a plan with what the site says of their posts now; splits and weights stay."""
    rows = rows_of(table, collection.posts)
    posts = collection.posts.take(rows)
    group = groups(collection.posts, collection.pools)[rows]
    labels = labels_today(posts, collection, vocabulary)
    all_rows, no_tags = np.arange(len(posts)), np.full(len(posts), NO_TAG)
    choice = Choice(all_rows, no_tags, table["weight"].to_numpy())
    split = table["split"].to_numpy().astype(str)
    today = plan_table(Qualified(posts, group, split, {}), labels, choice, [""])
    today["reason"] = table["reason"].to_numpy()
    today["artists"] = names_of(posts, collection.relations, artists)
    return today


def find_straddling(
    table: pd.DataFrame, collection: Collection, artists: frozenset[str], options: PlanOptions
) -> dict[int, str]:
    """Posts of groups that are in several splits, but for the one of them that comes first.

    So training keeps its pictures, and what is held out loses those that are like them.  With a
    split by artist those go too whose artists belong elsewhere.
    """
    split, group = table["split"].to_numpy().astype(str), table["group"].to_numpy()
    number = np.select([split == name for name in SPLITS], list(range(len(SPLITS))))
    ids, place = number_groups(group)
    first = np.full(len(ids), len(SPLITS))
    np.minimum.at(first, place, number)
    straddles = number > first[place]
    if options.split == "artist":
        posts = collection.posts.take(rows_of(table, collection.posts))
        straddles |= split != first_split(posts, group, collection.relations, artists, options)
    return dict.fromkeys(table["post_id"].to_numpy()[straddles].tolist(), STRADDLES)


def still_fit(reserve: pd.DataFrame, posts: Posts) -> pd.DataFrame:
    """Rows of a reserve whose posts qualify today, with the same pictures.

    Args:
        reserve: columns of `PLAN_SCHEMA`.
        posts: those that qualify, in order of id.
    """
    if not len(reserve) or not len(posts):
        return reserve.iloc[:0]
    place = np.minimum(rows_of(reserve, posts), len(posts) - 1)
    is_there = posts.post_id[place] == reserve["post_id"].to_numpy()
    return reserve[is_there & (posts.md5[place] == reserve["md5"].to_numpy().astype("S32"))]


def fits(reserve: pd.DataFrame, held: pd.DataFrame) -> NDArray[np.bool_]:
    """(rows,): whether the group of a post is in no other split than the post's own.

    Args:
        reserve: posts that might be used.
        held: posts that are.
    """
    splits = pd.concat([held[["group", "split"]], reserve[["group", "split"]]])
    num_splits = splits.groupby("group")["split"].nunique()
    alone: NDArray[np.bool_] = (num_splits.reindex(reserve["group"]) == 1).to_numpy()
    return alone


def in_order(old: pd.DataFrame, today: pd.DataFrame) -> pd.DataFrame:
    """The old rows in their order, brought up to date where there is something newer."""
    today = today[today["post_id"].isin(old["post_id"])]
    table = stacked([without(old, today["post_id"].tolist()), today])
    return table.set_index("post_id").loc[old["post_id"]].reset_index()


def count_retagged(old: pd.DataFrame, today: pd.DataFrame) -> int:
    """Posts whose labels, artists or rating are others now."""
    before = old.set_index("post_id").loc[today["post_id"]]
    is_other = (before["artists"].to_numpy() != today["artists"].to_numpy()) | (
        before["rating"].to_numpy() != today["rating"].to_numpy()
    )
    pairs = zip(before["labels"], today["labels"], strict=True)
    is_other |= np.array([not np.array_equal(a, b) for a, b in pairs], bool)
    return int(is_other.sum())


def find_shortfalls(
    kept: pd.DataFrame,
    labels: Labels,
    candidates: Qualified,
    choice: Choice,
    vocabulary: Vocabulary,
    options: PlanOptions,
) -> pd.DataFrame:
    """Tags that have fewer positives than wanted after all: `SHORTFALL_COLUMNS`."""
    rows = []
    for name in SPLITS:
        have = count(kept[kept["split"] == name], len(vocabulary))
        available = have + labels.count(np.flatnonzero(candidates.split == name))
        reached = have + labels.count(choice.rows[candidates.split[choice.rows] == name])
        wanted = options.wanted(name)
        for column in np.flatnonzero(reached < wanted).tolist():
            numbers = int(available[column]), int(reached[column])
            rows.append((vocabulary.names[column], name, wanted, *numbers))
    return pd.DataFrame(rows, columns=list(SHORTFALL_COLUMNS))
