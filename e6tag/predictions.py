"""What a run says of the pictures of a split, kept in the run folder: it is computed once.

eval/predictions-<split>.npz holds `key` (model and data), `rows` (n posts, each with the
checksum of its picture), `probabilities` and `uncertainty` (n, K).
"""

import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.files import finished
from e6tag.inputs import Failures
from e6tag.progress import Progress
from e6tag.shards import Dataset, read_stored
from e6tag.tagger import Tagger, predict_stream

log = logging.getLogger(__name__)

BATCH_SIZE = 32
BYTES_PER_ROW = 1024
"""a generous bound on what the cache keeps of a row beside its probabilities"""
DAMAGE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""what NumPy raises on a damaged .npz"""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SplitPredictions:
    """The pictures of a split that could be read, and what the model says of them."""

    rows: pd.DataFrame
    """n rows of the manifest, in plan order"""
    probabilities: Floats
    """(n, K)"""
    uncertainty: Floats
    """(n, K), standard deviation of the latent logit; to three digits"""


def predict_split(
    tagger: Tagger, dataset: Dataset, split: str, failures: Failures, quiet: bool = False
) -> SplitPredictions:
    """Probabilities of a split's pictures; those of an earlier call are read from the run folder.

    What was done before an interruption is kept as well.

    Args:
        tagger: the model.
        dataset: the pictures.
        split: train, val or test.
        failures: takes the pictures that cannot be read; they are left out.
        quiet: no progress on stderr.

    Raises:
        DataError: the split is empty, or none of its pictures can be read.
        RunError: the model fails.
    """
    rows = dataset.split(split)
    path = tagger.run.path / "eval" / f"predictions-{split}.npz"
    key, names = cache_key(tagger, dataset), row_names(rows)
    probabilities, uncertainty = recall(path, key, names, len(tagger.run.vocabulary))
    missing = np.flatnonzero(np.isnan(probabilities[:, 0]))
    if len(missing):
        try:
            with Progress(f"predict {split}", len(missing), unit="pictures", quiet=quiet) as bar:
                squares = read_squares(tagger, dataset, rows.iloc[missing], failures, bar)
                for batch, prediction in predict_stream(tagger, squares, BATCH_SIZE):
                    probabilities[missing[batch]] = prediction.probabilities
                    uncertainty[missing[batch]] = prediction.uncertainty
        finally:
            remember(path, key, names, probabilities, uncertainty)
    done = np.isfinite(probabilities[:, 0])
    if not done.any():
        raise DataError(
            f"{dataset.path} has no picture of the {split} split that can be read. "
            "Run download.py again, or name another folder with --data."
        )
    return SplitPredictions(
        rows[done].reset_index(drop=True), probabilities[done], uncertainty[done].astype(np.float32)
    )


def read_squares(
    tagger: Tagger, dataset: Dataset, rows: pd.DataFrame, failures: Failures, progress: Progress
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(position in `rows`, picture as the model takes it); failures are named and left out."""
    places = zip(rows["post_id"], rows["shard"], rows["offset"], rows["length"], strict=True)
    for position, (post_id, shard, offset, length) in enumerate(places):
        try:
            square = tagger.read(read_stored(dataset.path, shard, int(offset), int(length)))
        except DataError as problem:
            failures.add(f"post {post_id}", problem)
        else:
            yield position, square
        progress.update()


def cache_key(tagger: Tagger, dataset: Dataset) -> str:
    """Same key, same predictions."""
    return f"{tagger.run.info['model']['sha256']} {dataset.info.get('fingerprint')}"


def row_names(rows: pd.DataFrame) -> list[str]:
    """A picture is known by its post and its content: one fetched anew is predicted anew."""
    return [
        f"{post} {digest}" for post, digest in zip(rows["post_id"], rows["sha256"], strict=True)
    ]


def recall(
    path: Path, key: str, names: Sequence[str], num_tags: int
) -> tuple[Floats, NDArray[np.float16]]:
    """Probabilities and uncertainty (n, K) of the named rows; nan where they are not known."""
    probabilities = np.full((len(names), num_tags), np.nan, np.float32)
    uncertainty = np.full((len(names), num_tags), np.nan, np.float16)
    known = read_cache(path, key, num_tags, len(names))
    for position, name in enumerate(names):
        if name in known:
            probabilities[position], uncertainty[position] = known[name]
    return probabilities, uncertainty


def read_cache(
    path: Path, key: str, num_tags: int, num_rows: int
) -> dict[str, tuple[Floats, NDArray[np.float16]]]:
    """Row name -> probabilities and uncertainty (K,); nothing where the file is absent, damaged,
    another's or an older one."""
    try:
        check_size(path, num_rows * (6 * num_tags + BYTES_PER_ROW))
        with np.load(path, allow_pickle=False) as cache:
            names, values, spread = (cache[n] for n in ("rows", "probabilities", "uncertainty"))
            if str(cache["key"]) != key:
                return {}
    except FileNotFoundError:
        return {}
    except DAMAGE as problem:
        log.warning("%s cannot be used (%s): predicting again.", path, problem)
        return {}
    shape = (len(names), num_tags)
    fits = values.shape == spread.shape == shape
    if not fits or values.dtype != np.float32 or spread.dtype != np.float16:
        return {}
    return dict(zip(names.tolist(), zip(values, spread, strict=True), strict=True))


def check_size(path: Path, max_bytes: int) -> None:
    """Refuse an archive that would unpack to more than its rows can need.

    Raises:
        ValueError: it is larger.
    """
    with zipfile.ZipFile(path) as archive:
        num_bytes = sum(member.file_size for member in archive.infolist())
    if num_bytes > max_bytes + (1 << 20):
        raise ValueError(f"{num_bytes} bytes unpacked, expected at most {max_bytes}")


def remember(
    path: Path,
    key: str,
    names: Iterable[str],
    probabilities: Floats,
    uncertainty: NDArray[np.float16],
) -> None:
    """Write the rows that are known, finished or absent."""
    done = np.isfinite(probabilities[:, 0])
    kept = [name for name, is_done in zip(names, done, strict=True) if is_done]
    if not kept:
        return
    with finished(path) as part, part.open("wb") as stream:
        np.savez(
            stream,
            key=np.array(key),
            rows=np.array(kept),
            probabilities=probabilities[done],
            uncertainty=uncertainty[done],
        )
