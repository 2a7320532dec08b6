"""Writing an index: vectors, trees, what they find, and the swap to the new version."""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import ConfigError, DataError, RunError
from e6tag.files import read_json, sha256, sync_folder, write_json, write_text
from e6tag.index import FORMAT, ID_COLUMNS, REMEDY, check_files, search_trees
from e6tag.nearest import Pca, exact_neighbours, unit, unusable
from e6tag.trees import METRIC, Trees, build_trees, open_trees, save_pca, self_test

log = logging.getLogger(__name__)

NUM_QUERIES = 200
SEARCH_K = (4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000)
"""Numbers of tree nodes to try, until one is good enough.

Not from 500, although that often is: queries unlike all that is stored need more than can
be measured with what is stored (recall 0.73 at 500 and 0.97 at 4000, of 20,000 vectors),
and 4000 nodes are less than a millisecond."""

GOOD_RECALL = 0.95
GOOD_DUPLICATES = 0.999
"""What the default must reach: near-copies are lost long before recall looks bad."""

DUPLICATE_NOISE = 0.15
"""Length of the noise that makes a near-copy of a unit vector (cosine about 0.989)."""

NEARLY = 0.005
"""What is not worth a larger `search_k`, of figures whose best is 1 each."""

TOLERANCE = 1e-5
"""Similarities closer than this are equal: two copies of a picture are one answer."""


EXACT = {"engine": "exact", "metric": "cosine", "pca": 0, "search_k": 0, "measured": []}
"""What the manifest says of exact search."""


@dataclass(frozen=True)
class Recipe:
    """How to build an index."""

    engine: Literal["auto", "annoy", "exact"] = "auto"
    pca: int = 128
    trees: int = 50
    seed: int = 0


