"""How good a run is on held-out pictures, always beside a predictor that only knows priors.

Thresholds are fitted on the val split; figures are taken on the split that is asked for.

run/thresholds.csv                        each tag's cut-off
run/eval/metrics.json per_tag.csv         the figures
run/eval/report.html                      the same, to look at
run/eval/predictions-<split>.npz          so that a second call is instant
"""

import json
import logging
import math
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import __version__, report, scoring
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError, DataError, RunError
from e6tag.figures import FIGURES, as_text
from e6tag.files import write_json, write_text
from e6tag.fitting import check_options, facts, fit_on_val
from e6tag.inputs import Failures, emit
from e6tag.predictions import SplitPredictions, predict_split
from e6tag.runs import Run
from e6tag.scoring import Judgement, Scored
from e6tag.shards import Dataset, label_matrix, open_dataset, read_stored
from e6tag.spread import spread_table
from e6tag.tagger import Tagger

log = logging.getLogger(__name__)

FORMAT = 1
NUM_GUESSES = 12
"""pictures in the report"""
MAX_CREDITS_BYTES = 200_000


def evaluate(config: EvalConfig) -> int:
    """Measure a run (`python eval.py`).

    Returns:
        0, or 1 if some pictures could not be read; each is named on stderr.

    Raises:
        ConfigError: an option has a bad value.
        DataError: the data is missing, damaged, or has other tags than the run.
        RunError: the run or its model is missing or broken.
    """
    if config.min_positives < 1:
        raise ConfigError(f"--min-positives must be 1 or more. Received: {config.min_positives}.")
    check_options(config)
    tagger = Tagger.open(config.run, config.threads)
    run = tagger.run
    dataset = open_dataset(data_path(run, config.data))
    columns = matching_columns(run, dataset)
    tags, num_train = known_tags(run, dataset, columns)
    failures = Failures()
    splits = {
        split: score(predict_split(tagger, dataset, split, failures, config.quiet), columns)
        for split in dict.fromkeys(["val", config.split])
    }
    fitted = fit_on_val(config, tags, splits["val"])
    held = splits[config.split].calibrated(fitted.platt)
    judgement = scoring.judge(
        tags, num_train, splits["val"], held, fitted.shown, config.min_positives
    )
    summary = summarise(config, run, dataset, judgement, len(failures.lines))
    summary |= without_nan(facts(config, run.vocabulary.names, fitted, splits[config.split]))
    summary["spread"] = spread_rows(held)
    guesses = choose_guesses(dataset, held, judgement, failures)
    fitted.write(run)
    write_files(run, dataset, report.Evaluation(summary, judgement, held.calibration(), guesses))
    as_json = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    emit(as_json if config.json else as_text(summary))
    log.info("\nreport: %s", run.path / "eval" / "report.html")
    num_pictures = sum(len(scored.rows) for scored in splits.values()) + len(failures.lines)
    return failures.exit_code(num_pictures)


def data_path(run: Run, named: Path | None) -> Path:
    """The data folder: the named one, else the one that the run was trained on.

    Raises:
        DataError: the run does not name one, or it is not there.
    """
    path = named or run.data_path
    if path is None:
        raise DataError(f"{run.path / 'run.json'} names no data. Name a folder with --data.")
    if not path.is_dir():
        raise DataError(f"there is no data folder {path}. Run download.py, or name it with --data.")
    return path


def matching_columns(run: Run, dataset: Dataset) -> NDArray[np.int64]:
    """For each tag of the run, its column in the data: (K,).

    Raises:
        DataError: one of them knows a tag that the other does not.
    """
    columns = [dataset.vocabulary.column(name) for name in run.vocabulary.names]
    strangers = sorted(set(run.vocabulary.names) ^ set(dataset.vocabulary.names))
    if strangers:
        raise DataError(
            f"{dataset.path / 'tags.csv'} and {run.path / 'tags.csv'} differ in {len(strangers)} "
            f"tags, such as {strangers[0]!r}. Name the data the run was trained on with --data."
        )
    return np.array(columns, np.int64)


def score(predicted: SplitPredictions, columns: NDArray[np.int64]) -> Scored:
    """Predictions with their labels in the run's columns."""
    labels = label_matrix(predicted.rows["labels"], len(columns))[:, columns]
    return Scored(predicted.rows, labels, predicted.probabilities, predicted.uncertainty)


def spread_rows(held: Scored) -> list[dict[str, Any]]:
    """What metrics.json says of the model's own doubt (`e6tag.spread`)."""
    if held.uncertainty is None:
        return []
    table = spread_table(held.labels, held.probabilities, held.uncertainty)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def trained_on(run: Run) -> dict[str, Any]:
    """What the run says of its data; empty where it says nothing."""
    data = run.info.get("data")
    return data if isinstance(data, dict) else {}


