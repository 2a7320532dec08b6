"""How good predictions are: figures of a split, of each tag and of groups of tags.

Pure functions over arrays; everything is measured for the model and, in the same way, for
the prior-only predictor, which gives each tag its share of the training pictures, always.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import confusion, metrics
from e6tag.calibration import Platt
from e6tag.figures import FIGURES
from e6tag.tag_rankings import Labels

BAND_EDGES = (0, 1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
"""lower ends of the frequency bands, in training pictures"""


NUM_BINS = 10
"""of the reliability plot"""
RATIOS = ("precision", "recall", "f1")
AT_THRESHOLDS = (*(f"{kind}_{name}" for kind in ("micro", "macro") for name in RATIOS), "accuracy")
"""figures of yes/no decisions"""
GROUP_COLUMNS = ("ap", "prior_ap", "auc", "f1")
"""columns of per_tag.csv that have means over groups of tags"""


@dataclass(frozen=True)
class Scored:
    """Labels and probabilities of the same n pictures and K tags."""

    rows: pd.DataFrame
    """n rows of the manifest"""
    labels: NDArray[np.uint8]
    """(n, K), columns of the run"""
    probabilities: NDArray[np.floating]
    """(n, K)"""
    uncertainty: NDArray[np.float32] | None = None
    """(n, K), standard deviation of the latent logit, where the model gives one"""

    def calibrated(self, calibration: Platt | None) -> "Scored":
        """The same with calibrated probabilities; itself where there is no calibration."""
        if calibration is None:
            return self
        return replace(self, probabilities=calibration.apply(self.probabilities))

    def calibration(self) -> metrics.Calibration:
        """Stated and observed shares in bins of equal width, for a plot."""
        edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
        return metrics.calibration(self.labels, self.probabilities, edges)

    def calibration_by_mass(self) -> metrics.Calibration:
        """The same in bins of equal numbers of decisions."""
        return metrics.calibration(self.labels, self.probabilities)


@dataclass(frozen=True)
class Judgement:
    """What the model and the prior-only predictor reach."""

    model: dict[str, float]
    prior: dict[str, float]
    per_tag: pd.DataFrame
    """the content of per_tag.csv, one row a tag"""
    thresholds: NDArray[np.float64]
    """(K,)"""
    shares: NDArray[np.float64]
    """(K,), what the prior-only predictor says of every picture"""
    prior_thresholds: NDArray[np.float64]
    """(K,)"""


def prior_thresholds(labels: NDArray[Any], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut-offs (K,) for scores that are the tags' shares, a hair lower, for these tie exactly."""
    fitted = metrics.best_f1_thresholds(labels, metrics.prior_scores(shares, len(labels)))
    return fitted * (1 - 1e-9)


def judge(
    tags: pd.DataFrame,
    num_train: int,
    val: Scored | None,
    held: Scored,
    thresholds: NDArray[np.float64],
    min_positives: int,
) -> Judgement:
    """Measure the model and the prior-only predictor.

    Args:
        tags: K rows with name, category, and num_train: training pictures that have the tag.
        num_train: training pictures in all.
        val: the prior-only predictor's thresholds are fitted on these, and on nothing else; None
            where there are none.
        held: figures are taken on these.
        thresholds: (K,) the model's, fitted on val as well; nan where there is no val, and then
            figures at thresholds are nan too.
        min_positives: rarer tags stay out of means over tags.
    """
    shares = tags["num_train"].to_numpy(float) / num_train
    model, of_tags, decisions = measure(held.labels, held.probabilities, thresholds, min_positives)
    prior_scores = metrics.prior_scores(shares, len(held.labels))
    cuts = thresholds if val is None else prior_thresholds(val.labels, shares)
    prior, prior_of_tags, _ = measure(held.labels, prior_scores, cuts, min_positives)
    per_tag = tags.assign(
        positives=of_tags.positives,
        ap=of_tags.average_precision,
        auc=of_tags.roc_auc,
        prior_ap=prior_of_tags.average_precision,
        threshold=thresholds,
        **{name: decisions[name] for name in ("f1", "precision", "recall")},
        **reliability(held.labels, held.probabilities),
    )
    return Judgement(model, prior, per_tag, thresholds, shares, cuts)


def reliability(labels: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, Any]:
    """Brier score and bias of each tag, (K,); nan of scores that are no probabilities."""
    found = metrics.reliability_per_tag(labels, probabilities)
    nothing = np.full(len(found.brier), math.nan)
    if not in_unit_range(probabilities):
        return {"brier": nothing, "bias": nothing}
    return {"brier": found.brier, "bias": found.bias}


