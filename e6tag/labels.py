"""From the tags of posts to labels: aliases, implications, and the choice of a vocabulary."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.posts import Posts, take_csr
from e6tag.tags import Relations, Tag, Vocabulary, named

log = logging.getLogger(__name__)

Csr = tuple[NDArray[np.int64], NDArray[np.int32]]
"""offsets (rows + 1,) and indices: row i has indices[offsets[i]:offsets[i + 1]]"""

CHUNK_POSTS = 50_000
"""posts that are worked on at once; more are not faster, and need more memory"""


def build_vocabulary(
    posts: Posts,
    tags: pandas.DataFrame,
    relations: Relations,
    *,
    num_tags: int,
    min_count: int = 1,
    categories: Collection[int] = (0,),
    is_barred: Callable[[str], bool] = lambda name: False,
) -> Vocabulary:
    """The tags that most of the posts have, after aliases and implications.

    Args:
        posts: those that may be learnt from.
        tags: tag_id, name, category, count of the site; other names cannot be chosen.
        num_tags: at most this many, the most frequent first, ties by name.
        min_count: fewest posts of a tag.
        categories: numbers of the categories allowed.
        is_barred: tags that must not be in the vocabulary.

    Returns:
        tags with the site's own counts, or those among `posts` where the site gives none.

    Raises:
        DataError: no tag qualifies.
    """
    facts = facts_of(tags[tags["category"].isin(list(categories))])
    names, counts = count_closed(posts, relations)
    ranked = sorted(
        (-count, name)
        for name, count in zip(names, counts.tolist(), strict=True)
        if count >= max(min_count, 1) and name in facts and not is_barred(name)
    )
    if not ranked:
        raise DataError(
            f"no tag of the wanted categories has {max(min_count, 1)} posts or more among the "
            f"{len(posts)} that qualify. Ask for other categories or ratings, or a lower count."
        )
    return Vocabulary([make_tag(facts[name], -count) for count, name in ranked[:num_tags]])


def listed_vocabulary(
    listed: Sequence[str],
    posts: Posts,
    tags: pandas.DataFrame,
    relations: Relations,
    *,
    min_count: int = 1,
    is_barred: Callable[[str], bool] = lambda name: False,
) -> Vocabulary:
    """The tags of a list, in its order, after aliases; of whatever category.

    Names are compared exactly.  Those that cannot be taken are said in one line of the log.

    Args:
        listed: names, perhaps of aliases.
        posts: those that may be learnt from.
        tags: tag_id, name, category, count of the site.
        relations: of the site.
        min_count: fewest posts of a tag; 0 keeps tags that no post has.
        is_barred: tags that must not be in the vocabulary.

    Raises:
        DataError: no name can be taken.
    """
    counts = dict(zip(*count_closed(posts, relations), strict=True))
    taken, left_out = sort_out(listed, facts_of(tags), counts, relations, min_count, is_barred)
    if left_out:
        log.warning(
            "--tag-list: %d of %d names taken; %s.", len(taken), len(listed), named(left_out)
        )
    if not taken:
        raise DataError(
            f"none of the {len(listed)} tags of the list can be learnt. Names must be exactly as "
            "the site has them, one a line."
        )
    return Vocabulary(taken)


def sort_out(
    listed: Sequence[str],
    facts: Mapping[str, Any],
    counts: Mapping[str, int],
    relations: Relations,
    min_count: int,
    is_barred: Callable[[str], bool],
) -> tuple[list[Tag], dict[str, list[str]]]:
    """The tags of a list that can be taken, and cause -> names of those that cannot."""
    taken: dict[str, Tag] = {}
    left_out = defaultdict[str, list[str]](list)
    for written in listed:
        name = relations.resolve(written)
        count = int(counts.get(name, 0))
        if name not in facts:
            left_out["unknown"].append(written)
        elif name in taken:
            left_out["named_before"].append(written)
        elif is_barred(name):
            left_out["not_allowed"].append(written)
        elif count < min_count:
            left_out[f"on_fewer_than_{min_count}_posts"].append(written)
        else:
            taken[name] = make_tag(facts[name], count)
    return list(taken.values()), left_out


def excluded_names(
    names: Sequence[str], tags: pandas.DataFrame, relations: Relations
) -> frozenset[str]:
    """What --exclude-tags leaves out: the names and what they are aliases of."""
    found = frozenset(names) | {relations.resolve(name) for name in names}
    if unknown := sorted(set(names) - set(tags["name"]) - relations.aliases.keys()):
        log.warning("--exclude-tags: %s.", named({"unknown": unknown}))
    return found


def facts_of(tags: pandas.DataFrame) -> dict[str, tuple[Any, ...]]:
    """Rows of the site's table of tags by name, the first of each."""
    known = tags.drop_duplicates("name")
    return {row[1]: row for row in zip(*(known[c] for c in known.columns), strict=True)}


