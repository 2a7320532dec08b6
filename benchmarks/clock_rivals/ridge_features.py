"""Rival (e): ridge regression on HOG, a 32x32 thumbnail and an 8x8x8 colour histogram.

Usage: python benchmarks/clock_rivals/ridge_features.py ARRAYS OUT.npz [--penalties P ...]
(whatever --minutes says, it takes the time it takes)
"""

import time
from concurrent.futures import ThreadPoolExecutor

import common
import linear_models
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.transform import resize

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""multiples of the number of training pictures, features being standardised"""


def described(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features (D) of a picture (height, width, 3)."""
    shape = hog(rgb2gray(picture), orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    small = resize(picture, (32, 32), anti_aliasing=True)
    coarse = (picture // 32).reshape(-1, 3).astype(int)
    counts = np.bincount(coarse @ np.array([64, 8, 1]), minlength=512)
    # Square roots: of counts, else the background's bin says all (Hellinger kernel).
    colours = np.sqrt(counts / len(coarse))
    return np.concatenate([shape, small.ravel(), colours]).astype(np.float32)


def features(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features (N, D) of pictures (N, height, width, 3)."""
    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(described, pictures)))


def main() -> None:
    """Describe, solve for each penalty, keep the best, score the test set."""
    parser = common.parser(__doc__)
    parser.add_argument("--penalties", type=float, nargs="+", default=PENALTIES)
    options = parser.parse_args()
    sets = {n: common.pictures(options.arrays, n) for n in ("train", "val", "test")}
    truth = {n: common.labels(options.arrays, n) for n in ("train", "val")}
    began = time.monotonic()
    train, val = [(features(sets[n]), truth[n]) for n in ("train", "val")]
    common.say(f"features {train[0].shape} after {time.monotonic() - began:.0f} s")
    ap, penalty, best = linear_models.best_ridge(train, val, options.penalties, "ridge")
    seconds = time.monotonic() - began
    common.say(f"validation macro AP {ap:.4f}")
    about = f"ridge on HOG, 32x32 thumbnail, 8x8x8 colours; penalty {penalty:g} N chosen on val; "
    about += common.versions("scikit-image", "scikit-learn")
    common.save(options.out, best.scores(features(sets["test"])), seconds, 1.0, about)


if __name__ == "__main__":
    main()
