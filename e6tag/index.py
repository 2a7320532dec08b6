"""A search index: a folder that is replaced as a whole.

index/
    CURRENT             name of the version in use; swapped in one step
    v-0123456789ab/
        vectors.f16.npy  (N, D) float16, unit length, memory-mapped
        ids.parquet      row, path, post_id, md5, tags
        pca.npz          mean (D,), components (D, d): what the trees see   (Annoy only)
        trees.ann        Annoy, euclidean, over the d-dimensional vectors     (Annoy only)
        manifest.json    engine, shapes, seed, model, checksums, measured recall

The trees give candidates; their order comes from the full vectors.  Without trees every
vector is compared: the same neighbours, and slower only from some 100,000 pictures on.
Vectors are centred before the PCA, which keeps their distances: on unit vectors the
nearest by distance are the nearest by cosine.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import DataError, RunError
from e6tag.files import read_json, sha256
from e6tag.nearest import Floats, exact_neighbours, rerank, unit
from e6tag.trees import Trees, open_trees, self_test

log = logging.getLogger(__name__)

FORMAT = 1
CHECKED_BYTES = 256 << 20
"""Larger files are checked by their size only, or opening would take seconds."""
LARGEST = (1 << 31) - 1
"""of any number in manifest.json; Annoy takes no larger ones"""
REMEDY = "Make the index again with embed.py."
ID_COLUMNS = ("row", "path", "post_id", "md5", "tags")


@dataclass(frozen=True)
class Neighbour:
    """A picture of an index, and how near it is."""

    similarity: float
    """cosine, -1..1"""
    row: int
    path: str
    """of the file; for a dataset's post, its shard and name there"""
    post_id: int
    """0 where it is no post"""
    md5: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Index:
    """An index that was checked on opening."""

    path: Path
    """folder of the version"""
    manifest: dict[str, Any]
    vectors: NDArray[np.float16]
    """(N, D), unit length, memory-mapped"""
    trees: Trees | None
    """None: exact search"""

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def open(cls, folder: Path) -> "Index":
        """Open the version in use.

        Where Annoy is missing or broken, search is exact; a line on stderr says so.

        Raises:
            RunError: a file is missing or damaged (named).
        """
        path = current_version(folder)
        manifest = read_json(path / "manifest.json", RunError, REMEDY)
        check_files(path, manifest)
        vectors = open_vectors(path / "vectors.f16.npy", manifest)
        trees = None
        if manifest["engine"] == "annoy":
            problem = self_test(path / "trees.ann", manifest["pca"], len(vectors))
            if problem is None:
                trees = open_trees(path, vectors.shape[1], manifest["pca"])
            else:
                log.warning("Searching without trees, exactly: %s", problem)
        return cls(path, manifest, vectors, trees)

    def query(
        self, vectors: Floats, k: int, search_k: int | None = None, exact: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest rows of each query.

        Args:
            vectors: (n, D) queries of any length but zero.
            k: neighbours wanted; at most as many as there are rows are given.
            search_k: tree nodes to look at; None for the measured choice.
            exact: compare with every row.

        Returns:
            Rows (n, k) and their cosine similarities (n, k), best first, ties by row.

        Raises:
            DataError: a query is zero or not finite, or has other dimensions.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.vectors.shape[1]:
            raise DataError(f"expected queries (n, {self.vectors.shape[1]}), got {vectors.shape}.")
        queries = unit(vectors)
        if exact or self.trees is None:
            return exact_neighbours(self.vectors, queries, k)
        nodes = int(self.manifest["search_k"]) if search_k is None else search_k
        return search_trees(self.trees, self.vectors, queries, k, nodes)

    @cached_property
    def ids(self) -> Any:
        """ids.parquet as a pyarrow table: row, path, post_id, md5, tags."""
        return read_ids(self.path / "ids.parquet", len(self))

    def neighbour(self, row: int, similarity: float) -> Neighbour:
        """What is known of a row."""
        about = {name: self.ids.column(name)[row].as_py() for name in ID_COLUMNS}
        about["tags"] = tuple(about["tags"].split())
        # Stored vectors are rounded: a copy's cosine can come out a hair above 1.
        return Neighbour(similarity=round(min(similarity, 1.0), 6), **about)


def search_trees(
    trees: Trees, vectors: NDArray[np.float16], queries: Floats, k: int, search_k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Candidates from the trees, ranked by the full vectors; shapes as in `Index.query`.

    A query for which the trees give too few is compared with every row.
    """
    k = min(k, len(vectors))
    rows = np.zeros((len(queries), k), np.int64)
    similarities = np.zeros((len(queries), k), np.float32)
    for i, query in enumerate(queries):
        found = trees.candidates(query, k, search_k)
        if len(found) < k:
            best, values = exact_neighbours(vectors, query[None], k)
            rows[i], similarities[i] = best[0], values[0]
        else:
            rows[i], similarities[i] = rerank(vectors, query, found, k)
    return rows, similarities


def neighbours(
    index: Index,
    vectors: Floats,
    k: int,
    *,
    search_k: int | None = None,
    exact: bool = False,
) -> list[list[Neighbour]]:
    """The k pictures of an index nearest to each of the vectors (n, D), best first.

    A picture that is in the index itself is its own first neighbour.
    """
    rows, similarities = index.query(vectors, k, search_k, exact)
    return [
        [index.neighbour(int(row), float(value)) for row, value in zip(*pair, strict=True)]
        for pair in zip(rows, similarities, strict=True)
    ]


def current_version(folder: Path) -> Path:
    """Folder of the version in use.

    Raises:
        RunError: there is none.
    """
    pointer = folder / "CURRENT"
    if not pointer.exists():
        raise RunError(f"there is no index in {folder}. Make one: python embed.py --out {folder}")
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if not name.startswith("v-") or "/" in name or not (folder / name).is_dir():
        raise RunError(f"{pointer} names {name[:40]!r}, which is not there. {REMEDY}")
    return folder / name


def check_files(path: Path, manifest: dict[str, Any]) -> None:
    """Compare the files with the manifest: sizes, and checksums of all but huge ones.

    Raises:
        RunError: naming the file.
    """
    if manifest.get("format") != FORMAT or manifest.get("engine") not in ("annoy", "exact"):
        raise RunError(f"{path / 'manifest.json'} is not of an index this e6tag reads. {REMEDY}")
    try:
        files = manifest["files"]
        listed = [(path / name, files[name]["bytes"], files[name]["sha256"]) for name in files]
        for name in ("num_vectors", "dimensions", "pca", "search_k"):
            if not isinstance(manifest[name], int) or not 0 <= manifest[name] <= LARGEST:
                raise ValueError(name)
        Path(manifest.get("model", {}).get("run", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise RunError(f"{path / 'manifest.json'} is damaged ({problem}). {REMEDY}") from None
    for file, size, checksum in listed:
        if not file.exists():
            raise RunError(f"{file} is missing. {REMEDY}")
        if file.stat().st_size != size:
            raise RunError(
                f"{file} is damaged: {file.stat().st_size} bytes, expected {size}. {REMEDY}"
            )
        if size <= CHECKED_BYTES and sha256(file) != checksum:
            raise RunError(f"{file} is damaged: its SHA-256 is not the manifest's. {REMEDY}")


def open_vectors(path: Path, manifest: dict[str, Any]) -> NDArray[np.float16]:
    """Map vectors.f16.npy into memory: (N, D).

    Raises:
        RunError: it is not what the manifest says.
    """
    try:
        vectors: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise RunError(f"{path} is damaged: {problem}. {REMEDY}") from None
    shape = (manifest["num_vectors"], manifest["dimensions"])
    if vectors.dtype != np.float16 or vectors.shape != shape:
        raise RunError(
            f"{path} is damaged: expected float16 {shape}, found {vectors.dtype} {vectors.shape}. "
            f"{REMEDY}"
        )
    return vectors


def read_ids(path: Path, num_rows: int) -> Any:
    """Read ids.parquet as a pyarrow table with the columns `ID_COLUMNS`.

    Raises:
        RunError: it is damaged, or has another number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(ID_COLUMNS))
    except (pa.ArrowException, OSError) as problem:
        raise RunError(f"{path} is damaged: {str(problem).splitlines()[0]} {REMEDY}") from None
    if table.num_rows != num_rows:
        raise RunError(f"{path} has {table.num_rows} rows, expected {num_rows}. {REMEDY}")
    return table
