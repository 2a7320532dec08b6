"""e621, and sites that speak like it: exports, static files, limits.

Read in the site's own source: the export job, the storage manager and the image sampler of
e621ng.  Nothing here does HTTP.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import urlsplit

from e6tag.errors import ConfigError, DataError
from e6tag.posts import Candidate
from e6tag.sites import e621_export
from e6tag.sites.base import Collection, ExportFile, PostFile, Variant
from e6tag.sites.fields import address

BASE_URL = "https://e621.net"
STATIC_URL = "https://static1.e621.net"
OWN_HOSTS = frozenset({"e621.net", "www.e621.net", "e926.net", "www.e926.net"})

CATEGORIES: Mapping[int, str] = MappingProxyType(
    {
        0: "general",
        1: "artist",
        2: "contributor",
        3: "copyright",
        4: "character",
        5: "species",
        6: "invalid",
        7: "meta",
        8: "lore",
    }
)
RATINGS: Mapping[str, str] = MappingProxyType({"s": "safe", "q": "questionable", "e": "explicit"})

BLACKLIST = ("gore", "scat", "watersports", "young -rating:s", "loli", "shota", "fart")
"""what new accounts have: customize_new_user in config/danbooru_default_config.rb"""

EXPORTS = ("posts", "tags", "tag_aliases", "tag_implications", "pools")
EXPORT_FOLDER = "/data/db_export/"

SAMPLE_SHORT_PX = 850
SAMPLE_LONG_PX = 1700
PREVIEW_SHORT_PX = 256
PREVIEW_LONG_PX = 512
STILL_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "webp"})


@dataclass(frozen=True)
class E621:
    """A site that runs e621's software; implements `e6tag.sites.base.Site`."""

    base_url: str = BASE_URL
    static_url: str = STATIC_URL
    """where `data/` is"""
    expected_sha256: Mapping[str, str] = field(default_factory=dict)
    """of export files, by file name; `read` refuses files that differ"""
    file_names: Mapping[str, str] = field(default_factory=dict)
    """of export files, by table, where a list of exports says it"""
    name: ClassVar[str] = "e621"
    categories: ClassVar[Mapping[int, str]] = CATEGORIES
    ratings: ClassVar[Mapping[str, str]] = RATINGS
    safe_ratings: ClassVar[frozenset[str]] = frozenset("s")
    extensions: ClassVar[frozenset[str]] = STILL_EXTENSIONS
    blacklist: ClassVar[Sequence[str]] = BLACKLIST
    max_requests_per_second: ClassVar[float] = 2.0
    rate_note: ClassVar[str] = (
        "the site allows 2 requests a second at most and asks for 1, all together"
    )

    @classmethod
    def at(cls, base_url: str | None, index: Mapping[str, ExportFile] | None = None) -> "E621":
        """The site at an address; its static host is the export index's, where one is given.

        Raises:
            ConfigError: the address is not an http(s) one.
        """
        base_url = (base_url or BASE_URL).rstrip("/")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--base-url {base_url} is not an address like https://e621.net.")
        exports = [] if index is None else list(index.values())
        return cls(
            base_url,
            static_base(exports) or (STATIC_URL if parts.hostname in OWN_HOSTS else base_url),
            {export.file_name: export.sha256 for export in exports if export.sha256},
            {export.name: export.file_name for export in exports},
        )

    def export_files(self) -> Sequence[str]:
        """Names of the tables that `read` needs."""
        return EXPORTS

    def read(self, folder: Path) -> Collection:
        """Read an export folder.

        Raises:
            DataError: a table is missing, damaged or not the one the index promised.
        """
        return e621_export.read_collection(
            folder, frozenset(RATINGS), self.expected_sha256, self.file_names
        )

    def candidates(self, post: PostFile, variant: Variant) -> list[Candidate]:
        """The wanted variant where the site's rules say that it exists, then the original."""
        original = Candidate(
            "original",
            self.file_url("", post.md5, post.ext),
            post.md5,
            post.size_bytes or None,
            post.width,
            post.height,
        )
        size = {"sample": sample_size, "preview": preview_size}.get(variant, no_size)(post)
        if size is None:
            return [original]
        smaller = self.file_url(f"{variant}/", post.md5, "jpg")
        return [Candidate(variant, smaller, width=size[0], height=size[1]), original]

    def file_url(self, folder: str, md5: str, ext: str) -> str:
        """Address of a static file; `folder` is empty for originals, else ends with a slash."""
        return f"{self.static_url}/data/{folder}{md5[:2]}/{md5[2:4]}/{md5}.{ext}"


def no_size(post: PostFile) -> None:
    """Originals have no smaller file."""


def sample_size(post: PostFile) -> tuple[int, int] | None:
    """Width and height of the post's sample; None where the site makes none.

    Samples are JPEGs whatever the original is: shorter side 850, longer at most 1700.
    """
    short, long = sorted((post.width, post.height))
    if post.ext not in STILL_EXTENSIONS or (short <= SAMPLE_SHORT_PX and long <= SAMPLE_LONG_PX):
        return None
    scale = min(SAMPLE_SHORT_PX / short, SAMPLE_LONG_PX / long)
    return max(1, round(post.width * scale)), max(1, round(post.height * scale))


def preview_size(post: PostFile) -> tuple[int, int] | None:
    """Width and height of the post's preview; None where there is none that shows it whole.

    The shorter side is 256; what is longer than 1:2 is cropped, so it does not count.
    """
    short, long = sorted((post.width, post.height))
    if post.ext not in STILL_EXTENSIONS or short <= 1:
        return None
    scale = PREVIEW_SHORT_PX / short
    if long * scale > PREVIEW_LONG_PX:
        return None
    return round(post.width * scale), round(post.height * scale)


def export_index_url(base_url: str) -> str:
    """Where the list of exports is."""
    return f"{base_url.rstrip('/')}/db_exports.json"


def parse_export_index(content: bytes | str) -> dict[str, ExportFile]:
    """The list of exports by name; entries without a name or address are passed over.

    Raises:
        DataError: it is not a JSON list of exports.
    """
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        raise DataError(
            "the export index is not JSON. Check --base-url: it must name an e621-like site."
        ) from None
    if isinstance(entries, dict):
        # Some servers wrap a list: {"db_exports": [...]}.
        entries = next((value for value in entries.values() if isinstance(value, list)), None)
    if not isinstance(entries, list):
        raise DataError("the export index is not a list of exports. Check --base-url.")
    files = [export_file(entry) for entry in entries if isinstance(entry, dict)]
    return {file.name: file for file in files if file is not None}


def export_file(entry: Mapping[str, Any]) -> ExportFile | None:
    """One entry of the index; None where it lacks a plain name or an http(s) address."""
    name, url = entry.get("name"), address(entry.get("url"), "")
    # The name becomes a file name here: nothing but letters may come from outside.
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]+", name):
        return None
    if not url:
        return None
    checksum, size = entry.get("checksum"), entry.get("file_size")
    return ExportFile(
        name,
        url,
        f"{name}.csv.gz",
        checksum.lower() if isinstance(checksum, str) and checksum else None,
        size if isinstance(size, int) else None,
    )


def static_base(exports: Sequence[ExportFile]) -> str | None:
    """What stands before /data/db_export/ in the addresses of the exports."""
    for export in exports:
        base, marker, _ = export.url.partition(EXPORT_FOLDER)
        if marker:
            return base
    return None
