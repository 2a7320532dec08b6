"""Whether the model's own doubt means something: do decisions of wide spread go wrong more often?

A tag's latent standard deviation grows and shrinks with its probability, and decisions near 0.5
go wrong more often whatever the spread.  So decisions are compared with others of about the same
probability only: within each of many strata of probability, the widest fifth against the
narrowest.
"""

from typing import Any

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
    every = max(1, y_true.size // ENOUGH_PAIRS)
    truth, p, sd = (
        np.asarray(values)[::every].ravel().astype(np.float64)
        for values in (y_true, y_score, uncertainty)
    )
    if not len(sd) or not np.isfinite(sd).all() or np.ptp(sd) == 0:
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
