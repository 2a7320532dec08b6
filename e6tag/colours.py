"""Any pixels to 8-bit sRGB over white: depth, palette, transparency, profile, orientation."""

import io
import struct
import warnings
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, ImageCms, _imaging

BACKGROUND = (255, 255, 255)

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    RuntimeError,
    Warning,
    struct.error,
)
"""What Pillow raises on damaged files, as its plugins parse them without checking first.

(`Warning`: where a program turns warnings into errors, these are Pillow's complaints.)
"""

# Pillow complains of odd metadata; whether a picture can be used is decided here.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Pillow gives all memory back after each picture unless told to keep some (16 MB here).  In small
# blocks, as large ones go back to the system whenever the next picture's size is another: faulting
# memory in again took a quarter of the time of decoding and storing.
_imaging.set_block_size(1 << 15)
_imaging.set_blocks_max(512)

TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright (EXIF 2.32, tag 0x0112)."""


def read_orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or the EXIF block is broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return orientation if isinstance(orientation, int) else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn and mirror a picture as its EXIF orientation asks."""
    turn = TRANSPOSES.get(orientation)
    return image if turn is None else image.transpose(turn)


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours (mode L, RGB or CMYK) and opacity (mode L, None where all is opaque).

    Raises:
        ValueError: pixels that have no range to scale from, such as floating-point ones.
    """
    mode = image.mode
    if mode.startswith("I"):
        return from_16_bits(image)
    if image.has_transparency_data:
        whole = image if image.mode == "RGBA" else image.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    if mode in ("L", "RGB", "CMYK"):
        return image, None
    if mode in ("F", "LAB", "HSV"):
        raise ValueError(f"pixels of type {mode}.")
    return image.convert("L" if mode == "1" else "RGB"), None


def from_16_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """16-bit grey to 8 bits by scaling (Pillow's own conversion cuts off at 255)."""
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB picture in sRGB; a broken or unfitting colour profile is ignored."""
    transform = profile_transform(profile, image.mode) if profile else None
    if transform is not None:
        return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """LittleCMS transform from an ICC profile to sRGB; None where the profile is unusable."""
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
        )
    except (ImageCms.PyCMSError, *DAMAGE):
        return None


def over_white(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Blend onto white, so that nothing hidden under full transparency shows."""
    if alpha is None:
        return image
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(image, mask=alpha)
    return canvas
