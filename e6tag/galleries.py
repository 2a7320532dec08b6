"""The pictures that a report shows, read from the data."""

from collections.abc import Sequence

import numpy as np

from e6tag import surest
from e6tag.errors import DataError
from e6tag.inputs import Failures
from e6tag.report_pictures import Guess, Mistake, compare, thumbnail
from e6tag.scoring import Judgement, Scored
from e6tag.shards import Dataset, read_stored

NUM_GUESSES = 12
"""pictures in the report that are chosen at random"""


class Thumbnails:
    """Small pictures of a split, each read once; those that cannot be read are told once."""

    def __init__(self, dataset: Dataset, held: Scored, failures: Failures):
        self.dataset, self.held, self.failures = dataset, held, failures
        self.known: dict[int, bytes | None] = {}

    def post_id(self, position: int) -> int:
        """Whose picture it is."""
        return int(self.held.rows["post_id"].iloc[position])

    def get(self, position: int) -> bytes | None:
        """The picture of a row; None where it cannot be read."""
        if position not in self.known:
            self.known[position] = self.read(position)
        return self.known[position]

    def read(self, position: int) -> bytes | None:
        """Read and shrink it."""
        row = self.held.rows.iloc[position]
        place = row["shard"], int(row["offset"]), int(row["length"])
        try:
            return thumbnail(read_stored(self.dataset.path, *place))
        except DataError as problem:
            self.failures.add(f"post {row['post_id']}", problem)
            return None


def choose_guesses(pictures: Thumbnails, judgement: Judgement) -> list[Guess]:
    """Pictures at random, always the same ones of a split."""
    held, names = pictures.held, judgement.per_tag["name"].tolist()
    num_guesses = min(NUM_GUESSES, len(held.rows))
    guesses = []
    for position in np.random.default_rng(0).choice(len(held.rows), num_guesses, replace=False):
        small = pictures.get(int(position))
        if small is None:
            continue
        labels, probabilities = held.labels[position], held.probabilities[position]
        compared = compare(names, labels, probabilities, judgement.thresholds)
        guesses.append(Guess(pictures.post_id(position), small, **compared))
    return guesses


def choose_alarms(pictures: Thumbnails, names: Sequence[str]) -> list[Mistake]:
    """The surest false alarms."""
    found = surest.false_alarms(pictures.held.labels, pictures.held.probabilities)
    return mistakes(pictures, names, found)


def choose_misses(pictures: Thumbnails, names: Sequence[str]) -> list[Mistake]:
    """The surest misses."""
    return mistakes(
        pictures, names, surest.misses(pictures.held.labels, pictures.held.probabilities)
    )


def mistakes(
    pictures: Thumbnails, names: Sequence[str], errors: Sequence[surest.Error]
) -> list[Mistake]:
    """Errors with their pictures, without those that cannot be read."""
    found = []
    for error in errors:
        small = pictures.get(error.picture)
        if small is not None:
            labels = np.flatnonzero(pictures.held.labels[error.picture])
            found.append(
                Mistake(
                    pictures.post_id(error.picture),
                    small,
                    names[error.tag],
                    error.probability,
                    [names[column] for column in labels.tolist()],
                )
            )
    return found
