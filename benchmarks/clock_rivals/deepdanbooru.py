"""DeepDanbooru's network and loss, from its package, at a size that trains in minutes.

Its own functions make the network (`resnet_original_bottleneck_model`, `conv_gap`, sigmoid, as in
its fourth model) with fewer and narrower blocks and as many halvings as 96 pixels bear; its default
loss (cross-entropy; --loss focal for its focal loss), optimiser (Adam, 0.001) and batch (32).
Its `learning_rates` setting changes the rate by passes; here by the share of the time.
Scale and shift are drawn as its default project draws them.  Its default rotation of 0 to 360
degrees is off, since the pictures are upright: --rotation 0 360 turns it on.  One resampling
of a whole batch, made ahead of training, takes the place of its transformation of one picture by
scikit-image (its edge pixels go on beyond the edge, as here).

Usage: PYTHON benchmarks/clock_rivals/deepdanbooru.py ARRAYS OUT.npz --minutes M --seed S
       (PYTHON: of the environment that requirements-deepdanbooru.txt describes)
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import keras_common as common
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
import deepdanbooru as dd  # noqa: E402  (the package, which this file's name would hide)


def build(pixels: int, tags: int, filters: list[int], repeats: list[int]) -> Any:
    """Pictures 0-1 (B,P,P,3) to probabilities (B,K)."""
    inputs = keras.Input((pixels, pixels, 3))
    x = dd.model.resnet.resnet_original_bottleneck_model(
        inputs, filter_sizes=filters, repeat_sizes=repeats, final_pool=False
    )
    x = dd.model.layers.conv_gap(x, tags)
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(x))


def augmented(
    pictures: NDArray[np.uint8], draw: np.random.Generator, options: Any
) -> NDArray[np.float32]:
    """Scaled, turned and shifted pictures, 0-1."""
    count, pixels = len(pictures), pictures.shape[1]
    scale = draw.uniform(*options.scale, (count, 1, 1))
    linear = common.turned(np.deg2rad(draw.uniform(*options.rotation, count))) / scale
    shift = draw.uniform(*options.shift, (count, 2, 1)) * pixels
    return common.warp(pictures, linear, -(linear @ shift)[:, :, 0], "NEAREST") / 255


def rate_at(progress: float, rates: list[str]) -> float:
    """The last rate of START:RATE pairs whose start has been reached."""
    pairs = [tuple(map(float, pair.split(":"))) for pair in rates]
    return [rate for start, rate in pairs if start <= progress][-1]


def parse() -> Any:
    """Command line."""
    parser = common.parser(__doc__, batch=32)
    parser.add_argument("--loss", choices=["binary_crossentropy", "focal"], default=None)
    parser.add_argument(
        "--learning-rates", nargs="+", default=["0:0.001", "0.7:0.0001"], help="SHARE:RATE ..."
    )
    parser.add_argument("--filters", type=int, nargs="+", default=[128, 192, 256, 384, 512])
    parser.add_argument("--repeats", type=int, nargs="+", default=[0, 1, 2, 2, 1])
    parser.add_argument("--scale", type=float, nargs=2, default=[0.9, 1.1])
    parser.add_argument("--rotation", type=float, nargs=2, default=[0.0, 0.0], help="degrees")
    parser.add_argument("--shift", type=float, nargs=2, default=[-0.1, 0.1], help="of the side")
    return parser.parse_args()


def main() -> None:
    """Train by the clock and score."""
    options = parse()
    arrays = common.start(options)
    clock = common.Clock(options.minutes)
    model = build(
        arrays.pictures.shape[1], arrays.labels.shape[1], options.filters, options.repeats
    )
    model.compile(tf.optimizers.Adam(0.001))
    focal = options.loss == "focal"
    loss = dd.model.losses.focal_loss() if focal else tf.keras.losses.BinaryCrossentropy()
    step = common.make_step(model, loss, lambda now: rate_at(now, options.learning_rates))
    draw = np.random.default_rng(options.seed)

    def batch(rows: NDArray[np.intp]) -> common.Batch:
        pictures = augmented(arrays.pictures[rows], draw, options)
        return pictures, arrays.labels[rows].astype(np.float32)

    indices = common.shuffled(len(arrays.pictures), options.batch, options.seed)
    batches = common.ahead(batch, indices, threads=1)
    passes = common.train(step, batches, clock, len(arrays.pictures))
    seconds = clock.seconds()
    about = (
        f"deepdanbooru 1.0.4: its ResNet {options.filters} x {options.repeats}, "
        f"{'focal loss' if focal else 'cross-entropy'}, Adam {' '.join(options.learning_rates)}, "
        f"rotation {options.rotation}; {model.count_params():,} parameters"
    )
    scores = common.predict(model, arrays.asked, 1 / 255)
    common.write(options.out, scores, seconds, passes, about)


if __name__ == "__main__":
    main()
