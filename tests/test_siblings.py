"""Confusions of siblings, against loops over pictures and pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e6tag import siblings
from e6tag.errors import DataError
from e6tag.tags import Relations

TAGS = [("wolf", "species"), ("fox", "species"), ("canine", "species"), ("red", "general"),
        ("blue", "general"), ("solo", "general")]  # fmt: skip
RELATIONS = Relations(implications={"wolf": ["canine"], "fox": ["canine"], "red": ["hue"],
                                    "blue": ["hue"]})  # fmt: skip


def brute_force(tags, labels, scores, cuts, relations):
    """Every pair by loops: names -> facts."""
    n, found = len(labels), {}
    truth = [{k for k in range(len(tags)) if row[k]} for row in labels]
    guess = [{k for k in range(len(tags)) if row[k] >= cuts[k]} for row in scores]
    for a, (name, category) in enumerate(tags):
        alarms = [i for i in range(n) if a in guess[i] and a not in truth[i]]
        without = [i for i in range(n) if a not in truth[i]]
        for b, (other, its_category) in enumerate(tags):
            common = set(relations.implications.get(name, ())) & set(
                relations.implications.get(other, ())
            )
            if a == b or (category != its_category and not common):
                continue
            if other in relations.implied(name) or name in relations.implied(other):
                continue
            have_b = [i for i in range(n) if b in truth[i]]
            both = [i for i in have_b if a in truth[i]]
            if len(both) * n >= len(have_b) * (n - len(without)) / 2:
                continue
            pictures = [i for i in alarms if b in truth[i]]
            if len(pictures) >= siblings.LEAST_PICTURES:
                instead = sum(b not in guess[i] for i in pictures)
                found[name, other] = (len(pictures), instead, len(pictures) / len(have_b))
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("relations", [RELATIONS, Relations()])
def test_pairs_are_those_of_a_loop(seed, relations, monkeypatch):
    monkeypatch.setattr(siblings, "BLOCK_CELLS", 60)
    rng = np.random.default_rng(seed)
    labels = (rng.random((90, 6)) < 0.15).astype(np.uint8)
    scores = rng.random((90, 6)).astype(np.float32)
    cuts = np.array([0.5, 0.6, 0.4, 0.7, 0.3, np.inf])
    told = siblings.confusions(TAGS, labels, scores, cuts, relations)
    expected = brute_force(TAGS, labels, scores, cuts, relations)
    assert len(told) == min(len(expected), siblings.NUM_CONFUSIONS)
    for row in told:
        facts = expected[row["predicted"], row["actual"]]
        assert (row["pictures"], row["instead"]) == facts[:2]
        assert row["share"] == pytest.approx(facts[2])
    ranked = sorted((facts[0] for facts in expected.values()), reverse=True)
    assert [row["pictures"] for row in told] == ranked[: len(told)]
    assert len({(row["predicted"], row["actual"]) for row in told}) == len(told)


def test_a_planted_confusion_comes_first_and_names_its_parent():
    rng = np.random.default_rng(0)
    labels = np.zeros((400, 6), np.uint8)
    species = rng.integers(0, 2, 400)
    labels[np.arange(400), species] = 1
    labels[:, 2] = 1
    labels[:, 5] = rng.random(400) < 0.8
    scores = labels * 0.9
    mistaken = np.flatnonzero(species == 1)[:40]
    scores[mistaken, 0] = 0.9
    scores[mistaken[:30], 1] = 0.1
    first, *others = siblings.confusions(TAGS, labels, scores, np.full(6, 0.5), RELATIONS)
    num_foxes = int((species == 1).sum())
    assert first == {
        "predicted": "wolf", "actual": "fox", "category": "species", "parent": "canine",
        "pictures": 40, "instead": 30, "share": 40 / num_foxes,
    }  # fmt: skip
    assert not others


@pytest.mark.parametrize("num_tags", [1, 6])
def test_nothing_is_confused_without_cut_offs_or_false_alarms(num_tags):
    labels = np.ones((5, num_tags), np.uint8)
    tags, scores = TAGS[:num_tags], np.full((5, num_tags), 0.9)
    assert siblings.confusions(tags, labels, scores, np.full(num_tags, np.nan)) == []
    assert siblings.confusions(tags, labels, scores, np.full(num_tags, 0.5)) == []
    assert siblings.confusions(tags, labels[:0], scores[:0], np.full(num_tags, 0.5)) == []


@given(st.integers(2, 6))
def test_only_the_commonest_tags_are_paired_where_there_are_too_many(limit):
    rng = np.random.default_rng(limit)
    labels = (rng.random((300, 6)) < [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).astype(np.uint8)
    scores, tags = rng.random((300, 6)), [(str(k), "one") for k in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(siblings, "MAX_TAGS", limit)
        told = siblings.confusions(tags, labels, scores, np.full(6, 0.5))
    kept = set(range(6 - limit, 6))
    assert {int(row[key]) for row in told for key in ("predicted", "actual")} <= kept


def test_implications_are_read_where_they_are(tmp_path):
    assert siblings.read_implications(tmp_path) == Relations()
    path = tmp_path / "implications.csv"
    path.write_text("antecedent,consequent\nwolf,canine\nwolf,grey\n", encoding="utf-8")
    found = siblings.read_implications(tmp_path)
    assert found.implications == {"wolf": ["canine", "grey"]}
    path.write_text("something\nelse\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"implications\.csv is damaged"):
        siblings.read_implications(tmp_path)
