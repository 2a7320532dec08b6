"""Rival (g): every picture gets the share of training pictures that have each tag.

Usage: python benchmarks/clock_rivals/prior.py ARRAYS OUT.npz [--validate]
"""

import time

import common
import numpy as np
from numpy.typing import NDArray


def main() -> None:
    """Count, repeat, save."""
    options = common.parser(__doc__).parse_args()
    truth = common.labels(options.arrays, "train")
    began = time.monotonic()
    shares = common.shares(truth).astype(np.float32)
    seconds = time.monotonic() - began

    def scores(name: str) -> NDArray[np.float32]:
        return np.tile(shares, (len(common.labels(options.arrays, name)), 1))

    if options.validate:
        ap = common.macro_ap(common.labels(options.arrays, "val"), scores("val"))
        common.say(f"validation macro AP {ap:.4f}")
    common.save(options.out, scores("test"), seconds, 1.0, "training shares, the same for all")


if __name__ == "__main__":
    main()
