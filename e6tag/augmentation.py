"""Random changes to a training picture; what they draw from is handed to them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

DIRECTIONAL = re.compile(
    r"(^|_)(left|right|leftwards?|rightwards?|clockwise|counterclockwise|arrows?|text|letters?|"
    r"alphanum|keycap|numbers?|digits?|flags?|country-flag|subdivision-flag|clock|signature|"
    r"english_text|mirrored|asymmetrical)(_|$)"
)
"""Tags that a mirrored picture would no longer show: pictures that have one are not flipped."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training pictures."""

    flip: bool = True
    """mirror half of the pictures whose tags do not forbid it"""
    crop: float = 0.8
    """smallest share of the area that a random crop keeps; 1 for none"""
    colour_jitter: float = 0.0
    """largest relative change of brightness, contrast and saturation; 0 for none"""
    trivial_augment: bool = False
    """one random operation of a random strength"""
    mixup: float = 0.0
    """parameter of the share at which pairs are blended; 0 for none (`mixing`)"""
    cutmix: float = 0.0
    """parameter of the share that is pasted from another picture; 0 for none (`mixing`)"""


def is_directional(name: str) -> bool:
    """Whether mirroring a picture would make this tag wrong."""
    return DIRECTIONAL.search(name) is not None


def augment(image: Image.Image, change: Augmentation, flippable: bool, rng: Any) -> Image.Image:
    """A random crop of the same aspect ratio, mirrored or not, changed in colour or shape.

    Every kind of change draws from numbers of its own, so that one option does not change what
    another one draws.
    """
    area, left, top, mirror = rng.random(4)
    # Making generators takes as long as reading the picture; to spawn draws nothing.
    wanted = change.trivial_augment or change.colour_jitter
    colour, trivial = rng.spawn(2) if wanted else (None, None)
    if change.crop < 1:
        image = crop(image, math.sqrt(change.crop + (1 - change.crop) * area), left, top)
    if change.flip and flippable and mirror < 0.5:
        image = ImageOps.mirror(image)
    if change.trivial_augment:
        name, strength, sign = choose_operation(trivial, flippable)
        image = OPERATIONS[name](image, strength, sign)
    if change.colour_jitter:
        image = jitter(image, change.colour_jitter, colour)
    return image


def crop(image: Image.Image, side: float, left: float, top: float) -> Image.Image:
    """The box whose sides are `side` of the picture's, placed at shares `left` and `top`."""
    width = max(1, round(image.width * side))
    height = max(1, round(image.height * side))
    x = round(left * (image.width - width))
    y = round(top * (image.height - height))
    return image.crop((x, y, x + width, y + height))


def jitter(image: Image.Image, most: float, rng: Any) -> Image.Image:
    """Brightness, contrast and saturation times factors from [1 - most, 1 + most], in this order.

    torchvision's ColorJitter without its shift of hue: colours are tags.
    """
    low, high = max(0.0, 1 - most), 1 + most
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(float(rng.uniform(low, high)))
    return image


# TrivialAugment (Mueller and Hutter 2021, arXiv:2103.10158): one operation at random, at a strength
# at random.  Operations and ranges are RandAugment's (arXiv:1909.13719), but for translation, which
# is at most 1 / 7 of a side: TrivialAugment's 32 pixels of 224.

STRENGTHS = 31
"""levels of strength, of which one is drawn"""
WHITE = (255, 255, 255)
ROTATIONS = frozenset({"rotate"})
"""never for pictures with direction-sensitive tags"""
Operation = Callable[[Image.Image, float, int], Image.Image]
"""(picture, strength 0..1, sign -1 or 1) -> picture"""


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Each pixel (x, y) taken from (a x + b y + c, d x + e y + f); white where that is outside."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=WHITE
    )


def shift(image: Image.Image, x: float, y: float) -> Image.Image:
    """To the left and up, by shares of the sides."""
    return affine(image, (1, 0, image.width * x, 0, 1, image.height * y))


def rotate(image: Image.Image, strength: float, sign: int) -> Image.Image:
    """By up to 30 degrees around the middle."""
    return image.rotate(30 * strength * sign, Image.Resampling.BILINEAR, fillcolor=WHITE)


def enhancer(kind: Any) -> Operation:
    """An operation that changes a property by a factor from 0.1 to 1.9."""
    return lambda image, strength, sign: kind(image).enhance(1 + 0.9 * strength * sign)


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, s, sign: image,
    "shear_x": lambda image, s, sign: affine(image, (1, 0.3 * s * sign, 0, 0, 1, 0)),
    "shear_y": lambda image, s, sign: affine(image, (1, 0, 0, 0.3 * s * sign, 1, 0)),
    "translate_x": lambda image, s, sign: shift(image, s * sign / 7, 0),
    "translate_y": lambda image, s, sign: shift(image, 0, s * sign / 7),
    "rotate": rotate,
    "brightness": enhancer(ImageEnhance.Brightness),
    "colour": enhancer(ImageEnhance.Color),
    "contrast": enhancer(ImageEnhance.Contrast),
    "sharpness": enhancer(ImageEnhance.Sharpness),
    "posterize": lambda image, s, sign: ImageOps.posterize(image, 8 - round(4 * s)),
    "solarize": lambda image, s, sign: ImageOps.solarize(image, round(256 * (1 - s))),
    "autocontrast": lambda image, s, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, s, sign: ImageOps.equalize(image),
}  # fmt: skip


def choose_operation(rng: Any, turnable: bool) -> tuple[str, float, int]:
    """Name, strength (0..1 in 30 steps) and sign of the operation for one picture."""
    names = [name for name in OPERATIONS if turnable or name not in ROTATIONS]
    name, level, sign = rng.integers([len(names), STRENGTHS, 2])
    return names[name], level / (STRENGTHS - 1), 2 * int(sign) - 1