def build_index(
    folder: Path,
    vectors: NDArray[np.float32],
    ids: Mapping[str, Sequence[Any]],
    recipe: Recipe,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a version of an index and make it the one in use.

    Args:
        folder: of the index.
        vectors: (N, D), N > 0, of any length but zero.
        ids: path, post_id, md5 and tags (separated by spaces) of each row.
        recipe: engine, sizes, seed.
        about: what else manifest.json shall say (model, source, ...).

    Returns:
        The manifest.

    Raises:
        DataError: a vector is zero or not finite (named by its path), or there is none.
        ConfigError: the engine asked for does not work here, or a size is not positive.
    """
    check_recipe(recipe)
    check_vectors(vectors, ids["path"])
    engine = choose_engine(recipe.engine)
    with new_version(folder) as part:
        stored = unit(vectors).astype(np.float16)
        np.save(part / "vectors.f16.npy", stored)
        write_ids(part / "ids.parquet", ids)
        found = build_engine(part, stored, recipe) if engine == "annoy" else EXACT
        manifest = {
            "format": FORMAT,
            "num_vectors": stored.shape[0],
            "dimensions": stored.shape[1],
            **found,
            "files": {path.name: describe(path) for path in sorted(part.iterdir())},
            **about,
        }
        write_json(part / "manifest.json", manifest)
    return manifest


def check_recipe(recipe: Recipe) -> None:
    """Refuse sizes that cannot be.

    Raises:
        ConfigError: naming the option.
    """
    for option, value in (("--pca", recipe.pca), ("--trees", recipe.trees)):
        if value < 1:
            raise ConfigError(f"{option} must be 1 or more. Received: {value}.")


def check_vectors(vectors: NDArray[np.float32], paths: Sequence[str]) -> None:
    """Refuse vectors that have no direction.

    Raises:
        DataError: naming the picture.
    """
    if not len(vectors):
        raise DataError("there is no vector to make an index of.")
    bad = np.flatnonzero(unusable(vectors))
    if len(bad):
        raise DataError(f"{paths[bad[0]]}: its vector is zero or not finite.")


def choose_engine(wanted: str) -> str:
    """annoy where it is wanted and works, else exact.

    Raises:
        ConfigError: annoy was asked for by name and does not work.
    """
    problem = None if wanted == "exact" else self_test()
    if wanted == "exact" or problem is None:
        return "exact" if wanted == "exact" else "annoy"
    if wanted == "annoy":
        raise ConfigError(f"--engine annoy: {problem}")
    log.warning("The index gets no trees, search is exact: %s", problem)
    return "exact"


def without_trees(part: Path, problem: str) -> dict[str, Any]:
    """Drop trees that cannot be used; what the manifest says then."""
    log.warning("The index gets no trees, search is exact: %s", problem)
    (part / "trees.ann").unlink()
    (part / "pca.npz").unlink()
    return EXACT


def build_engine(part: Path, stored: NDArray[np.float16], recipe: Recipe) -> dict[str, Any]:
    """Write pca.npz and trees.ann; what the manifest says of them."""
    pca = Pca.fit(stored, min(recipe.pca, stored.shape[1]))
    num_dims = pca.components.shape[1]
    save_pca(part / "pca.npz", pca)
    build_trees(part / "trees.ann", stored, pca, recipe.trees, recipe.seed)
    problem = self_test(part / "trees.ann", num_dims, len(stored))
    if problem is not None:
        return without_trees(part, problem)
    trees = open_trees(part, stored.shape[1], num_dims)
    measured = measure(trees, stored, recipe.seed)
    return {
        "engine": "annoy",
        "metric": METRIC,
        "pca": num_dims,
        "trees": recipe.trees,
        "seed": recipe.seed,
        "search_k": choose_search_k(measured)["search_k"],
        "measured": measured,
    }


def measure(trees: Trees, stored: NDArray[np.float16], seed: int) -> list[dict[str, float]]:
    """What the trees find with growing `search_k`, until that is good; exact search is right.

    Up to `NUM_QUERIES` times three pictures are looked up: stored ones (their ten nearest
    others), ones unlike any other (half way between two stored ones: trees find their
    neighbours last), and near-copies of stored ones (which must come first).
    """
    rng = np.random.default_rng(seed)
    size = min(NUM_QUERIES, len(stored))
    like, other = (unit(stored[rng.choice(len(stored), size, replace=False)]) for _ in range(2))
    copies = unit(like + unit(rng.normal(size=like.shape)) * DUPLICATE_NOISE)
    # Not quite half way: two opposite vectors have no middle.
    queries = (like, unit(like + 0.9 * other), copies)
    k = min(11, len(stored))
    truths = [exact_neighbours(stored, query, k)[1] for query in queries]
    measured: list[dict[str, float]] = []
    for search_k in SEARCH_K:
        found = [search_trees(trees, stored, query, k, search_k)[1] for query in queries]
        figures: dict[str, float] = {
            "search_k": search_k,
            "recall_at_10": recall_of(found[0][:, 1:], truths[0][:, 1:]),
            "unlike_recall_at_10": recall_of(found[1][:, :10], truths[1][:, :10]),
            "duplicate_at_1": recall_of(found[2][:, :1], truths[2][:, :1]),
        }
        measured.append(figures)
        if is_good(figures):
            break
    return measured


def is_good(figures: Mapping[str, float]) -> bool:
    """Whether a `search_k` finds enough to be the default."""
    recall = min(figures["recall_at_10"], figures["unlike_recall_at_10"])
    return recall >= GOOD_RECALL and figures["duplicate_at_1"] >= GOOD_DUPLICATES


def choose_search_k(measured: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The first that is good; where none is, the smallest that is nearly as good as any."""
    if is_good(measured[-1]):
        return measured[-1]
    total = [sum(figures.values()) - figures["search_k"] for figures in measured]
    near_best = next(i for i, value in enumerate(total) if value >= max(total) - NEARLY)
    log.warning("The trees miss some neighbours: a larger --pca or --trees finds more.")
    return measured[near_best]


def recall_of(found: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Share of what was found that is as near as the true neighbours.

    Args:
        found: similarities (n, k) of what was found, best first.
        truth: similarities (n, k) of the true neighbours.
    """
    if not truth.size:
        return 1.0
    return round(float((found >= truth[:, -1:] - TOLERANCE).mean()), 4)


def write_ids(path: Path, ids: Mapping[str, Sequence[Any]]) -> None:
    """Write ids.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"row": range(len(ids["path"]))} | dict(ids)
    kinds = {"row": pa.int64(), "post_id": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in ID_COLUMNS])
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def describe(path: Path) -> dict[str, Any]:
    """Size and checksum of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


@contextlib.contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill; when the block succeeds it is the version that CURRENT names.

    A version is named after its manifest.  The one before is kept for those who have just
    read its name; older ones are removed.
    """
    part = folder / f".v-{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        for file in part.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        manifest = (part / "manifest.json").read_bytes()
        version = folder / f"v-{hashlib.sha256(manifest).hexdigest()[:12]}"
        pointer = folder / "CURRENT"
        before = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else ""
        if not is_intact(version):
            shutil.rmtree(version, ignore_errors=True)
            part.rename(version)
        sync_folder(folder)
        write_text(pointer, version.name + "\n")
        remove_versions(folder, {version.name, before})
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_intact(version: Path) -> bool:
    """Whether a version's files are those of its manifest (the same index, made again)."""
    if not version.exists():
        return False
    try:
        check_files(version, read_json(version / "manifest.json", RunError, REMEDY))
    except RunError:
        return False
    return True


def remove_versions(folder: Path, kept: set[str]) -> None:
    """Remove the versions of an index, and what broken-off builds left, but those kept."""
    for path in [*folder.glob("v-*"), *folder.glob(".v-*")]:
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
