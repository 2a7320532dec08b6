"""Tags of pictures from a run's model.onnx, with ONNX Runtime alone.

`Tagger` is the model in a run folder; `tag` is the job behind `python test.py`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from e6tag import images
from e6tag.config import TagConfig
from e6tag.errors import ConfigError, DataError, E6TagError, RunError
from e6tag.heads import open_head
from e6tag.inference import (
    OUTPUTS,
    Prediction,
    check_signature,
    first_line,
    open_session,
    runtime_errors,
)
from e6tag.inputs import Failures, Input, find_inputs
from e6tag.progress import Progress
from e6tag.runs import Run, default_run, open_run
from e6tag.tag_choice import Labeller, Scored, parse_threshold
from e6tag.tag_output import Writer, open_writer, without_sidecar

__all__ = ["Prediction", "Tagger", "predict_stream", "read_inputs", "tag"]

Key = TypeVar("Key")


class Tagger:
    """A run's model, ready to predict.  Open it with `Tagger.open`."""

    def __init__(self, run: Run, session: Any):
        self.run = run
        self.session = session
        """an onnxruntime.InferenceSession with the outputs that `OUTPUTS` names"""

    @classmethod
    def open(cls, path: Path | None = None, threads: int = 0) -> "Tagger":
        """Open a run folder (default: runs/default, else the demo's).

        Args:
            path: run folder.
            threads: of the model; 0 for all cores.

        Raises:
            RunError: the run or its model is missing, damaged, or of another make (file named).
            ConfigError: `threads` is negative.
        """
        if threads < 0:
            raise ConfigError(f"--threads must be 0 (all cores) or more. Received: {threads}.")
        run = open_run(default_run(path))
        images.check_preprocessing(run.info["preprocessing"], run.path / "run.json")
        session = open_session(run.model_path, threads)
        check_signature(session, run)
        return cls(run, session)

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes, in pixels."""
        return self.run.image_size

    @property
    def vector_size(self) -> int:
        """Dimensions of its vectors."""
        return int(self.run.info["model"]["vector_size"])

    def read(self, source: Path | bytes) -> NDArray[np.uint8]:
        """A picture (path, or the content of its file) as the model takes it: (S, S, 3) uint8.

        Raises:
            DataError: it is not a picture that can be decoded.
            OSError: the file cannot be read.
        """
        return images.read_square(source, self.image_size)

    def predict(self, pictures: NDArray[Any]) -> Prediction:
        """Probabilities, vectors and uncertainty of pictures (N, S, S, 3), values 0..255.

        Raises:
            ValueError: the pictures are of another shape.
            RunError: the model fails, or its probabilities are not numbers.
        """
        size = self.image_size
        if pictures.shape[1:] != (size, size, 3):
            raise ValueError(f"expected pictures (N, {size}, {size}, 3), got {pictures.shape}")
        if not len(pictures):
            num_tags = len(self.run.vocabulary)
            shapes = ((0, num_tags), (0, self.vector_size), (0, num_tags))
            return Prediction(*(np.zeros(shape, np.float32) for shape in shapes))
        try:
            outputs = self.session.run(OUTPUTS, {"pictures": pictures.astype(np.float32)})
        except runtime_errors() as problem:
            raise RunError(f"{self.run.model_path} failed: {first_line(problem)}") from None
        prediction = Prediction(*outputs)
        if not np.isfinite(prediction.probabilities).all():
            raise RunError(f"{self.run.model_path} gives probabilities that are not numbers.")
        return prediction


def predict_stream(
    tagger: Tagger, items: Iterable[tuple[Key, NDArray[np.uint8]]], batch_size: int
) -> Iterator[tuple[list[Key], Prediction]]:
    """Predict pictures that come one by one.

    Args:
        tagger: the model.
        items: (key, picture (S, S, 3)) pairs; keys are handed through.
        batch_size: pictures a step; the last step may have fewer.

    Yields:
        The keys of a step, and the prediction for them.
    """
    keys: list[Key] = []
    squares: list[NDArray[np.uint8]] = []
    for key, square in items:
        keys.append(key)
        squares.append(square)
        if len(keys) == batch_size:
            yield keys, tagger.predict(np.stack(squares))
            keys, squares = [], []
    if keys:
        yield keys, tagger.predict(np.stack(squares))


def read_inputs(
    tagger: Tagger, items: Iterable[Input], failures: Failures, progress: Progress
) -> Iterator[tuple[Input, NDArray[np.uint8]]]:
    """Inputs with their pictures (S, S, 3); those that cannot be read go to `failures`."""
    for item in items:
        try:
            square = tagger.read(item.read())
        except (E6TagError, OSError) as problem:
            failures.add(item.name, problem)
        else:
            yield item, square
        progress.update()


def tag(config: TagConfig) -> int:
    """Print the tags of pictures (`python test.py`).

    Returns:
        0, or 1 if some of the pictures failed; each is named on stderr.

    Raises:
        ConfigError: an option has a bad value, or no picture was named.
        RunError: the run, its thresholds or the head is missing or broken.
    """
    check_options(config)
    failures = Failures()
    items = find_inputs(config.paths, config.recursive, failures)
    num_inputs = len(items) + len(failures.lines)
    if config.format == "txt":
        items = list(without_sidecar(items, config.on_existing == "skip", failures))
    if not items:
        return failures.exit_code(num_inputs)
    tagger = Tagger.open(config.run, config.threads)
    head = open_head(tagger.run, config.head) if config.head is not None else None
    labeller = Labeller.open(config, tagger.run, head)
    writer = open_writer(config.format, num_inputs > 1, config.on_existing == "append")
    writer.start()
    quiet = config.quiet or (config.format != "txt" and sys.stdout.isatty())
    with Progress("tag", len(items), unit="pictures", quiet=quiet) as progress:
        squares = read_inputs(tagger, items, failures, progress)
        for batch, prediction in predict_stream(tagger, squares, config.batch_size):
            write_batch(writer, batch, labeller.scored(prediction), failures)
    writer.finish()
    return failures.exit_code(num_inputs)


def check_options(config: TagConfig) -> None:
    """Refuse values that no picture could be tagged with.

    Raises:
        ConfigError: naming the option.
    """
    if config.top < 0:
        raise ConfigError(f"--top must be 0 (all) or more. Received: {config.top}.")
    if config.batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {config.batch_size}.")
    if config.threshold != "per-tag":
        parse_threshold(config.threshold)


def write_batch(
    writer: Writer, batch: Sequence[Input], tags: Iterable[list[Scored]], failures: Failures
) -> None:
    """Write the tags of some pictures at once; a .txt that cannot be written is a failure."""
    for item, scored in zip(batch, tags, strict=True):
        try:
            writer.write(item, scored)
        except DataError as problem:
            failures.add(item.name, problem)
    sys.stdout.flush()
