"""Ridge regression to all tags at once, its penalty chosen on the validation set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import common
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Linear:
    """A linear scorer of raw features."""

    mean: Floats
    scale: Floats
    weights: Floats
    offset: Floats

    def scores(self, features: Floats) -> Floats:
        """Scores (N, K) of features (N, D)."""
        return ((features - self.mean) / self.scale) @ self.weights + self.offset


def standard(features: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (D) of features (N, D); 1 where a feature is constant."""
    spread = features.std(axis=0)
    return features.mean(axis=0), np.where(spread > 1e-6, spread, np.float32(1.0))


def ridges(
    features: Floats, truth: NDArray[np.uint8], penalties: Sequence[float]
) -> Iterator[tuple[float, Linear]]:
    """Ridge solutions on standardised features, a penalty being a multiple of N.

    The smaller of the two Gram matrices is made once: D x D (normal equations) or N x N (dual).
    """
    mean, scale = standard(features)
    x = (features - mean) / scale
    offset = truth.mean(axis=0, dtype=np.float64).astype(np.float32)
    y = truth.astype(np.float32) - offset
    dual = x.shape[1] > len(x)
    gram = x @ x.T if dual else x.T @ x
    right = y if dual else x.T @ y
    for penalty in penalties:
        damped = gram.copy()
        damped[np.diag_indices_from(damped)] += np.float32(penalty * len(x))
        solved = cho_solve(cho_factor(damped, lower=True, overwrite_a=True), right)
        weights = x.T @ solved if dual else solved
        yield penalty, Linear(mean, scale, weights.astype(np.float32), offset)


def best_ridge(
    train: tuple[Floats, NDArray[np.uint8]],
    val: tuple[Floats, NDArray[np.uint8]],
    penalties: Sequence[float],
    what: str,
) -> tuple[float, float, Linear]:
    """Validation macro AP, penalty and solution of the best penalty; (features, labels) given."""
    best = (-1.0, penalties[0], None)
    for penalty, solution in ridges(*train, penalties):
        ap = common.macro_ap(val[1], solution.scores(val[0]))
        common.say(f"{what}, penalty {penalty:g}: validation macro AP {ap:.4f}")
        # NaN (no tag with enough positives) must not lose against nothing.
        if best[2] is None or ap > best[0]:
            best = (ap, penalty, solution)
    return best