def make_tag(facts: Sequence[object], count: int) -> Tag:
    """A tag from a row of the site's table; `count` stands in where the site has none."""
    tag_id, name, category, site_count = facts
    return Tag(int(str(tag_id)), str(name), int(str(category)), int(str(site_count)) or count)


def count_closed(posts: Posts, relations: Relations) -> tuple[list[str], NDArray[np.int64]]:
    """Every tag's name after aliases and implications, and how many of the posts have it."""
    codes: dict[str, int] = {}
    closed = [sorted(closure(name, relations)) for name in posts.tag_names]
    columns = [[codes.setdefault(name, len(codes)) for name in names] for names in closed]
    counts = np.zeros(len(codes), np.int64)
    for _, indices in map_chunks(posts, to_csr(columns), len(codes)):
        counts += np.bincount(indices, minlength=len(codes))
    return list(codes), counts


def labels_of(posts: Posts, vocabulary: Vocabulary, relations: Relations) -> Csr:
    """Columns of the vocabulary that each post has, ascending, closed under the relations."""
    columns = [vocabulary.columns(closure(name, relations)) for name in posts.tag_names]
    chunks = list(map_chunks(posts, to_csr(columns), len(vocabulary)))
    lengths = np.concatenate([np.diff(offsets) for offsets, _ in chunks] or [np.zeros(0, int)])
    indices = np.concatenate([indices for _, indices in chunks] or [np.zeros(0, np.int32)])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), indices


def closure(name: str, relations: Relations) -> set[str]:
    """What one tag stands for; quick for the many tags that no relation names."""
    if name not in relations.aliases and name not in relations.implications:
        return {name}
    return relations.close([name])


def names_of(posts: Posts, relations: Relations, wanted: Collection[str]) -> list[str]:
    """The wanted tags of each post after aliases, sorted, as one space-separated text a post."""
    canonical = [relations.resolve(name) for name in posts.tag_names]
    is_wanted = np.array([name in wanted for name in canonical], bool)[posts.tag_indices]
    found: list[set[str]] = [set() for _ in range(len(posts))]
    rows = np.repeat(np.arange(len(posts)), np.diff(posts.tag_offsets))[is_wanted]
    for row, index in zip(rows.tolist(), posts.tag_indices[is_wanted].tolist(), strict=True):
        found[row].add(canonical[index])
    return [" ".join(sorted(names)) for names in found]


def to_csr(rows: Sequence[Sequence[int]]) -> Csr:
    """Lists of columns as a CSR pair."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return offsets, np.fromiter((c for row in rows for c in row), np.int32, int(offsets[-1]))


def map_chunks(posts: Posts, columns_of: Csr, num_columns: int) -> Iterator[Csr]:
    """Columns that each post's tags stand for, ascending and once each, in chunks of posts.

    Args:
        columns_of: row t holds the columns that the tag with index t stands for.
    """
    for start in range(0, len(posts), CHUNK_POSTS):
        offsets = posts.tag_offsets[start : start + CHUNK_POSTS + 1]
        indices = posts.tag_indices[offsets[0] : offsets[-1]].astype(np.int64)
        places, columns = take_csr(*columns_of, indices)
        lengths = np.diff(places[offsets - offsets[0]])
        keys = np.repeat(np.arange(len(lengths)), lengths) * num_columns + columns
        # Sorting is several times faster here than numpy.unique, which hashes.
        keys.sort()
        is_first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        rows, distinct = np.divmod(keys[is_first], max(num_columns, 1))
        counts = np.bincount(rows, minlength=len(lengths))
        yield np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), distinct.astype(np.int32)
