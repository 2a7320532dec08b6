import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from e6tag.crossval import choose_penalty, cross_validate, make_folds
from e6tag.errors import ConfigError, DataError
from e6tag.heads import Kind, activate, open_head
from e6tag.labelled import is_single, read_labelled
from e6tag.logistic import fit, fit_scaled
from e6tag.runs import open_run

Done = subprocess.CompletedProcess[str]


def run_e6tag(*arguments: object) -> Done:
    done = run_command(["-m", "e6tag", *map(str, arguments)], ROOT, seconds=100)
    return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def blobs(num: int, num_classes: int, dims: int, seed: int = 0) -> tuple[Any, NDArray[np.int64]]:
    """Overlapping classes, dimensions of very different scale."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, num_classes, num)
    classes[:num_classes] = np.arange(num_classes)
    centres = rng.normal(size=(num_classes, dims))
    scale = 10.0 ** rng.uniform(-2, 2, dims)
    return (centres[classes] + rng.normal(size=(num, dims))) * scale + scale, classes


def one_hot(classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.eye(classes.max() + 1, dtype=np.uint8)[classes]


# --- logistic regression


@pytest.mark.parametrize("l2", [0.01, 1.0, 10.0])
@pytest.mark.parametrize(("num", "dims"), [(200, 6), (40, 80)])
def test_softmax_agrees_with_scikit_learn(l2: float, num: int, dims: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    vectors, classes = blobs(num, 4, dims)
    scaled = StandardScaler().fit_transform(vectors)
    theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000).fit(scaled, classes)
    ours = fit(scaled, one_hot(classes), l2, "softmax")
    np.testing.assert_allclose(ours[:-1].T, theirs.coef_, atol=2e-3)
    folded = fit_scaled(vectors, one_hot(classes), l2, "softmax")
    found = activate(vectors @ folded[:-1] + folded[-1], "softmax")
    np.testing.assert_allclose(found, theirs.predict_proba(scaled), atol=1e-3)


@pytest.mark.parametrize("l2", [0.01, 1.0, 10.0])
def test_sigmoid_agrees_with_scikit_learn_label_by_label(l2: float) -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 5))
    labels = (vectors @ rng.normal(size=(5, 3)) + rng.normal(size=(150, 3)) > 0.5).astype(np.uint8)
    ours = fit(vectors, labels, l2, "sigmoid")
    for column in range(3):
        theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000)
        theirs.fit(vectors, labels[:, column])
        np.testing.assert_allclose(ours[:-1, column], theirs.coef_[0], atol=2e-3)
        np.testing.assert_allclose(ours[-1, column], theirs.intercept_[0], atol=2e-3)


def test_dimensions_that_never_change_do_no_harm() -> None:
    vectors, classes = blobs(60, 3, 4)
    with_constant = np.hstack([vectors, np.full((60, 1), 7.0)])
    ours = fit_scaled(with_constant, one_hot(classes), 0.1, "softmax")
    without = fit_scaled(vectors, one_hot(classes), 0.1, "softmax")
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(
        activate(with_constant @ ours[:-1] + ours[-1], "softmax"),
        activate(vectors @ without[:-1] + without[-1], "softmax"),
        atol=1e-4,
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_activations_do_not_overflow(kind: Kind) -> None:
    from scipy.special import expit, softmax

    logits = np.array([[1e4, -1e4, 0.0], [3.0, -2.0, 0.5]])
    truth = softmax(logits, axis=1) if kind == "softmax" else expit(logits)
    np.testing.assert_allclose(activate(logits, kind), truth, atol=1e-12)


# --- folds


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 4))
def test_folds_keep_equal_pictures_together_and_labels_even(
    seed: int, num_folds: int, num_labels: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((40, num_labels)) < 0.4).astype(np.uint8)
    groups = [str(i if i < 30 else i - 30) for i in range(40)]  # ten pictures twice
    labels[30:] = labels[:10]
    folds = make_folds(labels, groups, num_folds, seed)
    assert folds.min() >= 0 and folds.max() < num_folds
    assert (folds[30:] == folds[:10]).all()
    rarest = labels[:30].sum(axis=0).argmin()
    counts = np.bincount(folds[:30][labels[:30, rarest] == 1], minlength=num_folds)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(folds, make_folds(labels, groups, num_folds, seed))


def test_cross_validation_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, average_precision_score, log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors, classes = blobs(150, 3, 5)
    labels = one_hot(classes)
    folds = make_folds(labels, [str(i) for i in range(150)], 5, 0)
    ours = cross_validate(vectors, labels, folds, 0.5, "softmax")
    for number in range(5):
        held = folds == number
        theirs = make_pipeline(
            StandardScaler(), LogisticRegression(C=2.0, tol=1e-10, max_iter=9999)
        )
        scores = theirs.fit(vectors[~held], classes[~held]).predict_proba(vectors[held])
        accuracy = accuracy_score(classes[held], scores.argmax(axis=1))
        assert ours.accuracy[number] == pytest.approx(accuracy)
        assert ours.log_loss[number] == pytest.approx(log_loss(classes[held], scores), abs=1e-3)
        average = average_precision_score(labels[held], scores, average="macro")
        assert ours.macro_ap[number] == pytest.approx(average, abs=1e-3)


def test_noise_gets_the_strong_penalty() -> None:
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(60, 30)), one_hot(np.arange(60) % 2)
    folds = make_folds(labels, [str(i) for i in range(60)], 5, 0)
    tried = [cross_validate(vectors, labels, folds, l2, "softmax") for l2 in (0.01, 1.0, 100.0)]
    assert choose_penalty(tried).l2 == 100.0


# --- sources


def test_a_csv_with_one_label_a_row_is_single_label(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("\ufeffpath,labels,note\na/x.png,wolf,hi\nb.png,fox,\n", encoding="utf-8")
    found = read_labelled(table)
    assert is_single(found) and found[0].path == tmp_path / "a/x.png"
    table.write_text("path,labels\nx.png,wolf fox wolf\ny.png,\n")
    found = read_labelled(table)
    assert not is_single(found) and found[0].labels == ("wolf", "fox") and not found[1].labels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"file,labels\nx.png,a\n", "line 1"),
        (b"", "line 1"),
        (b"path,labels\nx.png\n", "line 2"),
        (b"path,labels\n,a\n", "line 2"),
        (b"path,labels\nx.png,a\nx.png,b\n", "line 3"),
        (b"path,labels\nx.png,\n", "no labels"),
        (b"path,labels\n\xff\xfe,a\n", "UTF-8"),
    ],
)
def test_bad_tables_are_refused_by_line(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text)
    with pytest.raises(DataError, match=said):
        read_labelled(tmp_path / "labels.csv")


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_labelled(tmp_path / "nothing")
    tiny_run.make_pictures(tmp_path / "only")
    with pytest.raises(DataError, match="two or more folders"):
        read_labelled(tmp_path)


# --- the command


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    folder = tmp_path / "classes"
    for colour in ("red", "green", "blue"):
        tiny_run.make_pictures(folder / colour, 6, (colour,))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    tiny_run.make_run(tmp_path / "run")
    return tmp_path / "run"


def test_a_folder_per_class_gives_a_head_that_test_py_uses(run: Path, classes: Path) -> None:
    done = run_e6tag("transfer", classes, "--name", "colour", "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kind"] == "softmax" and result["num_pictures"] == 18
    assert result["accuracy"]["mean"] > 0.9 > 0.5 > result["baseline"]["accuracy"]
    assert {name: about["num_pictures"] for name, about in result["labels"].items()} == {
        "blue": 6,
        "green": 6,
        "red": 6,
    }
    picture = classes.parent / "new.png"
    tiny_run.picture("green", 99).save(picture)
    command = ["test.py", picture, "--run", run, "--head", "colour", "-k", "1"]
    tagged = run_command(command, ROOT)
    assert tagged.stdout.decode().split()[1] == "green"
    head = open_head(open_run(run), "colour")
    assert head.vocabulary.names == ["blue", "green", "red"]
    before = (run / "heads" / "colour" / "head.npz").read_bytes()
    shutil.rmtree(run / "heads" / ".cache")
    again = run_e6tag("transfer", classes, "--name", "colour", "--run", run)
    assert "accuracy" in again.stdout and "without looking" in again.stdout
    assert (run / "heads" / "colour" / "head.npz").read_bytes() == before
    left = {path.name for path in (run / "heads").iterdir()}
    assert left == {"colour", ".cache", ".lock"}


def test_a_table_of_labels_gives_a_multi_label_head(run: Path, classes: Path) -> None:
    rows = ["path,labels"]
    for colour, labels in (("red", "warm bright"), ("green", "bright"), ("blue", "")):
        rows += [f"classes/{colour}/{colour}-{i}.png,{labels}" for i in range(6)]
    table = classes.parent / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    done = run_e6tag("transfer", table, "--name", "mood", "--run", run, "--json", "--folds", 3)
    result = json.loads(done.stdout)
    assert result["kind"] == "sigmoid" and result["accuracy"] is None and result["folds"] == 3
    assert result["macro_ap"]["mean"] > 0.9 > result["baseline"]["macro_ap"]
    assert result["labels"]["bright"]["num_pictures"] == 12


def test_vectors_are_kept_by_content(run: Path, classes: Path) -> None:
    command = ("transfer", classes, "--name", "colour", "--run", run)
    assert run_e6tag(*command).returncode == 0
    pieces = {path: path.read_bytes() for path in (run / "heads" / ".cache").rglob("*.npz")}
    assert len(pieces) == 1
    (classes / "red" / "red-0.png").rename(classes / "red" / "renamed.png")
    assert run_e6tag(*command).returncode == 0
    assert {p: p.read_bytes() for p in (run / "heads" / ".cache").rglob("*.npz")} == pieces
    piece = next(iter(pieces))
    piece.write_bytes(pieces[piece][:-20])
    done = run_e6tag(*command)
    assert done.returncode == 0 and piece.name in done.stderr
    assert len(list((run / "heads" / ".cache").rglob("*.npz"))) == 1


def test_equal_pictures_with_different_labels_are_named(run: Path, classes: Path) -> None:
    shutil.copy(classes / "red" / "red-0.png", classes / "blue" / "same.png")
    done = run_e6tag("transfer", classes, "--name", "colour", "--run", run)
    assert done.returncode == 0
    assert "same.png" in done.stderr and "red-0.png" in done.stderr


def test_corrupt_pictures_are_named_and_left_out(run: Path, classes: Path) -> None:
    (classes / "red" / "bad.png").write_bytes(b"not a picture")
    done = run_e6tag("transfer", classes, "--name", "colour", "--run", run, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["num_pictures"] == 18
    assert "bad.png" in done.stderr and "1 of 19 inputs failed" in done.stderr


def test_a_class_with_too_few_pictures_is_an_error(run: Path, classes: Path) -> None:
    (classes / "rare").mkdir()
    for name in ("one.png", "copy of one.png"):
        shutil.copy(classes / "red" / "red-0.png", classes / "rare" / name)
    done = run_e6tag("transfer", classes, "--name", "colour", "--run", run)
    assert (done.returncode, done.stdout) == (4, "")
    assert "rare" in done.stderr and not (run / "heads" / "colour").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--name", "../up"],
        ["--name", "a/b"],
        ["--name", "x", "--folds", "1"],
        ["--name", "x", "--l2", "0"],
        ["--name", "x", "--batch-size", "0"],
    ],
)
def test_bad_options_are_usage_errors(run: Path, classes: Path, options: list[str]) -> None:
    done = run_e6tag("transfer", classes, "--run", run, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in run.parent.iterdir()) == ["classes", "run"]


def test_no_tensorflow_is_imported(run: Path, classes: Path) -> None:
    code = (
        "import sys\nfrom e6tag.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not {'tensorflow', 'keras', 'sklearn', 'scipy'} & set(sys.modules)\n"
    )
    command = ["-c", code, "transfer", classes, "--name", "x", "--run", run]
    done = run_command(command, ROOT)
    assert done.returncode == 0, done.stderr.decode()
