"""The surest errors, against a walk over all sorted decisions."""

import numpy as np
import pytest

from e6tag import surest


def brute_force(labels, scores, present):
    """Walk over all wrong-able decisions from the surest on."""
    pairs = [(i, k) for i in range(len(labels)) for k in range(labels.shape[1])]
    wrong = [(i, k) for i, k in pairs if bool(labels[i, k]) == present]
    wrong.sort(key=lambda pair: scores[pair] if present else -scores[pair])
    found = []
    for picture, tag in wrong:
        if len(found) == surest.NUM_ERRORS:
            break
        if picture in [i for i, _ in found]:
            continue
        if sum(k == tag for _, k in found) < surest.PER_TAG:
            found.append((picture, tag))
    return found


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shape", [(60, 5), (3, 4), (40, 1), (12, 30), (0, 3)])
def test_errors_are_those_of_a_walk(seed, shape, monkeypatch):
    monkeypatch.setattr(surest, "BLOCK_CELLS", 35)
    rng = np.random.default_rng(seed)
    labels, scores = (rng.random(shape) < 0.4).astype(np.uint8), rng.random(shape)
    # One picture and one tag with the most extreme scores of all: both must not fill the list.
    scores[:1] *= 10
    scores[:, :1] *= 0.01
    for find, present in ((surest.false_alarms, False), (surest.misses, True)):
        told = find(labels, scores)
        assert [(e.picture, e.tag) for e in told] == brute_force(labels, scores, present)
        assert [e.probability for e in told] == [scores[e.picture, e.tag] for e in told]


def test_without_errors_there_are_none():
    scores = np.ones((4, 2))
    assert surest.false_alarms(np.ones((4, 2)), scores) == []
    assert surest.misses(np.zeros((4, 2)), scores) == []
