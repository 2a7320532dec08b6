"""Tabler's line icons with their own tags, from npm (for `--full`)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from e6tag.demo.drawing import Drawing, drawn_ext, drawn_side_px, format_tags
from e6tag.demo.emoji_table import words_of
from e6tag.demo.emoji_words import Tags, tag
from e6tag.demo.npm_packages import TABLER
from e6tag.demo.packages import fetch, read_archive
from e6tag.errors import DataError

MODIFIERS = words_of(
    """
    off plus minus x check cancel pause star heart up down left right share search pin
    question exclamation bolt code cog dollar filled hollow dashed dotted rounded top bottom
    horizontal vertical in out open closed low high half small big edit
    """
)
"""what Tabler adds to one icon's name for its variants"""
TRADEMARKS = frozenset(("Brand",))
"""categories of logos, which their owners protect: left out"""


def fetch_icons(cache: Path) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
    """Facts by icon name, and outline SVGs by icon name.

    Raises:
        FetchError: the package could not be fetched.
        DataError: it is not what it was.
    """
    pattern = r"package/(icons\.json|icons/outline/[a-z0-9-]+\.svg)"
    members = read_archive(fetch(TABLER, cache), pattern)
    try:
        facts: Mapping[str, Any] = json.loads(members.pop("package/icons.json", b""))
    except ValueError as problem:
        raise DataError(f"{TABLER}: icons.json is missing or damaged ({problem}).") from None
    return facts, {Path(name).stem: content for name, content in members.items()}


def group(name: str) -> str:
    """Near-copies share it: an icon with a tick, a cross, an arrow ... or turned."""
    words = [word for word in name.split("-") if not word.isdigit()]
    core = [word for word in words if word not in MODIFIERS]
    return "-".join(core) or name


def drawings(cache: Path) -> Iterator[Drawing]:
    """Every outline icon that is no trademark.

    Raises:
        FetchError: the package could not be fetched.
        DataError: it is not what it was.
    """
    facts, pictures = fetch_icons(cache)
    for name, svg in pictures.items():
        if name not in facts or facts[name]["category"] in TRADEMARKS:
            continue
        key = f"tabler/{name}"
        ext = drawn_ext(key)
        words = icon_words(name, facts[name]["tags"], facts[name]["category"])
        tags = Tags(general=words, artist={"tabler"})
        tags.meta.update(format_tags(ext), {"icon", "line_art"})
        yield Drawing(
            key=key,
            tags=tags.as_mapping(),
            group=f"tabler/{group(name)}",
            source=f"{TABLER}, {name}.svg. {TABLER.licence}: {TABLER.attribution}",
            content=svg.replace(b"currentColor", b"#000000"),
            ext=ext,
            side_px=drawn_side_px(key),
            description=f"concept:tabler/{group(name)}",
        )


def icon_words(name: str, tags: Sequence[str], category: str) -> set[str]:
    """Tags of an icon: its own, its name's words and its category."""
    words = [*(str(word) for word in tags), *name.split("-"), category]
    return {tag(word) for word in words if len(re.sub(r"[^a-z]", "", word.lower())) > 1}
