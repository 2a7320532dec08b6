"""Which posts may be learnt from: rules that an option can tighten, and rules that none can lift.

No option lifts these: posts whose tags say that somebody in them is young are out unless the
rating is safe; so are deleted posts and posts of artists who ask not to be used.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.posts import Posts
from e6tag.tags import Relations

MINOR_TAGS = frozenset(
    {
        "young",
        "younger",
        "youngster",
        "underage",
        "minor",
        "preteen",
        "teen",
        "teenager",
        "adolescent",
        "child",
        "children",
        "kid",
        "kids",
        "toddler",
        "baby",
        "babies",
        "infant",
        "newborn",
        "cub",
        "cubs",
        "cub_porn",
        "loli",
        "lolicon",
        "shota",
        "shotacon",
        "straight_shota",
        "toddlercon",
        "babycon",
        "foal",
        "foals",
        "foalcon",
        "filly",
        "fillies",
        "colt",
        "colts",
        "aged_down",
        "age_regression",
    }
)
MINOR_PATTERN = re.compile(r"(young|underage|cub|loli|shota|toddlercon)_")
"""young_anthro, young_human, young_(lore) and what else begins so"""
OFF_LIMITS_TAGS = frozenset({"avoid_posting", "conditional_dnp"})
ANIMATED_TAGS = frozenset(
    {"animated", "animated_gif", "animated_jpg", "animated_png", "animated_webp"}
)
"""by name: animated_skeleton is a character, not a file"""
COMIC_TAGS = frozenset(
    {"comic", "comic_page", "comic_panel", "multiple_panels", "2koma", "3koma", "4koma"}
)
STILL_EXTENSIONS = ("png", "jpg", "jpeg", "webp")

IS_HEX = np.zeros(256, bool)
IS_HEX[list(b"0123456789abcdef")] = True

REASONS = (
    "deleted",
    "pending",
    "flagged",
    "hidden",
    "minor",
    "avoid_posting",
    "rating",
    "blacklisted",
    "extension",
    "animated",
    "comic",
    "too_small",
    "too_long",
    "bad_md5",
    "duplicate",
)
"""Causes for leaving a post out, in the order in which they are looked for."""


def eligible(
    posts: Posts, relations: Relations, **limits: Any
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which posts may be learnt from, and how many are left out for which cause.

    Args:
        limits: those of `find_faults`.

    Returns:
        (posts,) mask; counts by reason (`REASONS`), each post counted once, zeros left out.
    """
    mask, counts = first_faults(find_faults(posts, relations, **limits), len(posts))
    repeated = mask & ~first_of_each(posts.content_key, mask)
    counts["duplicate"] = int(repeated.sum())
    return mask & ~repeated, {reason: counts[reason] for reason in REASONS if counts[reason]}


def find_faults(  # noqa: PLR0913 (a rule each)
    posts: Posts,
    relations: Relations,
    *,
    ratings: Iterable[str],
    safe_ratings: Iterable[str],
    min_side: int = 1,
    max_aspect: float = float("inf"),
    extensions: Iterable[str] = STILL_EXTENSIONS,
    blacklist: Sequence[str] = (),
) -> dict[str, Any]:
    """What is wrong with each post by itself.

    Args:
        ratings: letters of the ratings asked for.
        safe_ratings: letters that mean safe for everybody on this site.
        min_side: shortest side allowed, in pixels.
        max_aspect: longest side allowed, as a multiple of the shorter one.
        extensions: endings of originals that are pictures to learn from.
        blacklist: what is not wanted, a combination an entry (`matches`).

    Returns:
        reason -> (posts,) mask, in the order of `REASONS`; duplicates depend on other posts.
    """
    short = np.minimum(posts.width, posts.height)
    long = np.maximum(posts.width, posts.height)
    return {
        "deleted": posts.is_deleted,
        "pending": posts.is_pending,
        "flagged": posts.is_flagged,
        "hidden": are_hidden(posts),
        "minor": shows_minors(posts, relations) & ~has_rating(posts, safe_ratings),
        "avoid_posting": has_tag_of(posts, relations, OFF_LIMITS_TAGS.__contains__),
        "rating": ~has_rating(posts, ratings),
        "blacklisted": is_blacklisted(posts, relations, blacklist),
        "extension": ~np.isin(posts.ext.astype(str), list(extensions)),
        "animated": has_tag_of(posts, relations, ANIMATED_TAGS.__contains__),
        "comic": has_tag_of(posts, relations, COMIC_TAGS.__contains__),
        "too_small": short < max(min_side, 1),
        "too_long": long > max_aspect * short,
        "bad_md5": ~has_hash(posts),
    }


