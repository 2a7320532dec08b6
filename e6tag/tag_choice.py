"""Which tags of a picture are shown, and how they are spelled."""

import fnmatch
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e6tag import calibration
from e6tag.calibration import Platt
from e6tag.config import TagConfig
from e6tag.errors import ConfigError, RunError
from e6tag.heads import Head
from e6tag.inference import Prediction
from e6tag.runs import Run
from e6tag.tags import Vocabulary

log = logging.getLogger(__name__)

DECIMALS = 6

# The faces that keep their underscores, as in the other tagging tools.
KAOMOJI = frozenset(
    [
        "0_0",
        "(o)_(o)",
        "+_+",
        "+_-",
        "._.",
        "<o>_<o>",
        "<|>_<|>",
        "=_=",
        ">_<",
        "3_3",
        "6_9",
        ">_o",
        "@_@",
        "^_^",
        "o_o",
        "u_u",
        "x_x",
        "|_|",
        "||_||",
    ]
)


@dataclass(frozen=True)
class Scored:
    """A tag of a picture, as it is written."""

    tag: str
    probability: float
    uncertainty: float | None = None
    """standard deviation of the logit, if asked for"""


def spell(name: str, spaces: bool, escape: bool) -> str:
    r"""A tag as asked for: `a_(b)` becomes `a (b)` with `spaces`, `a_\(b\)` with `escape`."""
    if spaces and name not in KAOMOJI:
        name = name.replace("_", " ")
    return name.replace("(", r"\(").replace(")", r"\)") if escape else name


def matches(name: str, pattern: str) -> bool:
    """Whether a tag is this name or fits this pattern (spaces stand for underscores)."""
    pattern = pattern.replace(" ", "_")
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def excluded(
    names: Sequence[str], patterns: Sequence[str]
) -> tuple[NDArray[np.bool_], Sequence[str]]:
    """Which tags to leave out (K,), and the patterns that match none."""
    hidden = np.zeros(len(names), np.bool_)
    unmatched = []
    for pattern in patterns:
        hits = np.array([matches(name, pattern) for name in names], np.bool_)
        hidden |= hits
        if not hits.any():
            unmatched.append(pattern)
    return hidden, unmatched


def choose(
    probabilities: NDArray[np.floating], cutoffs: NDArray[np.float64], top: int
) -> NDArray[np.intp]:
    """Columns of the tags to show: best first, equal ones in the vocabulary's order.

    Args:
        probabilities: (K,), of one picture.
        cutoffs: (K,), lowest probability to show; infinite for tags to leave out.
        top: at most this many; 0 for all.
    """
    order = np.argsort(-probabilities, kind="stable")
    order = order[probabilities[order] >= cutoffs[order]]
    return order[:top] if top else order


def parse_threshold(text: str) -> float:
    """A probability from the command line.

    Raises:
        ConfigError: it is not a number from 0 to 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ConfigError(
            f"--threshold must be a number from 0 to 1, or per-tag. Received: {text!r}."
        )
    return value


@dataclass(frozen=True)
class Labeller:
    """From predictions to the tags that are shown."""

    names: Sequence[str]
    """as they are written, in column order"""
    cutoffs: NDArray[np.float64]
    """(K,), infinite for tags left out"""
    head: Head | None
    top: int
    uncertainty: bool
    calibration: Platt | None = None
    """of the run's own tags; cut-offs are for calibrated probabilities then"""

    @classmethod
    def open(cls, config: TagConfig, run: Run, head: Head | None) -> "Labeller":
        """What the options say of names, cut-offs and head."""
        vocabulary = run.vocabulary if head is None else head.vocabulary
        platt = None if head is not None or config.raw else read_calibration(run)
        cutoffs = read_cutoffs(config.threshold, run, head, vocabulary)
        if platt is not None and config.threshold == "per-tag":
            cutoffs = platt.apply_to_thresholds(cutoffs)
        hidden, unmatched = excluded(vocabulary.names, config.exclude)
        for pattern in unmatched:
            log.warning("--exclude %s matches no tag.", pattern)
        names = [spell(name, config.spaces, config.escape) for name in vocabulary.names]
        shown = np.where(hidden, np.inf, cutoffs)
        doubt = config.uncertainty and head is None
        return cls(names, shown, head, config.top, doubt, platt)

    def scored(self, prediction: Prediction) -> Iterator[list[Scored]]:
        """The tags of each picture, best first."""
        probabilities: NDArray[np.floating] = prediction.probabilities
        if self.head is not None:
            probabilities = self.head.probabilities(prediction.vectors)
        elif self.calibration is not None:
            probabilities = self.calibration.apply(probabilities)
        for row, values in enumerate(probabilities):
            columns = choose(values, self.cutoffs, self.top)
            sd = prediction.uncertainty[row] if self.uncertainty else None
            yield [
                Scored(
                    self.names[column],
                    round(float(values[column]), DECIMALS),
                    None if sd is None else round(float(sd[column]), DECIMALS),
                )
                for column in columns
            ]


def read_calibration(run: Run) -> Platt | None:
    """The run's calibration; None where eval.py has not made one.

    Raises:
        RunError: it is damaged.
    """
    path = run.calibration_path
    return calibration.read(path, run.vocabulary.names) if path.exists() else None


def read_cutoffs(
    threshold: str, run: Run, head: Head | None, vocabulary: Vocabulary
) -> NDArray[np.float64]:
    """Lowest probability to show of each tag, (K,).

    Raises:
        RunError: per-tag, but the run has no thresholds.csv.
        ConfigError: per-tag with a head, which has none.
    """
    if threshold != "per-tag":
        return np.full(len(vocabulary), parse_threshold(threshold))
    if head is not None:
        raise ConfigError(
            "--threshold per-tag is for the run's own tags: give a number with --head."
        )
    cutoffs = run.thresholds()
    if cutoffs is None:
        raise RunError(
            f"{run.path / 'thresholds.csv'} is missing: run `python eval.py --run {run.path}` "
            "to write it, or give -t a number."
        )
    return np.array(cutoffs)
