"""From what a predictor said to figures: cut-offs, calibration, figures, intervals."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e6tag import bootstrap, metrics, scoring
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError
from e6tag.fitting import OnVal, fit_on_val
from e6tag.scoring import Judgement, Scored
from e6tag.subjects import Subject

log = logging.getLogger(__name__)

MAX_RESAMPLES = 100_000
ENOUGH_WORK = 4e10
"""pictures x tags x resamples that are done in some minutes"""
SEED = 0


@dataclass(frozen=True)
class Verdict:
    """How good a predictor is on the measured split."""

    fitted: OnVal | None
    """None where there are no val pictures to fit on"""
    raw: Scored
    """the measured split as the predictor said it"""
    held: Scored
    """the same, calibrated"""
    judgement: Judgement

    def measured(self, min_positives: int) -> bootstrap.Measured:
        """What resamples are drawn from."""
        held, counted = self.held, counted_tags(self.judgement, min_positives)
        return bootstrap.Measured(
            held.labels, held.probabilities, self.judgement.thresholds, counted
        )


def check_options(config: EvalConfig) -> None:
    """Refuse numbers that nothing could be judged with.

    Raises:
        ConfigError: naming the option.
    """
    if config.min_positives < 1:
        raise ConfigError(f"--min-positives must be 1 or more. Received: {config.min_positives}.")
    if config.zero_division != "0" and config.counts is None:
        raise ConfigError("--zero-division belongs to --counts FILE. Name a table of counts.")
    if config.predictions is not None and config.onnx is not None:
        raise ConfigError("--predictions and --onnx are two things to judge. Name one of them.")
    if config.compare and (config.predictions is not None or config.onnx is not None):
        raise ConfigError(
            "--compare names what is compared itself: leave out --predictions and --onnx."
        )
    if config.audit and config.compare:
        raise ConfigError("--audit looks at the labels with one model: leave out --compare.")
    target = config.target_precision
    if target is not None and not 0 < target < 1:
        raise ConfigError(f"--target-precision must be between 0 and 1. Received: {target}.")
    if config.bootstrap != 0 and not 20 <= config.bootstrap <= MAX_RESAMPLES:
        raise ConfigError(
            f"--bootstrap must be 0 (none), or 20 to {MAX_RESAMPLES}. Received: {config.bootstrap}."
        )


def judge(config: EvalConfig, subject: Subject) -> Verdict:
    """Fit on val what is to be fitted, and measure."""
    val, raw = subject.val, subject.splits[config.split]
    fitted = None if val is None else fit_on_val(config, subject.tags, val)
    held = raw if fitted is None else raw.calibrated(fitted.platt)
    nothing = np.full(len(subject.tags), np.nan)
    judgement = scoring.judge(
        subject.tags,
        subject.num_train,
        val,
        held,
        nothing if fitted is None else fitted.shown,
        config.min_positives,
    )
    return Verdict(fitted, raw, held, judgement)


def counted_tags(judgement: Judgement, min_positives: int) -> NDArray[np.bool_]:
    """Tags (K,) that count in means over tags."""
    table = judgement.per_tag
    enough: NDArray[np.bool_] = (
        (table["positives"] >= min_positives) & table["auc"].notna()
    ).to_numpy()
    return enough


def resamples_of(config: EvalConfig, held: Scored) -> NDArray[np.uint16]:
    """Weights (B, n) of the pictures of a split; near-copies are drawn together.

    Fewer than asked for, and that is said, where they would take many minutes.
    """
    affordable = max(100, int(ENOUGH_WORK / max(held.labels.size, 1)))
    if config.bootstrap > affordable:
        log.warning("%d resamples instead of %d, as there are many pictures and tags.",
                    affordable, config.bootstrap)  # fmt: skip
    groups = held.rows["group"].to_numpy() if "group" in held.rows else None
    number = min(config.bootstrap, affordable)
    return bootstrap.weights(len(held.labels), number, SEED, groups)


@dataclass(frozen=True)
class Intervals:
    """What resampled pictures say of the figures; empty where none are asked for."""

    model: Mapping[str, tuple[float, float]]
    """95% intervals"""
    over_prior: Mapping[str, tuple[float, float, float]]
    """model minus prior-only predictor, and its 95% interval: both on the same resamples"""


def intervals_of(config: EvalConfig, verdict: Verdict) -> Intervals:
    """95% intervals of the figures, and of their distance from the prior-only predictor's."""
    if not config.bootstrap:
        return Intervals({}, {})
    drawn, measured = resamples_of(config, verdict.held), verdict.measured(config.min_positives)
    of_model = bootstrap.resample(measured, drawn)
    judgement = verdict.judgement
    blind = dataclasses.replace(
        measured,
        probabilities=metrics.prior_scores(judgement.shares, len(measured.labels)),
        thresholds=judgement.prior_thresholds,
    )
    of_prior = bootstrap.resample(blind, drawn)
    return Intervals(
        bootstrap.intervals(judgement.model, of_model),
        bootstrap.difference_intervals(judgement.prior, judgement.model, of_prior, of_model),
    )
