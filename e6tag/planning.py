"""From a site's collection to the plan: which posts, in which split, with which labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas
from numpy.typing import NDArray

from e6tag.eligibility import eligible, meanings, says_minor
from e6tag.errors import ConfigError, DataError
from e6tag.labels import build_vocabulary, labels_of, names_of
from e6tag.posts import Posts, csr_rows, take_csr
from e6tag.sampling import NO_TAG, Choice, Labels, Strategy, choose
from e6tag.sites.base import Collection, Site
from e6tag.splits import SPLITS, groups, split_of
from e6tag.tables import PLAN_SCHEMA
from e6tag.tags import Relations, Vocabulary

log = logging.getLogger(__name__)

SHORTFALL_COLUMNS = ("name", "split", "wanted", "available", "reached")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the plan depends on, besides the collection; named as in `DownloadConfig`."""

    ratings: str = "s"
    num_tags: int = 1024
    min_count: int = 1
    min_groups: int = 1
    categories: tuple[str, ...] = ("general", "copyright", "character", "species")
    positives: int = 512
    val_positives: int = 64
    strategy: Strategy = "random"
    budget: int | None = None
    min_side: int = 16
    max_aspect: float = 4.0
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """The posts to fetch, and what is to be said about them."""

    table: pandas.DataFrame
    """columns of `PLAN_SCHEMA`, one row per post: train, val, test, shuffled inside each"""
    vocabulary: Vocabulary
    rejected: Mapping[str, int]
    """posts left out, by cause (`e6tag.eligibility.REASONS`)"""
    shortfalls: pandas.DataFrame
    """`SHORTFALL_COLUMNS`: tags that do not get their number of positives in a split"""


def make_plan(collection: Collection, site: Site, options: PlanOptions) -> Plan:
    """Choose posts; the same collection, options and seed give the same plan.

    Raises:
        ConfigError: an option that the site cannot meet.
        DataError: no post or no tag qualifies.
    """
    ratings = check_options(site, options)
    posts, relations = collection.posts, collection.relations
    mask, rejected = eligible(
        posts,
        relations,
        ratings=ratings,
        safe_ratings=site.safe_ratings,
        extensions=site.extensions,
        min_side=options.min_side,
        max_aspect=options.max_aspect,
    )
    if not mask.any():
        causes = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
        raise DataError(f"none of the {len(posts)} posts qualifies ({causes}).")
    group = groups(posts, collection.pools)[mask]
    posts = posts.take(mask)
    vocabulary = make_vocabulary(collection, posts, group, site, options)
    labels = Labels.of(*labels_of(posts, vocabulary, relations), len(vocabulary))
    split = split_of(group)
    choices, shortfalls = choose_splits(labels, split, vocabulary, options)
    is_artist = collection.tags["category"].map(site.categories) == "artist"
    artists = frozenset(collection.tags.loc[is_artist, "name"])
    rows = np.concatenate([choices[name].rows for name in SPLITS])
    table = plan_table(posts, rows, choices, vocabulary, options.strategy)
    table["group"], table["split"] = group[rows], split[rows].astype(object)
    table["labels"] = pandas.Series(
        list(csr_rows(*take_csr(labels.offsets, labels.columns, rows))), dtype=object
    )
    table["artists"] = names_of(posts.take(rows), relations, artists)
    return Plan(table[PLAN_SCHEMA.names], vocabulary, rejected, shortfalls)


def check_options(site: Site, options: PlanOptions) -> frozenset[str]:
    """The letters of the ratings asked for.

    Raises:
        ConfigError: a rating, category or number that cannot be.
    """
    ratings = rating_letters(options)
    if not ratings or not ratings <= site.ratings.keys():
        raise ConfigError(
            f"--ratings {options.ratings!r}: expected letters of "
            f"{', '.join(f'{letter} ({word})' for letter, word in site.ratings.items())}."
        )
    unknown = set(options.categories) - set(site.categories.values())
    if unknown or not options.categories:
        raise ConfigError(
            f"--categories: {site.name} has no {', '.join(sorted(unknown)) or 'empty choice'}. "
            f"Known: {', '.join(site.categories.values())}."
        )
    least = {
        "num_tags": 1,
        "min_groups": 1,
        "positives": 1,
        "val_positives": 0,
        "budget": 1,
        "max_aspect": 1,
    }
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected {smallest} or more.")
    return ratings


