"""Kenney's game sprites, as the `arcade` package carries them.

Only the folders that the package's own CC0 licence file covers are read: the licence lies in
`images/`, and two folders in there have another author and another licence beside it.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from PIL import Image

from e6tag.demo.drawing import Drawing
from e6tag.demo.emoji_table import words_of
from e6tag.demo.emoji_words import Tags
from e6tag.demo.packages import Package, fetch, read_archive
from e6tag.errors import DataError

PACKAGE = Package(
    client="pip",
    name="arcade",
    version="3.3.3",
    filename="arcade-3.3.3-py3-none-any.whl",
    sha256="25f4e0e5b8bcbe7a7d087c0a23b19e9f423b0c70ec00945c8712c9a3e541ebd2",
    size_bytes=42_669_158,
    licence="CC0-1.0",
    attribution="Sprites by Kenney (kenney.nl), public domain; credit is not asked for but due.",
)
IMAGES = "arcade/resources/assets/images/"
LICENCE = IMAGES + "License.txt"
FOLDERS = (
    "alien",
    "animated_characters",
    "cards",
    "enemies",
    "items",
    "space_shooter",
    "tiles",
    "topdown_tanks",
)
"""of `IMAGES`: pictures of things; the others are sheets, tests and other people's work"""

COLOURS = words_of(
    """
    blue green red yellow brown grey purple pink bronze gold silver orange
    """
)
FRAMES = words_of(
    """
    walk climb climbing fall idle jump move dead down mid left right top center pressed
    rounded round ll lr ul ur e n s w test front outline alt double single high low off half
    """
)
SIZES = frozenset(["big", "med", "small", "tiny", "large", "huge"])
TERRAINS = frozenset(["dirt", "grass", "planet", "sand", "snow", "stone"])
RANKS = {"A": "ace", "J": "jack", "Q": "queen", "K": "king"}
POSES = {
    "climb": "climbing",
    "walk": "walking",
    "jump": "jumping",
    "fall": "falling",
    "idle": "standing",
}
SPECIES = {
    "alien": ("alien",),
    "zombie": ("zombie",),
    "robot": ("robot",),
    "bee": ("bee", "bug", "animal"),
    "fly": ("fly", "bug", "animal"),
    "ladybug": ("ladybug", "bug", "animal"),
    "worm": ("worm", "bug", "animal"),
    "fish": ("fish", "marine_life", "animal"),
    "frog": ("frog", "amphibian", "animal"),
    "mouse": ("mouse", "mammal", "animal"),
    "slime": ("slime",),
}
GENDERS = {"female": ("woman", "female"), "male": ("man", "male")}
SCENES = {
    "cards": ("playing_card",),
    "space_shooter": ("space",),
    "topdown_tanks": ("from_above",),
    "tiles": ("platform_game",),
    "enemies": ("enemy",),
}
NOT_SHOWN = (
    FRAMES
    | SIZES
    | words_of(
        """
    tile card texture tank back body east north life split block person
    """
    )
)


def fetch_sprites(cache: Path) -> Mapping[str, bytes]:
    """Path inside of the package's picture folder, without ending -> PNG, in name order.

    Raises:
        FetchError: the package could not be fetched.
        DataError: the package does not state that its pictures are CC0, or is not readable.
    """
    folders = "|".join(FOLDERS)
    pattern = rf"{IMAGES}(?:License\.txt|(?:{folders})/.*\.png|.*/[^/]*licen[cs]e\.txt)"
    members = read_archive(fetch(PACKAGE, cache), pattern)
    if b"Creative Commons Zero, CC0" not in members.pop(LICENCE, b""):
        raise DataError(f"{PACKAGE}: {LICENCE} does not say CC0, so its pictures are not used.")
    others = {str(PurePosixPath(name).parent) for name in members if name.endswith(".txt")}
    return {
        name.removeprefix(IMAGES).removesuffix(".png"): content
        for name, content in members.items()
        if name.endswith(".png") and not any(name.startswith(f"{other}/") for other in others)
    }


def name_words(name: str) -> list[str]:
    """Words of a file name: "tankBody_darkLarge_outline" is tank, body, dark, large, outline."""
    stem = PurePosixPath(name).name
    words = re.findall(r"[A-Z]{2}|[A-Z]?[a-z]+|[A-Z]|[0-9]+", stem)
    return [word.lower() for word in words]


