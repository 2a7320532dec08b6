"""The job `benchmark`: freeze one, or measure a run or scores on one."""

import dataclasses
import json
import logging
from typing import Any

import numpy as np

from e6tag import foreign, frozen
from e6tag.comparison import take
from e6tag.config import BenchmarkConfig, EvalConfig
from e6tag.errors import DataError
from e6tag.evaluation import open_subject, summarise
from e6tag.figures import as_text
from e6tag.files import sha256, write_text
from e6tag.frozen import Frozen
from e6tag.inputs import Failures, emit
from e6tag.shards import Dataset, default_data, open_dataset
from e6tag.subjects import Subject
from e6tag.verdict import judge

log = logging.getLogger(__name__)

MIN_POSITIVES = 10


def benchmark(config: BenchmarkConfig) -> int:
    """Freeze a benchmark (`e6tag benchmark make`), or measure on one (`run`).

    Raises:
        ConfigError: there is no such file.
        DataError: the definition is damaged, or the data does not hold its posts and tags.
        RunError: the run is missing or broken.
    """
    return make(config) if config.action == "make" else run(config)


def make(config: BenchmarkConfig) -> int:
    """Write a definition."""
    dataset = open_dataset(default_data(config.data))
    definition = frozen.freeze(dataset, config.split, config.name, MIN_POSITIVES)
    write_text(config.file, frozen.as_text(definition))
    checksum, posts, tags = sha256(config.file), definition.posts, definition.vocabulary
    told = {"file": str(config.file), "sha256": checksum, "posts": len(posts), "tags": len(tags)}
    line = f"{config.file}: {len(posts)} posts, {len(tags)} tags, {checksum[:12]}\n"
    emit(json.dumps(told, indent=2) + "\n" if config.json else line)
    return 0


def run(config: BenchmarkConfig) -> int:
    """Measure a run or scores on the posts and tags of a definition."""
    definition = frozen.read(config.file)
    dataset = open_dataset(default_data(config.data))
    changed = check_data(definition, dataset)
    options = EvalConfig(
        run=config.run,
        predictions=config.predictions,
        data=dataset.path,
        split=definition.split,  # type: ignore[arg-type]
        min_positives=definition.min_positives,
        quiet=config.quiet,
    )
    failures = Failures()
    if config.predictions is not None:
        opened = foreign.of_scores(options, definition.posts)
    else:
        opened = open_subject(options, failures)
    subject = limited(opened, definition)
    name = f"{definition.name} ({sha256(config.file)[:12]})"
    summary = summarise(options, subject, judge(options, subject), len(failures.lines))
    summary |= {"benchmark": name, "num_changed": changed}
    emit(json.dumps(summary, indent=2, ensure_ascii=False) + "\n" if config.json else told(summary))
    return failures.exit_code(len(definition.posts))


def check_data(definition: Frozen, dataset: Dataset) -> int:
    """How many posts have changed since; the others must be there, and held out.

    Raises:
        DataError: a post or tag is not there, or a post is among the training pictures.
    """
    missing = [n for n in definition.vocabulary if dataset.vocabulary.column(n) is None]
    if missing:
        raise DataError(
            f"{dataset.path / 'tags.csv'} lacks {len(missing)} of the {len(definition.vocabulary)} "
            f"tags of {definition.name}, such as {missing[0]!r}. {how_to_get(definition)}"
        )
    held = dataset.split(definition.split)
    there = held[held["post_id"].isin(definition.posts)].sort_values("post_id")
    absent = np.setdiff1d(definition.posts, there["post_id"].to_numpy())
    if len(absent):
        raise DataError(
            f"{dataset.path} lacks {len(absent)} of the {len(definition.posts)} posts of "
            f"{definition.name} in its {definition.split} split, the first is post {absent[0]}. "
            f"{how_to_get(definition)}"
        )
    changed = frozen.num_changed(definition, there, dataset.vocabulary.names)
    if changed:
        log.warning(
            "%d of the %d posts have other tags or another picture than when it was frozen: "
            "figures differ a little for that reason alone.",
            changed, len(definition.posts),
        )  # fmt: skip
    return changed


def how_to_get(definition: Frozen) -> str:
    """What to do for data that fits."""
    return f"Make the data with: {definition.command}"


def limited(subject: Subject, definition: Frozen) -> Subject:
    """A subject with the definition's tags, measured on its posts only.

    Raises:
        DataError: the subject does not know one of the tags.
    """
    place = {name: column for column, name in enumerate(subject.tags["name"])}
    missing = [name for name in definition.vocabulary if name not in place]
    if missing:
        raise DataError(
            f"{subject.name} does not know {len(missing)} of the {len(definition.vocabulary)} tags "
            f"of {definition.name}, such as {missing[0]!r}: its figures could not be compared."
        )
    columns = np.array([place[name] for name in definition.vocabulary])
    posts = set(definition.posts)
    splits = {
        split: take(scored, columns, posts if split == definition.split else None)
        for split, scored in subject.splits.items()
    }
    tags = subject.tags.iloc[columns].reset_index(drop=True)
    return dataclasses.replace(subject, tags=tags, splits=splits)


def told(summary: dict[str, Any]) -> str:
    """The figures, under the benchmark's name."""
    return f"benchmark {summary['benchmark']}\n{as_text(summary)}"