def rating_letters(options: PlanOptions) -> frozenset[str]:
    """The ratings asked for: s,q is sq."""
    return frozenset(options.ratings) - {",", " "}


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
    all_safe = rating_letters(options) <= site.safe_ratings
    wanted = set(options.categories)
    vocabulary = build_vocabulary(
        posts,
        collection.tags,
        relations,
        num_tags=options.num_tags if options.min_groups <= 1 else len(collection.tags),
        min_count=options.min_count,
        categories={number for number, name in site.categories.items() if name in wanted},
        is_barred=lambda name: not all_safe and any(map(says_minor, meanings(name, relations))),
    )
    if options.min_groups > 1:
        vocabulary = shown_by_groups(vocabulary, posts, group, relations, options)
    if len(vocabulary) < options.num_tags:
        log.info("only %d tags qualify, of %d wanted", len(vocabulary), options.num_tags)
    return vocabulary


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


def choose_splits(
    labels: Labels, split: NDArray[np.str_], vocabulary: Vocabulary, options: PlanOptions
) -> tuple[dict[str, Choice], pandas.DataFrame]:
    """The choice in each split (rows of `labels`, shuffled), and the tags that fall short."""
    parts = {name: np.flatnonzero(split == name) for name in SPLITS}
    sub = {
        name: Labels.of(*take_csr(labels.offsets, labels.columns, rows), labels.num_tags)
        for name, rows in parts.items()
    }
    wanted = {name: options.val_positives for name in SPLITS} | {"train": options.positives}
    budgets = share_budget(sub, wanted, options)
    choices, shortfalls = {}, []
    for number, name in enumerate(SPLITS):
        rng = np.random.default_rng([options.seed, number])
        choice = choose(options.strategy, sub[name], wanted[name], rng, budgets[name])
        shortfalls.append(shortfall(sub[name], choice, wanted[name], vocabulary, name))
        order = rng.permutation(len(choice.rows))
        rows = parts[name][choice.rows[order]]
        choices[name] = Choice(rows, choice.tags[order], choice.weights[order])
    return choices, pandas.concat(shortfalls, ignore_index=True)


def share_budget(
    labels: Mapping[str, Labels], wanted: Mapping[str, int], options: PlanOptions
) -> dict[str, int | None]:
    """The budget of each split: in proportion to what it would take without one."""
    if options.budget is None:
        return dict.fromkeys(SPLITS)
    sizes, posts = [], [len(labels[name]) for name in SPLITS]
    for number, name in enumerate(SPLITS):
        rng = np.random.default_rng([options.seed, number])
        sizes.append(len(choose(options.strategy, labels[name], wanted[name], rng).rows))
    return dict(zip(SPLITS, in_proportion(options.budget, sizes, posts), strict=True))


def in_proportion(total: int, shares: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Whole parts of min(total, sum of limits) in proportion to shares, none over its limit.

    What is over one limit goes to the others; shares of nothing get what is left then.
    """
    parts = np.zeros(len(shares), np.int64)
    while (left := min(total, sum(limits)) - int(parts.sum())) > 0:
        room = np.asarray(limits) - parts
        weights = np.where(room > 0, shares, 0)
        weights = weights if weights.any() else room
        edges = np.cumsum([0, *weights]) * left // int(weights.sum())
        parts += np.minimum(np.diff(edges), room)
    return [int(part) for part in parts]


def shortfall(
    labels: Labels, choice: Choice, wanted: int, vocabulary: Vocabulary, split: str
) -> pandas.DataFrame:
    """Tags that get fewer positives than wanted: `SHORTFALL_COLUMNS`."""
    reached = labels.count(choice.rows)
    short = np.flatnonzero(reached < wanted)
    columns = {
        "name": [vocabulary.tags[column].name for column in short.tolist()],
        "split": split,
        "wanted": wanted,
        "available": labels.available[short],
        "reached": reached[short],
    }
    return pandas.DataFrame(columns, columns=list(SHORTFALL_COLUMNS))


def plan_table(
    posts: Posts,
    rows: NDArray[np.int64],
    choices: Mapping[str, Choice],
    vocabulary: Vocabulary,
    strategy: Strategy,
) -> pandas.DataFrame:
    """What posts and choices say of the planned rows, in plan order."""
    tags = np.concatenate([choices[name].tags for name in SPLITS]).tolist()
    names = vocabulary.names
    location = posts.location
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
            "weight": np.concatenate([choices[name].weights for name in SPLITS]),
            "reason": [strategy if tag == NO_TAG else names[tag] for tag in tags],
            "location": [location[row] if location else "" for row in rows.tolist()],
        }
    )
