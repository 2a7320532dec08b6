"""Moebooru: yande.re, konachan and others.

Source: moebooru, app/models/post/api_methods.rb, app/controllers/post_controller.rb.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from e6tag.credentials import Account, Credentials
from e6tag.sites.api import ApiSite, listed, read_json
from e6tag.sites.fields import digest, ending, flag, seconds, side, table, tag_names, text, whole
from e6tag.sites.listed import GENERAL, UNKNOWN_RATING, ListedPost

CATEGORIES = {
    0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "circle", 6: "faults", 7: "style",
}  # fmt: skip
RATINGS = {"s": "safe", "q": "questionable", "e": "explicit"}


class Moebooru(ApiSite):
    """The second version of the API, for it tells the categories of a page's tags."""

    name: ClassVar[str] = "moebooru"
    title: ClassVar[str] = "Moebooru"
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(CATEGORIES)
    ratings: ClassVar[Mapping[str, str]] = MappingProxyType(RATINGS)
    refused_terms: ClassVar[Sequence[str]] = ("order:", "id:")
    account_note: ClassVar[str] = (
        "your name there and the site's hash of your password (password_hash in its API's help)"
    )

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """`id:<N` among the words of the search."""
        words = query if before is None else f"{query} id:<{before}".strip()
        return self.url(
            "/post.json", tags=words, limit=limit, api_version=2, include_tags=1, filter=1
        )

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """{"posts": [...], "tags": {name: category}}; a bare list from old versions."""
        answer = read_json(content)
        categories = table(table(answer).get("tags"))
        entries = listed(answer, "posts")
        return [add_categories(entry, categories) for entry in entries], None

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """Deleted posts have no addresses."""
        status, rating = text(row.get("status")), text(row.get("rating"))
        size = (row.get("width"), row.get("height"))
        files = self.files(
            original=(row.get("file_url"), *size),
            sample=(row.get("sample_url"), row.get("sample_width"), row.get("sample_height")),
            preview=(row.get("preview_url"), 0, 0),
        )
        ext = text(row.get("file_ext")) or ending(files.get("original", ("",))[0])
        return ListedPost(
            post_id=whole(row["id"]),
            tags=categories_of(row),
            rating=rating if rating in RATINGS else UNKNOWN_RATING,
            ext=ext.lower(),
            width=side(size[0]),
            height=side(size[1]),
            size_bytes=whole(row.get("file_size")),
            md5=digest("md5", row.get("md5")),
            parent_id=whole(row.get("parent_id")),
            created_at=seconds(row.get("created_at")),
            is_deleted=status == "deleted",
            is_pending=status == "pending" or flag(row.get("is_held")),
            is_flagged=status == "flagged",
            files=files,
        )

    def credentials(self, account: Account) -> Credentials:
        """Two parameters of the address."""
        params = {"login": account.login, "password_hash": account.api_key}
        return Credentials(self.base_url, account.api_key, params=params)


def add_categories(entry: Any, categories: Mapping[str, Any]) -> Any:
    """An entry together with the categories of the page's tags."""
    return {**entry, "tag_categories": categories} if isinstance(entry, dict) else entry


def categories_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Names and categories; general where the page does not tell."""
    known = table(row.get("tag_categories"))
    return {name: text(known.get(name)) or GENERAL for name in tag_names(row.get("tags"))}
