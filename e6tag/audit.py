"""The label audit (`python eval.py --audit`): labels that model and neighbours do not believe.

eval/audit.csv                   the suspects, most confident first
eval/audit.html                  the first of them, to look at
eval/metrics.json, audit         how right such a list is, measured on planted errors
eval/vectors-<model>/            vectors of the pictures, so that a second call is instant
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import audit_page, calibration, evidence, images, planting, scoring, suspects
from e6tag.audit_page import Entry, Near
from e6tag.calibration import Platt
from e6tag.config import EvalConfig
from e6tag.errors import DataError
from e6tag.inputs import Failures
from e6tag.pictures import of_post
from e6tag.progress import Progress
from e6tag.runs import Run
from e6tag.scoring import Scored
from e6tag.shards import Dataset, read_stored
from e6tag.subjects import Subject
from e6tag.suspects import KINDS, NEIGHBOURS, Kind, Suspects
from e6tag.tagger import Tagger
from e6tag.vector_cache import VectorCache, Wanted
from e6tag.verdict import Verdict

COLUMNS = ("rank", "post_id", "kind", "tag", "category", "probability", "confidence",
           "neighbours_with", "neighbours", "nearest")  # fmt: skip
SHOWN = 60
"""suspects of a kind on the page"""
SHOWN_NEAR = 5
"""neighbours of each"""
PICTURE_PX, NEAR_PX, QUALITY = 192, 64, 80
BATCH_SIZE = 32
NOT_CALIBRATED = "Probabilities are as the model gives them: there is no val to calibrate on."
LEARNT = "The model learnt from these labels: it believes many of their errors."


@dataclass(frozen=True)
class Audit:
    """What was found."""

    facts: Mapping[str, Any]
    """`audit` of metrics.json"""
    table: str
    """the content of audit.csv"""
    entries: Mapping[Kind, Sequence[Entry]]
    """what the page shows"""

    def files(self, summary: Mapping[str, Any], credits: str) -> dict[str, str]:
        """The content of audit.csv and audit.html."""
        about = {key: summary[key] for key in ("run", "data", "created")}
        rendered = audit_page.render({**about, **self.facts}, self.entries, credits)
        return {"audit.csv": self.table, "audit.html": rendered}


def check(config: EvalConfig, subject: Subject) -> None:
    """Refuse what cannot be audited, before anything is computed.

    Raises:
        DataError: the scores are no probabilities.
    """
    if not scoring.in_unit_range(subject.splits[config.split].probabilities):
        raise DataError(
            f"--audit: the scores of {subject.name} are not all from 0 to 1. Expected "
            "probabilities; turn them into such, or leave out --audit."
        )


def audit(config: EvalConfig, subject: Subject, verdict: Verdict, failures: Failures) -> Audit:
    """Rank the labels of the measured split, and measure such a ranking on val.

    Args:
        config: split, threads, quiet.
        subject: what is judged.
        verdict: the measured split, calibrated where that was asked for.
        failures: takes pictures that give no vector, or cannot be shown.

    Raises:
        RunError: the model fails.
    """
    val = subject.val
    near = {
        split: neighbours(config, subject, split, failures)
        for split in dict.fromkeys([config.split, *(["val"] if val is not None else [])])
    }
    held = verdict.raw.calibrated(calibration_of(verdict, val))
    found = {
        kind: suspects.find(kind, held.labels, held.probabilities, near[config.split])
        for kind in KINDS
    }
    facts = {
        "split": config.split,
        "num_pictures": len(held.rows),
        "listed": {kind: len(found[kind]) for kind in KINDS},
        "neighbours": {"space": "vectors" if subject.run else "scores", "number": NEIGHBOURS},
        "notes": notes_of(config, val is not None),
        "planted": None if val is None else measured(val, near["val"]),
    }
    table = as_csv(held, subject, found, near[config.split])
    entries = choose_entries(held, subject, found, near[config.split], failures)
    return Audit(facts, table, entries)


def notes_of(config: EvalConfig, has_val: bool) -> list[str]:
    """What makes the list worth less."""
    return [NOT_CALIBRATED] * (not has_val) + [LEARNT] * (config.split == "train")


def calibration_of(verdict: Verdict, val: Scored | None) -> Platt | None:
    """The calibration; fitted here if it was not asked for, as confidence rests on it."""
    if verdict.fitted is not None and verdict.fitted.platt is not None:
        return verdict.fitted.platt
    if val is None:
        return None
    return calibration.fit(val.labels, val.probabilities, groups_of(val))


def measured(val: Scored, near: NDArray[np.int64]) -> dict[str, Any]:
    """Precision on errors planted in val."""
    held = planting.HeldOut(val.labels, val.probabilities, groups_of(val), near)
    return planting.measure(held)


def groups_of(scored: Scored) -> NDArray[Any]:
    """(n,) equal for near-copies."""
    groups: NDArray[Any] = scored.rows["group"].to_numpy()
    return groups


def neighbours(
    config: EvalConfig, subject: Subject, split: str, failures: Failures
) -> NDArray[np.int64]:
    """The nearest other pictures of each of a split's: (n, `NEIGHBOURS`), -1 where none."""
    scored = subject.splits[split]
    if subject.run is None:
        vectors = evidence.in_score_space(scored.probabilities)
    else:
        vectors = vectors_of(config, subject.run, subject.dataset, scored, failures)
    return evidence.nearest_others(vectors, groups_of(scored), NEIGHBOURS)


