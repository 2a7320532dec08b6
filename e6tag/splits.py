"""Groups of posts that belong together, and the split each group is in.

    hash       a hash of the group's id decides: the same for ever, whatever else there is
    time       the newest groups are held out: what a model will meet after it was made
    artist     a hash of the artist's name decides: nobody is met in training and in a test
    stratified rare tags in the right shares (`e6tag.stratify`)

hash never moves a post that was there; artist only where an artist is added; the other two depend
on the whole collection, so the same post may be in another split of a later one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.posts import Posts

SplitKind = Literal["hash", "time", "artist", "stratified"]

SPLITS = ("train", "val", "test")
VAL_FROM, TEST_FROM = 0.8, 0.9
"""train, val and test are the hashes in [0, 0.8), [0.8, 0.9) and [0.9, 1)"""
SHARES = (0.8, 0.1, 0.1)

NO_SPLIT = ""
"""of a post that cannot be in any"""

NOT_ARTISTS = frozenset(
    {
        # nobody knows who, or may not say: they have nothing in common
        "unknown_artist",
        "unknown_artist_signature",
        "unknown_colorist",
        "anonymous_artist",
        "artist_request",
        # what was done to a picture, by whomever
        "third-party_edit",
        "sound_edit",
        # notes that some sites keep among the artists
        "avoid_posting",
        "conditional_dnp",
        "banned_artist",
        "sound_warning",
        "epilepsy_warning",
        "jumpscare_warning",
    }
)
"""Tags among the artists that are not one: they would tie half a site together."""


def groups(posts: Posts, pools: Sequence[NDArray[np.int64]] = ()) -> NDArray[np.int64]:
    """The group of each post: the smallest post id that is linked with it.

    Linked are parent and child, posts of one pool, and posts of equal bytes.  Ids that only appear
    as a parent or in a pool count too, so a group keeps its id when its first post turns up.
    """
    ids = posts.post_id
    has_parent = posts.parent_id > 0
    key = posts.content_key
    order = np.argsort(key, kind="stable")
    key = key[order]
    same = (key[1:] == key[:-1]) & (key[1:] != b"")
    links = [
        (ids[has_parent], posts.parent_id[has_parent]),
        (ids[order[1:][same]], ids[order[:-1][same]]),
        *((pool[1:], pool[:-1]) for pool in pools),
    ]
    left, right = (np.concatenate(ends) for ends in zip(*links, strict=True))
    nodes = distinct(np.concatenate([ids, left, right]))
    component = components(len(nodes), np.searchsorted(nodes, left), np.searchsorted(nodes, right))
    smallest: NDArray[np.int64] = nodes[component[np.searchsorted(nodes, ids)]]
    return smallest


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values, ascending and once each; sorting beats numpy.unique's hashing here."""
    ordered = np.sort(values)
    first: NDArray[np.bool_] = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    return np.compress(first, ordered)


def components(
    num_nodes: int, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The smallest node of each node's connected component; edge i joins left[i] and right[i].

    Every round hangs the larger root of each edge under the smaller one, then flattens the trees.
    """
    root = np.arange(num_nodes)
    while True:
        a, b = root[left], root[right]
        open_edges = a != b
        if not open_edges.any():
            return root
        left, right, a, b = (ends[open_edges] for ends in (left, right, a, b))
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(root, root[root]):
            root = root[root]


def number_groups(group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct group ids, ascending, and for each post the position of its group there."""
    ids = distinct(group)
    return ids, np.searchsorted(ids, group)


def split_of(group: NDArray[np.int64]) -> NDArray[np.str_]:
    """train, val or test for each group id: by a hash of the id and nothing else."""
    return named(numbers_of(hash64(group) / 2.0**64))


def numbers_of(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """0, 1 or 2 for train, val and test: where numbers from 0 to 1 lie."""
    return np.digitize(share, (VAL_FROM, TEST_FROM))


def named(numbers: NDArray[np.int64]) -> NDArray[np.str_]:
    """Names of splits by number; `NO_SPLIT` for the one after the last."""
    names: NDArray[np.str_] = np.array([*SPLITS, NO_SPLIT])[numbers]
    return names


def hash64(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """SplitMix64's first output for each seed (Steele, Lea, Flood: OOPSLA 2014)."""
    mixed = np.asarray(values, np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def split_by_time(group: NDArray[np.int64], created_at: NDArray[Any]) -> NDArray[np.str_]:
    """The newest tenth of the groups is test, the tenth before val; the rest is train.

    A group is as new as its newest post; one without any date is older than all others.

    Args:
        group: (posts,) group ids.
        created_at: (posts,) datetime64; NaT where unknown.
    """
    ids, place = number_groups(group)
    # As whole numbers NaT is the smallest.
    newest = np.full(len(ids), np.iinfo(np.int64).min)
    np.maximum.at(newest, place, created_at.astype("datetime64[s]").astype(np.int64))
    rank = np.empty(len(ids))
    rank[np.lexsort((ids, newest))] = np.arange(len(ids))
    return named(numbers_of(rank / max(len(ids), 1))[place])


def split_by_artist(
    group: NDArray[np.int64], rows: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.str_]:
    """The split of each group's artists; `NO_SPLIT` for groups whose artists are in several.

    To join the groups of artists who once drew something together would tie most of a site into
    one; so those few pictures are left out instead, and every artist stays where their name is.
    Groups of no known artist go by their id.

    Args:
        group: (posts,) group ids.
        rows: rows of posts, one entry for each artist of each post.
        numbers: the split that each entry's artist is in (`split_number_of_name`).
    """
    ids, place = number_groups(group)
    by_id = numbers_of(hash64(ids) / 2.0**64)
    lowest, highest = np.full(len(ids), len(SPLITS)), np.full(len(ids), -1)
    np.minimum.at(lowest, place[rows], numbers)
    np.maximum.at(highest, place[rows], numbers)
    by_name = np.where(lowest == highest, lowest, len(SPLITS))
    return named(np.where(highest < 0, by_id, by_name)[place])


def split_number_of_name(name: str) -> int:
    """0, 1 or 2 for train, val and test: by a hash of a name and nothing else (BLAKE2b)."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int(numbers_of(np.array([int.from_bytes(digest, "big") / 2.0**64]))[0])
