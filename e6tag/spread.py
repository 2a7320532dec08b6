"""Whether the model's own doubt means something: do decisions of wide spread go wrong more often?

A tag's latent standard deviation grows and shrinks with its probability, and decisions near 0.5
go wrong more often whatever the spread.  So decisions are compared with others of about the same
probability only: within each of many strata of probability, the widest fifth against the
narrowest.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NUM_STRATA = 50
NUM_LEVELS = 5
ENOUGH_PAIRS = 5_000_000
EDGE = 1e-7
COLUMNS = ("level", "pairs", "spread", "probability", "observed", "brier", "expected", "log_loss")


def spread_table(
    y_true: NDArray[Any], y_score: NDArray[Any], uncertainty: NDArray[Any]
) -> pd.DataFrame:
    """Errors by level of spread at matched probability.

    Args:
        y_true: (n, K) of 0 and 1.
        y_score: (n, K) probabilities.
        uncertainty: (n, K) standard deviations of the latent logit.

    Returns:
        A row for each level, narrowest first (`COLUMNS`): how many pairs, means of spread and
        probability, the share that has the tag, mean squared error, the mean squared error that
        the probabilities themselves expect (mean of p (1 - p)), and log loss.  Empty where the
        spread is the same everywhere.
    """
    truth, p, sd = (values.ravel() for values in sampled(y_true, y_score, uncertainty))
    if not differ(sd):
        return pd.DataFrame(columns=list(COLUMNS))
    level = levels(p, sd)
    clipped = np.clip(p, EDGE, 1 - EDGE)
    table = pd.DataFrame(
        {
            "level": level,
            "spread": sd,
            "probability": p,
            "observed": truth,
            "brier": (p - truth) ** 2,
            "expected": p * (1 - p),
            "log_loss": -np.log(np.where(truth > 0, clipped, 1 - clipped)),
        }
    )
    grouped = table.groupby("level")
    means = grouped.mean().reset_index()
    means.insert(1, "pairs", grouped.size().to_numpy())
    return means[list(COLUMNS)]


def sampled(*arrays: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The same every so-many-th row of arrays (n, K), so that about `ENOUGH_PAIRS` are left."""
    every = max(1, arrays[0].size // ENOUGH_PAIRS)
    return (np.asarray(values)[::every].astype(np.float64) for values in arrays)


def differ(sd: NDArray[np.float64]) -> bool:
    """Whether spreads are there and not all the same."""
    return bool(sd.size and np.isfinite(sd).all() and np.ptp(sd) > 0)


class Contrast(NamedTuple):
    """The Brier score of the widest level, in times that of the narrowest."""

    ratio: float
    low: float
    """lower end of its 95% interval"""
    high: float


def contrast(
    y_true: NDArray[Any],
    y_score: NDArray[Any],
    uncertainty: NDArray[Any],
    groups: NDArray[Any] | None = None,
) -> Contrast | None:
    """Whether decisions of wide spread err more than narrow ones of the same probability.

    The interval is the delta method's for the logarithm of a ratio of means (Cochran, Sampling
    Techniques, 3rd ed., 6.3), with whole groups of pictures as the units that vary: decisions
    about one picture, or about near-copies, are not independent.

    Args:
        y_true, y_score, uncertainty: (n, K), as of `spread_table`.
        groups: (n,) group of near-copies of each picture; None where each is its own.

    Returns:
        None where the spread is the same everywhere, there is one group, or a level has no error.
    """
    truth, p, sd = sampled(y_true, y_score, uncertainty)
    if not differ(sd):
        return None
    level, squares = levels(p.ravel(), sd.ravel()).reshape(p.shape), np.square(p - truth)
    units = np.arange(len(y_true)) if groups is None else np.asarray(groups)
    _, unit = np.unique(units[:: max(1, y_true.size // ENOUGH_PAIRS)], return_inverse=True)
    errors, pairs = np.zeros(2), np.zeros(2)
    shares = np.zeros((2, unit.max() + 1))
    for place, which in enumerate((NUM_LEVELS - 1, 0)):
        inside = level == which
        of_unit = [np.bincount(unit, (w * inside).sum(axis=1)) for w in (squares, 1.0)]
        errors[place], pairs[place] = (values.sum() for values in of_unit)
        if errors[place] > 0:
            shares[place] = of_unit[0] / errors[place] - of_unit[1] / pairs[place]
    return interval(errors, pairs, shares) if errors.all() and shares.shape[1] > 1 else None


def interval(
    errors: NDArray[np.float64], pairs: NDArray[np.float64], shares: NDArray[np.float64]
) -> Contrast:
    """Ratio and 95% interval.

    Args:
        errors, pairs: (2,) sums of squared errors, and numbers, of the widest and the narrowest.
        shares: (2, units) what each unit adds to the logarithm of either mean.
    """
    ratio = float(errors[0] / pairs[0] / (errors[1] / pairs[1]))
    num_units = shares.shape[1]
    variance = np.sum(np.square(shares[0] - shares[1])) * num_units / (num_units - 1)
    factor = math.exp(1.96 * math.sqrt(variance))
    return Contrast(ratio, ratio / factor, ratio * factor)


def levels(p: NDArray[np.float64], sd: NDArray[np.float64]) -> NDArray[np.int64]:
    """Level of spread (n,), 0 the narrowest, among pairs of about the same probability.

    Pairs are put in order of probability and cut into strata; each stratum is cut by its own
    order of spread, so that every level has the same number from each stratum.
    """
    by_probability = np.argsort(p, kind="stable")
    stratum = np.empty(len(p), np.int64)
    stratum[by_probability] = np.arange(len(p)) * NUM_STRATA // len(p)
    order = np.lexsort((sd, stratum))
    sizes = np.bincount(stratum, minlength=NUM_STRATA)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    level = np.empty(len(p), np.int64)
    level[order] = (np.arange(len(p)) - starts) * NUM_LEVELS // np.repeat(sizes, sizes)
    return level
