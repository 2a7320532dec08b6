"""How good a run is on held-out pictures, always beside a predictor that only knows priors.

Thresholds are fitted on the val split; figures are taken on the split that is asked for.

run/thresholds.csv                        each tag's cut-off
run/eval/metrics.json per_tag.csv         the figures
run/eval/report.html                      the same, to look at
run/eval/audit.csv audit.html             with --audit: labels that are likely wrong
run/eval/predictions-<split>.npz          so that a second call is instant
"""

import json
import logging
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from e6tag import __version__, foreign, foreign_model, galleries, report, scoring
from e6tag import audit as label_audit
from e6tag.audit_page import as_text as audit_text
from e6tag.comparison import compare
from e6tag.config import EvalConfig
from e6tag.count_tables import judge_counts
from e6tag.figures import FIGURES, as_text
from e6tag.files import all_finished, json_text
from e6tag.fitting import facts
from e6tag.inputs import Failures, emit
from e6tag.report_plots import prepare
from e6tag.scoring import Scored
from e6tag.shards import Dataset
from e6tag.siblings import confusions, read_implications
from e6tag.spread import contrast, spread_table
from e6tag.subjects import Subject, of_run
from e6tag.verdict import Verdict, check_options, intervals_of, judge

log = logging.getLogger(__name__)

FORMAT = 1
MAX_CREDITS_BYTES = 200_000
ABOUT = ("backbone", "model_sha256", "trained_on_this_data")


def evaluate(config: EvalConfig) -> int:
    """Measure a run (`python eval.py`).

    Returns:
        0, or 1 if some pictures could not be read; each is named on stderr.

    Raises:
        ConfigError: an option has a bad value.
        DataError: the data is missing, damaged, or has other tags than the run.
        RunError: the run or its model is missing or broken.
    """
    check_options(config)
    if config.counts is not None:
        return judge_counts(config)
    if config.compare:
        return compare(config, open_subject)
    failures = Failures()
    subject = open_subject(config, failures)
    if config.audit:
        label_audit.check(config, subject)
    verdict = judge(config, subject)
    summary = summarise(config, subject, verdict, len(failures.lines))
    found = label_audit.audit(config, subject, verdict, failures) if config.audit else None
    if found is not None:
        summary["audit"] = found.facts
    pictures = galleries.Thumbnails(subject.dataset, verdict.held, failures)
    write_files(subject, verdict, summary, pictures, found)
    told = as_text(summary) + (audit_text(found.facts) if found is not None else "")
    emit(json_text(summary) if config.json else told)
    log.info("\nreport: %s", subject.folder / "report.html")
    num_pictures = sum(len(scored.rows) for scored in subject.splits.values())
    return failures.exit_code(num_pictures + len(failures.lines))


def open_subject(config: EvalConfig, failures: Failures) -> Subject:
    """The run, scores or model that the options name, with what it says of the pictures.

    Raises:
        ConfigError, DataError, RunError: as `evaluate`.
    """
    if config.predictions is not None:
        return foreign.of_scores(config)
    if config.onnx is not None:
        return foreign_model.of_model(config, failures)
    return of_run(config, failures)


def spread_facts(held: Scored) -> dict[str, Any]:
    """What metrics.json says of the model's own doubt (`e6tag.spread`)."""
    if held.uncertainty is None:
        return {"spread": [], "spread_ratio": None}
    table = spread_table(held.labels, held.probabilities, held.uncertainty)
    groups = held.rows["group"].to_numpy() if "group" in held.rows else None
    ratio = contrast(held.labels, held.probabilities, held.uncertainty, groups)
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    return {"spread": rows, "spread_ratio": None if ratio is None else list(ratio)}


def confused(subject: Subject, verdict: Verdict) -> list[dict[str, Any]]:
    """What metrics.json says of tags that are taken for their siblings (`e6tag.siblings`)."""
    held, tags = verdict.held, subject.tags
    return confusions(
        list(zip(tags["name"], tags["category"], strict=True)),
        held.labels,
        held.probabilities,
        verdict.judgement.thresholds,
        read_implications(subject.dataset.path),
    )