def known_tags(run: Run, dataset: Dataset, columns: NDArray[np.int64]) -> tuple[pd.DataFrame, int]:
    """The run's tags (name, category, num_train), and how many pictures it was trained on.

    Shares of the training pictures are the run's own record; without one, the data's.

    Raises:
        DataError: there is neither, so there is no prior to compare with.
    """
    categories = run.info.get("categories") or {}
    counts, num_train = recorded_counts(run) or counted(dataset, columns)
    tags = pd.DataFrame(
        {
            "name": run.vocabulary.names,
            "category": [
                str(categories.get(str(t.category), t.category)) for t in run.vocabulary.tags
            ],
            "num_train": counts,
        }
    )
    return tags, num_train


def recorded_counts(run: Run) -> tuple[NDArray[np.int64], int] | None:
    """Training pictures of each tag and in all, as run.json has them; None where it has not."""
    shares, num_train = run.info.get("training_shares"), trained_on(run).get("num_train")
    if not shares or not num_train:
        return None
    try:
        counts = np.rint(np.array(shares, float) * int(num_train)).astype(np.int64)
    except (TypeError, ValueError) as problem:
        raise RunError(
            f"{run.path / 'run.json'} is damaged: training_shares ({problem})."
        ) from None
    if counts.shape != (len(run.vocabulary),):
        raise RunError(f"{run.path / 'run.json'} is damaged: training_shares do not fit tags.csv.")
    return counts, int(num_train)


def counted(dataset: Dataset, columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Training pictures of each tag of the run and in all, as the data has them.

    Raises:
        DataError: it has none.
    """
    rows = dataset.split("train")
    if rows.empty:
        raise DataError(
            f"{dataset.path} has no training pictures to take the tags' shares from. "
            "Name the data the run was trained on with --data."
        )
    labels = label_matrix(rows["labels"], len(columns))
    return labels.sum(axis=0, dtype=np.int64)[columns], len(rows)


def summarise(
    config: EvalConfig, run: Run, dataset: Dataset, judgement: Judgement, num_failed: int
) -> dict[str, Any]:
    """The content of metrics.json, without nan: undefined figures are None."""
    model, prior = judgement.model, judgement.prior
    keys = [figure.key for figure in FIGURES]
    fingerprint = dataset.info.get("fingerprint")
    positives = judgement.per_tag["positives"].sum() / len(judgement.per_tag)
    summary = {
        "format": FORMAT,
        "e6tag": __version__,
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": str(run.path),
        "backbone": run.info["model"].get("backbone"),
        "model_sha256": run.info["model"]["sha256"],
        "data": str(dataset.path),
        "data_fingerprint": fingerprint,
        "trained_on_this_data": trained_on(run).get("fingerprint") == fingerprint,
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
        "prior": {key: prior[key] for key in keys},
        "ratio": scoring.ratios(model, prior),
        "categories": scoring.by_category(judgement.per_tag, config.min_positives),
        "bands": scoring.by_frequency(judgement.per_tag, config.min_positives),
    }
    return without_nan(summary)


def without_nan(value: Any) -> Any:
    """JSON has no nan: None stands for a figure that is not defined."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def choose_guesses(
    dataset: Dataset, held: Scored, judgement: Judgement, failures: Failures
) -> list[report.Guess]:
    """Pictures for the report, at random, always the same ones of a split."""
    names = judgement.per_tag["name"].tolist()
    num_guesses = min(NUM_GUESSES, len(held.rows))
    guesses = []
    for position in np.random.default_rng(0).choice(len(held.rows), num_guesses, replace=False):
        row = held.rows.iloc[position]
        labels, probabilities = held.labels[position], held.probabilities[position]
        try:
            picture = read_stored(
                dataset.path, row["shard"], int(row["offset"]), int(row["length"])
            )
            small = report.thumbnail(picture)
        except DataError as problem:
            failures.add(f"post {row['post_id']}", problem)
            continue
        compared = report.compare(names, labels, probabilities, judgement.thresholds)
        guesses.append(report.Guess(int(row["post_id"]), small, **compared))
    return guesses


def read_credits(dataset: Dataset) -> str:
    """Who made the pictures: CREDITS.md of the data, else what its dataset.json says."""
    path = dataset.path / "CREDITS.md"
    if path.exists():
        with path.open("rb") as stream:
            return stream.read(MAX_CREDITS_BYTES).decode("utf-8", "replace")
    credits = dataset.info.get("credits") or ""
    return credits if isinstance(credits, str) else json.dumps(credits, indent=2)


def write_files(run: Run, dataset: Dataset, evaluation: report.Evaluation) -> None:
    """Write everything, once all of it is known; each file is finished or absent."""
    judgement = evaluation.judgement
    page = report.render(evaluation, run.info.get("config") or {}, read_credits(dataset))
    table = judgement.per_tag.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(run.path / "eval" / "per_tag.csv", table)
    write_text(run.path / "eval" / "report.html", page)
    write_json(run.path / "eval" / "metrics.json", evaluation.summary)
