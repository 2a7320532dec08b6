"""From bytes to pixels: the one preprocessing of download, training, tagging and search.

First frame, 8 bits, colour profile to sRGB, transparency over white, EXIF orientation;
then the longest side to N pixels (shrinking.py) and letterboxed to a square.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from e6tag.colours import (
    BACKGROUND,
    DAMAGE,
    over_white,
    read_orientation,
    split_alpha,
    to_srgb,
    upright,
)
from e6tag.errors import ConfigError, DataError, RunError
from e6tag.shrinking import fitted_size, resize, shrink_while_decoding

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""What is decoded; the others that Pillow knows include some that run programs."""

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
)
"""Files that `list_pictures` takes for pictures."""

MAX_PIXELS = 89_478_485
"""Larger pictures are refused by their header (Pillow's own limit)."""


class BadPicture(DataError):
    """A picture that cannot be used; `reason` is one short word to count by.

    Reasons: empty, not_an_image, too_large, truncated, damaged, unsupported.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture to upright 8-bit sRGB over white, at its full size.

    Args:
        content: a whole file: JPEG, PNG, GIF, WebP, BMP, TIFF or AVIF, told by its content.
        max_pixels: larger pictures are refused before they are decoded; at most `MAX_PIXELS`.

    Raises:
        BadPicture: with the reason.
    """
    with open_picture(content, max_pixels) as image:
        picture = plain_pixels(image)
        return upright(picture, read_orientation(image))


def decode_fitted(content: bytes, longest_side: int, enlarge: bool = True) -> Image.Image:
    """Decode as `decode` does, and bring the longest side to N pixels: faster than one by one.

    All of the file is read and checked nevertheless.

    Args:
        content: as for `decode`.
        longest_side: N.
        enlarge: whether pictures that are smaller become larger.

    Raises:
        BadPicture: with the reason.
    """
    with open_picture(content, MAX_PIXELS) as image:
        if not enlarge and max(image.size) <= longest_side:
            return upright(plain_pixels(image), read_orientation(image))
        size = fitted_size(*image.size, longest_side)
        box = shrink_while_decoding(image, size)
        picture = resize(plain_pixels(image), size, box)
        return upright(picture, read_orientation(image))


def plain_pixels(image: Image.Image) -> Image.Image:
    """Decode an opened file to 8-bit sRGB over white."""
    load(image)
    try:
        colours, alpha = split_alpha(image)
    except ValueError as problem:
        raise BadPicture("unsupported", f"{problem} Save the picture with 8 bits.") from None
    return over_white(to_srgb(colours, image.info.get("icc_profile")), alpha)


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header says, before EXIF orientation.

    Raises:
        BadPicture: not a picture, or too large.
    """
    with open_picture(content, MAX_PIXELS) as image:
        return image.size


def open_picture(content: bytes, max_pixels: int) -> Image.Image:
    """Read the header only, and check the size it states."""
    if not content:
        raise BadPicture("empty", "the file is empty (0 bytes).")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise BadPicture("too_large", f"the picture is too large: {problem}") from None
    except UnidentifiedImageError:
        raise BadPicture("not_an_image", f"not a picture but {describe(content)}.") from None
    except DAMAGE as problem:
        raise BadPicture("damaged", f"the picture's header is damaged ({problem}).") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise BadPicture(
            "too_large", f"{width} x {height} pixels; at most {max_pixels} are decoded."
        )
    return image


SIGNATURES = (
    (b"<svg", "an SVG drawing"),
    (b"<html", "a web page"),
    (b"<!doctype html", "a web page"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\x1aE\xdf\xa3".lower(), "a WebM video"),
    (b"cws", "a Flash file"),
    (b"fws", "a Flash file"),
    (b"%pdf", "a PDF document"),
    (b"{", "JSON"),
)


def describe(content: bytes) -> str:
    """What a file that is not a picture seems to be."""
    start = content[:512].lstrip().lower()
    if content[4:8] == b"ftyp":
        return "a video"
    if start.startswith(b"<?xml") and b"<svg" in start:
        return "an SVG drawing"
    known = [name for signature, name in SIGNATURES if start.startswith(signature)]
    return known[0] if known else "something else"


def load(image: Image.Image) -> None:
    """Decode the first frame in place.

    Raises:
        BadPicture: truncated or damaged.
    """
    try:
        image.load()
    except DAMAGE as problem:
        reason = "truncated" if is_truncation(problem) else "damaged"
        raise BadPicture(reason, f"the picture is {reason} ({problem}).") from None


def is_truncation(problem: Exception) -> bool:
    """Whether a decoder ran out of bytes, by what it says."""
    words = str(problem).lower()
    return isinstance(problem, EOFError) or any(
        word in words for word in ("truncated", "unexpected end", "not enough", "broken png")
    )


def store(image: Image.Image, longest_side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """The form that pictures are kept in: an RGB JPEG, made smaller where needed, never larger.

    Returns:
        The JPEG file, and its (width, height) in pixels.
    """
    if max(image.size) > longest_side:
        image = resize(image, fitted_size(*image.size, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue(), image.size


def letterbox(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Fit an RGB picture into a white square: longest side to `size`, up or down, centred.

    Returns:
        (size, size, 3) uint8.
    """
    return on_square(resize(image, fitted_size(*image.size, size)), size)


def on_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """An RGB picture whose longest side is `size`, in the middle of a white square."""
    width, height = image.size
    if width == height:
        return np.array(image)
    square = np.full((size, size, 3), BACKGROUND, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.asarray(image)
    return square


def read_square(source: bytes | Path, size: int) -> NDArray[np.uint8]:
    """The preprocessing: decode a picture (its bytes, or its path) and letterbox it.

    Returns:
        (size, size, 3) uint8.

    Raises:
        BadPicture: with the reason; the message starts with the path where one was given.
        OSError: the path cannot be read.
    """
    if isinstance(source, bytes):
        return on_square(decode_fitted(source, size), size)
    try:
        return read_square(source.read_bytes(), size)
    except BadPicture as problem:
        raise BadPicture(problem.reason, f"{source}: {problem}") from None


def PREPROCESSING(size: int) -> dict[str, Any]:
    """What `read_square` does, for run.json: a model must meet what it was trained on."""
    return {
        "image_size": size,
        "background": list(BACKGROUND),
        "resample": "bicubic",
        "letterbox": True,
    }


def check_preprocessing(stated: dict[str, Any], path: Path) -> None:
    """Refuse a model that was trained on differently prepared pictures.

    Args:
        stated: the `preprocessing` of a run.
        path: its run.json, for the message.

    Raises:
        RunError: naming the entry that differs.
    """
    for name, value in PREPROCESSING(stated.get("image_size", 0)).items():
        if stated.get(name) != value or not stated.get("image_size"):
            raise RunError(
                f"{path}: preprocessing {name} is {stated.get(name)!r}, this e6tag does "
                f"{value!r}. Use the e6tag version that trained it, or train again."
            )


def list_pictures(paths: Iterable[Path], recursive: bool) -> list[Path]:
    """Pictures (by extension) among files and in folders, sorted, each once.

    A file that is named itself is taken whatever its extension.

    Raises:
        ConfigError: a path does not exist.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            inside = path.rglob("*") if recursive else path.iterdir()
            found.update(p for p in inside if p.suffix.lower() in EXTENSIONS and p.is_file())
        elif path.exists():
            found.add(path)
        else:
            raise ConfigError(f"{path} does not exist. Name a picture or a folder of pictures.")
    return sorted(found)
