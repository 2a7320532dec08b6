"""ONNX Runtime: opening a run's model and checking that it is the one run.json describes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import RunError
from e6tag.runs import TRAIN_HINT, Run

OUTPUTS = ("probabilities", "vector", "uncertainty")
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class Prediction:
    """What the model says of N pictures, K tags, D-dimensional vectors; all float32."""

    probabilities: NDArray[np.float32]
    """(N, K), 0..1"""
    vectors: NDArray[np.float32]
    """(N, D), not of unit length"""
    uncertainty: NDArray[np.float32]
    """(N, K), standard deviation of the latent logit"""

    def __len__(self) -> int:
        return len(self.probabilities)


def open_session(path: Path, threads: int) -> Any:
    """An ONNX Runtime session for a model file, on the GPU if the installed build has one.

    Raises:
        RunError: ONNX Runtime cannot read the file.
    """
    import onnxruntime  # here, because it takes a third of a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    providers = [name for name in PROVIDERS if name in available]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except runtime_errors() as problem:
        raise RunError(
            f"{path} cannot be loaded by ONNX Runtime: {first_line(problem)} {TRAIN_HINT}"
        ) from None


def runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of ONNX Runtime, which share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    return (RuntimeError, ValueError, *(kind for kind in kinds if issubclass(kind, Exception)))


def first_line(problem: Exception) -> str:
    """The first line of an error's text, with a full stop."""
    return (str(problem).splitlines() or [type(problem).__name__])[0].strip().rstrip(".") + "."


def check_signature(session: Any, run: Run) -> None:
    """Compare the model's inputs and outputs with what run.json says.

    Raises:
        RunError: a name or a size differs.
    """
    num_tags, size = len(run.vocabulary), run.image_size
    vector_size = run.info["model"].get("vector_size")
    expected = {
        "pictures": (size, size, 3),
        "probabilities": (num_tags,),
        "vector": (vector_size,),
        "uncertainty": (num_tags,),
    }
    nodes = [*session.get_inputs(), *session.get_outputs()]
    found = {node.name: tuple(node.shape[1:]) for node in nodes}
    if {name: found.get(name) for name in expected} != expected:
        raise RunError(
            f"{run.model_path} does not fit {run.path / 'run.json'}: expected {expected}, "
            f"the model has {found}. {TRAIN_HINT}"
        )
