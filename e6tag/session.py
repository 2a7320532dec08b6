"""A training run while it runs, how it is measured, and the run folder that it leaves."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import __version__, checkpoints, files, images, metrics, runs
from e6tag.batches import Batches
from e6tag.config import TrainConfig
from e6tag.errors import DataError
from e6tag.event_files import EventFiles
from e6tag.export import export_onnx
from e6tag.learner import Learner
from e6tag.schedules import picture_size
from e6tag.shards import Dataset
from e6tag.throughput import Clock, Remaining, in_words

log = logging.getLogger(__name__)

MIN_VAL_POSITIVES = 3
"""Tags with fewer validation positives do not enter the macro figures shown while training."""


MOST_POINTS = 2000
"""About as many steps' losses are drawn, evenly spread; TensorBoard shows half of them."""

DRAWN = ("macro_ap", "macro_auc", "micro_ap", "prior_macro_ap", "prior_macro_auc")
SPEED = ("pictures_per_second", "image_size")
"""What TensorBoard shows of an entry of the history."""

PATHS = ("config", "data", "run")
"""Options that name places on the machine that trained."""


@dataclass
class Session:
    """Everything a training run holds while it runs."""

    config: TrainConfig
    dataset: Dataset
    train: Batches
    val: Batches
    learner: Learner
    state: checkpoints.State
    clock: Clock = field(init=False)
    """from when training begins"""
    curves: EventFiles = field(init=False)
    """from when training begins"""

    @property
    def folder(self) -> Path:
        """Where checkpoints are."""
        return self.config.run / "checkpoints"

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.train.steps_per_epoch

    @cached_property
    def remaining(self) -> Remaining:
        """What is left of the run, by the step."""
        sizes = [self.size_of(epoch) for epoch in range(self.config.epochs)]
        return Remaining(sizes, self.train.steps_per_epoch)

    def pictures_per_second(self) -> float:
        """Of this epoch's training steps, validation and checkpoints not counted."""
        return self.config.batch_size / max(self.clock.seconds_a_step(), 1e-9)

    def pace(self) -> str:
        """Throughput and the time that is left, in words."""
        left = self.remaining.seconds(
            self.state.step, self.clock.seconds_a_step(), self.clock.between_seconds
        )
        return f"{self.pictures_per_second():.3g} pictures/s, {in_words(left)} left"

    def draws_point(self) -> bool:
        """Whether the next step is one of those whose loss is drawn."""
        return (self.state.step + 1) % max(1, self.total_steps // MOST_POINTS) == 0

    def rates(self) -> dict[str, float]:
        """Points of the curves of what the next step is taken with."""
        rate, momentum = self.learner.rates()
        found = {"training/learning_rate": rate}
        return found if momentum is None else found | {"training/momentum": momentum}

    def out_of_patience(self) -> bool:
        """Whether the last `patience` epochs of full-sized pictures brought nothing better."""
        full = [entry for entry in self.state.history if self.is_full_size(entry)]
        scores = [float(entry["macro_ap"]) for entry in full]
        return 0 < self.config.patience <= epochs_without_gain(scores)

    def is_full_size(self, entry: dict[str, Any]) -> bool:
        """Whether an entry of the history was measured as the exported model will be used."""
        full = self.config.image_size
        return bool(entry.get("image_size", full) == full)

    def size_of(self, epoch: int) -> int:
        """Side of the pictures of an epoch, in pixels."""
        config = self.config
        return picture_size(epoch, config.epochs, config.image_size, config.progressive)

    def size_lasts_until(self) -> int:
        """The step before which the pictures keep the size they have at the present one."""
        epoch = self.state.step // self.train.steps_per_epoch
        size = self.size_of(epoch)
        while epoch < self.config.epochs and self.size_of(epoch) == size:
            epoch += 1
        return epoch * self.train.steps_per_epoch


def is_due(epochs_done: int, config: TrainConfig) -> bool:
    """Whether a validation follows so many passes: every so many, and at the end."""
    return epochs_done % config.validate_every == 0 or epochs_done >= config.epochs


def epochs_without_gain(scores: Sequence[float]) -> int:
    """Epochs after the first one with the best score; 0 without any."""
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def training_shares(batches: Batches) -> NDArray[np.float64]:
    """Share of the training pictures that have each tag, with half a picture added."""
    return (batches.labels.sum(axis=0) + 0.5) / (len(batches) + 1.0)


def predict_split(learner: Learner, batches: Batches, workers: int) -> tuple[Any, Any]:
    """Labels and probabilities (pictures, tags) of a split."""
    labels, probabilities = [], []
    for pictures, truth in batches.plain(workers):
        if len(pictures):
            labels.append(truth)
            probabilities.append(learner.predict_pictures(pictures))
    if not labels:
        raise DataError("no validation picture can be read. Run download.py again.")
    return np.concatenate(labels), np.concatenate(probabilities)


def validate(session: Session, loss: float) -> None:
    """Measure the averaged weights on the validation split; keep them when they are the best."""
    state, learner = session.state, session.learner
    with learner.averaged():
        truth, scores = predict_split(learner, session.val, session.config.workers)
        entry = summarise(session, truth, scores) | {"loss": loss}
        if session.is_full_size(entry) and entry["macro_ap"] >= state.best.get("macro_ap", -1.0):
            checkpoints.save_weights(learner.network, session.folder / "best.weights.h5")
            state.best = entry
    state.history.append(entry)
    lines = [files.json_line(item) for item in state.history]
    files.write_text(session.config.run / "metrics.jsonl", "".join(lines))
    session.curves.add(state.step, {f"validation/{name}": entry[name] for name in DRAWN})
    session.curves.add(state.step, {f"speed/{name}": entry[name] for name in SPEED})
    log.info(
        "epoch %d/%d: loss %.4g, val macro AP %.4f (prior only %.4f), macro AUC %.4f, %.0f s; %s",
        entry["epoch"], session.config.epochs, loss, entry["macro_ap"],
        entry["prior_macro_ap"], entry["macro_auc"], state.seconds, session.pace(),
    )  # fmt: skip


def summarise(session: Session, truth: Any, scores: Any) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    ours = metrics.evaluate(truth, scores, MIN_VAL_POSITIVES)
    shares = training_shares(session.train)
    prior = metrics.evaluate(truth, metrics.prior_scores(shares, len(truth)), MIN_VAL_POSITIVES)
    step = session.state.step
    return {
        "epoch": step // session.train.steps_per_epoch,
        "step": step,
        "seconds": round(session.state.seconds, 1),
        "pictures_per_second": round(session.pictures_per_second(), 1),
        "image_size": session.val.image_size,
        "macro_ap": ours["macro_ap"],
        "macro_auc": ours["macro_auc"],
        "micro_ap": ours["micro_ap"],
        "prior_macro_ap": prior["macro_ap"],
        "prior_macro_auc": prior["macro_auc"],
    }


def write_run(session: Session) -> None:
    """Export the best weights with all that the other commands need; run.json comes last."""
    run, learner = session.config.run, session.learner
    checkpoints.load_weights(learner.network, session.folder / "best.weights.h5")
    truth, scores = predict_split(learner, session.val, session.config.workers)
    session.dataset.vocabulary.write(run / "tags.csv")
    thresholds = metrics.best_f1_thresholds(truth, scores)
    # A calibration of earlier weights would be wrong without a word.
    (run / "calibration.csv").unlink(missing_ok=True)
    runs.write_thresholds(
        run / "thresholds.csv", session.dataset.vocabulary.names, thresholds.tolist()
    )
    checkpoints.save_model(learner.network, run / "model.keras")
    exported = export_onnx(learner.network, run / "model.onnx", session.config.image_size)
    files.write_json(run / "run.json", run_info(session, exported))


def run_info(session: Session, exported: dict[str, Any]) -> dict[str, Any]:
    """Contents of run.json."""
    config, dataset = session.config, session.dataset
    # Relative, so that the two folders can move together and no home folder's name is shared.
    place = os.path.relpath(dataset.path, config.run)
    options = {name: v for name, v in asdict(config).items() if name not in PATHS}
    splits = {f"num_{name}": len(dataset.split(name)) for name in ("train", "val", "test")}
    return {
        "format": runs.FORMAT,
        "e6tag": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": options,
        "data": {"path": place, "fingerprint": dataset.info["fingerprint"]} | splits,
        "preprocessing": images.PREPROCESSING(config.image_size),
        "categories": dataset.info.get("categories", {}),
        "model": {
            "backbone": config.backbone,
            "num_tags": len(dataset.vocabulary),
            "vector_size": int(session.learner.network.output["vector"].shape[-1]),
            "num_parameters": session.learner.network.count_params(),
            **exported,
            "tags_sha256": files.sha256(config.run / "tags.csv"),
        },
        "training_shares": [round(float(s), 8) for s in training_shares(session.train)],
        "metrics": session.state.best,
    }
