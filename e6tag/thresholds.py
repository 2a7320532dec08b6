"""Cut-offs for probabilities: fitted on one set of pictures, used on others.

Three rules (best F1, precision = recall, a promised precision), for each tag, each category or
all tags together.  Pure functions over arrays.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.ranking import Curve, best_threshold, ranking_curve
from e6tag.tag_rankings import map_tags, micro_curve

Rule = Literal["f1", "balanced"]
Floats = NDArray[np.float64]

WITHHELD = math.inf
"""the cut-off of a tag that is never predicted"""
SHRINKAGE = 10.0
"""positives at which a tag's own cut-off and the common one count the same"""
CONFIDENCE = 0.95
STARTS = 4
"""places from which a promise is tried, each with its share of the allowed error"""
GROWTH = 1.05
"""from one number of predicted pictures to the next that is tried"""
EXACT_TAIL = 2000
"""predictions up to which the binomial tail is summed; above, Chernoff's bound stands for it"""
DECIMALS = 6


@dataclass(frozen=True)
class Fitted:
    """Cut-offs and how they were found."""

    thresholds: Floats
    """(K,); a tag is predicted at or above its own; `WITHHELD` for never"""
    rule: str
    """f1, balanced or precision>=TARGET"""
    table: pd.DataFrame
    """K rows: threshold, rule, positives, precision, recall on the pictures they were fitted on"""

    @property
    def withheld(self) -> NDArray[np.bool_]:
        """(K,): tags that cannot keep the promise."""
        return np.isinf(self.thresholds)


def fit(
    y_true: NDArray[Any],
    y_score: NDArray[Any],
    groups: NDArray[np.int64],
    rule: Rule = "f1",
    target_precision: float | None = None,
) -> Fitted:
    """Fit the cut-offs.

    Args:
        y_true: (n, K) of 0 and 1.
        y_score: (n, K) finite scores.
        groups: (K,) tags of equal number share one cut-off.
        rule: what makes a cut-off a good one.
        target_precision: in (0, 1): promise this precision instead of following `rule`.
    """
    truth = y_true != 0
    if target_precision is not None:
        name = f"precision>={target_precision:g}"
        promise = functools.partial(promised_threshold, target=target_precision)
        exact, rounding = by_group(truth, y_score, groups, promise), round_up
    else:
        name = rule
        exact, rounding = shrunk(truth, y_score, groups, RULES[rule]), round_down
    thresholds = np.array([rounding(value) for value in exact.tolist()])
    return Fitted(thresholds, name, describe(truth, y_score, thresholds, name))


def by_group(
    truth: NDArray[np.bool_],
    scores: NDArray[Any],
    groups: NDArray[np.int64],
    cut: Callable[[NDArray[np.bool_], NDArray[Any]], float],
) -> Floats:
    """The cut-off of each tag's group, (K,): found on all its (picture, tag) pairs together."""
    thresholds = np.empty(truth.shape[1])
    for group in np.unique(groups):
        columns = np.flatnonzero(groups == group)
        thresholds[columns] = cut(truth[:, columns].ravel(), scores[:, columns].ravel())
    return thresholds


def shrunk(
    truth: NDArray[np.bool_],
    scores: NDArray[Any],
    groups: NDArray[np.int64],
    choose: Callable[[Curve], float],
) -> Floats:
    """Each group's cut-off, drawn towards the common one where the group has few positives.

    (n own + SHRINKAGE common) / (n + SHRINKAGE), n the group's positives; the best cut-off of a
    rare tag is mostly luck.  A group without positives gets the common one.
    """
    common = choose(micro_curve(truth, scores))
    if len(np.unique(groups)) == len(groups):
        own = np.array(list(map_tags(choose, truth, scores)))
    else:
        own = by_group(truth, scores, groups, lambda t, s: choose(ranking_curve(t, s)))
    of_tag = truth.sum(axis=0)
    positives = np.bincount(groups, of_tag)[groups]
    trust = positives / (positives + SHRINKAGE)
    return np.where(positives > 0, trust * own + (1 - trust) * common, common)


def balanced_threshold(curve: Curve) -> float:
    """Score from which on as many are predicted as are positive: precision = recall.

    Ties may forbid it exactly: then the cut-off where the two are nearest, the highest of equals.
    0.5 where there is no positive.
    """
    if not len(curve.hits):
        return 0.5
    gap = np.abs(curve.hits + curve.misses - curve.hits[-1])
    return float(curve.thresholds[np.argmin(gap)])


