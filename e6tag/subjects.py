"""What is judged, a run or what somebody else made, with what it said of the pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.config import EvalConfig
from e6tag.errors import DataError, RunError
from e6tag.inputs import Failures
from e6tag.predictions import SplitPredictions, predict_split
from e6tag.runs import Run
from e6tag.scoring import Scored
from e6tag.shards import Dataset, label_matrix, open_dataset
from e6tag.tagger import Tagger
from e6tag.tags import Vocabulary


@dataclass(frozen=True)
class Subject:
    """A predictor, the pictures that it is measured on, and what it said of them."""

    name: str
    """as the user named it"""
    folder: Path
    """where figures and report go"""
    dataset: Dataset
    tags: pd.DataFrame
    """K rows: name, category (its name), num_train: training pictures that have it"""
    num_train: int
    splits: Mapping[str, Scored]
    """the measured split, and val where there is something to fit cut-offs on"""
    about: Mapping[str, Any]
    """backbone, model_sha256, trained_on_this_data, config: as far as known"""
    run: Run | None = None
    """the run that cut-offs and calibration belong to"""
    notes: Sequence[str] = field(default=())
    """what a reader of the figures must know"""
    are_probabilities: bool = True
    """whether cut-offs and calibration can be fitted"""

    @property
    def val(self) -> Scored | None:
        """What they are fitted on; None where there is nothing to fit on."""
        return self.splits.get("val") if self.are_probabilities else None


def of_run(config: EvalConfig, failures: Failures) -> Subject:
    """A run on the data it was trained on, or on that named.

    Raises:
        DataError: the data is missing, damaged, or has other tags than the run.
        RunError: the run or its model is missing or broken.
    """
    tagger = Tagger.open(config.run, config.threads)
    run = tagger.run
    dataset = open_dataset(data_path(run, config.data))
    columns = matching_columns(run, dataset)
    tags, num_train = known_tags(run, dataset, columns)
    splits: dict[str, Scored] = {
        split: score(predict_split(tagger, dataset, split, failures, config.quiet), columns)
        for split in dict.fromkeys(["val", config.split])
    }
    same = trained_on(run).get("fingerprint") == dataset.info.get("fingerprint")
    about = {
        "backbone": run.info["model"].get("backbone"),
        "model_sha256": run.info["model"]["sha256"],
        "trained_on_this_data": same,
        "config": run.info.get("config") or {},
    }
    folder = config.out or run.path / "eval"
    return Subject(str(run.path), folder, dataset, tags, num_train, splits, about, run)


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
    return name_tags(run.vocabulary, categories, counts), num_train


def name_tags(
    vocabulary: Vocabulary, categories: Mapping[str, Any], counts: NDArray[np.int64]
) -> pd.DataFrame:
    """One row a tag: name, category (its name where it has one), num_train."""
    return pd.DataFrame(
        {
            "name": vocabulary.names,
            "category": [str(categories.get(str(t.category), t.category)) for t in vocabulary.tags],
            "num_train": counts,
        }
    )


def tag_table(dataset: Dataset, columns: NDArray[np.int64]) -> tuple[pd.DataFrame, int]:
    """The tags of these columns of the data (name, category, num_train), and its training pictures.

    Raises:
        DataError: the data has no training pictures, so there is no prior to compare with.
    """
    counts, num_train = counted(dataset, columns)
    chosen = Vocabulary([dataset.vocabulary.tags[column] for column in columns.tolist()])
    return name_tags(chosen, dataset.info.get("categories") or {}, counts), num_train


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
    labels = np.concatenate([*rows["labels"], np.zeros(0, np.int32)])
    counts = np.bincount(labels, minlength=len(dataset.vocabulary))
    return counts[columns].astype(np.int64), len(rows)
