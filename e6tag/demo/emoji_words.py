"""From single words of an emoji's facts to tags of a booru; `lexicon.py` puts them together.

Tags come from what the tables state: words of the name, people's keywords, subcategory, skin
tone, gender, hair and direction.  Every emoji also has a tag of its own, its usual short name.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from e6tag.demo.emoji_table import FOLDER, GENDERS, HAIR, TONES, Facts, words_of

TONE_TAGS = dict(
    zip(
        TONES,
        ("light_skin", "medium_light_skin", "medium_skin", "medium_dark_skin", "dark_skin"),
        strict=True,
    )
)
HAIR_TAGS = dict(zip(HAIR, ("red_hair", "curly_hair", "bald", "white_hair"), strict=True))
GENDER_TAGS = dict(zip(GENDERS, ("woman", "man"), strict=True))
SAME_WORDS = {
    "men": "man",
    "women": "woman",
    "adult": "person",
    "people": "person",
    "leftwards": "left",
    "rightwards": "right",
    "upwards": "up",
    "downwards": "down",
    "left-facing": "left",
    "right-facing": "right",
    "bearded": "beard",
    "blond": "blonde_hair",
    "merperson": "merfolk",
    "angel": "angel_wings",
}
NOT_SHOWN = words_of(
    """
    a an and at for from in into its of on or over the to under with without sign symbol
    type emoji modifier fitzpatrick negative squared circled letter letters capital latin
    cjk unified ideograph heavy medium large emoji mens womans womens facing two one
    type-1-2 oclock no not person flag hair getting playing
    """
)
FILLS = frozenset(("black", "white"))
"""how names of symbols say filled and outlined"""
PLURALS_KEPT = frozenset(
    ["glasses", "eyeglasses", "sunglasses", "goggles", "scales", "dress", "pants"]
)
"""words in -s that are no plurals of their stem"""
NOT_ANIMALS = frozenset(["pig_nose", "paw_prints", "feather", "wing", "spiral_shell", "coral"])
FANTASY_SPECIES = words_of(
    """
    fairy elf vampire zombie genie merfolk mermaid merman troll alien robot ghost ogre
    """
)
CHARACTERS = {
    "father_christmas": "santa_claus",
    "mother_christmas": "mrs_claus",
    "mx_claus": "mx_claus",
}
FIXED_IMPLICATIONS = (
    *((tag, "human_skin_tone") for tag in TONE_TAGS.values()),
    ("man", "male"),
    ("boy", "male"),
    ("woman", "female"),
    ("girl", "female"),
    ("mermaid", "merfolk"),
    ("merman", "merfolk"),
)


@dataclass
class Tags:
    """Tags of one picture by category of the site."""

    general: set[str] = field(default_factory=set)
    species: set[str] = field(default_factory=set)
    character: set[str] = field(default_factory=set)
    artist: set[str] = field(default_factory=set)
    meta: set[str] = field(default_factory=set)

    def as_mapping(self) -> dict[str, tuple[str, ...]]:
        """Category name -> sorted tags, without empty categories."""
        return {name: tuple(sorted(tags)) for name, tags in vars(self).items() if tags}


@cache
def tag(text: str) -> str:
    """Text as a tag: lower case ASCII, words joined by "_"."""
    return re.sub(r"[^a-z0-9]+", "_", folded(text)).strip("_")


def own_tag(facts: Facts) -> str:
    """The tag that only this emoji has."""
    if facts.subcategory in ("country-flag", "subdivision-flag"):
        return tag(facts.name.removeprefix("flag: ").removesuffix(" Flag")) + "_flag"
    usual = next((name for name in facts.short_names if name[0].isalnum()), facts.name)
    return species_name(facts) or tag(usual)


def species_name(facts: Facts) -> str | None:
    """The animal that an emoji shows, or None."""
    name = tag(re.sub(r"(?i) face$", "", facts.name))
    if "animal" not in subcategory_tags("species", facts.subcategory) or name in NOT_ANIMALS:
        return None
    return name


@cache
def subcategories() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """general and species -> subcategory -> tags, each implying the next."""
    text = (FOLDER / "emoji_subcategories.json").read_text(encoding="utf-8")
    table: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(text)
    return table


def subcategory_tags(category: str, name: str) -> Sequence[str]:
    """Tags of a subcategory, the narrowest first; none where the table has none."""
    return subcategories()[category].get(name, ())


def subcategory_chains() -> Iterator[tuple[str, str]]:
    """(narrower, wider) tag of every subcategory."""
    for category in ("general", "species"):
        for tags in subcategories()[category].values():
            yield from pairwise(tags)


def name_words(facts: Facts) -> list[str]:
    """Words of the name that a picture can show.

    Names of symbols say "black" for filled and "white" for outlined, so colours that only those
    two words tell are taken from the short name, which people chose by looking.
    """
    if facts.subcategory in ("country-flag", "subdivision-flag"):
        return []
    words = [SAME_WORDS.get(word, word) for word in re.split(r"[^a-z0-9-]+", folded(facts.name))]
    kept = [word for word in words if word not in NOT_SHOWN | FILLS and is_word(word)]
    if facts.is_neutral:
        kept = [word for word in kept if word not in ("man", "woman")]
    if not facts.subcategory.startswith(("face", "av-")):
        short = folded(facts.short_names[0]).split("_")
        kept += sorted(FILLS.intersection(short))
    return kept


def folded(text: str) -> str:
    """Lower case without accents."""
    return unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()


def is_word(word: str) -> bool:
    """More than one letter, and no number."""
    return len(word.strip("-")) > 1 and not any(character.isdigit() for character in word)


def has_letters(word: str) -> bool:
    """Whether a keyword is more than a number."""
    return sum(character.isalpha() for character in word) > 1
