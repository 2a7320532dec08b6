"""Fields of strangers' answers, whatever type they come in: numbers, words, times, hashes, URLs."""

import math
import posixpath
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

MAX_ID = 2**63 - 1
MAX_SIDE_PX = 2**31 - 1
MAX_URL_LENGTH = 4096
MAX_TAG_LENGTH = 512
MAX_TAGS = 10_000
HASH_LENGTHS = {"md5": 32, "sha1": 40, "sha512": 128}
RUBY_TIME = "%a %b %d %H:%M:%S %z %Y"
"""Gelbooru's: Sat Feb 23 09:51:17 -0600 2026"""


def whole(value: Any, most: int = MAX_ID) -> int:
    """A number from 1 to `most`, given as one or as text; 0 for everything else."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return 0
    try:
        number = int(value)
    except (TypeError, ValueError):
        return 0
    return number if 0 < number <= most else 0


def side(value: Any) -> int:
    """A width or height in pixels; 0 where there is none."""
    return whole(value, MAX_SIDE_PX)


def text(value: Any) -> str:
    """A text without spaces around it; empty for everything else."""
    return value.strip() if isinstance(value, str) else ""


def table(value: Any) -> Mapping[str, Any]:
    """A JSON object; empty for everything else."""
    return value if isinstance(value, dict) else {}


def rows(value: Any) -> list[Any]:
    """A list; a single object counts as a list of it, everything else as an empty one."""
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else []


def flag(value: Any) -> bool:
    """Whether a field says yes: true, 1, "true", "t", "1"."""
    return value is True or str(value).lower() in ("1", "true", "t")


def tag_names(value: Any) -> list[str]:
    """Names of tags, from a list or from one text with spaces between them.

    Spaces inside a name become underscores, as everywhere else here.  What cannot be a tag is
    left out: no text, characters that are not to be seen, longer than `MAX_TAG_LENGTH`.
    """
    found = value.split() if isinstance(value, str) else rows(value)
    names = ("_".join(name.split()) for name in found[:MAX_TAGS] if isinstance(name, str))
    return [name for name in names if 0 < len(name) <= MAX_TAG_LENGTH and is_seen(name)]


def is_seen(name: str) -> bool:
    """Whether a text has neither control characters nor lone surrogates."""
    return not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name)


def in_category(value: Any, category: str) -> dict[str, str]:
    """Names of tags, all of one category."""
    return dict.fromkeys(tag_names(value), category)


def digest(algorithm: str, value: Any) -> str:
    """The digits of a hash, lower-case; empty where it is not one."""
    digits = text(value).lower()
    length = HASH_LENGTHS[algorithm]
    return digits if re.fullmatch(rf"[0-9a-f]{{{length}}}", digits) else ""


def seconds(value: Any) -> int | None:
    """A moment as Unix time, from what boorus write it as; None where it is none.

    Known are Unix time, {"s": Unix time}, ISO 8601 (UTC where it does not say), and the two
    orders in which mail and Ruby name the weekday first.
    """
    if isinstance(value, dict):
        value = value.get("s")
    if number := whole(value, 2**40):
        return number
    for parse in (datetime.fromisoformat, from_ruby, parsedate_to_datetime):
        try:
            moment = parse(text(value))
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return int(moment.timestamp())
        except (ValueError, OverflowError):
            continue
    return None


def from_ruby(value: str) -> datetime:
    """A time as Ruby prints one.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(value, RUBY_TIME)


def address(value: Any, base_url: str) -> str:
    """A file's address, made absolute; empty where it is not an http(s) one."""
    link = text(value)
    if not link or len(link) > MAX_URL_LENGTH or not is_seen(link):
        return ""
    try:
        url = urljoin(f"{base_url}/", link)
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    return url if is_good and "@" not in parts.netloc else ""


def ending(url: str) -> str:
    """The extension at the end of an address, lower-case, without a dot; empty where it has none.

    Some sites have the file in the query: /index.php?q=image/3.webp
    """
    parts = urlsplit(url)
    for name in (parts.query, parts.path):
        found = posixpath.splitext(name)[1].lower().removeprefix(".")
        if re.fullmatch(r"[a-z0-9]{2,5}", found):
            return found
    return ""


def first(*values: Iterable[Any] | Any) -> Any:
    """The first value that is not empty, or None."""
    return next((value for value in values if value), None)
