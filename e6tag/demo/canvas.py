"""Drawing for the demo's sheets: fitted pictures, short texts, marks that need no colour."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from e6tag import images
from e6tag.files import finished
from e6tag.inputs import printable

Kind = Literal["found", "wrong", "missed"]

PAPER, INK, QUIET, LINE = "#ffffff", "#16191d", "#565e6b", "#d3d8df"
COLOURS: dict[Kind, str] = {"found": "#0a55a0", "wrong": "#a33f00", "missed": QUIET}
"""blue, vermilion and grey: told apart by the colour-blind, and each has its own mark"""
KINDS: tuple[Kind, ...] = ("found", "wrong", "missed")
MEANINGS: dict[Kind, str] = {
    "found": "in its labels and predicted",
    "wrong": "predicted, not in its labels",
    "missed": "in its labels, not predicted",
}
LEGEND_PX = 230
TEXT_PX, TITLE_PX = 14, 22
LINE_PX = 18
MARK_PX = 16
"""width of a mark and the gap after it"""


@lru_cache(maxsize=4)
def font(size_px: int) -> Any:
    """Pillow's own scalable font."""
    return ImageFont.load_default(size=size_px)


@dataclass(frozen=True)
class Canvas:
    """A picture to draw on; positions are pixels from the top left."""

    image: Image.Image
    pen: ImageDraw.ImageDraw

    @classmethod
    def blank(cls, width: int, height: int) -> "Canvas":
        """White paper."""
        image = Image.new("RGB", (width, height), PAPER)
        return cls(image, ImageDraw.Draw(image))

    def text(
        self, x: int, y: int, text: str, width: int, colour: str = INK, size_px: int = TEXT_PX
    ) -> None:
        """One line, cut to `width` with dots."""
        self.pen.text((x, y), shortened(text, width, size_px), fill=colour, font=font(size_px))

    def tag(self, x: int, y: int, kind: Kind, text: str, width: int) -> None:
        """A mark and a text in the colour of its kind."""
        self.mark(x, y, kind)
        self.text(x + MARK_PX, y, text, width - MARK_PX, COLOURS[kind])

    def mark(self, x: int, y: int, kind: Kind) -> None:
        """A tick, a cross or a circle, 11 pixels wide: drawn, as the font has none."""
        colour, top, bottom = COLOURS[kind], y + 3, y + 14
        if kind == "found":
            points = [(x, y + 9), (x + 4, bottom - 1), (x + 11, top)]
            self.pen.line(points, fill=colour, width=2, joint="curve")
        elif kind == "wrong":
            self.pen.line([(x, top), (x + 10, bottom - 1)], fill=colour, width=2)
            self.pen.line([(x, bottom - 1), (x + 10, top)], fill=colour, width=2)
        else:
            self.pen.ellipse([x, top, x + 10, bottom - 1], outline=colour, width=2)

    def picture(self, x: int, y: int, content: bytes, side: int) -> None:
        """A stored picture, fitted into a framed square.

        Raises:
            BadPicture: it cannot be decoded.
        """
        square = images.read_square(content, side)
        self.image.paste(Image.fromarray(square), (x, y))
        self.pen.rectangle([x - 1, y - 1, x + side, y + side], outline=LINE)

    def paragraph(
        self, x: int, y: int, words: Sequence[str], width: int, num_lines: int, colour: str = INK
    ) -> None:
        """Words on at most `num_lines` lines; the last one tells how many are left out."""
        for number, line in enumerate(wrapped(words, width, num_lines)):
            self.text(x, y + number * LINE_PX, line, width, colour)

    def legend(self, x: int, y: int) -> None:
        """What the marks mean, on one line."""
        for kind in KINDS:
            self.tag(x, y, kind, MEANINGS[kind], LEGEND_PX)
            x += LEGEND_PX

    def save(self, path: Path) -> None:
        """Write a PNG, finished or absent."""
        with finished(path) as part:
            stream = io.BytesIO()
            self.image.save(stream, "PNG", optimize=True)
            part.write_bytes(stream.getvalue())


def shortened(text: str, width: int, size_px: int = TEXT_PX) -> str:
    """The text, or as much of it as fits into `width` pixels, with dots."""
    text = printable(text)
    if font(size_px).getlength(text) <= width:
        return text
    while text and font(size_px).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def wrapped(words: Sequence[str], width: int, num_lines: int) -> list[str]:
    """Words with commas on at most `num_lines` lines of `width` pixels."""
    lines: list[str] = []
    for position, word in enumerate(map(printable, words)):
        longer = f"{lines[-1]}, {word}" if lines else word
        if lines and font(TEXT_PX).getlength(longer) <= width:
            lines[-1] = longer
        elif len(lines) < num_lines:
            lines.append(word)
        else:
            lines[-1] = f"and {len(words) - position + lines[-1].count(', ') + 1} more"
            break
    return lines
