"""Annoy: search trees over the main directions of the vectors.

Some builds of Annoy crash in the first query or find one neighbour (clang with
-ffast-math), so nothing of it runs here before a child process has tried the same.
"""

import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import RunError
from e6tag.nearest import ROWS_AT_ONCE, Pca

METRIC: Literal["euclidean"] = "euclidean"
"""Of the file: Annoy does not store it.  (The layout of its `dot` files changes.)"""

CANDIDATES = 100
"""Rows asked from the trees for each query, at least; the full vectors rank them."""

INSTALL = (
    "To get Annoy (needs a C++ compiler): ANNOY_COMPILER_ARGS=-O3,-std=c++14 "
    "pip install --force-reinstall --no-cache-dir --no-binary annoy annoy"
)

SELF_TEST = """
import random, sys
try:
    from annoy import AnnoyIndex
except ImportError:
    sys.exit("Annoy is not installed.")
num_dims, path, num_items = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
index = AnnoyIndex(num_dims, "euclidean")
if path:
    index.load(path)
else:
    random.seed(0)
    for item in range(num_items):
        index.add_item(item, [random.gauss(0, 1) for _ in range(num_dims)])
    index.build(5, n_jobs=1)
if index.get_n_items() != num_items:
    sys.exit(f"it holds {index.get_n_items()} vectors, expected {num_items}.")
wanted = min(10, num_items)
for item in (0, num_items // 2, num_items - 1):
    found, distances = index.get_nns_by_item(item, wanted, 10000, include_distances=True)
    if len(found) != wanted:
        sys.exit(f"it found {len(found)} neighbours of {wanted}.")
    if distances[0] > 1e-3 or sorted(distances) != distances:
        sys.exit("a vector is not its own nearest neighbour.")
print("passed")
"""
SELF_TEST_SECONDS = 60


@dataclass(frozen=True)
class Trees:
    """A loaded tree file and its PCA."""

    index: Any
    """an annoy.AnnoyIndex"""
    pca: Pca

    def candidates(self, query: NDArray[np.float32], k: int, search_k: int) -> NDArray[np.int64]:
        """Rows that are probably among the nearest of a unit query (D,), in no order.

        Args:
            query: unit length.
            k: neighbours wanted; ten times as many candidates are asked for.
            search_k: tree nodes to look at.
        """
        point = self.pca.apply(query[None])[0].tolist()
        wanted = max(CANDIDATES, 10 * k)
        return np.array(self.index.get_nns_by_vector(point, wanted, search_k), np.int64)


def self_test(path: Path | None = None, num_dims: int = 16, num_items: int = 200) -> str | None:
    """Try Annoy in a child process: on a file, or on a small index of its own.

    Returns:
        None if it passes, else what is wrong and how to get a working one.
    """
    file = "" if path is None else str(path)
    command = [sys.executable, "-P", "-c", SELF_TEST, str(num_dims), file, str(num_items)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=SELF_TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"Annoy's self-test did not end in {SELF_TEST_SECONDS} s. {INSTALL}"
    if child.returncode == 0 and child.stdout.strip().endswith("passed"):
        return None
    said = (child.stderr.strip().splitlines() or [""])[-1]
    if said == "Annoy is not installed.":
        return f"{said} {INSTALL}"
    if child.returncode < 0:
        said = f"it was ended by {signal.Signals(-child.returncode).name}."
    return f"the installed Annoy fails its self-test: {said} {INSTALL}"


def build_trees(
    path: Path, vectors: NDArray[np.float16], pca: Pca, num_trees: int, seed: int
) -> None:
    """Write a tree file; the same vectors and seed give the same bytes."""
    from annoy import AnnoyIndex

    index = AnnoyIndex(pca.components.shape[1], METRIC)
    index.set_seed(seed)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        piece = pca.apply(vectors[start : start + ROWS_AT_ONCE].astype(np.float32))
        for row, point in enumerate(piece, start):
            index.add_item(row, point.tolist())
    # In a thread, because Annoy does not listen to Ctrl-C; one job, because more give
    # other bytes each time.
    worker = threading.Thread(target=index.build, args=(num_trees, 1), daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.2)
    index.save(str(path))


def save_pca(path: Path, pca: Pca) -> None:
    """Write pca.npz."""
    np.savez(path, mean=pca.mean, components=pca.components)


def open_trees(folder: Path, vector_size: int, num_dims: int) -> Trees:
    """Load trees.ann and pca.npz; run `self_test` on the file first.

    Raises:
        RunError: pca.npz is damaged.
    """
    from annoy import AnnoyIndex

    path = folder / "pca.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pca = Pca(arrays["mean"], arrays["components"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise RunError(f"{path} is damaged: {problem}. Make the index again.") from None
    if pca.mean.shape != (vector_size,) or pca.components.shape != (vector_size, num_dims):
        raise RunError(f"{path} does not fit the vectors. Make the index again.")
    index = AnnoyIndex(num_dims, METRIC)
    index.load(str(folder / "trees.ann"))
    return Trees(index, pca)
