"""szurubooru, on whatever host.

Source: szurubooru, doc/API.md, server/szurubooru/func/posts.py and search/configs.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from e6tag.credentials import Account, Credentials, basic
from e6tag.sites.api import ApiSite, listed, read_json
from e6tag.sites.fields import digest, ending, rows, seconds, side, table, tag_names, text, whole
from e6tag.sites.listed import GENERAL, UNKNOWN_RATING, ListedPost

CATEGORIES = {
    0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "species", 7: "meta",
}  # fmt: skip
"""Its categories are for each host to name; those named like these are these, others general."""
CATEGORY_WORDS = {"series": "copyright", "metadata": "meta", "default": "general"}
RATINGS = {"s": "safe", "q": "sketchy", "e": "unsafe"}
LETTERS = {word: letter for letter, word in RATINGS.items()}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Szurubooru(ApiSite):
    """Addresses are relative; a tag's first name is the one in use."""

    name: ClassVar[str] = "szurubooru"
    title: ClassVar[str] = "szurubooru"
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(CATEGORIES)
    ratings: ClassVar[Mapping[str, str]] = MappingProxyType(RATINGS)
    refused_terms: ClassVar[Sequence[str]] = ("sort:", "order:", "-sort:")
    account_note: ClassVar[str] = "your name there, and a login token or your password"

    @property
    def max_requests_per_second(self) -> float:
        """The software has no limit of its own."""
        return 2.0

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """`id:..N` among the words of the search; its own order is by id."""
        words = query if before is None else f"{query} id:..{before - 1}".strip()
        return self.url("/api/posts/", query=words, limit=limit, offset=0)

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """{"results": [...], "total": n}"""
        answer = read_json(content)
        total = table(answer).get("total")
        return listed(answer, "results"), None if total is None else whole(total)

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """The MD5 is of newer versions; older ones have SHA-1 alone."""
        size = (row.get("canvasWidth"), row.get("canvasHeight"))
        files = self.files(
            original=(row.get("contentUrl"), *size), preview=(row.get("thumbnailUrl"), 0, 0)
        )
        md5, sha1 = digest("md5", row.get("checksumMD5")), digest("sha1", row.get("checksum"))
        tags = [table(entry) for entry in rows(row.get("tags"))]
        return ListedPost(
            post_id=whole(row["id"]),
            tags={
                name: category_of(tag) for tag in tags for name in tag_names(tag.get("names"))[:1]
            },
            rating=LETTERS.get(text(row.get("safety")), UNKNOWN_RATING),
            ext=ending(files.get("original", ("",))[0]),
            width=side(size[0]),
            height=side(size[1]),
            size_bytes=whole(row.get("fileSize")),
            md5=md5,
            other_hash=f"sha1:{sha1}" if sha1 and not md5 else "",
            created_at=seconds(row.get("creationTime")),
            files=files,
            linked=[whole(table(other).get("id")) for other in rows(row.get("relations"))],
            aliases=aliases_of(tags),
        )

    def credentials(self, account: Account) -> Credentials:
        """A login token, which looks like a UUID, or else a password."""
        scheme = "Token" if UUID.fullmatch(account.api_key) else "Basic"
        return Credentials(self.base_url, account.api_key, basic(account, scheme))


def category_of(tag: Mapping[str, Any]) -> str:
    """By the host's word for it; some number theirs: 01_artist."""
    word = text(tag.get("category")).lower().rpartition("_")[2]
    word = CATEGORY_WORDS.get(word, word)
    return word if word in CATEGORIES.values() else GENERAL


def aliases_of(tags: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Other names -> the name in use."""
    names = [tag_names(tag.get("names")) for tag in tags]
    return {other: found[0] for found in names for other in found[1:] if other != found[0]}
