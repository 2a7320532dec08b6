"""The original tagger as it was written, at a size that trains in minutes.

Its behaviour, in our own words:
- a bottleneck ResNet after DeepDanbooru's fourth, SiLU, down to a 2 x 2 map of two channels a tag;
- a residual attention head: two attention heads of two dimensions, added to a squeezed branch, each
  seen through a kernel as large as the map (a layer without shared weights over one place is a
  convolution), normalised and flattened;
- a sigmoid tag layer with a diagonal normal latent, mean of samples both in training and scoring;
- a focal loss whose cross-entropy is the picture's mean, shared by all its tags, and then the
  robust loss of that value with its shape and scale at 1, which no optimiser knows of;
- both flips, contrast, a quarter turn either way, zoom; momentum 0.99, rate 0.1 - 4 - 0.1,
  batches of 12, no prior bias.

What differs: fewer and narrower blocks and one stage less (96 px then end in the same 2 x 2 map as
224 px did), and fewer samples in training (they took longer than the network; their number changes
the noise of the mean, not what it estimates).  Its loss could be told that it gets logits, and then
raised them to 1e-7 before the sigmoid; its training never did, so that is off: --from-logits.

Usage: python benchmarks/clock_rivals/original.py ARRAYS OUT.npz --minutes M --seed S
"""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import keras_common as common
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

EPSILON = 1e-7
MIN_DEVIATION = 1e-3
LOG_PARTITION = 1.1854952325
"""log of the robust density's normaliser at shape 1, scale 1 (Barron 2019, eq. 12)"""


def focal_of_mean(labels: Any, outputs: Any, from_logits: bool = False) -> Any:
    """Focal weights (B,K), alpha 0.25 and gamma 2, times each picture's mean cross-entropy (B,1).

    `outputs` are probabilities (B,K); as logits, they lose all below 1e-7, so p is 0.5 or more.
    """
    labels = ops.maximum(ops.cast(labels, "float32"), EPSILON)
    outputs = ops.maximum(outputs, EPSILON)
    p = ops.sigmoid(outputs) if from_logits else outputs
    shared = keras.losses.binary_crossentropy(labels, p)[:, None]
    right = p * labels + (1 - p) * (1 - labels)
    return shared * (0.25 * labels + 0.75 * (1 - labels)) * (1 - right) ** 2


def robust(value: Any) -> Any:
    """-log of Barron's density at shape = scale = 1: sqrt(x^2 + 1) - 1 + log Z."""
    return ops.sqrt(value**2 + 1) - 1 + LOG_PARTITION


def triangular(progress: float, low: float, high: float) -> float:
    """Rate at 0-1 of the time: up to `high` at half, down again, never below `low`."""
    return float(np.clip(high - 2 * high * abs(progress - 0.5), low, high))


class SampledSigmoid(layers.Layer):
    """Mean over samples of sigmoid(mu + d e), e standard normal: (B,D) -> (B,K).

    Collier et al. 2020 (arXiv:2003.06778) with no factors, temperature 1, d = softplus + 1e-3.
    """

    def __init__(self, tags: int, samples: int, test_samples: int = 1000) -> None:
        super().__init__()
        self.location, self.deviation = layers.Dense(tags), layers.Dense(tags, "softplus")
        self.samples, self.test_samples = samples, test_samples
        self.noise = keras.random.SeedGenerator()

    def call(self, vectors: Any, training: bool = False) -> Any:
        """Probabilities, kept off 0 and 1 as the way through logits did."""
        mu, d = self.location(vectors), self.deviation(vectors) + MIN_DEVIATION
        count = self.samples if training else self.test_samples
        shape = (ops.shape(mu)[0], count, mu.shape[-1])
        latent = mu[:, None] + d[:, None] * keras.random.normal(shape, seed=self.noise)
        return ops.clip(ops.mean(ops.sigmoid(latent), axis=1), EPSILON, 1 - EPSILON)


