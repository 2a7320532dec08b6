"""The report's plots, as SVG text drawn with Matplotlib's Figure objects (no display, no pyplot).

Matplotlib comes with the extras `train` and `demo`; `available` says whether it is there.
Every label is one of ours: tag names stay out of the plots, where a font may lack their letters.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.curves import GRID, Line, Middle
from e6tag.metrics import Calibration

LEAST_IN_BIN = 10
"""fewer decisions say nothing of a share"""
LEAST_SHARE = 1e-6
"""lower edge of logarithmic axes, at the least"""
MAX_POINTS = 2000
"""tags of a scatter plot, so that the file stays small"""
SIZE_INCHES = (5.4, 3.7)
"""small, so that the letters stay readable when a phone shows the plot 360 px wide"""
BLUE, ORANGE, GREY = "#0b5fad", "#b34700", "#6b7280"
INK, BAND = "#16191d", "#c9d3df"
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
        scored = np.flatnonzero(np.isfinite(ap))
        scored = scored[:: max(1, -(-len(scored) // MAX_POINTS))]
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


def ranking(
    labels: tuple[str, str], model: Line, prior: Line, tags: Middle | None, diagonal: bool = False
) -> str:
    """A precision-recall or ROC plot.

    Args:
        labels: of the axes.
        model, prior: curves of all decisions together.
        tags: curves of the tags at `curves.GRID`; may be left out.
        diagonal: whether guessing is the diagonal, and drawn.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(*labels)
        if diagonal:
            axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="guessing")
        if tags is not None:
            axes.fill_between(GRID, tags.low, tags.high, color=BAND, label="middle half of tags")
            axes.plot(GRID, tags.mean, color=INK, linestyle="--", label="mean over tags")
        axes.plot(prior.x, prior.y, color=ORANGE, linestyle="-.", label="all, prior only")
        axes.plot(model.x, model.y, color=BLUE, linewidth=2, label="all, this model")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return draw(figure)


def reliability(after: Calibration, before: Calibration | None, is_log: bool = False) -> str:
    """Observed share over mean predicted probability, a point a bin that has enough in it.

    Args:
        after: of the probabilities that are measured.
        before: of those before calibration; None where nothing was calibrated.
        is_log: logarithmic axes, on which a share of 0 is drawn at the lower edge.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes("predicted probability", "share that has the tag")
        least = lower_edge(after, before) if is_log else 0.0
        axes.plot([least, 1], [least, 1], color=GREY, linestyle="--", label="perfectly calibrated")
        if before is not None:
            dashes = "" if is_log else "-."
            bins(axes, before, least, color=ORANGE, marker="x", ls=dashes, label="before")
        label = "this model" if before is None else "calibrated"
        bins(axes, after, least, color=BLUE, marker="o", ls="" if is_log else "-", label=label)
        if is_log:
            axes.set(xscale="log", yscale="log", xlim=(least / 1.2, 1.2), ylim=(least / 1.2, 1.2))
        else:
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return draw(figure)


def bins(axes: Any, shown: Calibration, least: float, **style: Any) -> None:
    """The points of bins that have enough in them, joined."""
    enough = shown.counts >= LEAST_IN_BIN
    points = (np.maximum(values[enough], least) for values in (shown.predicted, shown.observed))
    axes.plot(*points, markersize=5, **style)


def lower_edge(*shown: Calibration | None) -> float:
    """The power of ten below all that is above 0, at least `LEAST_SHARE`."""
    values = np.concatenate(
        [np.ones(1), *(np.append(b.predicted, b.observed) for b in shown if b is not None)]
    )
    lowest = float(values[values > 0].min())
    return max(10.0 ** np.floor(np.log10(lowest)), LEAST_SHARE)


def spread(levels: Sequence[Mapping[str, float]]) -> str:
    """Squared error by level of spread, beside what the probabilities lead one to expect.

    Args:
        levels: rows of `e6tag.spread.spread_table`.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes("the model's doubt, at the same probability", "mean squared error")
        x, ends = np.arange(len(levels)), ["least", *[""] * (len(levels) - 2), "most"]
        brier, expected = ([row[key] for row in levels] for key in ("brier", "expected"))
        axes.bar(x, brier, width=0.6, color=BLUE, label="measured")
        axes.plot(x, expected, color=ORANGE, marker="x", ls="--", lw=2, ms=9, label="expected")
        axes.set_xticks(x, ends[: len(levels)])
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return draw(figure)
