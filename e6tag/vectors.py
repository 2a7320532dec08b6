"""Vectors of pictures: `embed` makes an index of them, `search` finds the nearest.

Vectors are kept as they are made, in `index/.partial`, so that a run that was broken off
goes on where it was.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e6tag.config import EmbedConfig, SearchConfig
from e6tag.errors import ConfigError, DataError, RunError
from e6tag.files import locked
from e6tag.index import Index, Neighbour, neighbours
from e6tag.index_build import Recipe, build_index, check_recipe, choose_engine
from e6tag.inputs import Failures, emit, printable
from e6tag.progress import Progress
from e6tag.runs import Run, default_run
from e6tag.tagger import Tagger
from e6tag.vector_cache import Entry, VectorCache, Wanted

if TYPE_CHECKING:
    from e6tag.pictures import Picture

__all__ = ["Index", "Neighbour", "embed", "neighbours", "search"]

log = logging.getLogger(__name__)

DEFAULT_INDEX = Path("index")


def embed(config: EmbedConfig) -> int:
    """Turn pictures into vectors and build a search index of them (`python embed.py`).

    Returns:
        0, or 1 if some of the pictures failed; each is named on stderr.

    Raises:
        ConfigError: an option has a bad value, or a path does not exist.
        DataError: there is no picture, or none that can be used.
        RunError: the run is missing or broken.
    """
    recipe = Recipe(config.engine, config.pca, config.trees, config.seed)
    check_recipe(recipe)
    if recipe.engine == "annoy":
        choose_engine(recipe.engine)
    if config.batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {config.batch_size}.")
    tagger = Tagger.open(config.run, config.threads)
    pictures, source = find_pictures(config, tagger.run)
    failures = Failures()
    with locked(config.out):
        entries = compute(config, tagger, pictures, failures)
        usable = [picture for picture in pictures if picture.identity in entries]
        if not usable:
            raise DataError(f"none of the {len(pictures)} pictures could be used.")
        log.info("building the index of %d pictures in %s", len(usable), config.out)
        vectors = np.stack([entries[picture.identity].vector for picture in usable])
        about = {"model": model_of(tagger.run), "source": source}
        manifest = build_index(config.out, vectors, ids_of(usable, entries), recipe, about)
        shutil.rmtree(config.out / ".partial", ignore_errors=True)
    emit(summary(config.out, manifest))
    return failures.exit_code(len(pictures))


def find_pictures(config: EmbedConfig, run: Run) -> tuple[list["Picture"], dict[str, Any]]:
    """The pictures to embed, and what the manifest says of them."""
    from e6tag import pictures  # here, because it brings pandas, which search can do without

    if config.paths:
        found = pictures.of_files(config.paths, config.recursive)
        return found, {"paths": [str(path) for path in config.paths], "tags": "predicted"}
    data = pictures.data_folder(config.data, run)
    found = pictures.of_dataset(data, config.splits)
    return found, {"data": str(data), "splits": list(config.splits), "tags": "known"}


def compute(
    config: EmbedConfig, tagger: Tagger, pictures: Sequence["Picture"], failures: Failures
) -> dict[str, Entry]:
    """Vectors by the pictures' identity; those kept by a broken-off run are taken over."""
    model = model_of(tagger.run)
    cache = VectorCache(config.out / ".partial" / model["sha256"][:16], tagger.vector_size)
    wanted = [Wanted(picture.identity, picture.name, picture.read) for picture in pictures]
    done = sum(item.key in cache.entries for item in wanted)
    with Progress("embed", len(wanted), unit="pictures", done=done, quiet=config.quiet) as progress:
        cache.fill(tagger, wanted, config.batch_size, failures, progress)
    return cache.entries


def model_of(run: Run) -> dict[str, Any]:
    """What an index must remember of the model that made it."""
    return {
        "run": str(run.path),
        "sha256": str(run.info["model"]["sha256"]),
        "preprocessing": run.info["preprocessing"],
    }


def ids_of(pictures: Sequence["Picture"], entries: dict[str, Entry]) -> dict[str, list[Any]]:
    """Columns of ids.parquet."""
    made = [entries[picture.identity] for picture in pictures]
    pairs = list(zip(pictures, made, strict=True))
    return {
        "path": [printable(picture.name) for picture in pictures],
        "post_id": [picture.post_id for picture in pictures],
        "md5": [picture.md5 or entry.md5 for picture, entry in pairs],
        "tags": [entry.tags if p.tags is None else p.tags for p, entry in pairs],
    }


def summary(folder: Path, manifest: dict[str, Any]) -> str:
    """One line about an index."""
    about = f"{folder}: {manifest['num_vectors']} pictures, {manifest['dimensions']} dimensions"
    if manifest["engine"] == "exact":
        return f"{about}, exact search\n"
    search_k = manifest["search_k"]
    measured = next(each for each in manifest["measured"] if each["search_k"] == search_k)
    return (
        f"{about}, Annoy with {manifest['trees']} trees: recall@10 {measured['recall_at_10']:.3f}, "
        f"near-copies found {measured['duplicate_at_1']:.3f} at search_k {search_k}\n"
    )


def search(config: SearchConfig) -> int:
    """Find the pictures of an index that are nearest to a picture (`e6tag search`).

    Raises:
        ConfigError: an option has a bad value, or there is no such picture.
        DataError: the picture cannot be decoded.
        RunError: index or run is missing or broken, or they do not belong together.
    """
    search_k = parse_search_k(config.search_k)
    if config.top < 1:
        raise ConfigError(f"--top must be 1 or more. Received: {config.top}.")
    if not config.picture.is_file():
        raise ConfigError(f"there is no picture {config.picture}.")
    index = Index.open(default_index(config.index))
    tagger = open_tagger(index, config.run, config.threads)
    vectors = tagger.predict(tagger.read(config.picture)[None]).vectors
    found = neighbours(index, vectors, config.top, search_k=search_k, exact=config.exact)[0]
    if config.json:
        emit(json.dumps([asdict(near) for near in found], ensure_ascii=False, indent=1) + "\n")
    else:
        emit("".join(f"{n.similarity:.3f}  {n.path}  {' '.join(n.tags)}\n" for n in found))
    return 0


def parse_search_k(text: str) -> int | None:
    """A number of tree nodes, or None for `auto`.

    Raises:
        ConfigError: it is neither.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--search-k must be auto or a positive number. Received: {text!r}.")
    return int(text)


def default_index(named: Path | None) -> Path:
    """The index meant: the named one, else index, else the default run's."""
    if named is not None:
        return named
    of_run = default_run(None) / "index"
    only_run = not (DEFAULT_INDEX / "CURRENT").exists() and (of_run / "CURRENT").exists()
    return of_run if only_run else DEFAULT_INDEX


def open_tagger(index: Index, named: Path | None, threads: int = 0) -> Tagger:
    """The model that made an index (default: the run that the index names).

    Raises:
        RunError: the run is missing, or its model did not make the index.
    """
    model = index.manifest.get("model", {})
    path = named if named is not None else Path(model.get("run", default_run(None)))
    tagger = Tagger.open(path, threads)
    if model_of(tagger.run)["sha256"] != model.get("sha256"):
        raise RunError(
            f"{index.path.parent} was made with another model than {tagger.run.model_path}. "
            f"Make it again (python embed.py --run {path} --out {index.path.parent}), "
            "or name the run that made it with --run."
        )
    return tagger
