"""Danbooru and sites that run its software.

Source: danbooru, app/models/post.rb, app/policies/post_policy.rb, app/logical/media_asset.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from e6tag.sites.cursor import CursorSite
from e6tag.sites.fields import (
    digest,
    flag,
    in_category,
    rows,
    seconds,
    side,
    table,
    text,
    whole,
)
from e6tag.sites.listed import UNKNOWN_RATING, ListedPost

CATEGORIES = {0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "meta"}
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
BLACKLIST = ("guro", "scat", "furry -rating:g")
"""what new accounts have: DEFAULT_BLACKLIST in app/models/user.rb"""


class Danbooru(CursorSite):
    """Ids as cursors; what we may not see lacks its md5 and its addresses."""

    name: ClassVar[str] = "danbooru"
    title: ClassVar[str] = "Danbooru"
    default_url: ClassVar[str | None] = "https://danbooru.donmai.us"
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(CATEGORIES)
    ratings: ClassVar[Mapping[str, str]] = MappingProxyType(RATINGS)
    safe_ratings: ClassVar[frozenset[str]] = frozenset("g")
    blacklist: ClassVar[Sequence[str]] = BLACKLIST
    page_size: ClassVar[int] = 200
    account_note: ClassVar[str] = "your name there and an API key; visitors may search for 2 tags"

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """Tags stand in one text for each category."""
        rating = text(row.get("rating"))
        return ListedPost(
            post_id=whole(row["id"]),
            tags=tags_of(row),
            rating=rating if rating in RATINGS else UNKNOWN_RATING,
            ext=text(row.get("file_ext")).lower(),
            width=side(row.get("image_width")),
            height=side(row.get("image_height")),
            size_bytes=whole(row.get("file_size")),
            md5=digest("md5", row.get("md5")),
            parent_id=whole(row.get("parent_id")),
            created_at=seconds(row.get("created_at")),
            is_deleted=flag(row.get("is_deleted")),
            is_pending=flag(row.get("is_pending")),
            is_flagged=flag(row.get("is_flagged")),
            files=self.files(
                original=(row.get("file_url"), row.get("image_width"), row.get("image_height")),
                sample=variant(row, "sample") or (row.get("large_file_url"), 0, 0),
                preview=variant(row, "360x360") or (row.get("preview_file_url"), 0, 0),
            ),
        )


def tags_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Names and categories; a tag that is in no category's text is general."""
    tags = in_category(row.get("tag_string"), "general")
    for category in CATEGORIES.values():
        tags |= in_category(row.get(f"tag_string_{category}"), category)
    return tags


def variant(row: Mapping[str, Any], kind: str) -> tuple[Any, Any, Any] | None:
    """Address, width and height of a variant of the post's media asset, if it is named."""
    for entry in rows(table(row.get("media_asset")).get("variants")):
        found = table(entry)
        if found.get("type") == kind:
            return found.get("url"), found.get("width"), found.get("height")
    return None
