"""Is the second predictor better than the first?  Both on the same pictures and tags.

Pictures are resampled for both at once, so that what makes a picture hard for both cancels out;
a difference whose 95% interval holds 0 is none that these pictures show.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import bootstrap
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError, DataError
from e6tag.figures import FIGURES, format_interval, format_value, text_table
from e6tag.files import all_finished, json_text
from e6tag.inputs import Failures, emit
from e6tag.scoring import Scored
from e6tag.subjects import Subject
from e6tag.verdict import judge, resamples_of

log = logging.getLogger(__name__)

Open = Callable[[EvalConfig, Failures], Subject]

TAGS_SHOWN = 10
FALSE_SHARE = 0.1
"""of the tags listed as better or worse, at most this share is chance, on average"""


@dataclass(frozen=True)
class Comparison:
    """What two predictors reach on the same pictures and tags."""

    summary: dict[str, Any]
    per_tag: pd.DataFrame
    """name, positives, ap_a, ap_b, difference, low, high, verdict (better, worse or empty)"""


def compare(config: EvalConfig, open_subject: Open) -> int:
    """Compare two runs or files of scores (`eval.py --compare A B`).

    Raises:
        ConfigError: there are not two of them.
        DataError: they have no picture or no tag in common, or other data.
    """
    if len(config.compare) != 2:
        raise ConfigError(f"--compare takes two runs. Received: {len(config.compare)}.")
    failures = Failures()
    first, second = (open_subject(pointed(config, path), failures) for path in config.compare)
    one, other = in_common(first, second, config.split)
    comparison = measure(config, one, other)
    folder = config.out or second.folder
    as_json = json_text(comparison.summary)
    table = comparison.per_tag.to_csv(index=False, lineterminator="\n")
    with all_finished({folder / "compare.json": as_json, folder / "compare.csv": table}):
        pass
    emit(as_json if config.json else as_text(comparison))
    log.info("\nall tags: %s", folder / "compare.csv")
    num_pictures = sum(len(s.splits[config.split].rows) for s in (first, second))
    return failures.exit_code(num_pictures + len(failures.lines))


def pointed(config: EvalConfig, path: Path) -> EvalConfig:
    """The options for one of the two: a folder is a run, a file holds scores."""
    empty = dataclasses.replace(config, compare=(), run=None, predictions=None, onnx=None)
    if path.is_file():
        return dataclasses.replace(empty, predictions=path)
    return dataclasses.replace(empty, run=path)


def in_common(first: Subject, second: Subject, split: str) -> tuple[Subject, Subject]:
    """Both with the tags and the pictures of the measured split that the other has as well.

    Raises:
        DataError: the data differs, or they share no tag or no picture.
    """
    prints = [subject.dataset.info.get("fingerprint") for subject in (first, second)]
    if prints[0] != prints[1]:
        raise DataError(
            f"{first.name} was read with {first.dataset.path}, {second.name} with "
            f"{second.dataset.path}, which is other data. Name one for both with --data."
        )
    names = [name for name in first.tags["name"] if name in set(second.tags["name"])]
    posts = [set(subject.splits[split].rows["post_id"]) for subject in (first, second)]
    if not names or not posts[0] & posts[1]:
        what = "tag" if not names else "picture"
        raise DataError(f"{first.name} and {second.name} have no {what} in common.")
    both = posts[0] & posts[1]
    return limited(first, names, both, split), limited(second, names, both, split)


def limited(subject: Subject, names: Sequence[str], posts: set[int], measured: str) -> Subject:
    """A subject with these tags in this order, and these posts only of the measured split."""
    place = {name: column for column, name in enumerate(subject.tags["name"])}
    columns = np.array([place[name] for name in names])
    splits = {
        split: take(scored, columns, posts if split == measured else None)
        for split, scored in subject.splits.items()
    }
    tags = subject.tags.iloc[columns].reset_index(drop=True)
    return dataclasses.replace(subject, tags=tags, splits=splits)


def take(scored: Scored, columns: NDArray[np.int64], posts: set[int] | None) -> Scored:
    """Some columns and pictures."""
    every = np.ones(len(scored.rows), bool)
    kept = every if posts is None else scored.rows["post_id"].isin(posts).to_numpy()
    return Scored(
        scored.rows[kept].reset_index(drop=True),
        scored.labels[kept][:, columns],
        scored.probabilities[kept][:, columns],
    )


def measure(config: EvalConfig, first: Subject, second: Subject) -> Comparison:
    """Figures of both, their differences, and the tags that got better and worse."""
    one, other = judge(config, first), judge(config, second)
    resampling = dataclasses.replace(config, bootstrap=config.bootstrap or 1000)
    drawn = resamples_of(resampling, one.held)
    pair = [bootstrap.resample(v.measured(config.min_positives), drawn) for v in (one, other)]
    differences = bootstrap.difference_intervals(one.judgement.model, other.judgement.model, *pair)
    per_tag = tag_differences(one.judgement.per_tag, other.judgement.per_tag, *pair)
    per_tag = per_tag[per_tag["positives"] >= config.min_positives].reset_index(drop=True)
    per_tag["verdict"] = told_apart(per_tag)
    summary = {
        "format": 1,
        "a": first.name,
        "b": second.name,
        "data": str(first.dataset.path),
        "split": config.split,
        "num_pictures": len(one.held.rows),
        "num_tags": len(first.tags),
        "num_tags_scored": len(per_tag),
        "resamples": len(drawn),
        "figures": figures_of(one.judgement.model, other.judgement.model, differences),
        "better": listed(per_tag, "better"),
        "worse": listed(per_tag, "worse"),
    }
    return Comparison(summary, per_tag)


def figures_of(
    one: Mapping[str, float],
    other: Mapping[str, float],
    differences: Mapping[str, tuple[float, float, float]],
) -> dict[str, dict[str, Any]]:
    """a, b, difference and its interval, by figure; None where not defined or not resampled."""
    figures = {}
    for figure in FIGURES:
        a, b = one[figure.key], other[figure.key]
        _, low, high = differences.get(figure.key, (np.nan,) * 3)
        values = {"a": a, "b": b, "difference": b - a, "low": low, "high": high}
        figures[figure.key] = {
            name: float(value) if np.isfinite(value) else None for name, value in values.items()
        }
    return figures


def tag_differences(
    one: pd.DataFrame,
    other: pd.DataFrame,
    first: bootstrap.Resamples,
    second: bootstrap.Resamples,
) -> pd.DataFrame:
    """Average precision of each tag by both, the difference with its 95% interval, and its
    two-sided p-value (how far 0 is from the difference, in standard errors of the resamples)."""
    differences = second.tag_ap.astype(np.float64) - first.tag_ap
    gap = (other["ap"] - one["ap"]).to_numpy()
    enough = np.isfinite(differences).sum(axis=0) > 1
    error = np.full(len(gap), np.nan)
    error[enough] = np.nanstd(differences[:, enough], axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(gap == 0, 0.0, np.abs(gap) / error)
    return pd.DataFrame(
        {
            "name": one["name"],
            "positives": one["positives"],
            "ap_a": one["ap"],
            "ap_b": other["ap"],
            "difference": gap,
            "low": gap - bootstrap.Z * error,
            "high": gap + bootstrap.Z * error,
            "p_value": two_sided(z),
        }
    )


def two_sided(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chance that a standard normal number is at least as far from 0."""
    return np.array([math.erfc(value / math.sqrt(2)) for value in z.tolist()])


