"""A new head on a run's vectors: your own labels, in seconds (`e6tag transfer`)."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.config import TransferConfig
from e6tag.crossval import Figures, choose_penalty, cross_validate, make_folds, mean_of_known
from e6tag.errors import ConfigError, DataError
from e6tag.files import locked
from e6tag.heads import Head, Kind, check_name, save_head
from e6tag.inputs import Failures, emit, file_input
from e6tag.labelled import LabelledPicture, count_labels, is_single, read_labelled
from e6tag.logistic import fit_scaled
from e6tag.progress import Progress
from e6tag.tagger import Tagger
from e6tag.tags import Tag, Vocabulary
from e6tag.vector_cache import VectorCache, Wanted, content_key

log = logging.getLogger(__name__)

SMALLEST_CLASS = 2
"""Different pictures that a label needs, and that need to be without it: one to learn from,
one to be tested on."""


@dataclass(frozen=True)
class Examples:
    """Labelled vectors: what a head is made from."""

    pictures: Sequence[LabelledPicture]
    vectors: NDArray[np.float32]
    """(n, D)"""
    labels: NDArray[np.uint8]
    """(n, C), 0 and 1"""
    md5s: Sequence[str]
    """of the files: equal ones stay in one fold"""
    names: Sequence[str]
    """of the labels, in column order"""
    kind: Kind


def transfer(config: TransferConfig) -> int:
    """Train a new head and save it in the run (`e6tag transfer`).

    Returns:
        0, or 1 if some of the pictures failed; each is named on stderr.

    Raises:
        ConfigError: an option has a bad value, or the source does not exist.
        DataError: the source has not the form, or a label has too few pictures.
        RunError: the run is missing or broken.
    """
    check_options(config)
    pictures = read_labelled(config.source)
    tagger = Tagger.open(config.run, config.threads)
    failures = Failures()
    with locked(tagger.run.path / "heads"):
        examples = collect(config, tagger, pictures, failures)
        smallest = check_counts(examples)
        warn_of_contradictions(examples)
        folds = make_folds(examples.labels, examples.md5s, min(config.folds, smallest), config.seed)
        figures = choose_penalty([try_penalty(examples, folds, l2) for l2 in config.l2])
        head = make_head(config.name, examples, figures.l2)
        result = report(examples, folds, figures)
        made = {"source": str(config.source), "seed": config.seed, "cross_validation": result}
        folder = save_head(tagger.run, head, made)
    emit(json.dumps(result, indent=2) + "\n" if config.json else table(config.name, result))
    log.info("saved in %s. Use it: python test.py PICTURE --head %s", folder, config.name)
    return failures.exit_code(len(pictures))


def check_options(config: TransferConfig) -> None:
    """Refuse values that no head could be made with.

    Raises:
        ConfigError: naming the option.
    """
    check_name(config.name)
    if config.folds < 2:
        raise ConfigError(f"--folds must be 2 or more. Received: {config.folds}.")
    if config.batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {config.batch_size}.")
    if not config.l2 or not all(math.isfinite(l2) and l2 > 0 for l2 in config.l2):
        raise ConfigError(f"--l2 must be positive numbers. Received: {config.l2}.")


def collect(
    config: TransferConfig,
    tagger: Tagger,
    pictures: Sequence[LabelledPicture],
    failures: Failures,
) -> Examples:
    """Vectors and labels of the pictures that can be used.

    Vectors are kept in heads/.cache by the model's and the file's checksum.
    """
    model = str(tagger.run.info["model"]["sha256"])
    cache = VectorCache(tagger.run.path / "heads" / ".cache" / model[:16], tagger.vector_size)
    keys = {p.path: content_key(p.path, failures) for p in pictures}
    wanted = {
        key: Wanted(key, str(path), file_input(path).read) for path, key in keys.items() if key
    }
    done = sum(key in cache.entries for key in wanted)
    with Progress(
        "vectors", len(wanted), unit="pictures", done=done, quiet=config.quiet
    ) as progress:
        cache.fill(tagger, wanted.values(), config.batch_size, failures, progress)
    usable = [picture for picture in pictures if keys[picture.path] in cache.entries]
    if not usable:
        raise DataError(f"none of the {len(pictures)} pictures of {config.source} could be used.")
    names = list(count_labels(pictures))
    return Examples(
        usable,
        np.stack([cache.entries[keys[p.path]].vector for p in usable]),
        np.array([[name in p.labels for name in names] for p in usable], np.uint8),
        [keys[p.path] for p in usable],
        names,
        "softmax" if is_single(pictures) else "sigmoid",
    )


def check_counts(examples: Examples) -> int:
    """The number of different pictures of the rarest label.

    Raises:
        DataError: a label has too few pictures, or too few pictures are without it.
    """
    md5s = np.array(examples.md5s)
    smallest = len(md5s)
    for column, name in enumerate(examples.names):
        having = examples.labels[:, column] == 1
        for rows, words in ((having, "with"), (~having, "without")):
            count = len(set(md5s[rows]))
            if count < SMALLEST_CLASS:
                raise DataError(
                    f"there are {count} different pictures {words} the label {name}; expected "
                    f"{SMALLEST_CLASS} or more. Add some, or remove the label."
                )
        smallest = min(smallest, len(set(md5s[having])))
    return smallest


def warn_of_contradictions(examples: Examples) -> None:
    """Name equal files with different labels: no head can be right on both."""
    first: dict[str, LabelledPicture] = {}
    for md5, picture in zip(examples.md5s, examples.pictures, strict=True):
        other = first.setdefault(md5, picture)
        if set(other.labels) != set(picture.labels):
            log.warning(
                "%s and %s are the same picture with different labels.", other.path, picture.path
            )


def try_penalty(examples: Examples, folds: NDArray[np.int64], l2: float) -> Figures:
    """Cross-validated figures for one strength of the penalty."""
    return cross_validate(examples.vectors, examples.labels, folds, l2, examples.kind)


def make_head(name: str, examples: Examples, l2: float) -> Head:
    """The head of all examples."""
    theta = fit_scaled(examples.vectors, examples.labels, l2, examples.kind).astype(np.float32)
    counts = examples.labels.sum(axis=0, dtype=np.int64)
    tags = [
        Tag(column, label, 0, int(count))
        for column, (label, count) in enumerate(zip(examples.names, counts, strict=True))
    ]
    return Head(name, examples.kind, theta[:-1], theta[-1], Vocabulary(tags))


def report(examples: Examples, folds: NDArray[np.int64], figures: Figures) -> dict[str, Any]:
    """The figures as JSON, beside those of always giving the same answer."""
    shares = examples.labels.mean(axis=0)
    single = examples.kind == "softmax"
    prior = [examples.labels[folds == number].mean(axis=0) for number in range(folds.max() + 1)]
    # Where a label is absent from a fold its average precision is not defined: leave it out.
    prior_ap = mean_of_known(np.where(np.array(prior) > 0, prior, np.nan), 1)
    return {
        "kind": examples.kind,
        "num_pictures": len(examples.pictures),
        "folds": int(folds.max()) + 1,
        "l2": figures.l2,
        "log_loss": spread(figures.log_loss),
        "accuracy": spread(figures.accuracy) if single else None,
        "macro_ap": spread(figures.macro_ap),
        "baseline": {
            "accuracy": round(float(shares.max()), 4) if single else None,
            "macro_ap": round(float(prior_ap.mean()), 4),
        },
        "labels": {
            name: {
                "num_pictures": int(examples.labels[:, column].sum()),
                "ap": round(float(figures.label_ap[column]), 4),
            }
            for column, name in enumerate(examples.names)
        },
    }


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean and standard deviation over the folds in which the figure is defined."""
    known = values[np.isfinite(values)]
    sd = known.std(ddof=1) if len(known) > 1 else 0.0
    return {"mean": round(float(known.mean()), 4), "sd": round(float(sd), 4)}


def table(name: str, result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{name}: {len(result['labels'])} labels, {result['num_pictures']} pictures, "
        f"{result['folds']} folds, l2 {result['l2']:g} (chosen on the same folds)",
        "",
        f"{'':12}{'this head':>16}{'without looking':>20}",
    ]
    for figure, words in (("accuracy", "accuracy"), ("macro_ap", "macro AP")):
        if (ours := result[figure]) is not None:
            value = f"{ours['mean']:.3f} ± {ours['sd']:.3f}"
            lines.append(f"{words:12}{value:>16}{result['baseline'][figure]:>20.3f}")
    lines += ["", f"{'AP':>5}  {'pictures':>8}  label"]
    for label, about in result["labels"].items():
        lines.append(f"{about['ap']:5.3f}  {about['num_pictures']:8d}  {label}")
    return "\n".join(lines) + "\n"
