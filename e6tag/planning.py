"""From a site's collection to the plan: which posts, in which split, with which labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas
from numpy.typing import NDArray

from e6tag.eligibility import meanings, says_minor
from e6tag.errors import DataError
from e6tag.labels import (
    build_vocabulary,
    excluded_names,
    labels_of,
    listed_vocabulary,
    names_of,
)
from e6tag.plan_options import PlanOptions, check_options, rating_letters
from e6tag.posts import Posts, csr_rows, take_csr
from e6tag.qualified import Qualified, artists_of, qualify
from e6tag.sampling import Choice, Labels
from e6tag.sites.base import Collection, Site
from e6tag.split_choices import AT_RANDOM, SplitChoice, choose_splits
from e6tag.splits import SPLITS
from e6tag.stratify import stratified_split
from e6tag.tables import PLAN_SCHEMA
from e6tag.tags import Relations, Vocabulary

log = logging.getLogger(__name__)

SHORTFALL_COLUMNS = ("name", "split", "wanted", "available", "reached")


@dataclass(frozen=True)
class Plan:
    """The posts to fetch, and what is to be said about them."""

    table: pandas.DataFrame
    """columns of `PLAN_SCHEMA`, one row per post: train, val, test, shuffled inside each"""
    reserve: pandas.DataFrame
    """the same columns: posts for where planned ones fail, each split's in the order of use"""
    vocabulary: Vocabulary
    num_posts: int
    """posts that there were to choose from, whether they qualified or not"""
    rejected: Mapping[str, int]
    """posts left out, by cause (`e6tag.eligibility.REASONS`, `e6tag.qualified.ARTISTS_APART`)"""
    shortfalls: pandas.DataFrame
    """`SHORTFALL_COLUMNS`: tags that do not get their number of positives in a split"""
    bounds: Mapping[str, float]
    """by split: no plan with these positives has fewer posts; empty where none were asked for"""


def make_plan(collection: Collection, site: Site, options: PlanOptions) -> Plan:
    """Choose posts; the same collection, options and seed give the same plan.

    Raises:
        ConfigError: an option that the site cannot meet.
        DataError: no post or no tag qualifies.
    """
    relations = collection.relations
    ratings = check_options(site, options)
    artists = artists_of(collection, site)
    found = qualify(collection, site, options, ratings, artists)
    posts, group = found.posts, found.group
    vocabulary = make_vocabulary(collection, posts, group, site, options)
    vocabulary = without_barred(vocabulary, relations, site, options)
    labels = Labels.of(*labels_of(posts, vocabulary, relations), len(vocabulary))
    if options.split == "stratified":
        found = replace(found, split=stratified_split(group, labels))
    chosen = choose_splits(labels, found.split, options)
    planned, reserve = (
        plan_table(found, labels, joined(choices), [*vocabulary.names, options.strategy])
        for choices in (
            [chosen[name].planned for name in SPLITS],
            [chosen[name].reserve for name in SPLITS],
        )
    )
    for table in (planned, reserve):
        rows = np.searchsorted(posts.post_id, table["post_id"])
        table["artists"] = names_of(posts.take(rows), relations, artists)
    return Plan(
        planned[PLAN_SCHEMA.names],
        reserve[PLAN_SCHEMA.names],
        vocabulary,
        len(collection.posts),
        found.rejected,
        shortfalls(chosen, vocabulary),
        {name: part.bound for name, part in chosen.items() if part.bound is not None},
    )


def is_barred(name: str, relations: Relations, site: Site, options: PlanOptions) -> bool:
    """Whether a tag says that somebody is young, and not all of the posts asked for are safe."""
    all_safe = rating_letters(options) <= site.safe_ratings
    return not all_safe and any(map(says_minor, meanings(name, relations)))


def without_barred(
    vocabulary: Vocabulary, relations: Relations, site: Site, options: PlanOptions
) -> Vocabulary:
    """The vocabulary without barred tags, wherever its names came from.

    Raises:
        DataError: nothing is left of it.
    """
    kept = [tag for tag in vocabulary.tags if not is_barred(tag.name, relations, site, options)]
    if not kept:
        raise DataError("no tag is left that a set with such ratings may have.")
    return Vocabulary(kept)


def make_vocabulary(
    collection: Collection,
    posts: Posts,
    group: NDArray[np.int64],
    site: Site,
    options: PlanOptions,
) -> Vocabulary:
    """The vocabulary; tags that say that somebody is young are only in one of safe posts.

    Args:
        collection: tags and relations of the site.
        posts: those that qualify.
        group: group of near-copies of each of these posts.
        site: its categories and ratings.
        options: size, categories and least numbers.

    Raises:
        DataError: no tag qualifies.
    """
    relations = collection.relations
    vocabulary = candidates(collection, posts, site, options)
    if options.tag_list is not None:
        options = replace(options, num_tags=len(options.tag_list))
    if options.min_groups > 1:
        vocabulary = shown_by_groups(vocabulary, posts, group, relations, options)
    if len(vocabulary) < options.num_tags:
        log.info("only %d tags qualify, of %d wanted", len(vocabulary), options.num_tags)
    return vocabulary


