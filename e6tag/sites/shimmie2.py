"""Shimmie 2, on whatever host, through its copy of Danbooru's first API.

Source: shimmie2, ext/danbooru_api/main.php, ext/index/main.php; and what 2.9 and 2.11 answered.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from e6tag.sites.api import NO_HEADERS, ApiSite
from e6tag.sites.fields import digest, ending, first, seconds, side, tag_names, text, whole
from e6tag.sites.listed import GENERAL, UNKNOWN_RATING, ListedPost
from e6tag.sites.xml_rows import xml_posts

RATINGS = {"s": "safe", "q": "questionable", "e": "explicit", UNKNOWN_RATING: "unknown"}
LETTERS = {word: letter for letter, word in RATINGS.items()} | {letter: letter for letter in "sqe"}


class Shimmie2(ApiSite):
    """XML; the API hides ratings, so --ratings x is what there is to choose on most hosts."""

    name: ClassVar[str] = "shimmie2"
    title: ClassVar[str] = "Shimmie 2"
    categories: ClassVar[Mapping[int, str]] = MappingProxyType({0: GENERAL})
    ratings: ClassVar[Mapping[str, str]] = MappingProxyType(RATINGS)
    headers: ClassVar[Mapping[str, str]] = NO_HEADERS
    refused_terms: ClassVar[Sequence[str]] = ("order:", "order=")

    @property
    def max_requests_per_second(self) -> float:
        """The software has no limit of its own."""
        return 2.0

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """`id<N` among the words of the search; its own order is by id."""
        words = query if before is None else f"{query} id<{before}".strip()
        path = "api/danbooru/find_posts"
        # As a parameter it is understood with and without the host's rewriting of addresses.
        return self.url("/index.php", q=path, tags=words, limit=limit, page=1)

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """<posts count= offset=> of <tag> elements; <post> in old versions."""
        return xml_posts(content)

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """All attributes are texts; a rating is `?` where it is not known."""
        size = (row.get("width"), row.get("height"))
        files = self.files(
            original=(row.get("file_url"), *size), preview=(row.get("preview_url"), 0, 0)
        )
        found = files.get("original", ("",))[0]
        return ListedPost(
            post_id=whole(row["id"]),
            tags=dict.fromkeys(tag_names(row.get("tags")), GENERAL),
            rating=LETTERS.get(text(row.get("rating")).lower(), UNKNOWN_RATING),
            ext=ending(found) or ending(text(row.get("file_name"))),
            width=side(size[0]),
            height=side(size[1]),
            md5=digest("md5", row.get("md5")),
            parent_id=whole(row.get("parent_id")),
            created_at=seconds(first(row.get("created_at"), row.get("date"))),
            files=files,
        )
