"""Whether probabilities come true: Brier score, calibration error, bias.

y_true and y_score are (n, num_tags), as `e6tag.metrics` says, the scores being probabilities.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e6tag.tag_rankings import Labels, check, over_rows

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15
DIGIT_BITS = 16
"""of a number, that are counted in one reading of the scores"""


class Reliability(NamedTuple):
    """One figure per tag each, (num_tags,); nan without pictures."""

    brier: Floats
    """mean squared difference between probability and label"""
    predicted: Floats
    """mean probability"""
    observed: Floats
    """share of positives"""

    @property
    def bias(self) -> Floats:
        """Mean probability / share of positives: 2 for twice as sure as right; nan without any."""
        nothing = np.full(len(self.observed), np.nan)
        return np.divide(self.predicted, self.observed, out=nothing, where=self.observed > 0)


def reliability_per_tag(y_true: Any, y_score: ArrayLike) -> Reliability:
    """Brier score, mean probability and share of every tag."""
    truth, scores = check(y_true, y_score)
    totals = np.zeros((3, scores.shape[1]))
    for sums in over_rows(tag_sums, truth, scores):
        totals += sums
    with np.errstate(invalid="ignore"):
        return Reliability(*(totals / len(scores)))


def tag_sums(truth: NDArray[np.bool_], scores: NDArray[Any]) -> Floats:
    """Sums over pictures of squared errors, probabilities and labels, (3, num_tags)."""
    probabilities = scores.astype(float)
    squares = np.square(probabilities - truth)
    return np.stack([squares.sum(axis=0), probabilities.sum(axis=0), truth.sum(axis=0)])


def brier(y_true: Any, y_score: ArrayLike) -> float:
    """Mean squared difference between probabilities and labels."""
    of_tags = reliability_per_tag(y_true, y_score).brier
    return float(np.mean(of_tags)) if len(of_tags) else float("nan")


class Calibration(NamedTuple):
    """Bins of predictions that are not empty, from low to high."""

    counts: NDArray[np.int64]
    predicted: Floats
    """mean probability"""
    observed: Floats
    """share of positives"""


def calibration(
    y_true: Any, y_score: ArrayLike, edges: Sequence[float] | Floats | None = None
) -> Calibration:
    """Predicted against observed shares over all (picture, tag) pairs.

    Args:
        y_true, y_score: (n, num_tags), the scores being probabilities.
        edges: inner and outer bounds of the bins (a bin includes its upper one); None for
            CALIBRATION_BINS of equal mass, as far as ties allow (they stay together).
    """
    truth, scores = check(y_true, y_score)
    inner = equal_mass_edges(truth, scores) if edges is None else np.asarray(edges)[1:-1]

    def sums(y: NDArray[np.bool_], s: NDArray[Any]) -> Floats:
        bins = bin_numbers(s.ravel(), inner)
        size = len(inner) + 1
        columns = [np.bincount(bins, values, size) for values in (s.ravel(), y.ravel())]
        return np.stack([np.bincount(bins, minlength=size), *columns])

    totals = sum(over_rows(sums, truth, scores), np.zeros((3, len(inner) + 1)))
    counts, *columns = totals[:, totals[0] > 0]
    return Calibration(counts.astype(np.int64), *(column / counts for column in columns))


def bin_numbers(scores: NDArray[Any], inner: NDArray[Any]) -> NDArray[np.int64]:
    """How many edges are below each score: its bin, several times faster than by bisection."""
    bins = np.zeros(scores.shape, np.uint8 if len(inner) < 256 else np.int64)
    for edge in inner:
        bins += scores > edge
    return bins.astype(np.int64)


def equal_mass_edges(labels: Labels, scores: NDArray[Any]) -> NDArray[Any]:
    """The scores that part all into CALIBRATION_BINS of equal numbers."""
    shares = np.arange(1, CALIBRATION_BINS)
    ranks = -(-scores.size * shares // CALIBRATION_BINS) - 1
    floats = scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(float)
    return order_statistics(labels, floats, ranks) if scores.size else np.array([])


def order_statistics(
    labels: Labels, scores: NDArray[Any], ranks: NDArray[np.int64]
) -> NDArray[Any]:
    """The scores at some places of the ascending order, exactly, without sorting (radix select).

    Args:
        labels: (n, num_tags), only to read both in the same blocks.
        scores: (n, num_tags) floats.
        ranks: places from 0.
    """
    bits = scores.dtype.itemsize * 8
    found, left = np.zeros(len(ranks), f"u{scores.dtype.itemsize}"), ranks.copy()
    for shift in range(bits - DIGIT_BITS, -1, -DIGIT_BITS):
        prefixes, place = np.unique(found, return_inverse=True)
        count = functools.partial(digit_counts, prefixes=prefixes, shift=shift)
        counts = sum(over_rows(count, labels, scores))
        upto = np.cumsum(counts, axis=1)[place]
        digits = np.sum(upto <= left[:, None], axis=1)
        left -= np.where(digits > 0, upto[np.arange(len(ranks)), digits - 1], 0)
        found |= digits.astype(found.dtype) << found.dtype.type(shift)
    return from_keys(found, scores.dtype)


def digit_counts(
    _: Any, scores: NDArray[Any], prefixes: NDArray[Any], shift: int
) -> NDArray[np.int64]:
    """How many scores, of those with a prefix in front, have which digit there, (prefixes, all)."""
    keys = to_keys(scores.ravel())
    kind, above = keys.dtype.type, shift + DIGIT_BITS
    digits = (keys >> kind(shift)).astype(np.uint16)
    if above == keys.dtype.itemsize * 8:
        return np.bincount(digits, minlength=1 << DIGIT_BITS)[None]
    fronts = keys >> kind(above)
    chosen = (digits[fronts == prefix >> kind(above)] for prefix in prefixes)
    return np.stack([np.bincount(values, minlength=1 << DIGIT_BITS) for values in chosen])


def to_keys(values: NDArray[Any]) -> NDArray[Any]:
    """Floats as unsigned integers in the same order (negative ones with all bits turned over)."""
    bits = values.view(f"u{values.dtype.itemsize}")
    sign = bits.dtype.type(1) << bits.dtype.type(values.dtype.itemsize * 8 - 1)
    return np.where(bits & sign, ~bits, bits | sign)


def from_keys(keys: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The floats of such integers."""
    sign = keys.dtype.type(1) << keys.dtype.type(dtype.itemsize * 8 - 1)
    return np.where(keys & sign, keys & ~sign, ~keys).view(dtype)


def expected_calibration_error(
    y_true: Any, y_score: ArrayLike, edges: Sequence[float] | Floats | None = None
) -> float:
    """Mean distance between predicted and observed shares; arguments as of `calibration`."""
    bins = calibration(y_true, y_score, edges)
    gaps = np.abs(bins.predicted - bins.observed)
    return float(np.sum(gaps * bins.counts) / bins.counts.sum()) if len(gaps) else float("nan")
