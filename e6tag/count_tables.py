"""What a table of counts comes to (`eval.py --counts FILE`): no model and no pictures are needed.

Shares of nothing (a tag that is never predicted has no precision) count as scikit-learn's
zero_division says; the default, 0, is what published tables mean.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from e6tag import __version__, confusion
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError
from e6tag.figures import format_value, text_table
from e6tag.files import all_finished, json_text
from e6tag.inputs import emit

log = logging.getLogger(__name__)

FORMAT = 1
ZERO = {"0": 0.0, "1": 1.0, "skip": math.nan}
"""--zero-division -> what a share of nothing counts; nan stays out of means"""
RULES = {
    "0": "counts 0 (as in most published tables)",
    "1": "counts 1",
    "skip": "is left out of the means",
}
RATIOS = ("F1", "precision", "recall")
OTHERS = ("run", "onnx", "predictions", "compare")
"""options that name something else to judge"""


def judge_counts(config: EvalConfig) -> int:
    """Precision, recall and F1 of the table of --counts.

    Raises:
        ConfigError: another option names something to judge as well.
        DataError: the table is missing or one of its rows is bad; names its line.
    """
    assert config.counts is not None
    check_alone(config)
    counts = confusion.read_table(config.counts)
    found = confusion.figures(counts, ZERO[config.zero_division])
    summary = summarise(config.counts, config.zero_division, found)
    as_json = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    if config.out is not None:
        write_files(config.out, found.per_tag, summary)
    emit(as_json if config.json else as_text(summary))
    return 0


def check_alone(config: EvalConfig) -> None:
    """Refuse a second thing to judge.

    Raises:
        ConfigError: naming it.
    """
    for name in OTHERS:
        if getattr(config, name):
            raise ConfigError(
                f"--counts and --{name} name two things to judge. Give one of them: a table of "
                "counts is complete in itself."
            )


def summarise(path: Path, zero_division: str, found: confusion.Figures) -> dict[str, Any]:
    """The content of metrics.json: figures that are not defined are None."""
    totals = found.per_tag[list(confusion.COUNTS)].sum()
    pictures = found.per_tag[list(confusion.COUNTS)].sum(axis=1).unique().tolist()
    always_no = confusion.share(totals["fp"] + totals["tn"], totals.sum())
    figures = {**found.summary, "all_negative_accuracy": float(always_no)}
    return {
        "format": FORMAT,
        "e6tag": __version__,
        "counts": str(path),
        "zero_division": zero_division,
        # Tables may count each tag on other pictures.
        "num_pictures": pictures[0] if len(pictures) == 1 else None,
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
    }


def as_text(summary: Mapping[str, Any]) -> str:
    """A table to read, and what it does with shares of nothing."""
    on = "" if summary["num_pictures"] is None else f" on {summary['num_pictures']:,} pictures"
    kinds = ("macro", "micro")
    rows = [
        [name, *(format_value(summary[f"{kind}_{name.lower()}"]) for kind in kinds)]
        for name in RATIOS
    ]
    return (
        f"{summary['counts']}: {summary['num_tags']:,} tags{on}.\n\n"
        + text_table(["", *kinds], rows)
        + "(macro: mean over tags, a rare one counting as much as a common one; "
        "micro: all decisions together)\n"
        f"accuracy {format_value(summary['accuracy'])} (always saying no has "
        f"{format_value(summary['all_negative_accuracy'])})\n\n"
        f"Tags with a figure that is a share of nothing: {summary['num_undefined']:,} (never "
        "predicted: no precision; never there: no recall; neither: no F1). It "
        f"{RULES[summary['zero_division']]}: --zero-division {summary['zero_division']}.\n"
    )


def write_files(folder: Path, per_tag: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Write per_tag.csv (an empty field: not defined) and metrics.json."""
    table = per_tag.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    with all_finished({folder / "metrics.json": json_text(summary), folder / "per_tag.csv": table}):
        pass
    log.info("all tags: %s", folder / "per_tag.csv")
