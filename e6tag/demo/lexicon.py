"""Tags, aliases and implications of all emoji of a table."""

from collections.abc import Iterable, Iterator

from e6tag.demo.emoji_table import FACING_RIGHT, Facts, code
from e6tag.demo.emoji_words import (
    CHARACTERS,
    FANTASY_SPECIES,
    FIXED_IMPLICATIONS,
    GENDER_TAGS,
    HAIR_TAGS,
    NOT_SHOWN,
    PLURALS_KEPT,
    SAME_WORDS,
    TONE_TAGS,
    Tags,
    folded,
    has_letters,
    name_words,
    own_tag,
    species_name,
    subcategory_chains,
    subcategory_tags,
    tag,
)


class Lexicon:
    """Turns facts into tags; knows all facts, so that a tag means one thing everywhere."""

    def __init__(self, table: Iterable[Facts]):
        self.facts = list(table)
        words = {word for facts in self.facts for word in name_words(facts)}
        self.plurals = {
            word: word[:-1]
            for word in words
            if word.endswith("s") and word[:-1] in words and word not in PLURALS_KEPT
        }
        self.species = {
            name
            for facts in self.facts
            for name in [species_name(facts), *subcategory_tags("species", facts.subcategory)]
            if name
        } | FANTASY_SPECIES

    def tags(self, name: str, facts: Facts) -> Tags:
        """Tags of the emoji with this code (skin tones included)."""
        points = code(name).split("-")
        tags = Tags(general=set(self.words(facts)), species=self.species_of(facts))
        if own := self.own(facts):
            tags.general.add(own)
        tags.general.update(subcategory_tags("general", facts.subcategory))
        for table in (TONE_TAGS, HAIR_TAGS, GENDER_TAGS):
            tags.general.update(table[point] for point in points if point in table)
        if FACING_RIGHT in points[1:]:
            tags.general.add("facing_right")
            tags.general.discard("right")
        if "face" in tags.general and "face" not in subcategory_tags("general", facts.subcategory):
            tags.general -= set() if "animal" in tags.species else {"face"}
        self.add_person(tags, facts)
        return tags

    def words(self, facts: Facts) -> Iterator[str]:
        """Words of the name and people's keywords, without those that name an animal."""
        keywords = [tag(keyword) for keyword in facts.keywords if has_letters(keyword)]
        for word in [*name_words(facts), *keywords]:
            word = self.plurals.get(word, SAME_WORDS.get(word, word))
            if word and word not in self.species and word not in NOT_SHOWN:
                yield word

    def own(self, facts: Facts) -> str | None:
        """The emoji's own tag where it is a general one."""
        own = own_tag(facts)
        own = self.plurals.get(own, own)
        if own in self.species or own in CHARACTERS.values() or facts.subcategory == "skin-tone":
            return None
        return own if own not in NOT_SHOWN and len(own) > 1 else None

    def species_of(self, facts: Facts) -> set[str]:
        """Animals and fantastic beings that an emoji shows."""
        found = set(subcategory_tags("species", facts.subcategory))
        if name := species_name(facts):
            found.add(name)
            found.update(part for part in name.split("_")[-1:] if part in self.species)
        words = {SAME_WORDS.get(word, word) for word in folded(facts.name).split()}
        if facts.subcategory in ("person-fantasy", "face-costume"):
            found.update(words & FANTASY_SPECIES)
        if facts.subcategory == "person-fantasy" and not found:
            found.add("human")
        return found

    def add_person(self, tags: Tags, facts: Facts) -> None:
        """Gender of a person, and who it is where it is somebody."""
        words = tags.general
        if character := CHARACTERS.get(tag(facts.name)):
            tags.character.add(character)
        if words & {"man", "boy"}:
            words.add("male")
        if words & {"woman", "girl"}:
            words.add("female")
        if "human" in tags.species and not words & {"male", "female"}:
            words.add("ambiguous_gender")
        if words & set(TONE_TAGS.values()):
            words.add("human_skin_tone")
        if tags.species & {"mermaid", "merman"}:
            tags.species.add("merfolk")

    def aliases(self) -> Iterator[tuple[str, str]]:
        """(other name, tag) pairs that the tables state, in any quality."""
        for facts in self.facts:
            target = own_tag(facts)
            target = self.plurals.get(target, target)
            for name in facts.short_names:
                yield tag(name), target
            yield tag(facts.name), target
        yield from self.plurals.items()
        yield from ((other, word) for other, word in SAME_WORDS.items())
        for number, tone in enumerate(TONE_TAGS.values(), start=2):
            yield f"skin_tone_{number}", tone
            yield f"{tone}_tone", tone

    def implications(self) -> Iterator[tuple[str, str]]:
        """(narrower, wider) pairs that the tables state, in any quality."""
        yield from FIXED_IMPLICATIONS
        yield from subcategory_chains()
        for facts in self.facts:
            own = self.own(facts) or species_name(facts)
            if not own:
                continue
            for category in ("general", "species"):
                for wider in subcategory_tags(category, facts.subcategory)[:1]:
                    yield own, wider
            if own in self.species and own.split("_")[-1] in self.species:
                yield own, own.split("_")[-1]