def told_apart(tags: pd.DataFrame) -> NDArray[np.object_]:
    """better, worse or nothing, so that few of those named are chance (Benjamini & Hochberg 1995).

    Looking at a thousand tags, fifty would leave their 95% interval by chance alone.
    """
    p = tags["p_value"].to_numpy(float)
    ranked = np.sort(np.where(np.isfinite(p), p, 1.0))
    passed = np.flatnonzero(ranked <= FALSE_SHARE * np.arange(1, len(p) + 1) / max(len(p), 1))
    limit = ranked[passed[-1]] if len(passed) else -1.0
    sure = p <= limit
    gap = tags["difference"].to_numpy(float)
    return np.where(sure & (gap > 0), "better", np.where(sure & (gap < 0), "worse", "")).astype(
        object
    )


def listed(tags: pd.DataFrame, verdict: str) -> list[dict[str, Any]]:
    """The tags of a verdict, largest difference first."""
    chosen = tags[tags["verdict"] == verdict]
    order = chosen["difference"].abs().sort_values(ascending=False, kind="stable").index
    columns = ["name", "positives", "ap_a", "ap_b", "difference", "low", "high"]
    rows = chosen.loc[order, columns].to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def as_text(comparison: Comparison) -> str:
    """Tables to read."""
    summary = comparison.summary
    rows = [
        [
            figure.label,
            *(format_value(summary["figures"][figure.key][name]) for name in ("a", "b")),
            signed(summary["figures"][figure.key]["difference"]),
            interval_of(summary["figures"][figure.key]),
        ]
        for figure in FIGURES
    ]
    return (
        f"A: {summary['a']}\nB: {summary['b']}\n"
        f"on the {summary['split']} split of {summary['data']}: {summary['num_pictures']:,} "
        f"pictures, {summary['num_tags']:,} tags that both know, {summary['num_tags_scored']:,} of "
        "them with enough pictures.\n\n"
        + text_table(["", "A", "B", "B - A", "95% interval"], rows)
        + "(an interval with 0 in it: these pictures do not tell A and B apart)\n"
        + tags_text("better", summary["better"])
        + tags_text("worse", summary["worse"])
    )


def signed(value: float | None) -> str:
    """With its sign; a dash for nothing."""
    return format_value(None) if value is None else f"{value:+.3f}"


def interval_of(figure: Mapping[str, Any]) -> str:
    """Its interval; empty where it was not resampled."""
    return "" if figure["low"] is None else format_interval((figure["low"], figure["high"]))


def tags_text(verdict: str, tags: Sequence[Mapping[str, Any]]) -> str:
    """A table of the tags that differ most."""
    if not tags:
        return f"\nNo tag is surely {verdict} in B.\n"
    rows = [
        [
            tag["name"],
            f"{tag['positives']:,}",
            format_value(tag["ap_a"]),
            format_value(tag["ap_b"]),
            signed(tag["difference"]),
            format_interval((tag["low"], tag["high"])),
        ]
        for tag in tags[:TAGS_SHOWN]
    ]
    more = f"and {len(tags) - TAGS_SHOWN} more\n" if len(tags) > TAGS_SHOWN else ""
    headers = [f"{verdict} in B", "pictures", "AP of A", "AP of B", "B - A", "95% interval"]
    return "\n" + text_table(headers, rows) + more
