"""The report's sections of plots, each with the words for those who do not see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import page, plots
from e6tag.curves import GRID, Curves, Line, Middle, curves
from e6tag.figures import format_value
from e6tag.metrics import Calibration
from e6tag.scoring import Scored, in_unit_range

CLEAR_RATIO = 1.1
"""errors that differ by less are a small matter, however sure the difference"""


@dataclass(frozen=True)
class Bins:
    """Stated and observed shares."""

    by_width: Calibration
    by_mass: Calibration


@dataclass(frozen=True)
class Shown:
    """What the plots are drawn from."""

    curves: Curves | None
    """None where all decisions are of one kind"""
    before: Bins | None
    """None where nothing was calibrated"""
    after: Bins | None
    """of the probabilities that are measured; None where scores are no probabilities"""


def prepare(raw: Scored, held: Scored, shares: NDArray[np.float64], min_positives: int) -> Shown:
    """Measure what the plots show; nothing where they cannot be drawn.

    Args:
        raw: the measured split before calibration.
        held: the same after it; the same object where there was none.
        shares: (K,) what the prior-only predictor says.
        min_positives: rarer tags stay out of means over tags.
    """
    if not plots.available():
        return Shown(None, None, None)
    return Shown(
        curves(held.labels, held.probabilities, shares, min_positives),
        None if raw is held else bins_of(raw),
        bins_of(held),
    )


def bins_of(scored: Scored) -> Bins | None:
    """Bins of probabilities; None of other scores."""
    if not in_unit_range(scored.probabilities):
        return None
    return Bins(scored.calibration(), scored.calibration_by_mass())


def sections(shown: Shown, summary: Mapping[str, Any], tags: pd.DataFrame) -> list[str]:
    """All sections of plots, or how to get them.

    Args:
        shown: what was measured for them.
        summary: the content of metrics.json.
        tags: rows of per_tag.csv of the tags that count.
    """
    if not plots.available():
        return [
            "<h2>Plots</h2>\n<p>The plots need Matplotlib: "
            "<code>pip install matplotlib</code>, then run eval.py again.</p>"
        ]
    return [
        section("Tags", tag_plots(tags, summary["model"])),
        section("Finding against inventing", curve_plots(shown.curves, summary)),
        section("Do probabilities come true?", reliability_plots(shown, summary)),
        spread_section(summary.get("spread") or [], summary.get("spread_ratio")),
    ]


def section(title: str, drawn: Sequence[str], words: str = "") -> str:
    """Plots under a title; nothing without plots."""
    if not drawn:
        return ""
    return (
        f'<h2>{page.text(title)}</h2>\n{words}<div class="plots">\n' + "\n".join(drawn) + "\n</div>"
    )


def tag_plots(tags: pd.DataFrame, model: Mapping[str, Any]) -> list[str]:
    """Average precision over frequency, and how ROC AUC is spread."""
    ap, auc = tags["ap"].to_numpy(float), tags["auc"].to_numpy(float)
    scored = f"{len(tags):,} tags"
    return [
        page.plot(
            plots.ap_against_frequency(
                tags["num_train"].to_numpy(np.int64), ap, tags["prior_ap"].to_numpy(float)
            ),
            f"Average precision of {scored} against their training pictures; mean "
            f"{format_value(model['macro_ap'])}{span_of(ap)}.",
            "Each point is a tag. Crosses: what the tag's share alone reaches."
            + (
                f" Of more than {plots.MAX_POINTS:,} tags, some."
                if len(tags) > plots.MAX_POINTS
                else ""
            ),
        ),
        page.plot(
            plots.auc_distribution(auc),
            f"Histogram of the ROC AUC of {scored}; mean {format_value(model['macro_auc'])}"
            f"{span_of(auc)}.",
            "How many tags have which ROC AUC.",
        ),
    ]


def span_of(values: NDArray[np.float64]) -> str:
    """Such as ", from 0.1 to 0.9"; nothing without values."""
    there = values[np.isfinite(values)]
    return f", from {there.min():.3f} to {there.max():.3f}" if len(there) else ""


def curve_plots(found: Curves | None, summary: Mapping[str, Any]) -> list[str]:
    """Precision over recall, and the ROC."""
    if found is None:
        return []
    model, prior = summary["model"], summary["prior"]
    part = f" From one picture in {found.every:,}." if found.every > 1 else ""
    return [
        page.plot(
            plots.ranking(
                ("recall: share of true tags found", "precision: share of found that is true"),
                found.precision_recall,
                found.prior_precision_recall,
                found.tags_precision_recall,
            ),
            f"Precision against recall of all decisions; area {format_value(model['micro_ap'])}, "
            f"prior only {format_value(prior['micro_ap'])}. Precision is "
            f"{heights(found.precision_recall, 'recall')}"
            f"{mean_words(found.tags_precision_recall)}.",
            "Lower the cut-off and more true tags are found (to the right), but more of what is "
            "found is wrong (down). The higher the line, the better. The mean over tags counts a "
            f"rare tag as much as a common one.{part}",
        ),
        page.plot(
            plots.ranking(
                ("false alarms: share of absent tags", "recall: share of true tags found"),
                found.roc,
                found.prior_roc,
                found.tags_roc,
                diagonal=True,
            ),
            f"ROC curve of all decisions; area {format_value(model['micro_auc'])}, prior only "
            f"{format_value(prior['micro_auc'])}. Recall is "
            f"{heights(found.roc, 'false alarms')}{mean_words(found.tags_roc)}.",
            "How much is found (up) for how many false alarms (to the right). Knowing only which "
            "tags are common lifts the prior line far above guessing: the distance between the "
            f"two lines is what the model sees.{part}",
        ),
    ]


def heights(line: Line, along: str) -> str:
    """What a curve reaches at some places, in words."""
    places = (0.1, 0.5, 0.9)
    reached = np.interp(places, line.x, line.y)
    return ", ".join(
        f"{high:.2f} at {place:.0%} {along}" for place, high in zip(places, reached, strict=True)
    )


def mean_words(tags: Middle | None) -> str:
    """What the mean over tags reaches half-way."""
    if tags is None:
        return ""
    half = float(tags.mean[len(GRID) // 2])
    return f"; the mean over {tags.num_tags:,} tags is {half:.2f} at 50%"


def reliability_plots(shown: Shown, summary: Mapping[str, Any]) -> list[str]:
    """Stated against observed shares, in bins of equal width and of equal mass."""
    if shown.after is None:
        return []
    before, after = shown.before, shown.after
    error, crosses = error_words(summary), " Crosses: before calibration." if before else ""
    return [
        page.plot(
            plots.reliability(after.by_width, before.by_width if before else None),
            f"Observed share against predicted probability in ten steps; {error}. "
            f"{bin_words(after.by_width)}",
            "Of all that is given 30%, are 30% true? Below the dashed line the model is too sure, "
            "above it too timid. Each point is a tenth of the scale; steps with fewer than "
            f"{plots.LEAST_IN_BIN} decisions are left out.{crosses}",
        ),
        page.plot(
            plots.reliability(after.by_mass, before.by_mass if before else None, is_log=True),
            f"The same in {len(after.by_mass.counts)} bins of equally many decisions, on "
            f"logarithmic axes; {error}. {bin_words(after.by_mass)}",
            "The same, each point standing for equally many decisions, on a scale that widens "
            "small probabilities: most decisions are about tags that are not there. A point on "
            f"the lower edge may stand for a share of 0.{crosses}",
        ),
    ]


def error_words(summary: Mapping[str, Any]) -> str:
    """Calibration error, before and after where it was calibrated."""
    told = summary.get("calibration") or {}
    after = f"calibration error {format_value(summary['model']['ece'])}"
    if not told.get("fitted_on"):
        return after
    return f"{after}, before calibration {format_value(told['before']['ece'])}"


def bin_words(bins: Calibration) -> str:
    """The lowest and the highest bin that is drawn, in words."""
    enough = np.flatnonzero(bins.counts >= plots.LEAST_IN_BIN)
    if not len(enough):
        return "No bin has enough decisions."
    told = [
        f"{bins.predicted[at]:.3f} predicted, {bins.observed[at]:.3f} observed"
        for at in (enough[0], enough[-1])
    ]
    return f"Lowest: {told[0]}; highest: {told[1]}."


def spread_section(levels: Sequence[Mapping[str, Any]], ratio: Sequence[float] | None) -> str:
    """Whether the model's own doubt means something; nothing without spread."""
    if not levels:
        return ""
    ends = "; ".join(
        f"{name} doubt: measured {row['brier']:.4f}, expected {row['expected']:.4f}"
        for name, row in (("least", levels[0]), ("most", levels[-1]))
    )
    drawn = page.plot(
        plots.spread(levels),
        f"Mean squared error in {len(levels)} levels of the model's doubt; {ends}.",
        "The model gives each probability with a doubt of its own (its spread). Decisions of about "
        "the same probability are cut into fifths, from the least doubt to the most. Bars: mean "
        "squared error; crosses: what the probabilities lead one to expect, p (1 - p). A doubt "
        "that means something makes the bars rise.",
    )
    words = f"<p>{page.text(spread_words(ratio))}</p>\n"
    return section("Does the model know when it errs?", [drawn], words)


def spread_words(ratio: Sequence[float] | None) -> str:
    """What the widest and the narrowest level say, honestly.

    Args:
        ratio: Brier score of the widest level over that of the narrowest, and the ends of its 95%
            interval; None where it is not defined.
    """
    if ratio is None:
        return "There are too few errors to say whether doubt goes with them."
    value, low, high = ratio
    told = (
        "At the same probability, the fifth of the decisions with the most doubt has "
        f"{value:.2f} times the squared error of the fifth with the least (95% interval "
        f"{low:.2f} to {high:.2f}): "
    )
    if low <= 1 <= high:
        return told + "that may be chance, so the doubt says little beyond the probability."
    if value < 1:
        return told + "it errs less, not more. Do not read this spread as a warning of errors."
    if value < CLEAR_RATIO:
        return told + "it errs more, but so little more that the doubt says little."
    return told + "it errs more, so the doubt tells something that the probability does not."
