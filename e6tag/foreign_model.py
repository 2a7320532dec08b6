"""Somebody else's tagger as a subject: an ONNX file and a CSV of its tags.

The layout that is common among taggers of drawings (`wd`): input (N, S, S, 3) float32, blue,
green, red from 0 to 255, the picture on a white square; one output (N, K); a CSV with the columns
name and category, where category 9 holds ratings.  `e6tag`: red, green, blue, as our own models.
"""

import csv
import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import images
from e6tag.calibration import sigmoid
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError, DataError, RunError
from e6tag.foreign import NO_VAL, default_folder, is_probability
from e6tag.inference import first_line, open_session, runtime_errors
from e6tag.inputs import Failures
from e6tag.progress import Progress
from e6tag.scoring import Scored
from e6tag.shards import Dataset, default_data, label_matrix, open_dataset, read_stored
from e6tag.subjects import Subject, tag_table

log = logging.getLogger(__name__)

Layout = Literal["e6tag", "wd"]

RATING_CATEGORY = "9"
BATCH_SIZE = 16
DEFAULT_SIZE = 448
MAX_SIDE = 4096
MAX_TAGS_BYTES = 64 << 20


@dataclass(frozen=True)
class ForeignModel:
    """A tagger that is ready to run."""

    path: Path
    session: Any
    input_name: str
    output_name: str
    size: int
    """side of the square pictures it takes, in pixels"""
    channels_first: bool
    batch: int | None
    """pictures that it takes at once; None for any number"""
    layout: Layout
    tags: Sequence[str | None]
    """of each output; None for outputs that are no tags (ratings)"""

    def read(self, content: bytes) -> NDArray[np.float32]:
        """A picture as the model takes it.

        Raises:
            DataError: it cannot be decoded.
        """
        square = images.read_square(content, self.size)
        square = square[:, :, ::-1] if self.layout == "wd" else square
        square = square.transpose(2, 0, 1) if self.channels_first else square
        return np.ascontiguousarray(square, np.float32)

    def predict(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (N, outputs) of N pictures.

        Raises:
            RunError: the model fails, or its output is of another shape.
        """
        given, batch = len(pictures), self.batch or len(pictures)
        filled = np.zeros((-given % batch, *pictures.shape[1:]), np.float32)
        whole = np.concatenate([pictures, filled])
        try:
            parts = [
                self.session.run([self.output_name], {self.input_name: whole[at : at + batch]})[0]
                for at in range(0, len(whole), batch)
            ]
        except runtime_errors() as problem:
            raise RunError(f"{self.path} failed: {first_line(problem)}") from None
        values = np.concatenate(parts)[:given]
        if values.shape != (given, len(self.tags)):
            raise RunError(
                f"{self.path} gives {values.shape[1:]} numbers for a picture, the CSV of its tags "
                f"has {len(self.tags)} rows. Name the CSV that belongs to it with --tags."
            )
        if not np.isfinite(values).all():
            raise RunError(f"{self.path} gives scores that are not numbers.")
        return values.astype(np.float32)


def of_model(config: EvalConfig, failures: Failures) -> Subject:
    """The model of --onnx with the tags of --tags on the data of --data.

    Raises:
        ConfigError: a file is not there.
        DataError: the data is missing, or shares no tag with the model.
        RunError: the model or the CSV of its tags is broken.
    """
    assert config.onnx is not None
    model = open_model(config.onnx, config.tags, config.layout, config.threads)
    dataset = open_dataset(default_data(config.data))
    outputs, columns = shared_tags(model, dataset)
    splits: dict[str, Scored] = {}
    for split in dict.fromkeys(["val", config.split]):
        rows = dataset.split(split)
        if split == "val" and rows.empty and split != config.split:
            continue
        splits[split] = predict_split(model, dataset, rows, (outputs, columns), config, failures)
    splits = as_probabilities(model.path, splits)
    tags, num_train = tag_table(dataset, columns)
    about: dict[str, Any] = {
        "backbone": config.layout,
        "model_sha256": hashlib.sha256(config.onnx.read_bytes()).hexdigest(),
        "trained_on_this_data": None,
        "config": {},
    }
    notes = notes_of(model, dataset, len(columns)) + ([] if "val" in splits else [NO_VAL])
    folder = config.out or default_folder(config.onnx)
    name = str(config.onnx)
    return Subject(name, folder, dataset, tags, num_train, splits, about, notes=notes)


def open_model(path: Path, tags: Path | None, layout: Layout, threads: int) -> ForeignModel:
    """Open a tagger and the CSV of its tags (default: selected_tags.csv beside it).

    Raises:
        ConfigError: a file is not there.
        RunError: the model cannot be loaded, takes no pictures, or the CSV has other columns.
    """
    tags = tags or path.with_name("selected_tags.csv")
    for each in (path, tags):
        if not each.is_file():
            raise ConfigError(f"there is no file {each}. Name the model with --onnx, and with "
                              "--tags the CSV of its tags.")  # fmt: skip
    session = open_session(path, threads)
    node, output = session.get_inputs()[0], choose_output(session)
    shape = [side if isinstance(side, int) and side > 0 else None for side in node.shape]
    if len(shape) != 4 or 3 not in (shape[1], shape[3]) or node.type != "tensor(float)":
        raise RunError(
            f"{path} takes {node.type} {node.shape}, expected pictures: float32 (N, S, S, 3) or "
            "(N, 3, S, S)."
        )
    channels_first = shape[3] != 3
    size = (shape[2] if channels_first else shape[1]) or DEFAULT_SIZE
    if size > MAX_SIDE:
        raise RunError(f"{path} takes pictures of {size} px, at most {MAX_SIDE} are made.")
    names = read_tags(tags)
    return ForeignModel(
        path, session, node.name, output, size, channels_first, shape[0], layout, names
    )


def choose_output(session: Any) -> str:
    """The output with the tags: the one called probabilities, else the first."""
    names = [node.name for node in session.get_outputs()]
    return "probabilities" if "probabilities" in names else str(names[0])


def read_tags(path: Path) -> list[str | None]:
    """Names of a CSV's rows; None for ratings.

    Raises:
        RunError: it is no such CSV.
    """
    expected = f"{path}: expected a CSV with the columns name and category."
    try:
        if path.stat().st_size > MAX_TAGS_BYTES:
            raise RunError(f"{expected} It is larger than {MAX_TAGS_BYTES >> 20} MB.")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RunError(f"{expected} It is not UTF-8 text.") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if rows.fieldnames is None or "name" not in rows.fieldnames:
        raise RunError(expected)
    return [
        None if row.get("category") == RATING_CATEGORY else (row["name"] or "").replace(" ", "_")
        for row in rows
    ]


def shared_tags(
    model: ForeignModel, dataset: Dataset
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Outputs of the model and columns of the data that are the same tags.

    Raises:
        DataError: there are none.
    """
    known = [(n, dataset.vocabulary.column(tag)) for n, tag in enumerate(model.tags) if tag]
    pairs = {column: number for number, column in reversed(known) if column is not None}
    if not pairs:
        raise DataError(
            f"{model.path} and {dataset.path / 'tags.csv'} have no tag in common. Name the data "
            "that it is to be measured on with --data."
        )
    columns = sorted(pairs)
    return np.array([pairs[column] for column in columns]), np.array(columns)


def predict_split(
    model: ForeignModel,
    dataset: Dataset,
    rows: pd.DataFrame,
    shared: tuple[NDArray[np.int64], NDArray[np.int64]],
    config: EvalConfig,
    failures: Failures,
) -> Scored:
    """Labels and scores of a split, of the tags that model and data share.

    Raises:
        DataError: none of the pictures can be read.
        RunError: the model fails.
    """
    outputs, columns = shared
    done: list[int] = []
    values = [np.zeros((0, len(outputs)), np.float32)]
    with Progress("predict", len(rows), unit="pictures", quiet=config.quiet) as progress:
        for places, pictures in batches(model, dataset, rows, failures, progress):
            values.append(model.predict(pictures)[:, outputs])
            done += places
    if not done:
        raise DataError(f"{dataset.path}: none of the {len(rows)} pictures can be read.")
    kept = rows.iloc[done].reset_index(drop=True)
    labels = label_matrix(kept["labels"], len(dataset.vocabulary))[:, columns]
    return Scored(kept, labels, np.concatenate(values))


def as_probabilities(path: Path, splits: dict[str, Scored]) -> dict[str, Scored]:
    """Outputs from 0 to 1 as they are; logits through the sigmoid, in all splits or in none."""
    if all(is_probability(scored.probabilities) for scored in splits.values()):
        return splits
    log.info("%s gives logits: they are taken through the sigmoid.", path)
    return {
        split: replace(
            scored,
            probabilities=sigmoid(scored.probabilities.astype(np.float64)).astype(np.float32),
        )
        for split, scored in splits.items()
    }


def batches(
    model: ForeignModel,
    dataset: Dataset,
    rows: pd.DataFrame,
    failures: Failures,
    progress: Progress,
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Places in `rows` and pictures, some at a time; those that cannot be read are named."""
    places: list[int] = []
    pictures: list[NDArray[np.float32]] = []
    for place, row in enumerate(rows.to_dict("records")):
        try:
            stored = (row["shard"], int(row["offset"]), int(row["length"]))
            pictures.append(model.read(read_stored(dataset.path, *stored)))
            places.append(place)
        except DataError as problem:
            failures.add(f"post {row['post_id']}", problem)
        progress.update()
        if len(places) == BATCH_SIZE:
            yield places, np.stack(pictures)
            places, pictures = [], []
    if places:
        yield places, np.stack(pictures)


def notes_of(model: ForeignModel, dataset: Dataset, num_shared: int) -> list[str]:
    """What a reader of the figures must know."""
    num_known, num_tags = len(dataset.vocabulary), sum(tag is not None for tag in model.tags)
    notes = [f"The model has {num_tags:,} tags, the data {num_known:,}; {num_shared:,} are shared."]
    return [*notes, "Pictures are as the data stores them, which is smaller than on the site."]
