"""One picture in the place of many: what a site shows for posts whose picture it has not.

placeholders.json   SHA-256 of such pictures, as they are stored; once there, always refused

An original has the hash that the site says, so it is never one.  Of other files nothing is known
before they come, but that different posts do not have the same one: which pictures are
placeholders is decided when all posts have been asked for, so the order in which they came does
not matter.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e6tag import files
from e6tag.errors import DataError
from e6tag.obtaining import Failed
from e6tag.shard_work import ShardWork

MOST_POSTS = 3
"""Posts that may show the same picture: uploads of one picture with other metadata do."""
FORMAT = 1
REMEDY = "Remove it and run the same command again: it is made anew."


def read_placeholders(out: Path) -> frozenset[str]:
    """The pictures that a data folder refuses.

    Raises:
        DataError: the list is damaged, or of another version.
    """
    path = out / "placeholders.json"
    if not path.exists():
        return frozenset()
    content = files.read_json(path, DataError, REMEDY)
    hashes = content.get("sha256")
    if content.get("format") != FORMAT or not isinstance(hashes, list):
        raise DataError(f"{path} is damaged, or from another version of e6tag. {REMEDY}")
    return frozenset(map(str, hashes))


def write_placeholders(out: Path, hashes: Collection[str]) -> None:
    """Write the list, finished or absent."""
    files.write_json(out / "placeholders.json", {"format": FORMAT, "sha256": sorted(hashes)})


def find_repeated(works: Sequence[ShardWork]) -> frozenset[str]:
    """Pictures that more than `MOST_POSTS` posts show."""
    unknown = [work.stored["sha256"][may_be_any(work.stored)] for work in works]
    hashes, number = np.unique(np.concatenate([np.zeros(0, "S64"), *unknown]), return_counts=True)
    return frozenset(found.decode() for found in hashes[number > MOST_POSTS].tolist())


def may_be_any(stored: NDArray[np.void]) -> NDArray[np.bool_]:
    """(pictures,): whether nothing was known of a file before it came."""
    is_other: NDArray[np.bool_] = stored["variant"] != b"original"
    return is_other


def refused(work: ShardWork, hashes: Iterable[str]) -> list[Failed]:
    """The stored pictures of a shard that are placeholders, as failures of their posts."""
    names = np.array([name.encode() for name in hashes], "S64")
    bad = work.stored[may_be_any(work.stored) & np.isin(work.stored["sha256"], names)]
    return [
        Failed(
            int(picture["post_id"]),
            "placeholder",
            f"post {picture['post_id']}: its {picture['variant'].decode()} is one that the site "
            "shows for many posts.",
            True,
        )
        for picture in bad
    ]