def vectors_of(
    config: EvalConfig, run: Run, dataset: Dataset, scored: Scored, failures: Failures
) -> NDArray[np.float32]:
    """Vectors (n, D) of pictures by a run's model, zero where it gives none; kept with the run."""
    tagger = Tagger.open(run.path, config.threads)
    sha256 = str(run.info["model"]["sha256"])
    kept = VectorCache(run.path / "eval" / f"vectors-{sha256[:16]}", tagger.vector_size)
    names = dataset.vocabulary.names
    posts = [of_post(dataset.path, row, names) for row in scored.rows.itertuples()]
    wanted = [Wanted(post.identity, f"post {post.post_id}", post.read) for post in posts]
    done = sum(item.key in kept.entries for item in wanted)
    with Progress("vectors", len(posts), unit="pictures", done=done, quiet=config.quiet) as bar:
        kept.fill(tagger, wanted, BATCH_SIZE, failures, bar)
    vectors = np.zeros((len(posts), tagger.vector_size), np.float32)
    for row, post in enumerate(posts):
        if post.identity in kept.entries:
            vectors[row] = kept.entries[post.identity].vector
    return vectors


def as_csv(
    held: Scored, subject: Subject, found: Mapping[Kind, Suspects], near: NDArray[np.int64]
) -> str:
    """The content of audit.csv: the kinds one after the other, each ranked from 1."""
    posts = held.rows["post_id"].to_numpy()
    names, categories = (subject.tags[name].tolist() for name in ("name", "category"))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in found.values():
        for i, (row, column) in enumerate(zip(each.rows, each.columns, strict=True)):
            others = near[row][near[row] >= 0]
            numbers = f"{each.probability[i]:.6g}", f"{each.confidence[i]:.6g}"
            counts = each.neighbours_with[i], each.neighbours[i]
            tag = names[column], categories[column]
            writer.writerow([i + 1, posts[row], each.kind, *tag, *numbers, *counts,
                             " ".join(map(str, posts[others]))])  # fmt: skip
    return text.getvalue()


def choose_entries(
    held: Scored,
    subject: Subject,
    found: Mapping[Kind, Suspects],
    near: NDArray[np.int64],
    failures: Failures,
) -> dict[Kind, list[Entry]]:
    """The suspects that the page shows, with small pictures."""
    posts = held.rows["post_id"].tolist()

    @cache
    def small(row: int, side: int) -> bytes | None:
        return thumbnail(subject.dataset, held.rows.iloc[row], side, failures)

    def entry(each: Suspects, i: int) -> Entry:
        row, column = int(each.rows[i]), int(each.columns[i])
        others = [int(other) for other in near[row] if other >= 0][:SHOWN_NEAR]
        return Entry(
            i + 1,
            posts[row],
            str(subject.tags["name"].iloc[column]),
            str(subject.tags["category"].iloc[column]),
            float(each.probability[i]),
            float(each.confidence[i]),
            int(each.neighbours_with[i]),
            int(each.neighbours[i]),
            small(row, PICTURE_PX),
            [Near(posts[o], small(o, NEAR_PX), bool(held.labels[o, column])) for o in others],
        )

    return {
        kind: [entry(each, i) for i in range(min(SHOWN, len(each)))] for kind, each in found.items()
    }


def thumbnail(dataset: Dataset, row: Any, side: int, failures: Failures) -> bytes | None:
    """A stored picture, made small; None, and a failure, where it cannot be read."""
    try:
        stored = read_stored(dataset.path, row["shard"], int(row["offset"]), int(row["length"]))
        return images.store(images.decode(stored), side, QUALITY)[0]
    except DataError as problem:
        failures.add(f"post {row['post_id']}", problem)
        return None
