"""The label audit, against brute force, made data with known errors, and as a command."""

import csv
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_run import NAMES, make_data, make_run

from e6tag import audit_page, evidence, planting, suspects
from e6tag.audit import SHOWN, SHOWN_NEAR
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError, DataError
from e6tag.evaluation import evaluate
from e6tag.files import read_json
from e6tag.planting import HeldOut
from e6tag.shards import read_manifest, write_manifest
from e6tag.suspects import KINDS

NUM_POSTS = 180
ODD = ('a,b"c', "<script>alert(1)</script>", "it's_&amp;", "^_^", "a\u202eb", "=1+1", "solo",
       "outside", "red_fur", "night")  # fmt: skip


def odds(p: float) -> float:
    return p / (1 - p)


def brute_force(kind, labels, probabilities, near) -> list[tuple[float, int, int]]:
    """(confidence, row, column) by the definition, in plain Python; odds instead of logits."""
    found = []
    for (row, column), label in np.ndenumerate(labels):
        p = float(np.clip(probabilities[row, column], 1e-7, 1 - 1e-7))
        against = p if kind == "missing" else 1 - p
        if label != (kind == "wrong") or against < 0.05:
            continue
        others = [other for other in near[row] if other >= 0]
        having = sum(int(labels[other, column]) for other in others)
        base = float(np.clip(np.mean(labels[:, column]), 1e-6, 1 - 1e-6))
        share = (having + 2 * base) / (len(others) + 2)
        if kind == "missing":
            value = odds(p) ** 0.7 * odds(share) ** 0.3
        else:
            value = odds(1 - p) ** 0.7 * odds(1 - share) ** 0.3 * odds(base)
        found.append((value / (1 + value), row, column))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_the_ranking_is_that_of_brute_force(kind, seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((40, 6)) < np.linspace(0.05, 0.6, 6)).astype(np.uint8)
    probabilities = rng.random((40, 6))
    near = evidence.nearest_others(rng.normal(size=(40, 3)), np.arange(40) // 2, 7)
    found = suspects.find(kind, labels, probabilities, near)
    expected = [each for each in brute_force(kind, labels, probabilities, near) if each[0] >= 0.5]
    expected.sort(key=lambda each: -each[0])
    assert len(found) == len(expected) > 3
    assert found.confidence == pytest.approx([each[0] for each in expected], abs=1e-9)
    pairs = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert set(pairs) == {each[1:] for each in expected}
    for i, (row, column) in enumerate(pairs):
        assert found.probability[i] == probabilities[row, column]
        assert found.neighbours[i] == 7
        assert found.neighbours_with[i] == labels[near[row], column].sum()
    few = suspects.find(kind, labels, probabilities, near, limit=3)
    assert few.confidence.tolist() == found.confidence[:3].tolist()
    plain = suspects.find(kind, labels, probabilities, near, plain=True)
    alone = plain.probability if kind == "missing" else 1 - plain.probability
    assert (np.diff(alone) <= 0).all() and alone.min() >= 0.5


@settings(max_examples=60, deadline=None)
@given(
    vectors=arrays.arrays(np.float32, (9, 2), elements=st.integers(-2, 2).map(float)),
    groups=arrays.arrays(np.int64, 9, elements=st.integers(0, 5)),
    k=st.integers(1, 10),
)
def test_neighbours_are_the_nearest_of_other_groups(vectors, groups, k):
    found = evidence.nearest_others(vectors, groups, k)
    lengths = np.linalg.norm(vectors, axis=1)
    for i in range(9):
        allowed = [
            j for j in range(9) if groups[j] != groups[i] and lengths[i] > 0 and lengths[j] > 0
        ]
        near = [j for j in found[i] if j >= 0]
        assert len(near) == min(k, len(allowed)) == len(set(near))
        assert set(near) <= set(allowed)
        cosine = {j: vectors[i] @ vectors[j] / (lengths[i] * lengths[j]) for j in allowed}
        best = sorted(cosine.values(), reverse=True)[: len(near)]
        assert [cosine[j] for j in near] == pytest.approx(best, abs=1e-6)
        assert (found[i][len(near) :] == -1).all()


def test_neighbours_of_some_pictures_are_those_among_all():
    vectors = np.random.default_rng(0).normal(size=(600, 4))
    vectors[7] = np.nan
    every = evidence.nearest_others(vectors, np.arange(600), 5)
    some = evidence.nearest_others(vectors, np.arange(600), 5, np.array([599, 7, 0]))
    assert np.array_equal(some, every[[599, 7, 0]])
    assert (every[7] == -1).all() and not (every == 7).any()


def test_planting_hides_and_adds_as_many_as_it_says():
    labels = (np.random.default_rng(1).random((500, 8)) < np.linspace(0.02, 0.7, 8)).astype("u1")
    positives = int(labels.sum())
    planted = planting.plant(labels, np.random.default_rng(0))
    again = planting.plant(labels, np.random.default_rng(0))
    assert np.array_equal(planted.labels, again.labels)
    assert planted.missing.sum() == round(0.1 * positives)
    assert planted.wrong.sum() == round(0.01 * positives)
    assert np.array_equal(planted.missing, (labels == 1) & (planted.labels == 0))
    assert np.array_equal(planted.wrong, (labels == 0) & (planted.labels == 1))


@pytest.mark.parametrize("labels", [np.zeros((5, 3), "u1"), np.ones((5, 3), "u1")])
def test_planting_where_there_is_nothing_to_hide_or_to_add(labels):
    planted = planting.plant(labels, np.random.default_rng(0))
    assert not planted.wrong.any() and planted.missing.sum() == round(0.1 * labels.sum())
    every = planting.measure(held_out(np.full((5, 3), 0.5), labels))
    assert (every["wrong"]["planted"], every["wrong"]["at"]) == (0, [])
    facts = {"planted": every, "listed": dict.fromkeys(KINDS, 0), "notes": [], "split": "test"}
    told = audit_page.as_text(facts | {"neighbours": {"space": "vectors"}})
    assert f"wrong: {audit_page.NOTHING}" in told


def test_few_labels_get_one_error_of_each_kind():
    planted = planting.plant(np.eye(4, dtype=np.uint8), np.random.default_rng(0))
    assert (planted.missing.sum(), planted.wrong.sum()) == (1, 1)


def held_out(probabilities, labels) -> HeldOut:
    groups = np.arange(len(labels))
    vectors = evidence.in_score_space(probabilities)
    return HeldOut(labels, probabilities, groups, evidence.nearest_others(vectors, groups, 10))


def test_a_model_that_knows_the_truth_finds_what_was_planted():
    rng = np.random.default_rng(3)
    labels = (rng.random((400, 5)) < 0.3).astype(np.uint8)
    measured = planting.measure(held_out(np.where(labels, 0.99, 0.01), labels))
    positives = int(labels.sum())
    assert measured["plantings"] == 10
    for kind, share in (("missing", 0.1), ("wrong", 0.01)):
        figures = measured[kind]
        planted = round(share * positives)
        assert figures["planted"] == planted
        # Whoever knows the truth has every planted error in front of every right label.
        for at in figures["at"]:
            best = min(planted, at["n"]) / at["n"]
            assert at["precision"] == pytest.approx(best) == pytest.approx(at["best"])
    spoilt = positives - round(0.1 * positives) + round(0.01 * positives)
    assert measured["missing"]["random"] == pytest.approx(
        round(0.1 * positives) / (labels.size - spoilt)
    )
    assert measured["wrong"]["random"] == pytest.approx(round(0.01 * positives) / spoilt)


def test_a_model_that_knows_nothing_is_as_good_as_random_picking():
    rng = np.random.default_rng(4)
    labels = (rng.random((1000, 4)) < 0.6).astype(np.uint8)
    measured = planting.measure(held_out(rng.random(labels.shape), labels))
    at = measured["missing"]["at"][-1]
    assert at["n"] > 300
    assert at["precision"] == pytest.approx(measured["missing"]["random"], rel=0.15)


def test_precision_at_n_counts_the_first_n():
    hits = np.array([True, False, True] + [False] * 30)
    trial = planting.Trial(2, 40, hits, hits[:12])
    told = planting.summed_up([trial])
    assert (told["planted"], told["listed"], told["random"]) == (2, 33, 2 / 40)
    assert [at["n"] for at in told["at"]] == [10, 30, 33]
    assert [at["precision"] for at in told["at"]] == pytest.approx([2 / 10, 2 / 30, 2 / 33])
    assert [at["by_probability"] for at in told["at"]] == [pytest.approx(0.2), None, None]
    assert planting.summed_up([planting.Trial(2, 40, hits[:0], hits)])["at"] == []


def label_by_colour(data: Path) -> None:
    """Random tags, but the first three go with the picture's colour: neighbours know them."""
    manifest = read_manifest(data)
    rng = np.random.default_rng(5)
    labels = []
    for post in manifest["post_id"]:
        first = [column for column in range(3) if (post - 101) % 6 // 2 == column]
        more = np.flatnonzero(rng.random(len(NAMES)) < 0.4)
        labels.append(sorted({*first, *(int(column) for column in more if column >= 3)}))
    pairs = manifest["post_id"].to_numpy() // 2
    write_manifest(data, manifest.assign(labels=labels, group=pairs))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    run, data = tmp_path / "run", tmp_path / "data"
    make_run(run, data=data, names=ODD, thresholds=False)
    make_data(data, NUM_POSTS, ODD)
    label_by_colour(data)
    return run, data


def rows_of(folder: Path) -> list[dict[str, str]]:
    text = (folder / "audit.csv").read_bytes().decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def check_rows(rows: list[dict[str, str]], data: Path, split: str = "test") -> None:
    """What must hold of audit.csv whatever the model."""
    manifest = read_manifest(data).set_index("post_id")
    labels = {post: set(columns.tolist()) for post, columns in manifest["labels"].items()}
    assert {row["kind"] for row in rows} == set(KINDS)
    for kind in KINDS:
        mine = [row for row in rows if row["kind"] == kind]
        assert [int(row["rank"]) for row in mine] == list(range(1, len(mine) + 1))
        confidence = [float(row["confidence"]) for row in mine]
        assert confidence == sorted(confidence, reverse=True) and min(confidence) >= 0.5
    for row in rows:
        post, column = int(row["post_id"]), ODD.index(row["tag"])
        near = [int(other) for other in row["nearest"].split()]
        assert manifest.loc[post, "split"] == split
        assert (column in labels[post]) == (row["kind"] == "wrong")
        assert len(near) == int(row["neighbours"]) == suspects.NEIGHBOURS
        assert int(row["neighbours_with"]) == sum(column in labels[other] for other in near)
        assert {manifest.loc[other, "split"] for other in near} == {split}
        assert manifest.loc[post, "group"] not in set(manifest.loc[near, "group"])
        assert post not in near and row["category"] == "general"


def test_the_command_writes_table_page_and_figures(folders):
    run, data = folders
    done = run_command([ROOT / "eval.py", "--run", run, "--audit", "--bootstrap", "0"], data)
    assert done.returncode == 0, done.stderr
    rows, facts = rows_of(run / "eval"), read_json(run / "eval" / "metrics.json", DataError, "")
    check_rows(rows, data)
    audit, told = facts["audit"], done.stdout.decode()
    for kind in KINDS:
        assert audit["listed"][kind] == sum(row["kind"] == kind for row in rows)
        assert f"{audit['listed'][kind]:,} likely {kind}" in told
        assert audit["planted"][kind]["at"]
        for at in audit["planted"][kind]["at"]:
            assert f"{at['precision']:.1%}" in told
    assert audit["neighbours"] == {"space": "vectors", "number": 10}
    assert audit["planted"]["seed"] == 0 and "lower bounds" in told
    assert not list(run.rglob("*.part"))


def audited(run: Path, **options: object) -> dict:
    """`audit` of metrics.json."""
    chosen = {"audit": True, "quiet": True, "bootstrap": 0, "min_positives": 1} | options
    assert evaluate(EvalConfig(run=run, **chosen)) == 0
    return read_json(run / "eval" / "metrics.json", DataError, "")["audit"]


def test_the_page_stays_text_names_its_pictures_and_is_bounded(folders):
    run, _ = folders
    listed = audited(run)["listed"]
    page = (run / "eval" / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and "&amp;amp;" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page) and "url(" not in page
    shown = {kind: min(listed[kind], SHOWN) for kind in KINDS}
    assert max(listed.values()) > SHOWN
    pictures = re.findall(r"<img[^>]*>", page)
    assert len(pictures) == sum(shown.values()) * (1 + SHOWN_NEAR)
    assert all(re.search(r' alt="[^"]+"', picture) for picture in pictures)
    assert page.count("<strong") == sum(shown.values()) and 'name="viewport"' in page
    for kind in KINDS:
        more = f"{listed[kind] - SHOWN:,} more are in audit.csv"
        assert (more in page) == (listed[kind] > SHOWN)
    first = rows_of(run / "eval")[0]
    assert f"post {first['post_id']}, {html.escape(first['tag'])} likely missing" in page
    assert page.count("near post") == page.count("✓") + page.count("✗")


def test_a_second_audit_uses_the_vectors_that_are_kept(folders):
    run, _ = folders
    first = audited(run)
    table, pieces = (run / "eval" / "audit.csv").read_bytes(), pieces_of(run)
    assert audited(run) == first
    assert (run / "eval" / "audit.csv").read_bytes() == table
    assert pieces_of(run) == pieces != {}


def pieces_of(run: Path) -> dict[str, int]:
    """Name -> time of change of the files with vectors."""
    return {path.name: path.stat().st_mtime_ns for path in run.glob("eval/vectors-*/*.npz")}


def test_on_val_the_real_audit_sees_the_real_labels_and_planting_leaves_no_trace(folders):
    run, data = folders
    audited(run, split="val", calibrate=False)
    check_rows(rows_of(run / "eval"), data, "val")
    assert not (run / "calibration.csv").exists()


def test_training_pictures_carry_a_warning(folders):
    assert "learnt from these labels" in " ".join(audited(folders[0], split="train")["notes"])


def write_scores(path: Path, data: Path, splits: tuple[str, ...], low: float = 0.0) -> None:
    """Random scores of the posts of some splits."""
    manifest = read_manifest(data)
    posts = manifest[manifest["split"].isin(splits)]["post_id"].sort_values().to_numpy()
    scores = np.random.default_rng(0).uniform(low, 1.0, (len(posts), len(ODD)))
    np.savez(path, post_id=posts, tags=np.array(ODD), scores=scores)


@pytest.mark.parametrize("splits", [("test",), ("val", "test")])
def test_scores_alone_have_neighbours_by_score_and_say_so(folders, tmp_path, capsys, splits):
    _, data = folders
    write_scores(tmp_path / "scores.npz", data, splits)
    config = EvalConfig(
        predictions=tmp_path / "scores.npz", data=data, audit=True, quiet=True, bootstrap=0
    )
    assert evaluate(config) == 0
    folder = tmp_path / "scores-eval"
    check_rows(rows_of(folder), data)
    facts = read_json(folder / "metrics.json", DataError, "")["audit"]
    assert facts["neighbours"]["space"] == "scores"
    assert (facts["planted"] is None) == ("val" not in splits)
    told = capsys.readouterr().out + (folder / "audit.html").read_text(encoding="utf-8")
    assert told.count(audit_page.SPACES["scores"]) == 2
    assert told.count(audit_page.NOT_MEASURED) == 2 * ("val" not in splits)


def test_scores_that_are_no_probabilities_are_refused_and_nothing_is_written(folders, tmp_path):
    _, data = folders
    write_scores(tmp_path / "scores.npz", data, ("val", "test"), low=-3.0)
    command = [ROOT / "eval.py", "--predictions", tmp_path / "scores.npz", "--data", data]
    done = run_command([*command, "--audit"], tmp_path)
    assert done.returncode == 4
    assert b"scores.npz" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "scores-eval").exists()


def test_a_failure_leaves_no_partial_file(folders):
    run, _ = folders
    (run / "eval" / "audit.html" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"audit\.html"):
        audited(run)
    assert not list(run.rglob("*.part*"))
    for name in ("metrics.json", "report.html", "per_tag.csv", "audit.csv"):
        assert not (run / "eval" / name).exists()


def test_a_picture_that_cannot_be_shown_is_named_and_said(folders):
    entry = audit_page.Entry(1, 5, "<b>", "general", 0.9, 0.8, 0, 0, None, [])
    card = audit_page.card(entry, "missing")
    assert "post 5, &lt;b&gt; likely missing (cannot be read)" in card and "no neighbours" in card


def test_two_models_cannot_be_audited_at_once(folders):
    with pytest.raises(ConfigError, match="--audit"):
        evaluate(EvalConfig(compare=(folders[0], folders[0]), audit=True))


def test_figures_are_finite_json(folders):
    json.dumps(audited(folders[0]), allow_nan=False)
