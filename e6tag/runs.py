"""The run folder: all that the other commands need of a trained model.

run.json         resolved config, code version, data fingerprint, preprocessing, metrics
tags.csv         the vocabulary: row = output column
thresholds.csv   name,threshold, ...: one cut-off per tag
calibration.csv  name,slope,bias: from the model's probabilities to shares that come true
model.onnx       input NHWC 0..255; outputs probabilities, vector, uncertainty
model.keras      the same network, to train on with; nothing here reads it yet
metrics.jsonl    one object per validation
tensorboard/     learning curves, for TensorBoard
checkpoints/     weights and optimiser at a step
eval/ heads/     what eval.py and `e6tag transfer` add
"""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e6tag.errors import RunError
from e6tag.files import read_json, sha256, write_text
from e6tag.tags import Vocabulary

FORMAT = 1
DEFAULT_RUN = Path("runs/default")
DEMO_RUN = Path("runs/demo")
TRAIN_HINT = "Train a model (python train.py, or make demo), or name a run folder with --run."


@dataclass(frozen=True)
class Run:
    """A run folder that was checked on opening."""

    path: Path
    info: dict[str, Any]
    """contents of run.json"""
    vocabulary: Vocabulary

    @property
    def model_path(self) -> Path:
        """The exported model."""
        return self.path / "model.onnx"

    @property
    def calibration_path(self) -> Path:
        """Where `eval.py` keeps the calibration, if there is one."""
        return self.path / "calibration.csv"

    @property
    def image_size(self) -> int:
        """Side of the square the model takes, in pixels."""
        return int(self.info["preprocessing"]["image_size"])

    @property
    def data_path(self) -> Path | None:
        """The data folder the run was trained on; run.json gives it relative to the run folder."""
        stated = (self.info.get("data") or {}).get("path")
        return Path(os.path.normpath(self.path / str(stated))) if stated else None

    def thresholds(self) -> list[float] | None:
        """Cut-off of each column, or None where the run has no thresholds.csv."""
        path = self.path / "thresholds.csv"
        return read_thresholds(path, self.vocabulary) if path.exists() else None


def default_run(named: Path | None) -> Path:
    """The run folder meant: the named one, else runs/default, else the demo's."""
    if named is not None:
        return named
    only_demo = not is_finished(DEFAULT_RUN) and is_finished(DEMO_RUN)
    return DEMO_RUN if only_demo else DEFAULT_RUN


def is_finished(path: Path) -> bool:
    """Whether a training came to its end in this folder (run.json is written last)."""
    return (path / "run.json").exists()


def open_run(path: Path) -> Run:
    """Check a run folder and read what it says.

    Raises:
        RunError: a file is missing or damaged (named), or parts do not fit each other.
    """
    if not path.is_dir():
        raise RunError(f"there is no run folder {path}. {TRAIN_HINT}")
    info = read_json(path / "run.json", RunError, TRAIN_HINT)
    check_info(path / "run.json", info)
    vocabulary = Vocabulary.read(path / "tags.csv", RunError, TRAIN_HINT)
    if len(vocabulary) != info["model"]["num_tags"]:
        raise RunError(
            f"{path / 'tags.csv'} has {len(vocabulary)} tags but run.json says "
            f"{info['model']['num_tags']}. {TRAIN_HINT}"
        )
    check_tags(path / "tags.csv", info["model"])
    check_model(path / "model.onnx", info["model"])
    return Run(path, info, vocabulary)


def check_info(path: Path, info: dict[str, Any]) -> None:
    """Refuse a run.json from a newer version, or without the parts that readers need."""
    if info.get("format") != FORMAT:
        raise RunError(
            f"{path} has format {info.get('format')!r}, this e6tag reads {FORMAT}. {TRAIN_HINT}"
        )
    try:
        int(info["preprocessing"]["image_size"])
        int(info["model"]["num_tags"])
        str(info["model"]["sha256"])
        int(info["model"]["bytes"])
        for name in ("data", "config", "categories"):
            dict(info.get(name) or {})
    except (KeyError, TypeError, ValueError) as problem:
        raise RunError(f"{path} is damaged: no usable {problem}. {TRAIN_HINT}") from None


def check_tags(path: Path, model: dict[str, Any]) -> None:
    """Compare tags.csv with the checksum in run.json, where that has one: another run's tags,
    or the same in another order, would be wrong without a word.
    """
    if "tags_sha256" in model and sha256(path) != model["tags_sha256"]:
        raise RunError(f"{path} is damaged: its SHA-256 is not run.json's. {TRAIN_HINT}")


def check_model(path: Path, model: dict[str, Any]) -> None:
    """Compare size and checksum of model.onnx with what run.json says."""
    if not path.exists():
        raise RunError(f"{path} is missing. {TRAIN_HINT}")
    if path.stat().st_size != model["bytes"]:
        raise RunError(
            f"{path} is damaged: {path.stat().st_size} bytes, run.json says {model['bytes']}. "
            f"{TRAIN_HINT}"
        )
    if sha256(path) != model["sha256"]:
        raise RunError(f"{path} is damaged: its SHA-256 is not run.json's. {TRAIN_HINT}")


def write_thresholds(
    path: Path,
    names: Sequence[str],
    thresholds: Sequence[float],
    more: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Write thresholds.csv (name,threshold and further columns), finished or absent.

    `inf` stands for a tag that is never predicted; a further number that is nan stays empty.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    further = dict(more or {})
    writer.writerow(["name", "threshold", *further])
    for name, threshold, *rest in zip(names, thresholds, *further.values(), strict=True):
        writer.writerow([name, f"{threshold:.6g}", *map(as_cell, rest)])
    write_text(path, text.getvalue())


def as_cell(value: Any) -> str:
    """A number or word as CSV holds it."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def read_thresholds(path: Path, vocabulary: Vocabulary) -> list[float]:
    """Cut-offs in column order.

    Raises:
        RunError: the file does not give each tag of the vocabulary one number (`inf` for never).
    """
    by_name: dict[str, float] = {}
    try:
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")):
            by_name[row["name"]] = float(row["threshold"])
        thresholds = [by_name[name] for name in vocabulary.names]
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as problem:
        raise RunError(
            f"{path} is damaged: expected name,threshold for every tag ({problem}). "
            "Run eval.py to write it anew."
        ) from None
    if any(math.isnan(threshold) for threshold in thresholds):
        raise RunError(f"{path} is damaged: a threshold is not a number. Run eval.py again.")
    return thresholds
