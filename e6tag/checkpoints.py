"""Checkpoints of a training run: weights first, then the pointer that makes them count.

    checkpoints/step-00000420.weights.h5   model, objective, optimiser and averaged weights
    checkpoints/best.weights.h5            averaged weights of the network, best validation so far
    checkpoints/state.json                 which step file counts, the options, the history

A kill between any two of these leaves the older state.json with the file that it names.
"""

import logging
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from e6tag import __version__
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError, RunError
from e6tag.files import finished, read_json, write_json

log = logging.getLogger(__name__)

FORMAT = 1
STATE = "state.json"
BYTES_AROUND_VARIABLE = 4096
"""HDF5's names and tables; 2 to 3 kB were measured."""
DEFAULTS: dict[str, Any] = {
    option.name: list(option.default) if isinstance(option.default, tuple) else option.default
    for option in fields(TrainConfig)
}
REMEDY = "Delete the checkpoints folder to train from the start."


@dataclass
class State:
    """Where a run is; everything else follows from the options and the step."""

    options: dict[str, Any]
    """the options that shape the result"""
    fingerprint: str
    """of the data"""
    step: int = 0
    """training steps done"""
    weights: str = ""
    """file name of the weights at that step; empty before the first checkpoint"""
    seconds: float = 0.0
    """time spent training"""
    history: list[dict[str, Any]] = field(default_factory=list)
    """one entry per validation"""
    best: dict[str, Any] = field(default_factory=dict)
    """the entry with the best validation macro AP"""
    format: int = FORMAT
    """of the checkpoint"""
    e6tag: str = __version__
    """version that wrote it"""

    def step_saved(self) -> int:
        """Step of the checkpoint; 0 before the first."""
        return int(self.weights.removeprefix("step-").split(".")[0]) if self.weights else 0


def save_weights(model: Any, path: Path) -> None:
    """Write Keras weights, finished or absent.

    Raises:
        OSError: the disk is full.
    """
    with finished(path, ".weights.h5") as part:
        # HDF5 crashes the whole process where a disk fills up under it.
        reserve(part, size_at_most_bytes(model))
        model.save_weights(part)


def size_at_most_bytes(model: Any) -> int:
    """What the weights of a model and of its optimiser take in a file, generously."""
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else ())]
    return sum(4 * math.prod(v.shape) + BYTES_AROUND_VARIABLE for v in variables)


def reserve(path: Path, num_bytes: int) -> None:
    """Make sure that a file of this size can be written.

    Raises:
        OSError: it cannot.
    """
    with path.open("wb") as stream:
        for start in range(0, num_bytes, 1 << 20):
            stream.write(bytes(min(1 << 20, num_bytes - start)))


def save_model(model: Any, path: Path) -> None:
    """Write a whole Keras model, finished or absent."""
    with finished(path, ".keras") as part:
        model.save(part)


def load_weights(model: Any, path: Path) -> None:
    """Read Keras weights.

    Raises:
        RunError: the file is missing, cut short, or of another model.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise RunError(f"{path} cannot be read: {reason}. {REMEDY}") from None


def save_state(folder: Path, model: Any, state: State) -> None:
    """Make this step the one to resume from, then drop older ones."""
    name = f"step-{state.step:08d}.weights.h5"
    save_weights(model, folder / name)
    state.weights = name
    write_json(folder / STATE, asdict(state))
    for old in folder.glob("step-*.weights.h5"):
        if old.name != name:
            old.unlink(missing_ok=True)


def check_types(state: State) -> None:
    """JSON can say anything.

    Raises:
        TypeError: a part is of another type than `State` has.
    """
    kinds: dict[str, type | tuple[type, ...]] = {
        "options": dict, "fingerprint": str, "step": int, "weights": str, "seconds": (int, float),
        "history": list, "best": dict, "format": int, "e6tag": str,
    }  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(getattr(state, name), kind):
            raise TypeError(f"{name} is {getattr(state, name)!r}"[:80])


def load_state(folder: Path, options: dict[str, Any], fingerprint: str) -> State:
    """The state to resume from, or a new one.

    Args:
        folder: the run's checkpoints.
        options: those asked for now.
        fingerprint: of the data.

    Raises:
        ConfigError: the folder holds a run with other options or other data.
        RunError: state.json is damaged.
    """
    if not (folder / STATE).exists():
        return State(options, fingerprint)
    try:
        state = State(**read_json(folder / STATE, RunError, REMEDY))
        check_types(state)
    except TypeError as problem:
        raise RunError(
            f"{folder / STATE} is damaged or of another version ({problem}). {REMEDY}"
        ) from None
    if state.format != FORMAT:
        raise RunError(
            f"{folder / STATE} has format {state.format}, this e6tag reads {FORMAT}. {REMEDY}"
        )
    check_same(folder.parent, state, options, fingerprint)
    if state.e6tag != __version__:
        log.warning("e6tag %s began this run, %s goes on: the same steps may give other weights",
                    state.e6tag, __version__)  # fmt: skip
        state.e6tag = __version__
    return state


def check_same(run: Path, state: State, options: dict[str, Any], fingerprint: str) -> None:
    """Compare what a run folder was begun with to what is asked for now.

    Raises:
        ConfigError: other options or other data; names the first difference.
    """
    for name, wanted in options.items():
        # Begun by a version without this option, which did what its default does.
        made = state.options.get(name, DEFAULTS.get(name))
        if made != wanted:
            raise ConfigError(
                f"{run} was begun with {name} {made}, not {wanted}. "
                "Name another --run, or delete that folder."
            )
    if fingerprint != state.fingerprint:
        raise ConfigError(
            f"{run} was begun on other data. Name another --run, or delete that folder."
        )