def convolved(x: Any, filters: int, kernel: int, stride: int = 1, gamma: str = "ones") -> Any:
    """Convolution and normalisation."""
    x = layers.Conv2D(
        filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.BatchNormalization(gamma_initializer=gamma)(x)


def bottleneck(x: Any, filters: int, stride: int, project: bool) -> Any:
    """1x1, 3x3, 1x1 with a quarter of the filters inside, and the shortcut."""
    y = layers.Activation("silu")(convolved(x, filters // 4, 1))
    y = layers.Activation("silu")(convolved(y, filters // 4, 3, stride))
    y = convolved(y, filters, 1, gamma="zeros")
    shortcut = convolved(x, filters, 1, stride) if project else x
    return layers.Activation("silu")(layers.Add()([y, shortcut]))


def backbone(x: Any, filters: list[int], repeats: list[int]) -> Any:
    """A stage is one block that changes the width, and `repeats` that do not."""
    x = layers.Activation("silu")(convolved(x, filters[0] // 4, 7, 2))
    x = layers.MaxPooling2D(3, 2, "same")(x)
    for stage, (width, count) in enumerate(zip(filters, repeats, strict=True)):
        x = bottleneck(x, width, 2 if stage else 1, project=True)
        for _ in range(count):
            x = bottleneck(x, width, 1, project=False)
    return x


def attention_head(x: Any, squeezed: int = 512) -> Any:
    """Map (B,2,2,C) to a vector (B,C)."""
    size, channels = x.shape[-2], x.shape[-1]
    x = layers.BatchNormalization()(x)
    attended = layers.MultiHeadAttention(2, 2)(x, x)
    attended = layers.Conv2D(channels, size)(attended)
    y = layers.Dense(squeezed, "silu")(layers.Conv2D(channels, size)(x))
    y = layers.LayerNormalization(epsilon=1e-3)(layers.Add()([layers.Dense(channels)(y), attended]))
    return layers.Flatten()(y)


def augmented(pictures: NDArray[np.uint8], draw: np.random.Generator) -> NDArray[np.float32]:
    """Flips both ways, +-90 degrees, zoom 0.75-1.25 in one resampling; contrast 0.75-1.25."""
    count = len(pictures)
    flips = draw.choice([-1.0, 1.0], (count, 1, 2))
    zoom = draw.uniform(0.75, 1.25, (count, 1, 1))
    linear = common.turned(draw.uniform(-np.pi / 2, np.pi / 2, count)) * flips * zoom
    made = common.warp(pictures, linear, np.zeros((count, 2)), "REFLECT")
    mean = made.mean(axis=(1, 2), keepdims=True)
    contrast = draw.uniform(0.75, 1.25, (count, 1, 1, 1)).astype(np.float32)
    return np.clip((made - mean) * contrast + mean, 0, 255)


def build(pixels: int, tags: int, filters: list[int], repeats: list[int], samples: int) -> Any:
    """Pictures 0-255 (B,P,P,3) to probabilities (B,K)."""
    inputs = keras.Input((pixels, pixels, 3))
    x = layers.Lambda(keras.applications.resnet.preprocess_input)(inputs)
    x = layers.Conv2D(2 * tags, 1, use_bias=False, kernel_initializer="he_normal")(
        backbone(x, filters, repeats)
    )
    return keras.Model(inputs, SampledSigmoid(tags, samples)(attention_head(x)))


def parse() -> Any:
    """Command line."""
    parser = common.parser(__doc__, batch=12)
    parser.add_argument("--learning-rate", type=float, default=4.0, help="highest")
    parser.add_argument("--lowest-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.99)
    parser.add_argument("--filters", type=int, nargs="+", default=[128, 192, 256, 384, 512])
    parser.add_argument("--repeats", type=int, nargs="+", default=[0, 1, 2, 2, 1])
    parser.add_argument("--samples", type=int, default=100, help="of the latent, in training")
    parser.add_argument("--from-logits", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train by the clock and score."""
    options = parse()
    arrays = common.start(options)
    clock = common.Clock(options.minutes)
    pixels, tags = arrays.pictures.shape[1], arrays.labels.shape[1]
    model = build(pixels, tags, options.filters, options.repeats, options.samples)
    model.compile(keras.optimizers.SGD(options.lowest_rate, momentum=options.momentum))
    step = common.make_step(
        model,
        lambda y, p: robust(focal_of_mean(y, p, options.from_logits)),
        lambda progress: triangular(progress, options.lowest_rate, options.learning_rate),
    )
    indices = common.shuffled(len(arrays.pictures), options.batch, options.seed)
    draw = np.random.default_rng(options.seed)

    def batch(rows: NDArray[np.intp]) -> common.Batch:
        return augmented(arrays.pictures[rows], draw), arrays.labels[rows].astype(np.float32)

    batches = common.ahead(batch, indices, threads=1)
    passes = common.train(step, batches, clock, len(arrays.pictures))
    seconds = clock.seconds()
    about = (
        f"the original's network, head, loss, optimiser and augmentation; {model.count_params():,} "
        f"parameters, {options.samples} latent samples in training"
    )
    common.write(options.out, common.predict(model, arrays.asked), seconds, passes, about)


if __name__ == "__main__":
    main()