def summarise(
    config: EvalConfig, subject: Subject, verdict: Verdict, num_failed: int
) -> dict[str, Any]:
    """The content of metrics.json, without nan: undefined figures are None."""
    judgement, dataset = verdict.judgement, subject.dataset
    model, prior = judgement.model, judgement.prior
    keys, intervals = [figure.key for figure in FIGURES], intervals_of(config, verdict)
    positives = judgement.per_tag["positives"].sum() / len(judgement.per_tag)
    summary = {
        "format": FORMAT,
        "e6tag": __version__,
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": subject.name,
        **{key: subject.about[key] for key in ABOUT},
        "notes": list(subject.notes),
        "data": str(dataset.path),
        "data_fingerprint": dataset.info.get("fingerprint"),
        "split": config.split,
        "num_pictures": model["num_pictures"],
        "num_failed": num_failed,
        "num_tags": model["num_tags"],
        "num_tags_scored": model["num_tags_scored"],
        "num_tags_left_out": model["num_tags"] - model["num_tags_scored"],
        "min_positives": config.min_positives,
        "tags_per_picture": model["tags_per_picture"],
        "all_negative_accuracy": 1.0 - positives / model["num_pictures"],
        "model": {key: model[key] for key in keys},
        "intervals": {key: list(ends) for key, ends in intervals.model.items()},
        "prior": {key: prior[key] for key in keys},
        "ratio": scoring.ratios(model, prior),
        "over_prior": {key: list(ends) for key, ends in intervals.over_prior.items()},
        "categories": scoring.by_category(judgement.per_tag, config.min_positives),
        "bands": scoring.by_frequency(judgement.per_tag, config.min_positives),
        **fitted_facts(config, subject, verdict),
        **spread_facts(verdict.held),
        "confusions": confused(subject, verdict),
    }
    return without_nan(summary)


def fitted_facts(config: EvalConfig, subject: Subject, verdict: Verdict) -> dict[str, Any]:
    """What was fitted on val; None where there was nothing to fit on."""
    if verdict.fitted is None:
        return {"thresholds": None, "calibration": None}
    return facts(config, subject.tags["name"].tolist(), verdict.fitted, verdict.raw)


def without_nan(value: Any) -> Any:
    """JSON has no nan: None stands for a figure that is not defined."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_credits(dataset: Dataset) -> str:
    """Who made the pictures: CREDITS.md of the data, else what its dataset.json says."""
    path = dataset.path / "CREDITS.md"
    if path.exists():
        with path.open("rb") as stream:
            return stream.read(MAX_CREDITS_BYTES).decode("utf-8", "replace")
    credits = dataset.info.get("credits") or ""
    return credits if isinstance(credits, str) else json.dumps(credits, indent=2)


def gather(
    verdict: Verdict, summary: Mapping[str, Any], pictures: galleries.Thumbnails
) -> report.Evaluation:
    """What the report shows."""
    judgement, names = verdict.judgement, verdict.judgement.per_tag["name"].tolist()
    return report.Evaluation(
        summary,
        judgement,
        prepare(verdict.raw, verdict.held, judgement.shares, summary["min_positives"]),
        galleries.choose_guesses(pictures, judgement),
        galleries.choose_alarms(pictures, names),
        galleries.choose_misses(pictures, names),
    )


def write_files(
    subject: Subject,
    verdict: Verdict,
    summary: Mapping[str, Any],
    pictures: galleries.Thumbnails,
    found: label_audit.Audit | None,
) -> None:
    """Write everything, once all of it is known: either all of it, or the old files stay."""
    folder, credits = subject.folder, read_credits(subject.dataset)
    page = report.render(gather(verdict, summary, pictures), subject.about["config"], credits)
    table = verdict.judgement.per_tag.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    files = {"metrics.json": json_text(summary), "report.html": page, "per_tag.csv": table}
    files |= {} if found is None else found.files(summary, credits)
    with all_finished({folder / name: text for name, text in files.items()}):
        if subject.run is not None and verdict.fitted is not None:
            verdict.fitted.write(subject.run)
