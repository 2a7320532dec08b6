"""Calibration: from the model's probabilities to shares that come true.

For each tag p' = sigmoid(slope logit(p) + bias) (Platt 1999), fitted on held-out pictures by
penalised likelihood: a Gaussian prior draws every tag towards the fit of all tags together, so
that a tag with three positives does not get a law of its own.  How strongly is chosen by
cross-validation on the same pictures.  Slopes stay positive, and what is nearer to 0 or 1 than
`EDGE` is pressed together, not cut off: the order of pictures within a tag never changes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import RunError
from e6tag.files import write_text

Floats = NDArray[np.float64]

SPREADS = ((0.0, 0.0), (0.0, 0.3), (0.05, 0.15), (0.1, 0.3), (0.25, 0.75), (0.5, 1.5))
"""How far a tag's slope and bias may be expected to be from the common ones: standard deviations
to choose from; 0 for none, that is, one law for all tags."""
NUM_FOLDS = 4
LEAST_SLOPE = 0.05
MAX_STEPS = 50
TOLERANCE = 1e-9
EDGE = 1e-7
"""probabilities nearer to 0 or 1 than this are taken for hardly nearer"""
BEYOND = 1e-3
"""how much of the logit's way beyond `EDGE` counts: enough to tell such scores apart"""
LEAST = 1e-46
"""what 0 is taken for; below every other float32"""
BLOCK_TAGS = 64
ENOUGH_PAIRS = 4_000_000
"""(picture, tag) pairs that are enough for what all tags have in common"""
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class Platt:
    """A slope and a bias for each of K tags."""

    slope: Floats
    """(K,), positive"""
    bias: Floats
    """(K,)"""

    def apply(self, probabilities: NDArray[Any]) -> Floats:
        """Calibrated probabilities of the same shape (..., K), float64; monotone in each tag."""
        return sigmoid(self.slope * logit(probabilities) + self.bias)

    def apply_to_thresholds(self, thresholds: Floats) -> Floats:
        """Cut-offs (K,) for calibrated probabilities that let the same pictures through.

        Cut-offs beyond 0..1 (infinite ones too) stay beyond: always and never remain so.
        """
        inside = (thresholds >= 0) & (thresholds <= 1)
        return np.where(inside, self.apply(np.where(inside, thresholds, 0.5)), thresholds)


def logit(probabilities: NDArray[Any]) -> Floats:
    """log(p / (1 - p)), finite at 0 and 1 too, where it grows more slowly.

    Scores such as those of a softmax over many tags may all be beyond `EDGE`: cut off there they
    would be equal, at their full logits a single positive among them would rule the fit.
    """
    p = np.asarray(probabilities, np.float64)
    inner = np.clip(p, EDGE, 1 - EDGE)
    logits: Floats = np.log(inner) - np.log1p(-inner)
    if (p != inner).any():
        low, high = EDGE / np.clip(p, LEAST, EDGE), EDGE / np.clip(1 - p, LEAST, EDGE)
        logits = logits + BEYOND * (np.log(high) - np.log(low))
    return logits


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow, and to full precision near 0."""
    odds = np.exp(-np.abs(logits))
    return np.where(logits < 0, odds, 1.0) / (1.0 + odds)


def fit(y_true: NDArray[Any], y_score: NDArray[Any], groups: NDArray[Any] | None = None) -> Platt:
    """Fit slopes and biases on held-out pictures.

    Args:
        y_true: (n, K) of 0 and 1.
        y_score: (n, K) probabilities.
        groups: (n,) pictures of equal value are near-copies: they stay together in the folds of
            the cross-validation, or it would find too much in rare tags.
    """
    truth = np.asarray(y_true) != 0
    fold = folds(np.arange(len(truth)) if groups is None else groups)
    few = slice(None, max(ENOUGH_PAIRS // max(truth.shape[1], 1), 1000))
    losses = np.array(
        [held_out_losses(truth[few], y_score[few], fold[few], spread) for spread in SPREADS]
    )
    return fit_spread(truth, y_score, SPREADS[simplest(losses)])


def simplest(losses: Floats) -> int:
    """The first (simplest) law that is not surely worse than the best.

    The one-standard-error rule (Breiman et al. 1984), on the differences fold by fold.

    Args:
        losses: (laws, folds), simple laws first.
    """
    worse = losses - losses[np.argmin(losses.sum(axis=1))]
    error = worse.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    return int(np.argmax(worse.mean(axis=1) <= error))


def folds(groups: NDArray[Any]) -> NDArray[np.int64]:
    """A fold (n,) for each picture; groups are dealt out in the order in which they appear."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    dealt: NDArray[np.int64] = order[number] % NUM_FOLDS
    return dealt


def held_out_losses(
    truth: NDArray[np.bool_],
    scores: NDArray[Any],
    fold: NDArray[np.int64],
    spread: tuple[float, float],
) -> list[float]:
    """Log loss of each fold (NUM_FOLDS) under the calibration fitted on the others."""
    losses = []
    for held in range(NUM_FOLDS):
        inside = fold == held
        if not inside.any() or inside.all():
            losses.append(0.0)
            continue
        fitted = fit_spread(truth[~inside], scores[~inside], spread)
        logits = fitted.slope * logit(scores[inside]) + fitted.bias
        losses.append(float(np.logaddexp(0.0, np.where(truth[inside], -logits, logits)).sum()))
    return losses


