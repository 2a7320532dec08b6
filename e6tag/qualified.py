"""The posts that qualify for a plan, their groups, and the split of each."""

from collections.abc import Collection as Some
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.eligibility import eligible
from e6tag.errors import ConfigError, DataError
from e6tag.plan_options import PlanOptions
from e6tag.posts import Posts
from e6tag.sites.base import Collection, Site
from e6tag.splits import (
    NO_SPLIT,
    NOT_ARTISTS,
    groups,
    split_by_artist,
    split_by_time,
    split_number_of_name,
    split_of,
)
from e6tag.tags import Relations

ARTISTS_APART = "artists_apart"
"""reason for leaving out posts whose artists are in different splits"""


@dataclass(frozen=True)
class Qualified:
    """Posts that a plan can take."""

    posts: Posts
    group: NDArray[np.int64]
    """(posts,) group of near-copies"""
    split: NDArray[np.str_]
    """(posts,)"""
    rejected: Mapping[str, int]
    """all others, counted by cause"""

    def take(self, mask: NDArray[np.bool_], reason: str) -> "Qualified":
        """Those of the mask; the others are rejected for a reason."""
        num_out = len(mask) - int(np.count_nonzero(mask))
        if not num_out:
            return self
        rejected = {**self.rejected, reason: num_out}
        return Qualified(self.posts.take(mask), self.group[mask], self.split[mask], rejected)


def qualify(
    collection: Collection,
    site: Site,
    options: PlanOptions,
    ratings: Some[str],
    artists: frozenset[str],
) -> Qualified:
    """The posts that qualify, with their groups and splits.

    Args:
        collection: all posts.
        site: its rules and ratings.
        options: limits, kind of split.
        ratings: letters of those asked for.
        artists: names of the tags that are artists.

    Raises:
        ConfigError: a split by time of posts without dates.
        DataError: no post qualifies.
    """
    posts = collection.posts
    mask, rejected = eligible(posts, collection.relations, **limits(site, options, ratings))
    check_some(int(mask.sum()), len(posts), rejected)
    group = groups(posts, collection.pools)[mask]
    posts = posts.take(mask)
    split = first_split(posts, group, collection.relations, artists, options)
    found = Qualified(posts, group, split, rejected).take(split != NO_SPLIT, ARTISTS_APART)
    check_some(len(found.posts), len(collection.posts), found.rejected)
    return found


def limits(site: Site, options: PlanOptions, ratings: Some[str]) -> dict[str, Any]:
    """What `eligible` holds posts against."""
    return {
        "ratings": ratings,
        "safe_ratings": site.safe_ratings,
        "extensions": site.extensions,
        "min_side": options.min_side,
        "max_aspect": options.max_aspect,
        "blacklist": site.blacklist if options.blacklist else (),
    }


def check_some(num_found: int, num_posts: int, rejected: Mapping[str, int]) -> None:
    """Refuse to plan without posts."""
    if not num_found:
        causes = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
        raise DataError(f"none of the {num_posts} posts qualifies ({causes}).")


def first_split(
    posts: Posts,
    group: NDArray[np.int64],
    relations: Relations,
    artists: frozenset[str],
    options: PlanOptions,
) -> NDArray[np.str_]:
    """The split of each post, as far as it does not depend on labels.

    Raises:
        ConfigError: a split by time of posts without dates.
    """
    if options.split == "artist":
        return split_by_artist(group, *artist_splits(posts, relations, artists - NOT_ARTISTS))
    if options.split == "time":
        if np.isnat(posts.created_at).all():
            raise ConfigError("--split time: none of the posts has a date. Choose another --split.")
        return split_by_time(group, posts.created_at)
    return split_of(group)


def artist_splits(
    posts: Posts, relations: Relations, artists: frozenset[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of posts and the number of the split of their artist, an entry for each artist tag."""
    names = [relations.resolve(name) for name in posts.tag_names]
    # -1 is no artist.
    numbers = np.array([split_number_of_name(n) if n in artists else -1 for n in names], int)
    places = np.flatnonzero(numbers[posts.tag_indices] >= 0)
    rows = np.searchsorted(posts.tag_offsets, places, side="right") - 1
    return rows, numbers[posts.tag_indices[places]]


def artists_of(collection: Collection, site: Site) -> frozenset[str]:
    """Names of the tags that are artists."""
    is_artist = collection.tags["category"].map(site.categories) == "artist"
    return frozenset(collection.tags.loc[is_artist, "name"])
