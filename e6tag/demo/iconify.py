"""More emoji of the same concepts in other styles, from npm packages (for `--full`)."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from e6tag.demo.drawing import Drawing, drawn_ext, drawn_side_px, format_tags
from e6tag.demo.emoji_table import EmojiTable, Facts, code, concept, group
from e6tag.demo.lexicon import Lexicon
from e6tag.demo.npm_packages import EMOJIBASE, OPENMOJI_WORDS, STYLES, Style
from e6tag.demo.packages import Package, fetch, read_archive
from e6tag.errors import DataError

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 {width} {height}">{body}</svg>'
)


@dataclass(frozen=True)
class MoreWords:
    """What the tables of the npm packages add."""

    table: EmojiTable
    """all emoji, also those newer than the first table"""
    names: Mapping[str, str]
    """label as icon sets spell it -> code"""
    authors: Mapping[str, str]
    """code -> who drew it for OpenMoji"""


def read_json(package: Package, cache: Path, member: str) -> Any:
    """One JSON member of a package.

    Raises:
        FetchError: the package could not be fetched.
        DataError: the member is missing or damaged.
    """
    found = read_archive(fetch(package, cache), re.escape(f"package/{member}"))
    try:
        return json.loads(b"".join(found.values()))
    except ValueError as problem:
        raise DataError(f"{package}: {member} is missing or damaged ({problem}).") from None


def fetch_more_words(table: EmojiTable, cache: Path) -> MoreWords:
    """The first table with emojibase's keywords and the emoji and authors it does not have.

    Raises:
        FetchError: a package could not be fetched.
        DataError: one is not what it was.
    """
    rows = read_json(EMOJIBASE, cache, "en/data.json")
    groups = read_json(EMOJIBASE, cache, "meta/groups.json")["subgroups"]
    drawn = read_json(OPENMOJI_WORDS, cache, "data/openmoji.json")
    facts, codes = dict(table.facts), dict(table.codes)
    names: dict[str, str] = {}
    for row in rows:
        found = emojibase_facts(row, groups)
        known = facts.get(found.code)
        facts[found.code] = found if known is None else with_keywords(known, found.keywords)
        for skin in [row, *row.get("skins", [])]:
            names.setdefault(slug(skin["label"]), code(skin["hexcode"]))
            codes[code(skin["hexcode"])] = found.code
    whole = EmojiTable(facts, codes)
    for row in drawn:
        if whole.find(row["hexcode"]) is None:
            base = code(row["skintone_base_hexcode"] or row["hexcode"])
            codes[code(row["hexcode"])] = base
            facts.setdefault(base, openmoji_facts(base, row))
    authors = {code(row["hexcode"]): row["openmoji_author"] for row in drawn}
    return MoreWords(whole, names, authors)


def with_keywords(facts: Facts, keywords: Any) -> Facts:
    """Facts with more keywords."""
    return replace(facts, keywords=tuple(dict.fromkeys([*facts.keywords, *keywords])))


def emojibase_facts(row: Mapping[str, Any], groups: Mapping[str, str]) -> Facts:
    """One row of emojibase."""
    return Facts(
        code=code(row["hexcode"]),
        name=row["label"],
        subcategory=groups.get(str(row.get("subgroup")), "regional-indicator"),
        short_names=(row["label"],),
        keywords=tuple(row.get("tags", ())),
    )


def openmoji_facts(base: str, row: Mapping[str, Any]) -> Facts:
    """One row of OpenMoji's own table, for pictures that are no emoji of Unicode's."""
    keywords = [word.strip() for word in row["openmoji_tags"].split(",")]
    name = row["annotation"].split(":")[0]
    return Facts(base, name, row["subgroups"], (name,), tuple(filter(None, keywords)))


def slug(label: str) -> str:
    """A label as icon sets spell it."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("’", "").replace("'", "")).strip("-")


def fetch_style(
    style: Style, names: Mapping[str, str], cache: Path
) -> tuple[Mapping[str, bytes], str]:
    """Pictures of a style by code, and what they are before drawing: svg or webp.

    Raises:
        FetchError: the package could not be fetched.
        DataError: it is not what it was.
    """
    if style.ext == "webp":
        members = read_archive(fetch(style.package, cache), r"package/assets/[0-9a-f-]+\.webp")
        return {code(Path(name).stem): content for name, content in members.items()}, "webp"
    icons = read_json(style.package, cache, "icons.json")
    chars = read_json(style.package, cache, "chars.json") or by_label(icons["icons"], names)
    found: dict[str, bytes] = {}
    for spelling, name in chars.items():
        if icon := icons["icons"].get(name):
            found.setdefault(code(spelling), svg_of(icon, icons))
    return found, "svg"


def by_label(icons: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, str]:
    """Code -> icon, for sets that do not tell code points."""
    found: dict[str, str] = {}
    for icon in icons:
        label = re.sub(r"^flag-for-(flag-)?", "flag-", icon)
        if label in names:
            found.setdefault(names[label], icon)
    return found


def svg_of(icon: Mapping[str, Any], icons: Mapping[str, Any]) -> bytes:
    """A whole SVG around the body that the set stores."""
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return SVG.format(width=width, height=height, body=icon["body"]).encode()


def names_of_icons(cache: Path) -> dict[str, str]:
    """Icon name, or another name of it, -> code, from the sets that tell code points.

    Raises:
        FetchError: a package could not be fetched.
        DataError: one is not what it was.
    """
    found: dict[str, str] = {}
    for style in STYLES:
        if style.ext != "svg" or not style.tells_codes:
            continue
        chars = read_json(style.package, cache, "chars.json")
        own = {name: code(spelling) for spelling, name in chars.items()}
        others = read_json(style.package, cache, "icons.json").get("aliases", {})
        for other, icon in others.items():
            if set(icon) == {"parent"} and icon["parent"] in own:
                own.setdefault(other, own[icon["parent"]])
        for name, spelling in own.items():
            found.setdefault(name, spelling)
    return found


def drawings(cache: Path, more: MoreWords, lexicon: Lexicon) -> Iterator[Drawing]:
    """Every picture of every style whose emoji a table knows.

    Raises:
        FetchError: a package could not be fetched.
        DataError: one is not what it was.
    """
    names = names_of_icons(cache) | dict(more.names)
    for style in STYLES:
        pictures, kind = fetch_style(style, names, cache)
        for name, content in pictures.items():
            facts = more.table.find(name)
            if facts is not None:
                yield style_drawing(style, name, facts, lexicon, (content, kind))


def style_drawing(
    style: Style, name: str, facts: Facts, lexicon: Lexicon, picture: tuple[bytes, str]
) -> Drawing:
    """One emoji in one style."""
    content, kind = picture
    key = f"{style.name}/{name}"
    ext = "webp" if kind == "webp" else drawn_ext(key)
    tags = lexicon.tags(name, facts)
    tags.artist.add(style.name)
    tags.meta.add("emoji")
    tags.meta.update({"3d", "transparent_background"} if kind == "webp" else format_tags(ext))
    return Drawing(
        key=key,
        tags=tags.as_mapping(),
        group=group(style.family, name, facts),
        source=f"{style.package}, {name}. {style.package.licence}: {style.package.attribution}",
        content=content,
        ext=ext,
        side_px=0 if kind == "webp" else drawn_side_px(key),
        description=f"concept:{concept(name)}",
    )