def candidates(
    collection: Collection, posts: Posts, site: Site, options: PlanOptions
) -> Vocabulary:
    """The tags of --tag-list; or the most frequent ones, all of them where groups are to count.

    Raises:
        DataError: no tag qualifies.
    """
    relations, tags = collection.relations, collection.tags
    excluded = excluded_names(options.exclude_tags, tags, relations)

    def is_out(name: str) -> bool:
        return name in excluded or is_barred(name, relations, site, options)

    if options.tag_list is not None:
        return listed_vocabulary(
            options.tag_list, posts, tags, relations, min_count=options.min_count, is_barred=is_out
        )
    wanted = set(options.categories)
    return build_vocabulary(
        posts,
        tags,
        relations,
        num_tags=options.num_tags if options.min_groups <= 1 else len(tags),
        min_count=options.min_count,
        categories={number for number, name in site.categories.items() if name in wanted},
        is_barred=is_out,
    )


def shown_by_groups(
    vocabulary: Vocabulary,
    posts: Posts,
    group: NDArray[np.int64],
    relations: Relations,
    options: PlanOptions,
) -> Vocabulary:
    """The first `num_tags` tags that posts of at least `min_groups` groups have.

    Splits never part a group: a tag that one group shows is in one split only.

    Raises:
        DataError: no tag is.
    """
    offsets, columns = labels_of(posts, vocabulary, relations)
    _, number = np.unique(group, return_inverse=True)
    pairs = np.stack([columns, np.repeat(number, np.diff(offsets))]).astype(np.int64)
    pairs = np.unique(pairs[0] * (int(number.max()) + 1) + pairs[1]) // (int(number.max()) + 1)
    num_groups = np.bincount(pairs, minlength=len(vocabulary)).tolist()
    kept = [
        tag
        for tag, count in zip(vocabulary.tags, num_groups, strict=True)
        if count >= options.min_groups
    ]
    if not kept:
        raise DataError(
            f"no tag is shown by {options.min_groups} groups of near-copies. Lower --min-groups."
        )
    return Vocabulary(kept[: options.num_tags])


def joined(choices: Sequence[Choice]) -> Choice:
    """One choice after the other."""
    rows, tags, weights = (
        np.concatenate([getattr(choice, name) for choice in choices])
        for name in ("rows", "tags", "weights")
    )
    return Choice(rows, tags, weights)


def shortfalls(chosen: Mapping[str, SplitChoice], vocabulary: Vocabulary) -> pandas.DataFrame:
    """Tags that get fewer positives than wanted: `SHORTFALL_COLUMNS`."""
    rows = [
        (vocabulary.tags[column].name, name, part.wanted, part.available[column], reached)
        for name, part in chosen.items()
        for column, reached in enumerate(part.reached.tolist())
        if reached < part.wanted
    ]
    return pandas.DataFrame(rows, columns=list(SHORTFALL_COLUMNS))


def plan_table(
    found: Qualified, labels: Labels, choice: Choice, reasons: Sequence[str]
) -> pandas.DataFrame:
    """The chosen posts, in order: `PLAN_SCHEMA` without the artists.

    Args:
        found: posts to choose from.
        labels: of these posts.
        choice: of their rows.
        reasons: by number of tag; the last is for posts that were taken for none (`NO_TAG`).
    """
    posts, rows = found.posts, choice.rows
    location = posts.location
    texts = {AT_RANDOM: "random"}
    columns = take_csr(labels.offsets, labels.columns, rows)
    return pandas.DataFrame(
        {
            "post_id": posts.post_id[rows],
            "md5": [md5.decode() for md5 in posts.md5[rows].tolist()],
            "ext": posts.ext[rows].tolist(),
            "rating": [rating.decode() for rating in posts.rating[rows].tolist()],
            "width": posts.width[rows],
            "height": posts.height[rows],
            "size_bytes": posts.size_bytes[rows],
            "parent_id": posts.parent_id[rows],
            "group": found.group[rows],
            "split": found.split[rows].astype(object),
            "labels": pandas.Series(list(csr_rows(*columns)), dtype=object),
            "weight": choice.weights,
            "reason": [texts.get(tag) or reasons[tag] for tag in choice.tags.tolist()],
            "location": [location[row] if location else "" for row in rows.tolist()],
        }
    )
