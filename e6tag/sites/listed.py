"""Posts as an API lists them, as lines of a file, and as a `Collection`."""

import dataclasses
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas

from e6tag.posts import Posts
from e6tag.sites.base import TAG_COLUMNS, Collection
from e6tag.tags import Relations

UNKNOWN_RATING = "x"
"""of posts whose rating the site does not say, or in a word nobody knows: never a safe one"""
GENERAL = "general"
NO_DATE = np.iinfo(np.int64).min
"""NaT, as a whole number"""

NUMBERS = (
    "post_id",
    "width",
    "height",
    "size_bytes",
    "parent_id",
    "created_at",
    "is_deleted",
    "is_pending",
    "is_flagged",
)
TEXTS = ("md5", "other_hash", "ext", "rating", "location")

Place = tuple[str, int, int]
"""address of a file, its width and height in pixels; 0 where they are not known"""


@dataclass(frozen=True, kw_only=True)
class ListedPost:
    """What a site's API says of one post; every field may be missing but its id."""

    post_id: int
    tags: Mapping[str, str] = field(default_factory=dict)
    """name -> category, by the site's word for it"""
    rating: str = UNKNOWN_RATING
    """one letter"""
    ext: str = ""
    width: int = 0
    height: int = 0
    size_bytes: int = 0
    md5: str = ""
    other_hash: str = ""
    """algorithm:digits of the original, where there is no MD5"""
    parent_id: int = 0
    created_at: int | None = None
    """Unix time"""
    is_deleted: bool = False
    is_pending: bool = False
    is_flagged: bool = False
    files: Mapping[str, Place] = field(default_factory=dict)
    """by variant; without "original" the site does not show the post to us"""
    linked: Sequence[int] = ()
    """posts that belong together with it"""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """other names of its tags -> the name in use"""

    def to_line(self) -> str:
        """As JSON, without what is not there."""
        fields = dataclasses.fields(self)
        said = {f.name: getattr(self, f.name) for f in fields}
        kept = {name: value for name, value in said.items() if value}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "ListedPost":
        """Back from JSON.

        Raises:
            ValueError, TypeError: it is not a line that `to_line` makes.
        """
        return cls(**json.loads(line))

    @property
    def location(self) -> str:
        """What `candidates_at` needs, as JSON; empty for a post that is hidden from us."""
        if not self.files.get("original"):
            return ""
        where = {"files": dict(self.files), "hash": self.other_hash}
        return json.dumps(where, ensure_ascii=False, separators=(",", ":"))


@dataclass
class Columns:
    """The columns of `Posts`, while they grow, newest post first."""

    values: "dict[str, array[Any]]" = field(
        default_factory=lambda: {name: array("q") for name in NUMBERS}
    )
    texts: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in TEXTS})
    codes: dict[str, int] = field(default_factory=dict)
    """tag name -> code, in order of appearance"""
    num_tags: "array[int]" = field(default_factory=lambda: array("q"))
    indices: "array[int]" = field(default_factory=lambda: array("i"))

    def add(self, post: ListedPost) -> None:
        """One more post."""
        for name in NUMBERS:
            number = getattr(post, name)
            self.values[name].append(NO_DATE if number is None else number)
        for name in TEXTS:
            self.texts[name].append(getattr(post, name))
        self.indices.extend(self.codes.setdefault(name, len(self.codes)) for name in post.tags)
        self.num_tags.append(len(post.tags))

    def posts(self) -> Posts:
        """All of them, in ascending id order."""
        numbers = {name: np.array(column, np.int64) for name, column in self.values.items()}
        location = self.texts["location"]
        posts = Posts(
            post_id=numbers["post_id"],
            md5=np.array(self.texts["md5"], "S32"),
            ext=np.array(self.texts["ext"], object),
            rating=np.array(self.texts["rating"], "S1"),
            width=numbers["width"].astype(np.int32),
            height=numbers["height"].astype(np.int32),
            size_bytes=numbers["size_bytes"],
            parent_id=numbers["parent_id"],
            created_at=numbers["created_at"].view("datetime64[s]"),
            is_deleted=numbers["is_deleted"].astype(bool),
            is_pending=numbers["is_pending"].astype(bool),
            is_flagged=numbers["is_flagged"].astype(bool),
            tag_offsets=np.concatenate([[0], np.cumsum(self.num_tags)]).astype(np.int64),
            tag_indices=np.array(self.indices, np.int32),
            tag_names=list(self.codes),
            location=location,
            other_hash=np.array(self.texts["other_hash"], "S"),
            is_hidden=np.array([not place for place in location], bool),
        )
        return posts.take(np.argsort(posts.post_id, kind="stable"))


def make_collection(
    listed: Iterable[ListedPost], categories: Mapping[int, str], checksums: Mapping[str, str]
) -> Collection:
    """Posts as columns, the table of their tags, and what ties them together.

    Args:
        listed: posts, newest first.
        categories: the site's, by number; a word that is not among them counts as general.
        checksums: of the listing.
    """
    columns, uses = Columns(), Counter[str]()
    category: dict[str, str] = {}
    aliases: dict[str, str] = {}
    pools = []
    for post in listed:
        columns.add(post)
        uses.update(post.tags.keys())
        for name, word in post.tags.items():
            category.setdefault(name, word)
        aliases.update(post.aliases)
        if post.linked:
            pools.append(np.array([post.post_id, *post.linked], np.int64))
    tags = tag_table(uses, category, categories)
    # A name in use is no other name, whatever an older post says.
    relations = Relations({old: new for old, new in aliases.items() if old not in uses})
    return Collection(columns.posts(), tags, relations, pools, checksums)


def tag_table(
    uses: Mapping[str, int], category: Mapping[str, str], categories: Mapping[int, str]
) -> pandas.DataFrame:
    """Every tag with its category and the listed posts that have it, numbered by name."""
    numbers = {word: number for number, word in categories.items()}
    rows = [
        (place, name, numbers.get(category[name], numbers[GENERAL]), uses[name])
        for place, name in enumerate(sorted(uses), 1)
    ]
    return pandas.DataFrame(rows, columns=TAG_COLUMNS)
