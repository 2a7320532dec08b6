"""The training loop of the torch rivals: AdamW, one-cycle by the clock, batched augmentation."""

import argparse
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import common
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.optim import param_groups_weight_decay
from torch import nn

THREADS = 2
ASPECTS = (3 / 4, 4 / 3)
"""of the crop, as in torchvision's RandomResizedCrop"""


@dataclass(frozen=True)
class Normalisation:
    """Channel means and standard deviations, of values from 0 to 1."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __call__(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Pictures (N, height, width, 3) as a channels_last tensor (N, 3, height, width)."""
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        x = x.to(torch.float32, memory_format=torch.channels_last)
        scale = 255.0 * torch.tensor(self.deviation).view(1, 3, 1, 1)
        return x / scale - (torch.tensor(self.mean) / torch.tensor(self.deviation)).view(1, 3, 1, 1)


def add_options(
    parser: argparse.ArgumentParser, rate: float, decay: float, crop: float, prior_bias: bool
) -> None:
    """What can be tuned, with a rival's own defaults."""
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--learning-rate", type=float, default=rate, help="at the peak")
    parser.add_argument("--weight-decay", type=float, default=decay)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--warm", type=float, default=0.3, help="share of rising rates")
    parser.add_argument("--crop", type=float, default=crop, help="smallest share of the area")
    parser.add_argument("--aspect", action=flag, default=True, help="crops of aspects 3/4 to 4/3")
    parser.add_argument("--flip", action=flag, default=True)
    parser.add_argument("--prior-bias", action=flag, default=prior_bias)
    parser.add_argument("--bfloat16", action=flag, default=False, help="autocast")
    parser.add_argument("--flip-test", action=flag, default=False, help="mean with the mirrored")


def set_prior_bias(layer: nn.Linear, truth: NDArray[np.uint8]) -> None:
    """Start the tag layer near the training shares (small weights, bias at their log-odds)."""
    share = common.shares(truth)
    nn.init.normal_(layer.weight, 0.0, 0.01)
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(np.log(share / (1 - share))))


def augmented(x: torch.Tensor, options: argparse.Namespace, dice: torch.Generator) -> torch.Tensor:
    """Flip and random resized crop of each picture of a batch, one bilinear sampling for both.

    A crop is never larger than its picture, so that it is only ever enlarged: no aliasing.
    """
    n = len(x)
    area = options.crop + (1 - options.crop) * torch.rand(n, generator=dice)
    low, high = map(math.log, ASPECTS) if options.aspect else (0.0, 0.0)
    aspect = torch.exp(low + (high - low) * torch.rand(n, generator=dice))
    wide, tall = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    side = torch.where(torch.rand(n, generator=dice) < 0.5 * options.flip, -1.0, 1.0)
    place = 2 * torch.rand(2, n, generator=dice) - 1
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = wide * side, place[0] * (1 - wide)
    theta[:, 1, 1], theta[:, 1, 2] = tall, place[1] * (1 - tall)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    made = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return made.contiguous(memory_format=torch.channels_last)


def batches(
    pictures: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    normalise: Normalisation,
    options: argparse.Namespace,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless augmented batches, the next one being made in a thread of its own."""
    dice = torch.Generator().manual_seed(options.seed)
    size = min(options.batch_size, len(pictures))

    def made(chosen: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        x = augmented(normalise(pictures[chosen]), options, dice)
        return x, torch.from_numpy(truth[chosen].astype(np.float32))

    with ThreadPoolExecutor(1) as pool:
        order = picked(len(pictures), size, options.seed)
        coming = pool.submit(made, next(order))
        while True:
            ready = coming.result()
            coming = pool.submit(made, next(order))
            yield ready


def picked(n: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Endless shuffled batches of indices; what is left of a pass is dropped."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(n)
        yield from (order[i : i + size] for i in range(0, n - size + 1, size))


def train(
    model: nn.Module,
    data: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    normalise: Normalisation,
    options: argparse.Namespace,
) -> tuple[float, float]:
    """Train on (pictures, labels) until the minutes are over; seconds and passes it took.

    Norms and biases are not decayed (timm's rule).  The loss is summed over tags: AdamW does not
    see the scale, but its epsilon would see a mean over hundreds of tags.
    """
    groups = param_groups_weight_decay(model, options.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)
    cycle = common.Cycle(options.learning_rate, options.warm)
    seen, clock = 0, common.Clock(options.minutes)
    model.train()
    for x, y in batches(*data, normalise, options):
        rate, momentum = cycle.at(clock.progress)
        for group in optimiser.param_groups:
            group["lr"], group["betas"] = rate, (momentum, 0.999)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            logits = model(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), y, reduction="sum") / len(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen += len(x)
        clock.report(seen / len(data[0]), loss.item())
        if clock.progress >= 1:
            break
    return clock.seconds, seen / len(data[0])


@torch.inference_mode()
def predict(
    model: nn.Module, pictures: NDArray[np.uint8], normalise: Normalisation, mirrored: bool = False
) -> NDArray[np.float32]:
    """Probabilities (N, K) of pictures, if asked for their means with the mirrored pictures'."""
    model.eval()
    made = []
    for start in range(0, len(pictures), 64):
        x = normalise(pictures[start : start + 64])
        views = [x, x.flip(3)] if mirrored else [x]
        made.append(torch.stack([torch.sigmoid(model(view)) for view in views]).mean(0).numpy())
    return np.concatenate(made)


def finish(
    model: nn.Module, normalise: Normalisation, options: argparse.Namespace, about: str
) -> NDArray[np.float32]:
    """Test scores; validation macro AP on stderr if asked for."""

    def scores(name: str) -> NDArray[np.float32]:
        shown = common.pictures(options.arrays, name)
        return predict(model, shown, normalise, options.flip_test)

    if options.validate:
        ap = common.macro_ap(common.labels(options.arrays, "val"), scores("val"))
        common.say(f"{about}: validation macro AP {ap:.4f}")
    return scores("test")


def run(
    model: nn.Module, normalise: Normalisation, options: argparse.Namespace, about: str
) -> None:
    """Load the training set, train, score, save."""
    data = (common.pictures(options.arrays, "train"), common.labels(options.arrays, "train"))
    model = model.to(memory_format=torch.channels_last)
    seconds, passes = train(model, data, normalise, options)
    about += (
        f"; AdamW one-cycle {options.learning_rate:g}, decay {options.weight_decay:g}, "
        f"batch {options.batch_size}, crop {options.crop:g}; {common.versions('torch', 'timm')}"
    )
    common.save(options.out, finish(model, normalise, options, about), seconds, passes, about)
