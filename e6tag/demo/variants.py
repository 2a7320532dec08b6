"""The smaller files of a post, by e621's rules: which exist, how large, what they look like.

Source: e621ng, app/logical/image_sampler.rb and app/models/post.rb (2026).
"""

import io
from typing import NamedTuple

from PIL import Image

SAMPLE_SIDE_PX = 850
"""shorter side of a sample; its longer side is at most twice this"""
PREVIEW_SIDE_PX = 256
"""shorter side of a preview; its longer side is cropped at twice this"""
QUALITY = 90
WEBP_EFFORT = 0
"""libwebp's method: 0 takes a third of the time of the default 4 and some more bytes"""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


def has_sample(size: Size, ext: str, *, animated: bool = False) -> bool:
    """Whether the site makes a sample of a picture of this size."""
    if ext in ("gif", "swf") or animated:
        return False
    return min(size) > SAMPLE_SIDE_PX or max(size) > 2 * SAMPLE_SIDE_PX


def has_preview(size: Size, ext: str) -> bool:
    """Whether the site makes a preview: not of Flash, nor of slivers one pixel wide."""
    return ext != "swf" and min(size) > 1


def sample_size(size: Size) -> Size:
    """Size of the sample: shorter side 850, unless the longer would pass 1700."""
    factor = min(SAMPLE_SIDE_PX / min(size), 2 * SAMPLE_SIDE_PX / max(size))
    return Size(max(1, round(size.width * factor)), max(1, round(size.height * factor)))


def preview_size(size: Size) -> Size:
    """Size of the preview: shorter side 256, longer at most 512 (the rest is cropped)."""
    factor = PREVIEW_SIDE_PX / min(size)
    longest = 2 * PREVIEW_SIDE_PX
    return Size(min(round(size.width * factor), longest), min(round(size.height * factor), longest))


def with_plain_pixels(image: Image.Image) -> Image.Image:
    """The picture as RGBA if anything in it can be transparent, else as RGB."""
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def make_sample(image: Image.Image) -> Image.Image:
    """The whole picture, scaled."""
    return image.resize(sample_size(Size(*image.size)), Image.Resampling.LANCZOS, reducing_gap=2.0)


def make_preview(image: Image.Image) -> Image.Image:
    """The middle of the picture, scaled: all of it unless it is longer than 2:1.

    The site crops where the picture has most detail; the middle stands in for that.
    """
    size = preview_size(Size(*image.size))
    shorter = min(image.size)
    width = min(image.width, 2 * shorter)
    height = min(image.height, 2 * shorter)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, left + width, top + height)
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)


def flattened(image: Image.Image, bg_color: str) -> Image.Image:
    """The picture as RGB, transparent parts showing `bg_color` (six hexadecimal digits)."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, f"#{bg_color}")
    return Image.alpha_composite(ground, image).convert("RGB")


def jpeg(image: Image.Image, bg_color: str) -> bytes:
    """A progressive JPEG; it has no transparency, so `bg_color` shows through."""
    stream = io.BytesIO()
    flattened(image, bg_color).save(
        stream, "JPEG", quality=QUALITY, optimize=True, progressive=True
    )
    return stream.getvalue()


def webp(image: Image.Image) -> bytes:
    """A WebP; transparent parts stay transparent."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=WEBP_EFFORT)
    return stream.getvalue()
