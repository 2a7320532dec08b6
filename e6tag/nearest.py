"""Nearest unit vectors: exact search, re-ranking of candidates, and the PCA that trees see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import DataError

Floats = NDArray[Any]
ROWS_AT_ONCE = 16384
PCA_ROWS = 50_000


def unusable(vectors: Floats) -> NDArray[np.bool_]:
    """Which of the vectors (N, D) have no direction: zero, or not finite; (N,)."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad: NDArray[np.bool_] = ~(np.isfinite(lengths) & (lengths > 0))
    return bad


def unit(vectors: Floats) -> NDArray[np.float32]:
    """Vectors (N, D) at length 1.

    Raises:
        DataError: one is zero or not finite, named by its position.
    """
    bad = np.flatnonzero(unusable(vectors))
    if len(bad):
        raise DataError(f"vector {bad[0]} is zero or not finite: it has no direction.")
    wide = vectors.astype(np.float64)
    shortened: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return shortened.astype(np.float32)


def best(similarities: Floats, rows: NDArray[np.int64], k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The k largest similarities and their rows, best first, equal ones in the given order."""
    if len(similarities) > k:
        kept = np.flatnonzero(similarities >= np.partition(similarities, -k)[-k])
        similarities, rows = similarities[kept], rows[kept]
    order = np.argsort(-similarities, kind="stable")[:k]
    return similarities[order], rows[order]


def exact_neighbours(
    vectors: NDArray[np.float16], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Compare every query with every vector.

    Args:
        vectors: (N, D), unit length; may be memory-mapped, is read in pieces.
        queries: (n, D), unit length.
        k: neighbours wanted; at most N are given.

    Returns:
        Rows (n, k) and cosine similarities (n, k), best first, ties by row.
    """
    k = min(k, len(vectors))
    found = np.zeros((len(queries), 0), np.int64)
    values = np.zeros((len(queries), 0), np.float32)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        piece = np.asarray(vectors[start : start + ROWS_AT_ONCE], np.float32)
        rows = np.broadcast_to(np.arange(start, start + len(piece)), (len(queries), len(piece)))
        candidates = np.concatenate([found, rows], axis=1)
        similarities = np.concatenate([values, queries @ piece.T], axis=1)
        pairs = [best(s, r, k) for s, r in zip(similarities, candidates, strict=True)]
        values = np.array([pair[0] for pair in pairs], np.float32).reshape(len(queries), -1)
        found = np.array([pair[1] for pair in pairs], np.int64).reshape(len(queries), -1)
    return found, values


def rerank(
    vectors: NDArray[np.float16], query: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k of the candidate rows nearest to a unit query (D,): rows and similarities (k,)."""
    rows = np.sort(rows)
    values, found = best(np.asarray(vectors[rows], np.float32) @ query, rows, k)
    return found, values


@dataclass(frozen=True)
class Pca:
    """The main directions of vectors: what keeps their distances best in few dimensions."""

    mean: NDArray[np.float32]
    """(D,)"""
    components: NDArray[np.float32]
    """(D, d), orthonormal columns, largest variance first"""

    @classmethod
    def fit(cls, vectors: NDArray[np.float16], num_dims: int) -> "Pca":
        """Directions of up to `PCA_ROWS` of the vectors (N, D), evenly picked."""
        picked = vectors[:: -(-len(vectors) // PCA_ROWS)].astype(np.float64)
        mean = picked.mean(axis=0)
        centred = picked - mean
        _, directions = np.linalg.eigh(centred.T @ centred)
        components = directions[:, ::-1][:, :num_dims]
        # Eigenvectors are known up to their sign: fix it, so that files do not differ.
        largest = np.abs(components).argmax(axis=0)
        components = components * np.sign(components[largest, np.arange(components.shape[1])])
        return cls(mean.astype(np.float32), components.astype(np.float32))

    def apply(self, vectors: Floats) -> NDArray[np.float32]:
        """(n, D) to (n, d)."""
        projected: NDArray[np.float32] = (vectors - self.mean) @ self.components
        return projected