def group(name: str) -> str:
    """Near-copies share it: frames, colours, sizes, directions and mirror images of one drawing.

    The same piece of ground comes in several materials; the pieces that differ by a rim are one.
    """
    folder = name.split("/")[0]
    words = [word for word in name_words(name) if not word.isdigit()]
    if folder == "cards":
        return "cards/back" if "back" in words else "cards/front"
    if folder == "animated_characters":
        return f"{folder}/{words[1] if words[0] in GENDERS else words[0]}"
    core = [word for word in words if word not in COLOURS | FRAMES | SIZES]
    if words[0] in TERRAINS | {"brick"}:
        piece = {"cliff", "hill", "half", "pile", "sprout"} & set(words)
        piece |= {"inside"} if {"brick", "center", "corner"} & set(words) else set()
        return f"terrain/{'_'.join(sorted(piece)) or 'block'}"
    if folder == "topdown_tanks":
        return f"{folder}/{tank_piece(words)}"
    return f"sprite/{'_'.join(core) or words[0]}"


def tank_piece(words: Iterable[str]) -> str:
    """Which thing a picture of the tank game shows, whatever its colour or direction."""
    pieces = ("barrel", "transition", "road", "tracks", "tree", "tile", "tank")
    return next((piece for piece in pieces if piece in words), "other")


def tags(name: str, png: bytes) -> Tags:
    """Tags of a sprite, from the words of its folder and file name."""
    folder = name.split("/")[0]
    words = name_words(name)
    found = Tags(artist={"kenney"}, meta={"sprite", "game_asset"})
    found.general.update(SCENES.get(folder, ()))
    found.general.update(word for word in words if is_shown(word))
    found.general.update(POSES[word] for word in words if word in POSES)
    found.species.update(kind for word in words for kind in SPECIES.get(word, ()))
    found.general -= set(SPECIES) | set(GENDERS)
    if words[0] in GENDERS:
        found.general.update(GENDERS[words[0]])
        found.species.add("human")
    if folder == "cards":
        found.general |= card_tags(PurePosixPath(name).name)
    if words[0] in TERRAINS and folder == "tiles":
        found.general.add("terrain")
    if folder == "topdown_tanks" and words[0] == "tank":
        found.general.update(("tank", "ground_transport", "transport"))
        found.general.discard("sand")  # here the name of a paint
    if has_transparency(png):
        found.meta.add("transparent_background")
    return found


def is_shown(word: str) -> bool:
    """Whether a word of a file name says what is in the picture."""
    return len(word) > 2 and not word.isdigit() and word not in NOT_SHOWN


def card_tags(stem: str) -> set[str]:
    """Suit and rank of a playing card, such as "cardHearts10"."""
    found = re.fullmatch(r"card(Clubs|Diamonds|Hearts|Spades)([AJQK]|\d+)", stem)
    if found is None:
        return {"card_back"} if "Back" in stem else {"joker"}
    suit, rank = found.groups()
    colour = "red" if suit in ("Diamonds", "Hearts") else "black"
    kind = {"face_card"} if rank in "JQK" else set()
    return {suit.lower(), colour, RANKS.get(rank, "number_card"), *kind} - {"back"}


def has_transparency(png: bytes) -> bool:
    """Whether anything shows through.

    Raises:
        DataError: not a picture.
    """
    try:
        with Image.open(io.BytesIO(png)) as image:
            lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
    except (OSError, SyntaxError) as problem:
        raise DataError(f"{PACKAGE} holds a damaged picture ({problem}).") from None
    return isinstance(lowest, int | float) and lowest < 255


def drawings(sprites: Mapping[str, bytes]) -> Iterator[Drawing]:
    """Every sprite, as it is."""
    for name, png in sprites.items():
        yield Drawing(
            key=f"kenney/{name}",
            tags=tags(name, png).as_mapping(),
            group=f"kenney/{group(name)}",
            source=f"{PACKAGE}, {name}.png. {PACKAGE.licence}: {PACKAGE.attribution}",
            content=png,
            ext="png",
            description=f"concept:kenney/{group(name)}",
        )
