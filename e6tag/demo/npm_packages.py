"""The npm packages of the full demo, pinned, with their licences."""

from dataclasses import dataclass

from e6tag.demo.packages import Package


@dataclass(frozen=True)
class Style:
    """One way of drawing the emoji."""

    name: str
    """also the artist tag"""
    family: str
    """styles of one family draw many emoji alike"""
    package: Package
    ext: str = "svg"
    """what the package holds"""
    tells_codes: bool = True
    """whether it tells code points, and not only names"""


def icons(name: str, version: str, sha256: str, size_bytes: int, terms: tuple[str, str]) -> Package:
    """An icon set of Iconify's; `terms` are licence and attribution."""
    return Package(
        client="npm",
        name=f"@iconify-json/{name}",
        version=version,
        filename=f"iconify-json-{name}-{version}.tgz",
        sha256=sha256,
        size_bytes=size_bytes,
        licence=terms[0],
        attribution=terms[1],
    )


EMOJIBASE = Package(
    client="npm",
    name="emojibase-data",
    version="17.0.0",
    filename="emojibase-data-17.0.0.tgz",
    sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    size_bytes=6_711_091,
    licence="MIT",
    attribution="Keywords of Unicode CLDR. Copyright Miles Johnson.",
)
OPENMOJI_WORDS = Package(
    client="npm",
    name="openmoji",
    version="17.0.0",
    filename="openmoji-17.0.0.tgz",
    sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
    size_bytes=4_339_458,
    licence="CC-BY-SA-4.0",
    attribution="OpenMoji's own tags and the names of its artists.",
)
TABLER = Package(
    client="npm",
    name="@tabler/icons",
    version="3.51.0",
    filename="tabler-icons-3.51.0.tgz",
    sha256="b30108713d3fa60aee862c2a133225da8e0f309be0708fe2925763ff810c766c",
    size_bytes=1_245_641,
    licence="MIT",
    attribution="Tabler Icons. Copyright Paweł Kuna.",
)
NOTO = ("Apache-2.0", "Noto Emoji. Copyright Google Inc.; drawn here at other sizes.")
TWITTER = ("CC-BY-4.0", "Twemoji. Copyright Twitter, Inc. and other contributors; drawn here anew.")
EMOJITWO = ("CC-BY-4.0", "Emojitwo, from EmojiOne 2.2. Copyright Emoji One; drawn here anew.")
EMOJIONE = ("CC-BY-SA-4.0", "EmojiOne 1. Copyright Emoji One; drawn here at other sizes.")
FLUENT = ("MIT", "Fluent Emoji. Copyright Microsoft Corporation.")

STYLES = (
    Style(
        "noto",
        "noto",
        icons(
            "noto",
            "1.2.9",
            "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
            3_102_958,
            NOTO,
        ),
    ),
    Style(
        "noto_v1",
        "noto",
        icons(
            "noto-v1",
            "1.2.5",
            "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
            1_587_591,
            NOTO,
        ),
        tells_codes=False,
    ),
    Style(
        "twemoji",
        "twemoji",
        icons(
            "twemoji",
            "1.2.5",
            "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
            1_555_888,
            TWITTER,
        ),
    ),
    Style(
        "emojione",
        "emojione",
        icons(
            "emojione",
            "1.2.3",
            "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
            687_690,
            EMOJITWO,
        ),
        tells_codes=False,
    ),
    Style(
        "emojione_v1",
        "emojione",
        icons(
            "emojione-v1",
            "1.2.3",
            "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
            3_704_153,
            EMOJIONE,
        ),
        tells_codes=False,
    ),
    Style(
        "fluent_emoji_flat",
        "fluent_emoji",
        icons(
            "fluent-emoji-flat",
            "1.2.6",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
            1_172_438,
            FLUENT,
        ),
    ),
    Style(
        "fluent_emoji_3d",
        "fluent_emoji",
        Package(
            client="npm",
            name="@lobehub/fluent-emoji-3d",
            version="1.1.0",
            filename="lobehub-fluent-emoji-3d-1.1.0.tgz",
            sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            size_bytes=15_792_027,
            licence="MIT",
            attribution="Fluent Emoji 3D. Copyright Microsoft Corporation; packed by LobeHub.",
        ),
        ext="webp",
    ),
)
PACKAGES = (EMOJIBASE, OPENMOJI_WORDS, *(style.package for style in STYLES), TABLER)