def in_unit_range(scores: NDArray[Any]) -> bool:
    """Whether all are from 0 to 1, as probabilities are."""
    return not scores.size or bool(0 <= np.min(scores) <= np.max(scores) <= 1)


def measure(
    y_true: NDArray[Any], y_score: NDArray[Any], thresholds: NDArray[Any], min_positives: int
) -> tuple[dict[str, float], metrics.PerTag, dict[str, NDArray[np.float64]]]:
    """Every figure of one predictor on one split.

    Args:
        y_true: (n, K) labels.
        y_score: (n, K) probabilities.
        thresholds: (K,) cut-offs; a tag is predicted at or above its own.
        min_positives: rarer tags stay out of means over tags.

    Returns:
        The keys of `metrics.evaluate` with `AT_THRESHOLDS`; the figures of each tag; precision,
        recall and f1 of each tag (K,), as `confusion.ratios` defines them.
    """
    truth, scores = metrics.check(y_true, y_score)
    tags = metrics.per_tag(truth, scores)
    at_cuts, decisions = at_thresholds(truth, scores, thresholds, tags, min_positives)
    figures = metrics.evaluate(truth, scores, min_positives, tags) | at_cuts
    if not in_unit_range(scores):
        figures |= {"brier": math.nan, "ece": math.nan}
    return figures, tags, decisions


def at_thresholds(
    truth: Labels,
    y_score: NDArray[Any],
    thresholds: NDArray[Any],
    tags: metrics.PerTag,
    min_positives: int,
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Figures of yes/no decisions, overall and of each tag; nan without thresholds."""
    if np.isnan(thresholds).all():
        of_tags = {name: np.full(len(thresholds), math.nan) for name in RATIOS}
        return dict.fromkeys(AT_THRESHOLDS, math.nan), of_tags
    counts = confusion.decide(truth, y_score, thresholds)
    of_tags = confusion.ratios(*counts)
    micro = confusion.ratios(*(values.sum() for values in counts))
    scored = (tags.positives >= min_positives) & np.isfinite(tags.roc_auc)
    wrong = counts.guessed.sum() + counts.positives.sum() - 2 * counts.hits.sum()
    figures = {
        **{f"micro_{name}": float(value) for name, value in micro.items()},
        **{f"macro_{name}": metrics.mean(values[scored]) for name, values in of_tags.items()},
        "accuracy": 1.0 - float(wrong / y_score.size),
    }
    return figures, of_tags


def ratios(model: Mapping[str, float], prior: Mapping[str, float]) -> dict[str, float]:
    """How many times the prior-only predictor's figures a model's are."""
    keys = [figure.key for figure in FIGURES if figure.has_ratio]
    return {key: model[key] / prior[key] for key in keys if prior[key] > 0}


def group_means(name: str, tags: pd.DataFrame, min_positives: int) -> dict[str, Any]:
    """Means over a group of tags, of those with enough positives; nan where there are none.

    Args:
        name: of the group.
        tags: rows of per_tag.csv.
        min_positives: rarer tags stay out.
    """
    counted = tags[(tags["positives"] >= min_positives) & tags["auc"].notna()]
    means = {column: metrics.mean(counted[column].to_numpy(float)) for column in GROUP_COLUMNS}
    ratio = means["ap"] / means["prior_ap"] if means["prior_ap"] > 0 else math.nan
    return {
        "name": name,
        "num_tags": len(tags),
        "num_tags_scored": len(counted),
        "macro_ap": means["ap"],
        "prior_macro_ap": means["prior_ap"],
        "ratio": ratio,
        "macro_auc": means["auc"],
        "macro_f1": means["f1"],
    }


def by_category(tags: pd.DataFrame, min_positives: int) -> list[dict[str, Any]]:
    """Means over the tags of each category, larger categories first."""
    names = tags["category"].value_counts(sort=True).index
    return [group_means(n, tags[tags["category"] == n], min_positives) for n in names]


def by_frequency(tags: pd.DataFrame, min_positives: int) -> list[dict[str, Any]]:
    """Means over the tags of each frequency band that has any, rare tags first."""
    band = np.searchsorted(BAND_EDGES, tags["num_train"].to_numpy(), side="right") - 1
    return [
        group_means(band_name(number), tags[band == number], min_positives)
        for number in np.unique(band)
    ]


def band_name(number: int) -> str:
    """Such as 30–99."""
    low = BAND_EDGES[number]
    if number + 1 == len(BAND_EDGES):
        return f"{low:,} or more"
    high = BAND_EDGES[number + 1] - 1
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
