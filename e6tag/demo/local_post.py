"""A post of the local booru, before it has an id and files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LocalPost:
    """One picture with the words people gave it."""

    key: str
    """unique and stable, such as "openmoji/1F600": posts are numbered in key order"""
    picture: bytes
    """the original file, as it will be served"""
    ext: str
    """png, jpg or webp"""
    tags: Mapping[str, Sequence[str]]
    """e621 category name (general, artist, copyright, character, species, meta) -> tags"""
    group: str
    """posts with the same group are near-copies of one another"""
    source: str = ""
    """where it comes from, with its licence"""
    description: str = ""
    rating: str = "s"


@dataclass(frozen=True)
class LocalRelations:
    """What the sources say of tags."""

    aliases: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """(antecedent, consequent)"""
    implications: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """(antecedent, consequent)"""