RULES: dict[Rule, Callable[[Curve], float]] = {"f1": best_threshold, "balanced": balanced_threshold}


def promised_threshold(
    truth: NDArray[np.bool_],
    scores: NDArray[Any],
    target: float,
    confidence: float = CONFIDENCE,
) -> float:
    """The lowest cut-off whose true precision is at least `target`, with this confidence.

    Given the n-th highest score s, the pictures above s are drawn independently from all that
    score above s, so their positives are binomial, and a one-sided exact test (Clopper and
    Pearson 1934) of "precision above s < target" is valid.  Many n are tried, so that the error
    is shared out: from `STARTS` places of a fixed grid of n, each walks to larger n as long as
    every test rejects (fixed-sequence testing with several starts; Angelopoulos et al.,
    arXiv:2110.01052, section 4).  The grid depends on the number of pictures only.

    Args:
        truth: (n,) labels.
        scores: (n,) scores.
        target: wanted precision, in (0, 1).
        confidence: chance that the promise is kept.

    Returns:
        A number just above s, or `WITHHELD` where no test rejects.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.concatenate([[0], np.cumsum(truth[order])])
    grid = tries(len(scores), target, confidence)
    starts = sorted({len(grid) * number // STARTS for number in range(STARTS)})
    allowed = (1 - confidence) / max(len(starts), 1)
    best = WITHHELD
    for start in starts if grid else ():
        for number in grid[start:]:
            cut = ranked[number - 1]
            above = int(np.searchsorted(-ranked, -cut, side="left"))
            if tail_bound(int(hits[above]), above, target) > allowed:
                break
            best = min(best, float(np.nextafter(cut, math.inf, dtype=ranked.dtype)))
    return best


def tries(num_scores: int, target: float, confidence: float) -> list[int]:
    """Places in the ranking to try as cut-offs: from the first that could pass, growing evenly."""
    fewest = math.ceil(math.log((1 - confidence) / STARTS) / math.log(target)) + 1
    places, place = [], float(fewest)
    while place <= num_scores:
        places.append(int(place))
        place = max(place * GROWTH, place + 1)
    return places


def tail_bound(hits: int, number: int, share: float) -> float:
    """Chance, or an upper bound of it, of `hits` or more out of `number` that each hit at `share`.

    Exact (a sum of binomial terms) up to `EXACT_TAIL`; above Chernoff's bound
    exp(-number KL(hits / number || share)).
    """
    if hits <= number * share:
        return 1.0
    if number > EXACT_TAIL:
        found = hits / number
        divergence = found * math.log(found / share)
        if found < 1:
            divergence += (1 - found) * math.log((1 - found) / (1 - share))
        return math.exp(-number * divergence)
    whole = math.lgamma(number + 1)
    logs = [
        whole - math.lgamma(k + 1) - math.lgamma(number - k + 1)
        + k * math.log(share) + (number - k) * math.log1p(-share)
        for k in range(hits, number + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def round_up(value: float) -> float:
    """At `DECIMALS` significant digits, as the file holds it, and never lower: a promise stays."""
    rounded = float(f"{value:.{DECIMALS}g}")
    if rounded >= value or math.isinf(value):
        return rounded
    step = 10.0 ** (math.floor(math.log10(abs(value))) - DECIMALS + 1) if value else 0.0
    return float(f"{rounded + step:.{DECIMALS}g}")


def round_down(value: float) -> float:
    """The same, and never higher: the scores that the cut-off was found at stay above it."""
    return -round_up(-value)


def describe(
    truth: NDArray[np.bool_], scores: NDArray[Any], thresholds: Floats, rule: str
) -> pd.DataFrame:
    """What each cut-off does on the pictures it was fitted on; nan where a share is of nothing."""
    predicted = scores >= thresholds
    hits = np.count_nonzero(truth & predicted, axis=0)
    positives, guessed = truth.sum(axis=0), predicted.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / guessed, hits / positives
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "rule": rule,
            "val_positives": positives,
            "val_precision": precision,
            "val_recall": recall,
        }
    )


def groups_of(categories: list[str], shared: str) -> NDArray[np.int64]:
    """Which tags share a cut-off, (K,): per-tag, per-category or global."""
    if shared == "per-tag":
        return np.arange(len(categories))
    if shared == "per-category":
        return np.unique(np.array(categories), return_inverse=True)[1].astype(np.int64)
    return np.zeros(len(categories), np.int64)
