"""The report's plots, as SVG text drawn with Matplotlib's Figure objects (no display, no pyplot).

Matplotlib comes with the extras `train` and `demo`; `available` says whether it is there.
Every label is one of ours: tag names stay out of the plots, where a font may lack their letters.
"""

import importlib.util
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.metrics import Calibration

LEAST_IN_BIN = 10
"""fewer decisions say nothing of a share"""
SIZE_INCHES = (5.4, 3.7)
"""small, so that the letters stay readable when a phone shows the plot 360 px wide"""
BLUE, ORANGE, GREY = "#0b5fad", "#b34700", "#6b7280"
"""told apart by the colour-blind; marks and dashes differ as well"""
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
    # The same numbers give the same bytes.
    "svg.hashsalt": "e6tag",
}

Floats = NDArray[np.float64]


def available() -> bool:
    """Whether Matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(figure: Any) -> str:
    """A figure as SVG text without a date."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def new_axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    """An empty plot: (figure, axes)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
    return figure, axes


def ap_against_frequency(num_train: NDArray[np.int64], ap: Floats, prior_ap: Floats) -> str:
    """Average precision of each tag, over the pictures it was learnt from.

    Args:
        num_train: (K,) training pictures that have the tag.
        ap: (K,) average precision; nan where it is not scored.
        prior_ap: (K,) what constant scores reach.
    """
    import matplotlib
    from matplotlib.ticker import LogLocator, NullFormatter

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes("training pictures with the tag", "average precision")
        scored = np.isfinite(ap)
        x = np.maximum(num_train[scored], 1)
        axes.scatter(x, ap[scored], s=18, c=BLUE, alpha=0.75, label="this model", linewidths=0)
        axes.scatter(x, prior_ap[scored], s=18, c=ORANGE, marker="x", label="prior only")
        span = (x.min() / 1.3, x.max() * 1.3) if x.size else (1, 100)
        axes.set(xscale="log", xlim=span, ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return draw(figure)


def auc_distribution(auc: Floats) -> str:
    """How many tags have which ROC AUC; (K,), nan where a tag is not scored."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes("ROC AUC of a tag", "tags")
        scored = auc[np.isfinite(auc)]
        low = min(0.5, float(np.floor(scored.min() * 20) / 20)) if scored.size else 0.5
        axes.hist(scored, bins=np.arange(low, 1.0001, 0.025), color=BLUE, edgecolor="white")
        axes.axvline(0.5, color=ORANGE, linestyle="--", label="guessing")
        if scored.size:
            axes.axvline(np.median(scored), color=GREY, label="median")
        axes.yaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return draw(figure)


def reliability(bins: Calibration) -> str:
    """Observed share over mean predicted probability, a point a bin that has enough in it."""
    import matplotlib

    enough = bins.counts >= LEAST_IN_BIN
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes("predicted probability", "share that has the tag")
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
        line = {"color": BLUE, "marker": "o", "markersize": 5, "label": "this model"}
        axes.plot(bins.predicted[enough], bins.observed[enough], **line)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return draw(figure)
