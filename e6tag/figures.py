"""The figures that say how good a run is: what each means, and how it is written."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One headline figure."""

    key: str
    label: str
    meaning: str
    """for readers who are not statisticians"""
    has_ratio: bool = False
    """whether "so many times the prior-only row" makes sense"""


FIGURES = (
    Figure(
        "macro_ap",
        "macro AP (the headline)",
        "Average precision. For one tag, put the pictures in the order of its probability: how "
        "pure is the top of that list? 1 is perfect; guessing reaches the tag's share of the "
        "pictures. Then the mean over tags, a rare one counting as much as a common one.",
        has_ratio=True,
    ),
    Figure(
        "macro_auc",
        "macro ROC AUC",
        "Take one picture that has a tag and one that lacks it: how often does the first get the "
        "higher probability? 0.5 is guessing, 1 is always. Mean over tags.",
    ),
    Figure(
        "micro_ap",
        "micro AP",
        "All decisions (every picture with every tag) in one list: how pure is its top? "
        "Common tags dominate.",
        has_ratio=True,
    ),
    Figure(
        "micro_auc",
        "micro ROC AUC",
        "The AUC of that one list. Knowing which tags are common is enough for a high value: "
        "look at the prior-only column before believing it.",
    ),
    Figure(
        "precision_at_1",
        "precision at 1",
        "How often the tag that the model is surest of, in a picture, is right.",
        has_ratio=True,
    ),
    Figure(
        "precision_at_5",
        "precision at 5",
        "Share of right ones among the five tags it is surest of. A picture with fewer than five "
        "tags cannot reach 1.",
        has_ratio=True,
    ),
    Figure(
        "precision_at_10",
        "precision at 10",
        "The same among the ten surest.",
        has_ratio=True,
    ),
    Figure(
        "precision_at_30",
        "precision at 30",
        "The same among the thirty surest (or all tags, if there are fewer).",
        has_ratio=True,
    ),
    Figure(
        "recall_at_30",
        "recall at 30",
        "Share of a picture's true tags that are among the thirty it is surest of.",
        has_ratio=True,
    ),
    Figure(
        "lrap",
        "label-ranking AP",
        "Within a picture, order the tags by probability: how pure is the list down to each true "
        "tag? 1 means that all true tags come first.",
        has_ratio=True,
    ),
    Figure(
        "coverage_error",
        "coverage error (lower is better)",
        "How many tags must be shown, the surest first, until all true ones of a picture are among "
        "them, on average. At best as many as it has.",
    ),
    Figure(
        "micro_f1",
        "micro F1 at thresholds",
        "Balance between finding tags and not inventing them (1 is perfect), when each tag is cut "
        "at its own threshold; thresholds are fitted on the val pictures only.",
        has_ratio=True,
    ),
    Figure(
        "micro_precision",
        "micro precision at thresholds",
        "Share of right ones among all tags that are predicted.",
        has_ratio=True,
    ),
    Figure(
        "micro_recall",
        "micro recall at thresholds",
        "Share of all true tags that are predicted.",
    ),
    Figure(
        "macro_f1",
        "macro F1 at thresholds",
        "F1 of each tag, then the mean over tags.",
        has_ratio=True,
    ),
    Figure(
        "macro_precision",
        "macro precision at thresholds",
        "Precision of each tag, then the mean over tags. A tag that is never predicted counts 0.",
        has_ratio=True,
    ),
    Figure(
        "macro_recall",
        "macro recall at thresholds",
        "Recall of each tag, then the mean over tags.",
    ),
    Figure(
        "accuracy",
        "accuracy at thresholds",
        "Share of all yes/no decisions that are right. Most are an easy no: see above what always "
        "saying no would reach.",
    ),
    Figure(
        "brier",
        "Brier score (lower is better)",
        "Mean squared distance between a stated probability and the truth; 0 is perfect.",
    ),
    Figure(
        "ece",
        "calibration error (lower is better)",
        "Expected calibration error: how far stated probabilities are from observed shares, on "
        "average. With 0.02, a stated 30% is typically 28% or 32% of the time true.",
    ),
)


def format_value(value: float | None) -> str:
    """Three decimals; a dash for what is not defined."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def format_interval(ends: Sequence[float] | None) -> str:
    """Such as 0.61 to 0.67; empty where there is none."""
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def format_ratio(value: float | None) -> str:
    """Such as 4.2x; empty where a ratio makes no sense."""
    return "" if value is None or not math.isfinite(value) else f"{value:.1f}x"


def text_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, the first to the left, the others to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


GROUP_HEADERS = ("tags", "counted", "macro AP", "prior only", "times", "macro AUC")


def group_cells(group: Mapping[str, Any]) -> list[str]:
    """A group of tags as plain texts: its name, then what `GROUP_HEADERS` say."""
    return [
        str(group["name"]),
        f"{group['num_tags']:,}",
        f"{group['num_tags_scored']:,}",
        format_value(group["macro_ap"]),
        format_value(group["prior_macro_ap"]),
        format_ratio(group["ratio"]),
        format_value(group["macro_auc"]),
    ]


def headline_cells(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    """The headline figures as plain texts: label, model, its 95% interval, prior only, ratio."""
    for figure in FIGURES:
        yield [
            figure.label,
            format_value(summary["model"][figure.key]),
            format_interval(summary.get("intervals", {}).get(figure.key)),
            format_value(summary["prior"][figure.key]),
            format_ratio(summary["ratio"].get(figure.key)),
        ]


def as_text(summary: Mapping[str, Any]) -> str:
    """The content of metrics.json as aligned tables."""
    return (
        f"{summary['run']} on the {summary['split']} split of {summary['data']}: "
        f"{summary['num_pictures']:,} pictures, {summary['num_tags']:,} tags.\n"
        f"Macro figures are over {summary['num_tags_scored']:,} tags; "
        f"{summary['num_tags_left_out']:,} with fewer than {summary['min_positives']:,} pictures "
        "are left out.\n"
        + "".join(f"{note}\n" for note in summary.get("notes", []))
        + "\n"
        + text_table(["", "model", "95% interval", "prior only", "times"], headline_cells(summary))
        + f"(always saying no has accuracy {format_value(summary['all_negative_accuracy'])})\n\n"
        + text_table(["category", *GROUP_HEADERS], map(group_cells, summary["categories"]))
        + "\n"
        + text_table(["training pictures", *GROUP_HEADERS], map(group_cells, summary["bands"]))
    )
