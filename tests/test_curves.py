"""Curves for the plots, against scikit-learn at the same points."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from e6tag import curves
from e6tag.tag_rankings import micro_curve


def drawn(seed: int, num: int = 300, num_tags: int = 7, ties: bool = False):
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, num_tags)) < np.linspace(0.05, 0.6, num_tags)).astype(np.uint8)
    scores = 1 / (1 + np.exp(-(2.0 * labels - 1.5 + rng.normal(size=labels.shape))))
    return labels, np.round(scores, 1) if ties else scores.astype(np.float32)


def points(line: curves.Line) -> set[tuple[float, float]]:
    return set(zip(np.round(line.x, 9).tolist(), np.round(line.y, 9).tolist(), strict=True))


@pytest.mark.parametrize("ties", [False, True])
def test_every_point_of_the_curve_of_all_is_one_of_scikit_learns(ties):
    labels, scores = drawn(0, ties=ties)
    found = curves.curves(labels, scores, labels.mean(axis=0), 5)
    assert found is not None and found.every == 1
    precision, recall, _ = oracle.precision_recall_curve(labels.ravel(), scores.ravel())
    theirs = points(curves.Line(recall, precision))
    assert points(found.precision_recall) <= theirs
    fpr, tpr, _ = oracle.roc_curve(labels.ravel(), scores.ravel(), drop_intermediate=False)
    assert points(found.roc) <= points(curves.Line(fpr, tpr))
    exact = curves.roc(micro_curve(labels != 0, scores))
    area = float(np.sum(np.diff(exact.x) * (exact.y[1:] + exact.y[:-1]) / 2))
    assert area == pytest.approx(oracle.roc_auc_score(labels.ravel(), scores.ravel()))


def test_the_curve_of_the_prior_is_scikit_learns():
    labels, scores = drawn(1)
    prior = np.linspace(0.05, 0.6, labels.shape[1])
    found = curves.curves(labels, scores, prior, 5)
    said = np.broadcast_to(prior, labels.shape).ravel()
    precision, recall, _ = oracle.precision_recall_curve(labels.ravel(), said)
    assert points(found.prior_precision_recall) <= points(curves.Line(recall, precision))
    fpr, tpr, _ = oracle.roc_curve(labels.ravel(), said, drop_intermediate=False)
    assert points(found.prior_roc) <= points(curves.Line(fpr, tpr))


def test_curves_of_tags_are_means_and_quartiles_of_scikit_learns():
    labels, scores = drawn(2)
    found = curves.curves(labels, scores, labels.mean(axis=0), 20)
    precisions, rates = [], []
    for truth, said in zip(labels.T, scores.T, strict=True):
        if truth.sum() < 20:
            continue
        precision, recall, _ = oracle.precision_recall_curve(truth, said)
        # Theirs falls from recall 1; the last place that still reaches a recall is the highest cut.
        at = [np.flatnonzero(recall[:-1] >= r - 1e-9)[-1] for r in curves.GRID]
        precisions.append(precision[at])
        fpr, tpr, _ = oracle.roc_curve(truth, said, drop_intermediate=False)
        rates.append(np.interp(curves.GRID, fpr, tpr))
    assert found.tags_roc.num_tags == len(rates) < labels.shape[1]
    for middle, each in ((found.tags_precision_recall, precisions), (found.tags_roc, rates)):
        np.testing.assert_allclose(middle.mean, np.mean(each, axis=0), atol=1e-12)
        np.testing.assert_allclose(middle.low, np.percentile(each, 25, axis=0), atol=1e-12)
        np.testing.assert_allclose(middle.high, np.percentile(each, 75, axis=0), atol=1e-12)


def test_points_are_bounded_and_close_to_the_whole_curve():
    labels, scores = drawn(3, num=20_000)
    exact = curves.roc(micro_curve(labels != 0, scores))
    few = curves.thinned(exact)
    assert len(few.x) <= 2 * curves.NUM_POINTS + 2 < len(exact.x) / 10
    assert (few.x[0], few.y[0], few.x[-1], few.y[-1]) == (0, 0, 1, 1)
    grid = np.linspace(0, 1, 1000)
    gap = np.interp(grid, few.x, few.y) - np.interp(grid, exact.x, exact.y)
    assert np.abs(gap).max() < 0.01


def test_of_too_many_pairs_some_pictures_are_taken(monkeypatch):
    labels, scores = drawn(4)
    monkeypatch.setattr(curves, "ENOUGH_PAIRS", labels.size // 3)
    found = curves.curves(labels, scores, labels.mean(axis=0), 3)
    same = curves.curves(labels[::3], scores[::3], labels.mean(axis=0), 3)
    assert found.every == 3
    np.testing.assert_array_equal(found.roc.y, same.roc.y)
    np.testing.assert_array_equal(found.tags_roc.mean, same.tags_roc.mean)


def test_one_tag_no_counted_tag_and_one_kind_of_decision():
    labels, scores = drawn(5, num_tags=1)
    assert curves.curves(labels, scores, labels.mean(axis=0), 1).tags_roc.num_tags == 1
    assert curves.curves(labels, scores, labels.mean(axis=0), 1000).tags_roc is None
    assert curves.curves(labels * 0, scores, np.zeros(1), 1) is None
    assert curves.curves(labels * 0 + 1, scores, np.ones(1), 1) is None
