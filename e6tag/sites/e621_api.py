"""e621 through its search, for those who want a few thousand posts and not the exports.

Source: e621ng, app/blueprints/post_legacy_blueprint.rb (v1) and post_blueprint.rb (v2).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from e6tag.sites.cursor import CursorSite
from e6tag.sites.e621 import BASE_URL, BLACKLIST, CATEGORIES, E621, RATINGS
from e6tag.sites.fields import digest, flag, in_category, seconds, side, table, text, whole
from e6tag.sites.listed import UNKNOWN_RATING, ListedPost


class E621Api(CursorSite):
    """Both shapes of its JSON; posts that we may not see have null for addresses."""

    name: ClassVar[str] = "e621"
    title: ClassVar[str] = "e621"
    default_url: ClassVar[str | None] = BASE_URL
    categories: ClassVar[Mapping[int, str]] = CATEGORIES
    ratings: ClassVar[Mapping[str, str]] = RATINGS
    blacklist: ClassVar[Sequence[str]] = BLACKLIST
    page_size: ClassVar[int] = 320
    account_note: ClassVar[str] = "your name there and an API key"

    @property
    def max_requests_per_second(self) -> float:
        """The same as for exports and pictures."""
        return E621.max_requests_per_second

    @property
    def rate_note(self) -> str:
        """The same as for exports and pictures."""
        return E621.rate_note

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """Flags, file and tags are objects inside; v2 has `files` where v1 has `file`."""
        flags = table(row.get("flags"))
        meta, original, sample, preview = parts_of(row)
        rating = text(row.get("rating"))
        return ListedPost(
            post_id=whole(row["id"]),
            tags=tags_of(row.get("tags")),
            rating=rating if rating in RATINGS else UNKNOWN_RATING,
            ext=text(meta.get("ext")).lower(),
            width=side(original.get("width")),
            height=side(original.get("height")),
            size_bytes=whole(meta.get("size")),
            md5=digest("md5", meta.get("md5")),
            parent_id=whole(table(row.get("relationships")).get("parent_id")),
            created_at=seconds(row.get("created_at")),
            is_deleted=flag(flags.get("deleted")),
            is_pending=flag(flags.get("pending")),
            is_flagged=flag(flags.get("flagged")),
            files=self.files(
                original=place(original), sample=place(sample), preview=place(preview)
            ),
        )


def parts_of(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Facts of the file, then the original, the sample and the preview."""
    if "files" in row:
        files = table(row["files"])
        return [table(files.get(name)) for name in ("meta", "original", "sample", "preview")]
    file, sample, preview = (table(row.get(name)) for name in ("file", "sample", "preview"))
    return [file, file, sample if sample.get("has") else {}, preview]


def place(part: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Address, width and height of a file."""
    return part.get("url") or part.get("jpg"), part.get("width"), part.get("height")


def tags_of(value: Any) -> dict[str, str]:
    """Names and categories; v2's basic mode names none."""
    if not isinstance(value, dict):
        return in_category(value, "general")
    found: dict[str, str] = {}
    for category in CATEGORIES.values():
        found |= in_category(value.get(category), category)
    return found
