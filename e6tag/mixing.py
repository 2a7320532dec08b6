"""Mixed examples: MixUp blends two pictures and their labels, CutMix pastes a part of one."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Labels = NDArray[np.float32]

STREAM = 0x6D6978
"""keeps these random numbers apart from those of the pictures"""


def mix(
    pictures: Pictures, labels: Labels, mixup: float, cutmix: float, key: Sequence[int]
) -> tuple[Pictures, Labels]:
    """A batch mixed with itself in another order, by one of the two ways that are asked for.

    Args:
        pictures: (batch, height, width, 3) of 0..255.
        labels: (batch, tags) of 0 and 1.
        mixup, cutmix: parameter a of the Beta(a, a) that the share of the first picture is drawn
            from; 0 for never.  Where both are given, either is taken half of the time.
        key: what the randomness is a function of.

    Returns:
        The same shapes; labels between 0 and 1.
    """
    if not mixup and not cutmix:
        return pictures, labels
    rng = np.random.default_rng([STREAM, *key])
    partner, coin = rng.permutation(len(pictures)), rng.random()
    if cutmix and (not mixup or coin < 0.5):
        return cut(pictures, labels, partner, float(rng.beta(cutmix, cutmix)), rng)
    return blend(pictures, labels, partner, float(rng.beta(mixup, mixup)))


def blend(
    pictures: Pictures, labels: Labels, partner: NDArray[np.int64], share: float
) -> tuple[Pictures, Labels]:
    """share x_i + (1 - share) x_j, and the same of the labels (Zhang et al., arXiv:1710.09412)."""
    mixed = share * pictures.astype(np.float32) + (1 - share) * pictures[partner]
    both = np.float32(share) * labels + np.float32(1 - share) * labels[partner]
    return np.rint(mixed).astype(np.uint8), both


def cut(
    pictures: Pictures, labels: Labels, partner: NDArray[np.int64], share: float, rng: Any
) -> tuple[Pictures, Labels]:
    """A box of 1 - share of the area comes from x_j (Yun et al., arXiv:1905.04899).

    The box lies around a random point and is cut off at the border; labels count by what is left
    of it.
    """
    height, width = pictures.shape[1:3]
    top, bottom, left, right = box(height, width, share, rng)
    mixed = pictures.copy()
    mixed[:, top:bottom, left:right] = pictures[partner, top:bottom, left:right]
    pasted = (bottom - top) * (right - left) / (height * width)
    return mixed, np.float32(1 - pasted) * labels + np.float32(pasted) * labels[partner]


def box(height: int, width: int, share: float, rng: Any) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a box of sides sqrt(1 - share) around a random point."""
    side = math.sqrt(1 - share) / 2
    y, x = rng.integers([height, width])
    return (
        max(0, int(y - side * height)), min(height, int(y + side * height)),
        max(0, int(x - side * width)), min(width, int(x + side * width)),
    )  # fmt: skip
