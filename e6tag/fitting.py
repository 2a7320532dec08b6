"""What is fitted on the val pictures, and stored with the run: cut-offs and calibration."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import calibration, metrics, thresholds
from e6tag.calibration import Platt
from e6tag.config import EvalConfig
from e6tag.runs import Run, write_thresholds
from e6tag.scoring import Scored

log = logging.getLogger(__name__)

WITHHELD_SHOWN = 8


@dataclass(frozen=True)
class OnVal:
    """Cut-offs and calibration."""

    cuts: thresholds.Fitted
    """for the model's own probabilities, as thresholds.csv holds them"""
    platt: Platt | None
    """from the model's own probabilities to those that are measured and shown"""

    @property
    def shown(self) -> NDArray[np.float64]:
        """Cut-offs (K,) for calibrated probabilities: they let the same pictures through."""
        own = self.cuts.thresholds
        return own if self.platt is None else self.platt.apply_to_thresholds(own)

    def write(self, run: Run) -> None:
        """Write thresholds.csv and calibration.csv; one of an earlier calibration is removed."""
        names, table = run.vocabulary.names, self.cuts.table
        more = {str(name): table[name].tolist() for name in table if name != "threshold"}
        write_thresholds(run.path / "thresholds.csv", names, self.cuts.thresholds.tolist(), more)
        if self.platt is None:
            run.calibration_path.unlink(missing_ok=True)
        else:
            calibration.write(run.calibration_path, names, self.platt)


def fit_on_val(config: EvalConfig, tags: pd.DataFrame, val: Scored) -> OnVal:
    """Fit cut-offs and calibration as the options say.

    A promise of precision counts each group of near-copies once: copies are not independent, and
    it is their number that makes a promise sure.

    Args:
        config: thresholds, threshold_rule, target_precision, calibrate.
        tags: K rows with name and category.
        val: the pictures to fit on, with the model's own probabilities.
    """
    groups = thresholds.groups_of(tags["category"].tolist(), config.thresholds)
    rows = np.arange(len(val.rows))
    if config.target_precision is not None:
        rows = np.flatnonzero(~val.rows["group"].duplicated().to_numpy())
    cuts = thresholds.fit(
        val.labels[rows],
        val.probabilities[rows],
        groups,
        config.threshold_rule,
        config.target_precision,
    )
    warn_of_withheld(tags["name"].tolist(), cuts)
    near_copies = val.rows["group"].to_numpy()
    platt = (
        calibration.fit(val.labels, val.probabilities, near_copies) if config.calibrate else None
    )
    return OnVal(cuts, platt)


def warn_of_withheld(names: list[str], cuts: thresholds.Fitted) -> None:
    """Name tags that cannot keep the promise."""
    withheld = [name for name, is_out in zip(names, cuts.withheld, strict=True) if is_out]
    if withheld:
        shown = ", ".join(withheld[:WITHHELD_SHOWN]) + ", ..." * (len(withheld) > WITHHELD_SHOWN)
        log.warning(
            "%d of %d tags cannot keep %s and are withheld: %s",
            len(withheld), len(names), cuts.rule, shown,
        )  # fmt: skip


def facts(config: EvalConfig, names: list[str], fitted: OnVal, raw: Scored) -> dict[str, Any]:
    """What metrics.json says of cut-offs and calibration.

    Args:
        config: the options they were fitted with.
        names: of the K tags.
        fitted: cut-offs and calibration.
        raw: the measured split, with the model's own probabilities.
    """
    withheld = [name for name, out in zip(names, fitted.cuts.withheld, strict=True) if out]
    return {
        "thresholds": {
            "fitted_on": "val",
            "shared": config.thresholds,
            "rule": fitted.cuts.rule,
            "withheld": withheld,
        },
        "calibration": {
            "fitted_on": "val" if fitted.platt is not None else None,
            "before": quality(raw),
            "after": quality(raw.calibrated(fitted.platt)),
        },
    }


def quality(scored: Scored) -> dict[str, float]:
    """How well probabilities come true."""
    labels, probabilities = scored.labels, scored.probabilities
    return {
        "ece": metrics.expected_calibration_error(labels, probabilities),
        "brier": metrics.brier(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
    }


def log_loss(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Mean of -log of the probability of what is true; finite at 0 and 1 too."""
    logits = calibration.logit(probabilities)
    return float(np.mean(np.logaddexp(0.0, np.where(labels != 0, -logits, logits))))
