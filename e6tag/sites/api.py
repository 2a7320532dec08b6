"""What boorus without exports have in common: a search that is read page by page, newest first.

An adapter is a class with a few facts and three short methods (`page_url`, `rows`, `post`); see
docs/acquisition.md.  Pages are asked for by id ("older than post N"), never by number: posts that
come in meanwhile would move the pages, and posts on their edges would be missed.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

from e6tag.credentials import Account, Credentials
from e6tag.errors import ConfigError, DataError
from e6tag.posts import Candidate
from e6tag.sites.base import Collection, PostFile, Variant
from e6tag.sites.fields import address, ending, whole
from e6tag.sites.listed import ListedPost
from e6tag.sites.listing_files import read_listing

MAX_PAGE_BYTES = 32 << 20
STILL_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "webp"})
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Page:
    """One page of a search."""

    posts: Sequence[ListedPost]
    num_found: int | None = None
    """posts that the site says it finds from here on; None where it does not say"""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """entries that are no posts, counted by reason"""


@dataclass(frozen=True)
class ApiSite:
    """A site at an address; implements `e6tag.sites.base.Site`, all but what adapters add."""

    base_url: str
    name: ClassVar[str]
    title: ClassVar[str]
    """how people call it"""
    default_url: ClassVar[str | None] = None
    """None for software that anyone may host: then --base-url is needed"""
    categories: ClassVar[Mapping[int, str]]
    ratings: ClassVar[Mapping[str, str]]
    safe_ratings: ClassVar[frozenset[str]] = frozenset("s")
    extensions: ClassVar[frozenset[str]] = STILL_EXTENSIONS
    blacklist: ClassVar[Sequence[str]] = ()
    page_size: ClassVar[int] = 100
    """posts a page at most"""
    empty_pages: ClassVar[int] = 1
    """empty pages, one after the other, that mean the end"""
    refused_terms: ClassVar[Sequence[str]] = ("order:", "sort:")
    """beginnings of words that would upset the order by id"""
    headers: ClassVar[Mapping[str, str]] = MappingProxyType({"Accept": "application/json"})
    account_note: ClassVar[str] = ""
    """what E6TAG_LOGIN and E6TAG_API_KEY mean here"""

    @classmethod
    def at(cls, base_url: str | None) -> "ApiSite":
        """The site at an address.

        Raises:
            ConfigError: no address, or not an http(s) one.
        """
        url = (base_url or cls.default_url or "").rstrip("/")
        if not url:
            raise ConfigError(
                f"--site {cls.name} is software that anyone may host: "
                "say where with --base-url https://..."
            )
        if not address(url, "") or urlsplit(url).query:
            raise ConfigError(f"--base-url {url} is not an address like https://example.net.")
        return cls(url)

    # What an adapter adds

    @property
    def max_requests_per_second(self) -> float:
        """The site's hard limit."""
        return 1.0

    @property
    def rate_note(self) -> str:
        """One sentence on the pace that the site asks for."""
        return "the site gives no figure; 1 request a second is what its visitors keep to"

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """Address of the page of the newest posts with smaller ids than `before`.

        Args:
            query: words for the site's search; empty for all posts.
            before: None for the first page.
            limit: posts wanted.
        """
        raise NotImplementedError

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """The entries of a page, and how many posts the site says it finds from here on.

        Raises:
            DataError: it is not a page.
        """
        raise NotImplementedError

    def post(self, row: Mapping[str, Any]) -> ListedPost:
        """One entry as a post."""
        raise NotImplementedError

    def credentials(self, account: Account) -> Credentials:
        """How an account is shown to this site.

        Raises:
            ConfigError: this site has no accounts for programs.
        """
        raise ConfigError(
            f"--site {self.name} has no accounts for programs: unset E6TAG_LOGIN and E6TAG_API_KEY."
        )

    # What they all have

    def url(self, path: str, **params: object) -> str:
        """An address of the API."""
        return f"{self.base_url}{path}?{urlencode(params)}"

    def parse_page(self, content: bytes) -> Page:
        """A page's posts; entries without an id are passed over and counted.

        Raises:
            DataError: it is not a page.
        """
        rows, num_found = self.rows(content)
        posts, skipped = [], Counter[str]()
        for row in rows:
            if isinstance(row, dict) and whole(row.get("id")):
                posts.append(self.post(row))
            else:
                skipped["no_id"] += 1
        return Page(posts, num_found, skipped)

    def export_files(self) -> Sequence[str]:
        """None: there are no exports."""
        return ()

    def read(self, folder: Path) -> Collection:
        """Read a listing.

        Raises:
            DataError: it is not complete, or damaged.
        """
        return read_listing(folder, self.categories)

    def candidates(self, post: PostFile, variant: Variant) -> list[Candidate]:
        """The wanted variant where the site listed one, then the original."""
        where = json.loads(post.location)
        found = [
            Candidate(kind, self.absolute(url), width=width or None, height=height or None)
            for kind, (url, width, height) in where["files"].items()
            if kind == variant != "original"
        ]
        url, _, _ = where["files"]["original"]
        original = Candidate(
            "original",
            self.absolute(url),
            post.md5 or None,
            post.size_bytes or None,
            post.width or None,
            post.height or None,
            where["hash"],
        )
        return [*found, original]

    def files(self, **places: tuple[Any, Any, Any] | None) -> dict[str, tuple[str, int, int]]:
        """Files by variant, where the site gives an address: (address, width, height).

        Addresses on the site itself are kept without its own, so that it may move; a variant
        that is the original's file, or no still picture, is left out.
        """
        found: dict[str, tuple[str, int, int]] = {}
        for variant, place in places.items():
            url = address(place[0], self.base_url) if place else ""
            local = url.removeprefix(f"{self.base_url}/")
            seen = [known for known, _, _ in found.values()]
            is_extra = local in seen or ending(url) not in STILL_EXTENSIONS
            if place and url and not (variant != "original" and is_extra):
                found[variant] = (local, whole(place[1], 2**31 - 1), whole(place[2], 2**31 - 1))
        return found if "original" in found else {}

    def absolute(self, url: str) -> str:
        """An address of `files`, whole again."""
        return url if "://" in url.partition("?")[0] else f"{self.base_url}/{url}"


def read_json(content: bytes) -> Any:
    """A page that is JSON.

    Raises:
        DataError: it is not.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        start = content[:60].decode("utf-8", "replace").split("\n")[0]
        raise DataError(
            f"the site's answer is not JSON: it begins with {start!r}. Check --site and --base-url."
        ) from None


def listed(answer: Any, key: str) -> list[Any]:
    """The list of posts of a JSON answer: bare, or under a key.

    Raises:
        DataError: there is no list.
    """
    found = answer.get(key) if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise DataError(f"the site's answer is not a list of posts{words_of(answer)}.")
    return found


def words_of(answer: Any) -> str:
    """What an answer says for itself, shortened: it comes from strangers."""
    names = ("message", "reason", "error", "description")
    if isinstance(answer, dict):
        answer = next((answer[name] for name in names if answer.get(name)), None)
    return f": {str(answer)[:200]!r}" if answer else ""