def fit_spread(
    truth: NDArray[np.bool_], scores: NDArray[Any], spread: tuple[float, float]
) -> Platt:
    """Fit with given standard deviations of the prior around the common law."""
    num_tags = truth.shape[1]
    common = fit_common(truth, scores)
    slope, bias = np.full(num_tags, common[0]), np.full(num_tags, common[1])
    if any(spread):
        sd = (max(spread[0], 1e-6), max(spread[1], 1e-6))
        for start in range(0, num_tags, BLOCK_TAGS):
            block = slice(start, start + BLOCK_TAGS)
            z = logit(scores[:, block])
            slope[block], bias[block] = newton(z, truth[:, block], common, sd)
    return Platt(np.maximum(slope, LEAST_SLOPE), bias)


def fit_common(truth: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[float, float]:
    """Slope and bias of all (picture, tag) pairs together; a weak prior keeps them finite."""
    every = max(1, truth.size // ENOUGH_PAIRS)
    z, labels = logit(scores[::every]).reshape(-1, 1), truth[::every].reshape(-1, 1)
    slope, bias = newton(z, labels, (1.0, 0.0), (10.0, 10.0))
    return max(float(slope[0]), LEAST_SLOPE), float(bias[0])


def newton(
    z: Floats, truth: NDArray[np.bool_], centre: tuple[float, float], sd: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Maximise the penalised likelihood of each column: (slopes, biases), (K,) each.

    The objective is convex; steps are halved for columns that they would make worse.

    Args:
        z: (n, K) logits.
        truth: (n, K) labels.
        centre: mean of the prior of slope and bias.
        sd: its standard deviations.
    """
    at = np.repeat(np.array(centre)[:, None], z.shape[1], axis=1)
    mean, weight = np.array(centre)[:, None], np.array([[sd[0] ** -2], [sd[1] ** -2]])
    value = penalty(z, truth, at, mean, weight)
    for _ in range(MAX_STEPS):
        step = newton_step(z, truth, at, mean, weight)
        scale = np.ones(z.shape[1])
        for _ in range(30):
            new = at - scale * step
            new_value = penalty(z, truth, new, mean, weight)
            worse = new_value > value + 1e-12 * np.abs(value)
            if not worse.any():
                break
            scale[worse] /= 2
        at, value = np.where(worse, at, new), np.where(worse, value, new_value)
        if np.abs(scale * step).max(initial=0.0) < TOLERANCE:
            break
    return at[0], at[1]


def penalty(
    z: Floats, truth: NDArray[np.bool_], at: Floats, mean: Floats, weight: Floats
) -> Floats:
    """Negative log likelihood plus that of the prior, of each column (K,)."""
    logits = at[0] * z + at[1]
    loss = np.logaddexp(0.0, logits).sum(axis=0) - np.where(truth, logits, 0.0).sum(axis=0)
    return loss + 0.5 * (weight * (at - mean) ** 2).sum(axis=0)


def newton_step(
    z: Floats, truth: NDArray[np.bool_], at: Floats, mean: Floats, weight: Floats
) -> Floats:
    """Inverse Hessian times gradient of `penalty`, (2, K)."""
    p = sigmoid(at[0] * z + at[1])
    residual, spread = p - truth, p * (1 - p)
    pull = weight * (at - mean)
    slope_gradient = (residual * z).sum(axis=0) + pull[0]
    bias_gradient = residual.sum(axis=0) + pull[1]
    curved = spread * z
    aa = (curved * z).sum(axis=0) + weight[0]
    ab, bb = curved.sum(axis=0), spread.sum(axis=0) + weight[1]
    determinant = aa * bb - ab * ab
    return np.stack(
        [
            (bb * slope_gradient - ab * bias_gradient) / determinant,
            (aa * bias_gradient - ab * slope_gradient) / determinant,
        ]
    )


def write(path: Path, names: Sequence[str], calibration: Platt) -> None:
    """Write calibration.csv (name,slope,bias), finished or absent."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "slope", "bias"])
    numbers = zip(calibration.slope.tolist(), calibration.bias.tolist(), strict=True)
    writer.writerows(
        [name, f"{slope:.9g}", f"{bias:.9g}"]
        for name, (slope, bias) in zip(names, numbers, strict=True)
    )
    write_text(path, text.getvalue())


def read(path: Path, names: Sequence[str]) -> Platt:
    """Read calibration.csv in the order of `names`.

    Raises:
        RunError: it does not give each tag a positive slope and a finite bias.
    """
    remedy = "Run eval.py to write it anew, or remove it."
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is too large")
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        by_name = {row["name"]: (float(row["slope"]), float(row["bias"])) for row in rows}
        slope, bias = np.array([by_name[name] for name in names], float).reshape(-1, 2).T
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as problem:
        raise RunError(
            f"{path} is damaged: expected name,slope,bias for every tag ({problem}). {remedy}"
        ) from None
    if not (np.isfinite(slope).all() and np.isfinite(bias).all() and (slope > 0).all()):
        raise RunError(f"{path} is damaged: slopes must be positive, biases finite. {remedy}")
    return Platt(slope, bias)
