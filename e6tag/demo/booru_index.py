"""What the local booru knows, in memory: the exports in its folder, read once."""

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from e6tag.demo.variants import Size
from e6tag.errors import DataError

APPROVED = ("active", "processing", "queued")
"""states in which an alias counts"""
LOGIN_TAGS = frozenset({"young", "cub", "loli", "shota", "toddlercon"})
"""with these and any rating but safe, a post's files are not for anonymous visitors"""
SITE_TIME = timezone(timedelta(hours=-5))
"""the site answers anonymous visitors in US Eastern time; here without summer time"""
LONGEST_FIELD = 1 << 24


@dataclass(frozen=True, slots=True)
class SitePost:
    """A post as the export has it."""

    post_id: int
    md5: str
    ext: str
    size: Size
    size_bytes: int
    rating: str
    tags: frozenset[str]
    source: str
    description: str
    parent_id: int | None
    change_seq: int
    uploader_id: int
    created_at: str
    """ISO 8601 with milliseconds, in the site's time zone"""
    updated_at: str
    is_deleted: bool
    is_pending: bool
    is_flagged: bool
    needs_login: bool

    @property
    def visible(self) -> bool:
        """Whether an anonymous visitor may have its files."""
        return not (self.is_deleted or self.needs_login)


@dataclass(frozen=True, slots=True)
class SiteTag:
    """A tag as the export has it."""

    tag_id: int
    name: str
    category: int
    post_count: int
    created_at: str
    updated_at: str
    is_locked: bool


class Index:
    """Everything that questions are answered from.

    Raises:
        DataError: the folder has no exports.
    """

    def __init__(self, folder: Path) -> None:
        self.exports = folder / "db_export"
        self.aliases = {
            row["antecedent_name"]: row["consequent_name"]
            for row in self.rows("tag_aliases")
            if row["status"] in APPROVED
        }
        self.tags = [site_tag(row) for row in self.rows("tags")]
        self.categories = {tag.name: tag.category for tag in self.tags}
        self.posts = {post.post_id: post for post in map(self.site_post, self.rows("posts"))}
        self.by_md5 = {post.md5: post for post in self.posts.values()}
        self.tagged: dict[str, set[int]] = defaultdict(set)
        self.children: dict[int, list[int]] = defaultdict(list)
        for post in self.posts.values():
            for tag in post.tags:
                self.tagged[tag].add(post.post_id)
            if post.parent_id is not None:
                self.children[post.parent_id].append(post.post_id)
        self.pools: dict[int, list[int]] = defaultdict(list)
        for row in self.rows("pools"):
            for post_id in re.findall(r"\d+", row["post_ids"]):
                self.pools[int(post_id)].append(int(row["id"]))

    def rows(self, name: str) -> Iterator[dict[str, str]]:
        """Rows of one export, by column name."""
        path = self.exports / f"{name}.csv.gz"
        if not path.exists():
            raise DataError(f"{path} is missing: build the local booru first.")
        csv.field_size_limit(LONGEST_FIELD)
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)

    def resolved(self, tag: str) -> str:
        """What a tag is an alias of, or itself."""
        return self.aliases.get(tag, tag)

    def site_post(self, row: dict[str, str]) -> SitePost:
        """A post of one row of posts.csv."""
        tags = frozenset(row["tag_string"].split())
        locked = tags | {self.resolved(tag) for tag in tags}
        return SitePost(
            post_id=int(row["id"]),
            md5=row["md5"],
            ext=row["file_ext"],
            size=Size(int(row["image_width"]), int(row["image_height"])),
            size_bytes=int(row["file_size"]),
            rating=row["rating"],
            tags=tags,
            source=row["source"],
            description=row["description"],
            parent_id=int(row["parent_id"]) if row["parent_id"] else None,
            change_seq=int(row["change_seq"]),
            uploader_id=int(row["uploader_id"]),
            created_at=api_time(row["created_at"]),
            updated_at=api_time(row["updated_at"]),
            is_deleted=row["is_deleted"] == "t",
            is_pending=row["is_pending"] == "t",
            is_flagged=row["is_flagged"] == "t",
            needs_login=row["rating"] != "s" and bool(locked & LOGIN_TAGS),
        )


def site_tag(row: dict[str, str]) -> SiteTag:
    """A tag of one row of tags.csv."""
    return SiteTag(
        tag_id=int(row["id"]),
        name=row["name"],
        category=int(row["category"]),
        post_count=int(row["post_count"]),
        created_at=api_time(row["created_at"]),
        updated_at=api_time(row["updated_at"]),
        is_locked=row["is_locked"] == "t",
    )


def api_time(text: str) -> str:
    """An export's time (UTC, without a zone) as the API writes it; empty where there is none."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return moment.astimezone(SITE_TIME).isoformat(timespec="milliseconds")