def are_hidden(posts: Posts) -> NDArray[np.bool_]:
    """Which posts the site shows us no file of."""
    return np.zeros(len(posts), bool) if posts.is_hidden is None else posts.is_hidden


def has_hash(posts: Posts) -> NDArray[np.bool_]:
    """Which posts have an MD5, or without one another hash, to know their file by."""
    digits = posts.md5.astype("S32").view(np.uint8).reshape(-1, 32)
    has_md5: NDArray[np.bool_] = np.asarray(IS_HEX[digits].all(axis=1))
    if posts.other_hash is None:
        return has_md5
    has: NDArray[np.bool_] = np.where(posts.md5 == b"", posts.other_hash != b"", has_md5)
    return has


def first_faults(
    faults: Mapping[str, Any], num_posts: int
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Posts without a fault, and how many have each fault and none before it."""
    mask = np.ones(num_posts, bool)
    counts = {}
    for reason, faulty in faults.items():
        counts[reason] = int((mask & faulty).sum())
        mask &= ~faulty
    return mask, counts


def first_of_each(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are the first of their value among the rows of the mask."""
    rows = np.flatnonzero(mask)
    _, first = np.unique(values[rows], return_index=True)
    is_first = np.zeros(len(values), bool)
    is_first[rows[first]] = True
    return is_first


def has_rating(posts: Posts, ratings: Iterable[str]) -> NDArray[np.bool_]:
    """Which posts have one of the ratings."""
    return np.isin(posts.rating, np.array(sorted(ratings), "S1"))


def shows_minors(posts: Posts, relations: Relations) -> NDArray[np.bool_]:
    """Which posts have a tag that says that somebody in them is young."""
    return has_tag_of(posts, relations, says_minor)


def says_minor(name: str) -> bool:
    """Whether a tag says that somebody is young."""
    name = name.lower()
    return name in MINOR_TAGS or MINOR_PATTERN.match(name) is not None


def meanings(name: str, relations: Relations) -> set[str]:
    """The tag, the one it is an alias of, and everything that either implies."""
    if name not in relations.aliases and name not in relations.implications:
        return {name}
    return {name} | relations.implied(name) | relations.close([name])


def has_tag_of(
    posts: Posts, relations: Relations, is_meant: Callable[[str], bool]
) -> NDArray[np.bool_]:
    """Which posts have a tag that means one of the tags meant, by alias or implication too."""
    related = relations.related
    # Most names have no relations, and this is asked of a million names a dozen times.
    hits = [
        is_meant(name) or (name in related and any(map(is_meant, meanings(name, relations))))
        for name in posts.tag_names
    ]
    return posts.having(np.array(hits, bool))


def is_blacklisted(
    posts: Posts, relations: Relations, blacklist: Sequence[str]
) -> NDArray[np.bool_]:
    """Which posts any entry of a blacklist matches."""
    hidden = np.zeros(len(posts), bool)
    for entry in blacklist:
        hidden |= matches(posts, relations, entry)
    return hidden


def matches(posts: Posts, relations: Relations, entry: str) -> NDArray[np.bool_]:
    """Which posts match all terms of a blacklist's entry, as boorus read them.

    Terms stand between spaces: a tag, rating:q, rating:s,g for either; a minus means without.
    A tag is meant by its aliases and by what implies it too.  An empty entry matches nothing.
    """
    terms = entry.lower().split()
    found = np.full(len(posts), bool(terms))
    for term in terms:
        is_without = term.startswith("-")
        found &= matches_term(posts, relations, term.removeprefix("-")) != is_without
    return found


def matches_term(posts: Posts, relations: Relations, term: str) -> NDArray[np.bool_]:
    """Which posts have the tag, or one of the ratings."""
    if term.startswith("rating:"):
        return has_rating(posts, {word[:1] for word in term.removeprefix("rating:").split(",")})
    wanted = relations.resolve(term)
    return has_tag_of(posts, relations, lambda name: name.lower() in (term, wanted))
