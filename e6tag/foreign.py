"""Somebody else's scores as a subject, brought together with the data's labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.config import EvalConfig
from e6tag.errors import DataError
from e6tag.score_files import Scores, read_scores
from e6tag.scoring import Scored
from e6tag.shards import Dataset, default_data, label_matrix, open_dataset
from e6tag.subjects import Subject, tag_table

NOT_PROBABILITIES = (
    "The scores are not probabilities (0 to 1): figures at thresholds and of calibration are left "
    "out."
)
NO_VAL = (
    "There are no scores of the val pictures to fit thresholds on: figures at thresholds are left "
    "out, and nothing is calibrated."
)


def of_scores(config: EvalConfig, posts: Sequence[int] | None = None) -> Subject:
    """The scores of --predictions on the data of --data.

    Args:
        config: predictions, data, split, out.
        posts: those of the measured split that count; None for all.

    Raises:
        ConfigError: there is no such file.
        DataError: a score, post or tag is not what it must be (named); the data is missing.
    """
    assert config.predictions is not None
    scores = read_scores(config.predictions)
    dataset = open_dataset(default_data(config.data))
    columns = known_columns(scores, dataset)
    splits = split_scores(config, scores, dataset, columns, posts)
    are_probabilities = is_probability(scores.values)
    notes = notes_of(dataset, len(columns), splits, are_probabilities)
    tags, num_train = tag_table(dataset, columns)
    unknown = dict.fromkeys(("backbone", "model_sha256", "trained_on_this_data"))
    about: dict[str, Any] = {**unknown, "config": {}}
    folder = config.out or default_folder(config.predictions)
    return Subject(
        str(scores.path),
        folder,
        dataset,
        tags,
        num_train,
        splits,
        about,
        notes=notes,
        are_probabilities=are_probabilities,
    )


def default_folder(path: Path) -> Path:
    """Where the figures of a file go: a folder beside it."""
    return path.with_name(f"{path.stem}-eval")


def known_columns(scores: Scores, dataset: Dataset) -> NDArray[np.int64]:
    """For each tag of the scores, its column in the data: (K,).

    Raises:
        DataError: the data does not have one.
    """
    columns = [dataset.vocabulary.column(tag) for tag in scores.tags]
    for tag, column in zip(scores.tags, columns, strict=True):
        if column is None:
            raise DataError(
                f"{scores.path}: the tag {tag!r} is not in {dataset.path / 'tags.csv'}. Leave "
                "its column out, or name the data that has it with --data."
            )
    return np.array(columns, np.int64)


def split_scores(
    config: EvalConfig,
    scores: Scores,
    dataset: Dataset,
    columns: NDArray[np.int64],
    posts: Sequence[int] | None = None,
) -> Mapping[str, Scored]:
    """Labels and scores of the measured split, and of val where its posts are all there."""
    check_known(scores, dataset)
    splits: dict[str, Scored] = {}
    for split in dict.fromkeys(["val", config.split]):
        rows = dataset.split(split)
        if posts is not None and split == config.split:
            rows = rows[rows["post_id"].isin(posts)].reset_index(drop=True)
        found = places(scores, rows)
        missing = rows[found < 0]
        if split == config.split and rows.empty:
            raise DataError(f"{dataset.path} has no picture of the {split} split.")
        if split == config.split and len(missing):
            raise DataError(
                f"{scores.path}: {len(missing)} of the {len(rows)} posts of the {split} split are "
                f"not there, the first is {scores.key} {missing[scores.key].iloc[0]}. Expected a "
                "row for each" + ("." if posts else "; measure another split with --split.")
            )
        if not len(missing) and len(rows):
            splits[split] = align(rows, scores, found, columns, len(dataset.vocabulary))
    return splits


def check_known(scores: Scores, dataset: Dataset) -> None:
    """Refuse posts that the data does not have.

    Raises:
        DataError: naming the first.
    """
    strange = np.flatnonzero(~np.isin(scores.posts, dataset.manifest[scores.key].to_numpy()))
    if len(strange):
        row = int(strange[0])
        raise DataError(
            f"{scores.path}, row {row + 1}: {scores.key} {scores.posts[row]} is not in "
            f"{dataset.path}. Name the data that the scores are of with --data."
        )


def places(scores: Scores, rows: pd.DataFrame) -> NDArray[np.int64]:
    """The row of the scores for each picture, -1 where there is none."""
    wanted = rows[scores.key].to_numpy()
    at = np.minimum(np.searchsorted(scores.posts, wanted), len(scores.posts) - 1)
    found: NDArray[np.int64] = np.where(scores.posts[at] == wanted, at, -1)
    return found


def align(
    rows: pd.DataFrame,
    scores: Scores,
    found: NDArray[np.int64],
    columns: NDArray[np.int64],
    num_tags: int,
) -> Scored:
    """Labels in the columns of the scores, scores in the rows of the data."""
    labels = label_matrix(rows["labels"], num_tags)[:, columns]
    return Scored(rows, labels, scores.values[found])


def is_probability(values: NDArray[Any]) -> bool:
    """Whether all are from 0 to 1."""
    return bool(len(values) and values.min() >= 0 and values.max() <= 1)


def notes_of(
    dataset: Dataset, num_tags: int, splits: Mapping[str, Scored], are_probabilities: bool
) -> Sequence[str]:
    """What a reader of the figures must know."""
    notes = []
    left = len(dataset.vocabulary) - num_tags
    if left:
        notes.append(f"{left} of the data's {len(dataset.vocabulary)} tags have no scores.")
    if not are_probabilities:
        notes.append(NOT_PROBABILITIES)
    if "val" not in splits:
        notes.append(NO_VAL)
    return notes
