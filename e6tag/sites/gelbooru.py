"""Gelbooru 0.2 and what descends from it: gelbooru.com, safebooru.org, rule34.xxx, ...

Source: the sites' own help on dapi, and how gallery-dl and others read it.  JSON where the site
has it, XML where it answers with that all the same.
"""

import html
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import urlsplit

from e6tag.credentials import Account, Credentials
from e6tag.sites.api import ApiSite, read_json
from e6tag.sites.fields import (
    digest,
    ending,
    first,
    rows,
    seconds,
    side,
    table,
    tag_names,
    text,
    whole,
)
from e6tag.sites.listed import GENERAL, UNKNOWN_RATING, ListedPost
from e6tag.sites.xml_rows import refusal, xml_posts

CATEGORIES = {0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "meta"}
CATEGORY_WORDS = {"metadata": "meta", "tag": "general"}
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
RATING_WORDS = {word: letter for letter, word in RATINGS.items()} | {"safe": "g"}
"""A lone s means safe on some of these sites and sensitive on others: the less safe one counts."""
API_HOSTS = {"rule34.xxx": "api.rule34.xxx", "www.rule34.xxx": "api.rule34.xxx"}
SLOW_HOSTS = frozenset(API_HOSTS.values())


class Gelbooru(ApiSite):
    """dapi: posts by id; errors come with status 200."""

    name: ClassVar[str] = "gelbooru"
    title: ClassVar[str] = "Gelbooru"
    default_url: ClassVar[str | None] = "https://gelbooru.com"
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(CATEGORIES)
    ratings: ClassVar[Mapping[str, str]] = MappingProxyType(RATINGS)
    safe_ratings: ClassVar[frozenset[str]] = frozenset("g")
    empty_pages: ClassVar[int] = 3
    refused_terms: ClassVar[Sequence[str]] = ("sort:", "order:")
    account_note: ClassVar[str] = "the user_id and api_key that your account's options show"

    @classmethod
    def at(cls, base_url: str | None) -> "ApiSite":
        """The site at an address, or at that of its API where this is another host.

        Raises:
            ConfigError: it is no address.
        """
        site = super().at(base_url)
        host = urlsplit(site.base_url).hostname or ""
        return cls(f"https://{API_HOSTS[host]}") if host in API_HOSTS else site

    @property
    def max_requests_per_second(self) -> float:
        """rule34.xxx allows 60 requests a minute."""
        return 1.0 if urlsplit(self.base_url).hostname in SLOW_HOSTS else 2.0

    @property
    def rate_note(self) -> str:
        """In words."""
        return f"{60 * self.max_requests_per_second:.0f} requests a minute, all together"

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """`id:<N` among the words of the search; `fields` makes rule34.xxx tell categories."""
        words = f"{query} sort:id:desc" if before is None else f"{query} id:<{before} sort:id:desc"
        return self.url(
            "/index.php", page="dapi", s="post", q="index", json=1, fields="tag_info",
            limit=limit, tags=words.strip(),
        )  # fmt: skip

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """A list, {"post": [...]}, {"post": {...}} for a single one, XML, or nothing for none."""
        if not content.strip():
            return [], None
        if content.lstrip()[:1] == b"<":
            return xml_posts(content)
        answer = read_json(content)
        if isinstance(answer, list):
            return answer, None
        if isinstance(answer, str):
            raise refusal(answer)
        found = table(answer)
        if found.get("success") is False or "error" in found:
            raise refusal(str(first(found.get("message"), found.get("error"), "no reason given")))
        count = table(found.get("@attributes")).get("count")
        return rows(found.get("post")), None if count is None else whole(count)

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """Attributes are texts in XML; names of fields differ between versions."""
        status, size = text(row.get("status")), (row.get("width"), row.get("height"))
        sample_size = (row.get("sample_width"), row.get("sample_height"))
        files = self.files(
            original=(row.get("file_url"), *size),
            # Where there is no sample, some sites name the preview instead.
            preview=(row.get("preview_url"), 0, 0),
            sample=(row.get("sample_url"), *sample_size),
        )
        return ListedPost(
            post_id=whole(row["id"]),
            tags=tags_of(row),
            rating=rating_of(row.get("rating")),
            ext=ending(files.get("original", ("",))[0]),
            width=side(size[0]),
            height=side(size[1]),
            md5=digest("md5", row.get("md5")) or digest("md5", row.get("hash")),
            parent_id=whole(row.get("parent_id")),
            created_at=seconds(first(row.get("created_at"), row.get("change"))),
            is_deleted=status == "deleted",
            is_pending=status == "pending",
            is_flagged=status == "flagged",
            files=files,
        )

    def credentials(self, account: Account) -> Credentials:
        """Two parameters of the address."""
        params = {"user_id": account.login, "api_key": account.api_key}
        return Credentials(self.base_url, account.api_key, params=params)


def rating_of(value: Any) -> str:
    """A letter, from a word or a letter."""
    word = text(value).lower()
    return RATING_WORDS.get(word) or (word if word in RATINGS else UNKNOWN_RATING)


def tags_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Names, which come escaped for HTML from some sites, with categories where they are told."""
    known = {
        html.unescape(text(table(entry).get("tag"))): text(table(entry).get("type"))
        for entry in rows(row.get("tag_info"))
    }
    names = tag_names(html.unescape(text(row.get("tags"))))
    words = {name: known.get(name) or GENERAL for name in names}
    return {name: CATEGORY_WORDS.get(word, word) for name, word in words.items()}
