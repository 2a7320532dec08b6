"""Cross-validation of heads: folds, figures, and the penalty that does best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.heads import Kind, activate
from e6tag.logistic import fit_scaled
from e6tag.metrics import average_precision_per_tag

SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Figures:
    """What the pictures of each fold got from a head that had not seen them."""

    l2: float
    log_loss: NDArray[np.float64]
    """(folds,): mean over pictures of the cross-entropy"""
    accuracy: NDArray[np.float64]
    """(folds,): share of pictures whose most likely label is theirs (single-label only)"""
    macro_ap: NDArray[np.float64]
    """(folds,): mean over labels of the average precision"""
    label_ap: NDArray[np.float64]
    """(C,): of each label, mean over folds"""


def make_folds(
    labels: NDArray[np.uint8], groups: Sequence[str], num_folds: int, seed: int
) -> NDArray[np.int64]:
    """Deal pictures to folds: each label evenly, rarest first; a group stays together.

    Args:
        labels: (n, C) of 0 and 1.
        groups: name of each picture's group (n): equal pictures have equal names.
        num_folds: folds to make.
        seed: shuffles.

    Returns:
        Fold of each picture, (n,).
    """
    names, member = np.unique(np.array(groups), return_inverse=True)
    of_group = np.zeros((len(names), labels.shape[1]), np.int64)
    np.maximum.at(of_group, member, labels.astype(np.int64))
    order = np.random.default_rng(seed).permutation(len(names))
    counts = np.zeros((num_folds, labels.shape[1]), np.int64)
    sizes = np.zeros(num_folds, np.int64)
    fold = np.full(len(names), -1)
    # The last round takes the pictures without any label.
    for label in [*np.argsort(of_group.sum(axis=0), kind="stable"), None]:
        having = order if label is None else order[of_group[order, label] > 0]
        crowd = sizes if label is None else counts[:, label]
        for group in having[fold[having] < 0]:
            fold[group] = np.lexsort((sizes, crowd))[0]
            counts[fold[group]] += of_group[group]
            sizes[fold[group]] += 1
    chosen: NDArray[np.int64] = fold[member]
    return chosen


def cross_validate(
    vectors: NDArray[Any],
    labels: NDArray[np.uint8],
    folds: NDArray[np.int64],
    l2: float,
    kind: Kind,
) -> Figures:
    """Train on all folds but one and look at that one, for each fold.

    Args:
        vectors: (n, D).
        labels: (n, C) of 0 and 1.
        folds: fold of each picture, (n,).
        l2: strength of the penalty.
        kind: softmax (one label a picture) or sigmoid.
    """
    losses, accuracies, precisions = [], [], []
    for number in range(folds.max() + 1):
        held_out = folds == number
        theta = fit_scaled(vectors[~held_out], labels[~held_out], l2, kind)
        scores = activate(vectors[held_out] @ theta[:-1] + theta[-1], kind)
        truth = labels[held_out]
        losses.append(log_loss(truth, scores, kind))
        accuracies.append(float((scores.argmax(axis=1) == truth.argmax(axis=1)).mean()))
        precisions.append(average_precision_per_tag(truth, scores))
    per_fold = np.array(precisions, np.float64)
    macro, per_label = mean_of_known(per_fold, 1), mean_of_known(per_fold, 0)
    return Figures(l2, np.array(losses), np.array(accuracies), macro, per_label)


def log_loss(truth: NDArray[np.uint8], scores: NDArray[Any], kind: Kind) -> float:
    """Mean over pictures of the cross-entropy of scores (n, C) with the truth."""
    likely = np.log(np.clip(scores, SMALLEST_PROBABILITY, 1.0))
    unlikely = np.log(np.clip(1.0 - scores, SMALLEST_PROBABILITY, 1.0))
    terms = truth * likely if kind == "softmax" else truth * likely + (1 - truth) * unlikely
    return float(-terms.sum(axis=1).mean())


def mean_of_known(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean along an axis of the entries that are not nan; nan where all are."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = known.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def choose_penalty(tried: Sequence[Figures]) -> Figures:
    """The figures with the lowest held-out loss; of equal ones the strongest penalty."""
    return min(tried, key=lambda figures: (round(float(figures.log_loss.mean()), 6), -figures.l2))
