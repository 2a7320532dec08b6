"""Heads made by `e6tag transfer`: a linear map from a run's vectors to other labels.

runs/NAME/heads/HEAD/
    head.json   kind, the model's SHA-256, shapes, checksum, how it was made
    head.npz    weights float32 (D, C), bias float32 (C,)
    tags.csv    the labels: row = column
"""

import contextlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import ConfigError, RunError
from e6tag.files import read_json, sha256, sync_folder, write_json
from e6tag.runs import Run
from e6tag.tags import Vocabulary

FORMAT = 1
Kind = Literal["softmax", "sigmoid"]
REMEDY = "Make it again with `e6tag transfer`."


@dataclass(frozen=True)
class Head:
    """What turns vectors into probabilities of labels."""

    name: str
    kind: Kind
    """softmax: exactly one label a picture; sigmoid: any number"""
    weights: NDArray[np.float32]
    """(D, C)"""
    bias: NDArray[np.float32]
    """(C,)"""
    vocabulary: Vocabulary

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (N, D) to probabilities (N, C)."""
        return activate(vectors @ self.weights + self.bias, self.kind)


def activate(logits: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """Logits (N, C) to probabilities (N, C), without overflow."""
    if kind == "softmax":
        grown: NDArray[Any] = np.exp(logits - logits.max(axis=1, keepdims=True))
        total: NDArray[Any] = grown.sum(axis=1, keepdims=True)
        shares: NDArray[Any] = grown / total
        return shares
    halves: NDArray[Any] = np.tanh(0.5 * logits)
    return 0.5 * (1.0 + halves)


def check_name(name: str) -> str:
    """The name, if it can be a folder inside heads/.

    Raises:
        ConfigError: it has anything but letters, digits, - _ and inner dots.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", name):
        raise ConfigError(
            f"--name {name!r} cannot be a head's name: use up to 64 letters, digits, - _ and dots."
        )
    return name


def head_folder(run: Run, named: str) -> Path:
    """The folder that `--head` means: a path, or a name inside the run's heads/."""
    path = Path(named)
    return path if (path / "head.json").exists() else run.path / "heads" / check_name(named)


def save_head(run: Run, head: Head, made: dict[str, Any]) -> Path:
    """Write runs/NAME/heads/HEAD, finished or absent; an older one is replaced.

    Args:
        run: the run whose vectors it takes.
        head: what to save.
        made: how it was made; kept in head.json.
    """
    folder = run.path / "heads" / check_name(head.name)
    with finished_folder(folder) as part:
        np.savez(part / "head.npz", weights=head.weights, bias=head.bias)
        head.vocabulary.write(part / "tags.csv")
        about = {
            "format": FORMAT,
            "kind": head.kind,
            "model_sha256": run.info["model"]["sha256"],
            "vector_size": head.weights.shape[0],
            "num_labels": head.weights.shape[1],
            "sha256": sha256(part / "head.npz"),
        }
        write_json(part / "head.json", about | made)
    return folder


def open_head(run: Run, named: str) -> Head:
    """Read a head and check that it belongs to the run's model.

    Raises:
        RunError: a file is missing or damaged (named), or the head is of another model.
    """
    folder = head_folder(run, named)
    if not folder.is_dir():
        raise RunError(f"there is no head {folder}. {known_heads(run)}")
    about = read_json(folder / "head.json", RunError, REMEDY)
    if about.get("format") != FORMAT or about.get("kind") not in ("softmax", "sigmoid"):
        raise RunError(f"{folder / 'head.json'} is not a head that this e6tag reads. {REMEDY}")
    if about.get("model_sha256") != run.info["model"]["sha256"]:
        raise RunError(f"{folder} was made for another model than {run.model_path}. {REMEDY}")
    vocabulary = Vocabulary.read(folder / "tags.csv", RunError)
    weights, bias = read_arrays(folder / "head.npz", about.get("sha256"))
    if weights.shape != (about.get("vector_size"), len(vocabulary)):
        raise RunError(
            f"{folder / 'head.npz'} has weights {weights.shape}, expected "
            f"({about.get('vector_size')}, {len(vocabulary)}). {REMEDY}"
        )
    return Head(folder.name, about["kind"], weights, bias, vocabulary)


def known_heads(run: Run) -> str:
    """A sentence about the heads that the run has."""
    names = sorted(path.parent.name for path in run.path.glob("heads/[!.]*/head.json"))
    return f"The run has: {', '.join(names)}." if names else "Make one with `e6tag transfer`."


def read_arrays(path: Path, checksum: object) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (D, C) and bias (C,) of head.npz.

    Raises:
        RunError: missing, changed, or not finite numbers of these shapes.
    """
    if not path.exists():
        raise RunError(f"{path} is missing. {REMEDY}")
    if sha256(path) != checksum:
        raise RunError(f"{path} is damaged: its SHA-256 is not head.json's. {REMEDY}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            weights, bias = arrays["weights"], arrays["bias"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise RunError(f"{path} is damaged: {problem}. {REMEDY}") from None
    fits = weights.ndim == 2 and bias.shape == weights.shape[1:]
    if not (fits and weights.dtype == bias.dtype == np.float32):
        raise RunError(f"{path} is damaged: expected float32 weights (D, C), bias (C,). {REMEDY}")
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise RunError(f"{path} is damaged: a weight is not finite. {REMEDY}")
    return weights, bias


@contextlib.contextmanager
def finished_folder(folder: Path) -> Iterator[Path]:
    """Yield a sibling folder to fill; it becomes `folder` only if the block succeeds."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
