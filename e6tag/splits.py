"""Groups of posts that belong together, and the split each group is in, for ever."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e6tag.posts import Posts

SPLITS = ("train", "val", "test")
VAL_FROM, TEST_FROM = 0.8, 0.9
"""train, val and test are the hashes in [0, 0.8), [0.8, 0.9) and [0.9, 1)"""


def groups(posts: Posts, pools: Sequence[NDArray[np.int64]] = ()) -> NDArray[np.int64]:
    """The group of each post: the smallest post id that is linked with it.

    Linked are parent and child, posts of one pool, and posts of equal MD5.  Ids that only appear
    as a parent or in a pool count too, so a group keeps its id when its first post turns up.
    """
    ids = posts.post_id
    has_parent = posts.parent_id > 0
    order = np.argsort(posts.md5, kind="stable")
    same = posts.md5[order][1:] == posts.md5[order][:-1]
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


def split_of(group: NDArray[np.int64]) -> NDArray[np.str_]:
    """train, val or test for each group id: by a hash of the id and nothing else."""
    share = hash64(group) / 2.0**64
    splits: NDArray[np.str_] = np.array(SPLITS)[np.digitize(share, (VAL_FROM, TEST_FROM))]
    return splits


def hash64(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """SplitMix64's first output for each seed (Steele, Lea, Flood: OOPSLA 2014)."""
    mixed = np.asarray(values, np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
