"""Rival (d): a linear probe per tag on the pooled vectors of a frozen EfficientNet-Lite0.

Ridge and L2 logistic regression, on vectors of the picture or on their means with the mirrored
picture's: what is best on the validation set is taken.

Usage: python benchmarks/clock_rivals/linear_probe.py ARRAYS OUT.npz
(whatever --minutes says, it takes the time it takes)
"""

import time

import common
import linear_models
import numpy as np
import torch
import torch.nn.functional as F
from linear_models import Floats, Linear
from numpy.typing import NDArray
from torch import nn
from torch_lite0 import HALF, pretrained
from torch_training import THREADS

RIDGE = (0.01, 0.03, 0.1, 0.3, 1.0)
"""multiples of the number of training pictures, features being standardised"""
LOGISTIC = (3e-4, 1e-3, 3e-3, 1e-2)
"""times half the squared weights, beside the mean loss of a picture"""
VIEWS = ("plain", "with mirrored")


@torch.inference_mode()
def vectors(model: nn.Module, pictures: NDArray[np.uint8]) -> dict[str, Floats]:
    """Pooled vectors (N, 1280) of each kind of view."""
    made = []
    for start in range(0, len(pictures), 64):
        x = HALF(pictures[start : start + 64])
        made.append(torch.stack([model(x), model(x.flip(3))]).numpy())
    both = np.concatenate(made, axis=1)
    return dict(zip(VIEWS, (both[0], both.mean(axis=0)), strict=True))


def logistic(features: Floats, truth: NDArray[np.uint8], penalty: float) -> Linear:
    """L2 logistic regression of each tag: one convex problem, all tags at once, by L-BFGS."""
    mean, scale = linear_models.standard(features)
    x, y = torch.from_numpy((features - mean) / scale), torch.from_numpy(truth.astype(np.float32))
    share = common.shares(truth).astype(np.float32)
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    offset = torch.from_numpy(np.log(share / (1 - share))).requires_grad_()
    solver = torch.optim.LBFGS(
        [weights, offset], max_iter=100, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        solver.zero_grad()
        fit = F.binary_cross_entropy_with_logits(x @ weights + offset, y, reduction="sum") / len(x)
        total = fit + penalty / 2 * weights.square().sum()
        total.backward()
        return total

    solver.step(objective)
    return Linear(mean, scale, weights.detach().numpy(), offset.detach().numpy())


def best_of(
    train: tuple[Floats, NDArray[np.uint8]], val: tuple[Floats, NDArray[np.uint8]], view: str
) -> tuple[float, str, Linear]:
    """Validation macro AP, description and solution of the best kind and penalty."""
    ap, penalty, best = linear_models.best_ridge(train, val, RIDGE, f"{view}, ridge")
    found = (ap, f"ridge, penalty {penalty:g} N", best)
    for penalty in LOGISTIC:
        solution = logistic(*train, penalty)
        ap = common.macro_ap(val[1], solution.scores(val[0]))
        common.say(f"{view}, logistic, penalty {penalty:g}: validation macro AP {ap:.4f}")
        if ap > found[0]:
            found = (ap, f"logistic, penalty {penalty:g}", solution)
    return found


def main() -> None:
    """Vectors, the best probe on validation, test scores."""
    options = common.parser(__doc__).parse_args()
    torch.set_num_threads(THREADS)
    sets = {n: common.pictures(options.arrays, n) for n in ("train", "val", "test")}
    truth = {n: common.labels(options.arrays, n) for n in ("train", "val")}
    began = time.monotonic()
    model = pretrained().eval().to(memory_format=torch.channels_last)
    model.reset_classifier(0)
    train, val = vectors(model, sets["train"]), vectors(model, sets["val"])
    common.say(f"vectors after {time.monotonic() - began:.0f} s")
    found = {v: best_of((train[v], truth["train"]), (val[v], truth["val"]), v) for v in VIEWS}
    view = max(VIEWS, key=lambda name: found[name][0])
    seconds = time.monotonic() - began
    ap, kind, best = found[view]
    common.say(f"validation macro AP {ap:.4f}")
    about = f"frozen EfficientNet-Lite0, {view}, {kind} (all chosen on val); "
    about += common.versions("torch", "timm")
    common.save(options.out, best.scores(vectors(model, sets["test"])[view]), seconds, 1.0, about)


if __name__ == "__main__":
    main()
