"""Philomena: derpibooru, furbooru and others.

Source: philomena, API.md, lib/philomena_web/views/api/json/image_view.ex and views/image_view.ex.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from e6tag.credentials import Account, Credentials
from e6tag.sites.api import ApiSite, listed, read_json
from e6tag.sites.fields import digest, flag, seconds, side, table, tag_names, text, whole
from e6tag.sites.listed import UNKNOWN_RATING, ListedPost

CATEGORIES = {0: "general", 1: "artist", 4: "character", 7: "meta"}
"""The site's categories are more and come apart from its posts; these show in the names."""
NAMESPACES = {
    "artist": "artist",
    "editor": "artist",
    "colorist": "artist",
    "photographer": "artist",
    "prompter": "artist",
    "oc": "character",
}
RATINGS = {"s": "safe", "u": "suggestive", "q": "questionable", "e": "explicit"}
RATING_TAGS = {word: letter for letter, word in RATINGS.items()} | {
    "semi-grimdark": "q",
    "grimdark": "e",
    "grotesque": "e",
}
EXTENSIONS = {"jpeg": "jpg"}


class Philomena(ApiSite):
    """Ratings are tags, tags have spaces, files are known by SHA-512."""

    name: ClassVar[str] = "philomena"
    title: ClassVar[str] = "Philomena"
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(CATEGORIES)
    ratings: ClassVar[Mapping[str, str]] = MappingProxyType(RATINGS)
    page_size: ClassVar[int] = 50
    refused_terms: ClassVar[Sequence[str]] = ()
    account_note: ClassVar[str] = "E6TAG_API_KEY alone: the key of your account's settings"

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """`id.lt:N` besides the search, sorted by id."""
        older = [] if before is None else [f"id.lt:{before}"]
        words = ", ".join([*([f"({query})"] if query else []), *older]) or "*"
        return self.url(
            "/api/v1/json/search/images", q=words, sf="id", sd="desc", per_page=limit, page=1
        )

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """{"images": [...], "total": n}"""
        answer = read_json(content)
        total = table(answer).get("total")
        return listed(answer, "images"), None if total is None else whole(total)

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """Hidden and merged images keep little but their ids."""
        is_hidden = flag(row.get("hidden_from_users")) or bool(row.get("duplicate_of"))
        urls, size = table(row.get("representations")), (row.get("width"), row.get("height"))
        names = tag_names(row.get("tags"))
        sha512, ext = digest("sha512", row.get("sha512_hash")), text(row.get("format")).lower()
        return ListedPost(
            post_id=whole(row["id"]),
            tags={name: category_of(name) for name in names},
            rating=rating_of(names),
            ext=EXTENSIONS.get(ext, ext),
            width=side(size[0]),
            height=side(size[1]),
            size_bytes=whole(row.get("size")),
            other_hash=f"sha512:{sha512}" if sha512 else "",
            created_at=seconds(row.get("created_at")),
            is_deleted=bool(row.get("deletion_reason")),
            is_pending=row.get("processed") is False or row.get("thumbnails_generated") is False,
            files={}
            if is_hidden
            else self.files(
                original=(urls.get("full") or row.get("view_url"), *size),
                sample=(urls.get("large"), 0, 0),
                preview=(urls.get("small"), 0, 0),
            ),
        )

    def credentials(self, account: Account) -> Credentials:
        """One parameter of the address."""
        return Credentials(self.base_url, account.api_key, params={"key": account.api_key})


def category_of(name: str) -> str:
    """By what stands before the colon; a rating says something of the post, not of the picture."""
    if name in RATING_TAGS:
        return "meta"
    namespace, colon, _ = name.partition(":")
    return NAMESPACES.get(namespace, "general") if colon else "general"


def rating_of(names: Iterable[str]) -> str:
    """The least safe of the ratings among the tags."""
    found = {RATING_TAGS[name] for name in names if name in RATING_TAGS}
    return next((letter for letter in reversed(RATINGS) if letter in found), UNKNOWN_RATING)
