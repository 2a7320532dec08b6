"""How good a list of suspects is, measured on errors that are known: planted ones.

Labels of held-out pictures are spoilt; calibration, neighbours and ranking then see the spoilt
labels alone.  The share of planted errors among the first n suspects is a lower bound of that
list's precision, for the labels had errors of their own before.  It is no bound for labels that
have fewer errors than were planted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import calibration, suspects
from e6tag.suspects import KINDS, Kind, Suspects

HIDDEN_SHARE = 0.1
"""of the positives; each becomes a missing tag"""
WRONG_SHARE = 0.01
"""wrong tags that are added, as a share of the positives"""
SEED = 0
MOST_PLANTINGS = 10
ENOUGH_PAIRS = 2_000_000
"""(picture, tag) pairs after which one planting is enough; smaller splits are planted again"""
SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000)


@dataclass(frozen=True)
class Planted:
    """Spoilt labels, and where they are."""

    labels: NDArray[np.uint8]
    """(n, K)"""
    missing: NDArray[np.bool_]
    """(n, K), positives that were hidden"""
    wrong: NDArray[np.bool_]
    """(n, K), positives that were added"""

    def of(self, kind: Kind) -> NDArray[np.bool_]:
        """Planted errors of a kind."""
        return self.missing if kind == "missing" else self.wrong


@dataclass(frozen=True)
class HeldOut:
    """Pictures that errors are planted in."""

    labels: NDArray[np.uint8]
    """(n, K), as they are"""
    probabilities: NDArray[Any]
    """(n, K), as the model said them: not calibrated"""
    groups: NDArray[Any]
    """(n,), equal for near-copies"""
    near: NDArray[np.int64]
    """(n, k) neighbours of each"""


def plant(labels: NDArray[np.uint8], rng: np.random.Generator) -> Planted:
    """Hide positives at random and add wrong ones, tags as often as they are there.

    Args:
        labels: (n, K) of 0 and 1.
        rng: decides where.
    """
    places = np.flatnonzero(labels)
    missing = np.zeros(labels.shape, np.bool_)
    number = how_many(HIDDEN_SHARE, len(places))
    missing.flat[rng.choice(places, number, replace=False)] = True
    wrong = np.zeros(labels.shape, np.bool_)
    positives = labels.sum(axis=0, dtype=np.int64)
    if len(places):
        added = rng.multinomial(how_many(WRONG_SHARE, len(places)), positives / len(places))
        for column in np.flatnonzero(added):
            free = np.flatnonzero(labels[:, column] == 0)
            chosen = rng.choice(free, min(int(added[column]), len(free)), replace=False)
            wrong[chosen, column] = True
    spoilt = np.where(missing, 0, np.where(wrong, 1, labels)).astype(np.uint8)
    return Planted(spoilt, missing, wrong)


def how_many(share: float, positives: int) -> int:
    """Errors to plant: at least one, where there is a positive."""
    return max(round(share * positives), min(positives, 1))


def measure(held: HeldOut) -> dict[str, Any]:
    """Precision of the suspects on planted errors, mean over the plantings.

    Returns:
        seed, plantings, hidden_share, wrong_share, and for each kind what `summed_up` says.
    """
    number = int(np.clip(ENOUGH_PAIRS // max(held.labels.size, 1), 1, MOST_PLANTINGS))
    trials = [trial(held, np.random.default_rng([SEED, i])) for i in range(number)]
    return {
        "seed": SEED,
        "plantings": number,
        "hidden_share": HIDDEN_SHARE,
        "wrong_share": WRONG_SHARE,
        **{kind: summed_up([found[kind] for found in trials]) for kind in KINDS},
    }


@dataclass(frozen=True)
class Trial:
    """One planting, one kind."""

    planted: int
    pairs: int
    """pairs with a label of the kind: random picking draws from these"""
    hits: NDArray[np.bool_]
    """(m,), whether each suspect is a planted error"""
    by_probability: NDArray[np.bool_]
    """(m',), the same in the order of the model's probability alone"""


def trial(held: HeldOut, rng: np.random.Generator) -> dict[Kind, Trial]:
    """Plant, calibrate on the spoilt labels, rank by them, and look how many were found."""
    planted = plant(held.labels, rng)
    platt = calibration.fit(planted.labels, held.probabilities, held.groups)
    told = platt.apply(held.probabilities)

    def hits(kind: Kind, plain: bool) -> NDArray[np.bool_]:
        found = suspects.find(kind, planted.labels, told, held.near, plain=plain)
        return are_planted(found, planted)

    positives = int(planted.labels.sum(dtype=np.int64))
    pairs = {"missing": planted.labels.size - positives, "wrong": positives}
    return {
        kind: Trial(int(planted.of(kind).sum()), pairs[kind], hits(kind, False), hits(kind, True))
        for kind in KINDS
    }


def are_planted(found: Suspects, planted: Planted) -> NDArray[np.bool_]:
    """Whether each of the suspects (m,) is a planted error."""
    return planted.of(found.kind)[found.rows, found.columns]


def summed_up(trials: Sequence[Trial]) -> dict[str, Any]:
    """Means over plantings.

    Returns:
        planted: errors; listed: suspects of the shortest list; random: what picking at random
        reaches; at: for sizes n up to the shortest list, precision, by_probability (None where
        that list is shorter) and best: what no list could exceed, as so few are planted; at is
        empty where nothing could be planted.
    """
    listed = min(len(each.hits) for each in trials)
    planted = float(np.mean([each.planted for each in trials]))
    return {
        "planted": planted,
        "listed": listed,
        "random": float(np.mean([each.planted / max(each.pairs, 1) for each in trials])),
        "at": [at_size(trials, n) for n in sizes_up_to(listed if planted else 0)],
    }


def at_size(trials: Sequence[Trial], n: int) -> dict[str, Any]:
    """Figures of the first n suspects."""
    alone = [each.by_probability for each in trials]
    return {
        "n": n,
        "precision": float(np.mean([each.hits[:n].mean() for each in trials])),
        "by_probability": (
            float(np.mean([hits[:n].mean() for hits in alone]))
            if min(map(len, alone)) >= n
            else None
        ),
        "best": float(np.mean([min(each.planted, n) / n for each in trials])),
    }


def sizes_up_to(listed: int) -> list[int]:
    """10, 30, 100, ... and the whole list."""
    return [n for n in SIZES if n < listed] + [listed] * (listed > 0)
