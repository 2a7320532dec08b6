"""The learning rate range test: train some hundred steps at rising rates, look where it learns.

Smith 2017 (arXiv:1506.01186, section 3.3), with the two readings of the curve that fastai's
`lr_find` made common: where the smoothed loss falls fastest, and a tenth of where it is lowest.
With an adaptive robust loss a part of the fall is that of the loss's own scales, which says little
of the network: the proposal is then an upper bound.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e6tag import files
from e6tag.errors import RunError
from e6tag.plots import BLUE, GREY, ORANGE, STYLE, new_axes

NUM_UPDATES = 200
LOWEST, HIGHEST = 1e-6, 10.0
"""rates of the first and of the last update"""
DECAY = 0.95
"""of the smoothing; the curve has about 30 updates to a tenfold rate"""
FEWEST = 20
"""updates before divergence without which there is no curve to read"""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """What the curve says."""

    steepest: float
    """rate at which the smoothed loss falls fastest"""
    lowest: float
    """rate at which it is lowest"""

    @property
    def rate(self) -> float:
        """The smaller of the steepest's rate and a tenth of the lowest's."""
        return min(self.steepest, self.lowest / 10)


def averages(values: Floats, decay: float = DECAY) -> Floats:
    """Exponential moving averages of values (n,), corrected for having started at 0."""
    result, mean = np.empty(len(values)), 0.0
    for i, value in enumerate(values):
        mean = decay * mean + (1 - decay) * value
        result[i] = mean / (1 - decay ** (i + 1))
    return result


def smooth(losses: Floats) -> Floats:
    """Losses (n,) averaged from both sides, so that the curve does not lag behind the rate."""
    return (averages(losses) + averages(losses[::-1])[::-1]) / 2


def has_diverged(losses: list[float]) -> bool:
    """Whether the last loss is not finite, or the average is far above its best.

    Far: three times the size of the first loss, which suits losses below 0 as well (fastai: 4
    times the best).
    """
    if not np.isfinite(losses[-1]):
        return True
    line = averages(np.array(losses))
    return bool(line[-1] > line.min() + 3 * abs(losses[0]))


def until_divergence(losses: Iterable[float]) -> Floats:
    """The losses before the first at which training has diverged."""
    seen: list[float] = []
    for loss in losses:
        seen.append(loss)
        if has_diverged(seen):
            return np.array(seen[:-1], np.float64)
    return np.array(seen, np.float64)


def propose(rates: Floats, losses: Floats) -> Proposal:
    """Read the curve of rates (n,) and losses (n,), of which the first tenth is left out.

    Raises:
        RunError: the loss diverged at once, or never fell.
    """
    start = len(losses) // 10
    # How far the loss shot up at the end must not colour the curve before.
    line = smooth(np.minimum(losses, losses[: start + 1].max(initial=-np.inf)))
    bottom = int(np.argmin(line[start:])) + start if len(losses) >= FEWEST else start
    if bottom <= start:
        raise RunError(
            "no learning rate made the loss fall: look at lr_range.png. "
            "Are --loss and --optimizer as meant, and are the data's tags right?"
        )
    slopes = np.gradient(line, np.log(rates))[start : bottom + 1]
    return Proposal(float(rates[start + int(np.argmin(slopes))]), float(rates[bottom]))


def write_curve(folder: Path, rates: Floats, losses: Floats) -> None:
    """Write lr_range.csv: update, learning_rate, loss, smoothed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["update", "learning_rate", "loss", "smoothed"])
    for i, row in enumerate(zip(rates, losses, smooth(losses), strict=True)):
        writer.writerow([i, *(f"{value:.8g}" for value in row)])
    files.write_text(folder / "lr_range.csv", text.getvalue())


def write_plot(folder: Path, rates: Floats, losses: Floats, proposal: Proposal | None) -> None:
    """Write lr_range.png: the curve, and what was read off it."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes("learning rate", "loss")
        axes.plot(rates, losses, color=GREY, alpha=0.4, linewidth=0.8)
        axes.plot(rates, smooth(losses), color=BLUE, label="smoothed loss")
        if proposal is not None:
            axes.axvline(proposal.steepest, color=GREY, linestyle=":", label="steepest")
            axes.axvline(proposal.rate, color=ORANGE, linestyle="--", label="proposed")
        axes.set(xscale="log")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    files.write_bytes(folder / "lr_range.png", stream.getvalue())
