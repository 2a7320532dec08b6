"""Evaluation, against scikit-learn, brute force and the tiny model's own arithmetic."""

import contextlib
import csv
import io
import json
import math
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, UnidentifiedImageError
from sklearn import metrics as oracle
from tiny_run import IMAGE_SIZE, NAMES, TinyModel, make_data, make_run, rewrite_model

from e6tag import calibration, scoring
from e6tag.config import EvalConfig
from e6tag.errors import ConfigError, DataError, RunError
from e6tag.evaluation import evaluate
from e6tag.files import read_json, write_json
from e6tag.images import letterbox
from e6tag.inputs import Failures
from e6tag.predictions import predict_split
from e6tag.runs import open_run
from e6tag.shards import open_dataset, read_manifest, write_manifest
from e6tag.tagger import Tagger
from e6tag.tags import Vocabulary

NUM_POSTS = 180
MIN_POSITIVES = 12


def relabel(data: Path, split: str, seed: int) -> None:
    """Give the posts of a split random tags, some rare and some common."""
    rng = np.random.default_rng(seed)
    manifest = read_manifest(data)
    shares = np.linspace(0.05, 0.6, len(NAMES))
    labels = [
        np.flatnonzero(rng.random(len(NAMES)) < shares).astype(np.int32)
        if row["split"] == split
        else row["labels"]
        for row in manifest.to_dict("records")
    ]
    write_manifest(data, manifest.assign(labels=labels))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, TinyModel]:
    run, data = tmp_path / "run", tmp_path / "data"
    model = make_run(run, data=data, thresholds=False)
    make_data(data, NUM_POSTS)
    for seed, split in enumerate(("train", "val", "test")):
        relabel(data, split, seed)
    return run, data, model


def measured(run: Path, **options: object) -> dict:
    """metrics.json after an evaluation that went well."""
    options = {"min_positives": MIN_POSITIVES, "quiet": True, "calibrate": False} | options
    assert evaluate(EvalConfig(run=run, **options)) == 0
    return read_json(run / "eval" / "metrics.json", DataError, "")


def truth_of(data: Path, split: str) -> np.ndarray:
    """Labels (n, K) straight from the manifest."""
    rows = read_manifest(data)
    rows = rows[rows["split"] == split]
    return np.array(
        [[column in labels for column in range(len(NAMES))] for labels in rows["labels"]]
    )


def scores_of(data: Path, split: str, model: TinyModel) -> np.ndarray:
    """Probabilities (n, K) by the tiny model's NumPy, of what Pillow can read of the shard."""
    squares = []
    with tarfile.open(data / "shards" / f"{split}-00000.tar") as tar:
        for member in tar:
            with contextlib.suppress(UnidentifiedImageError):
                if member.name.endswith(".jpg"):
                    picture = Image.open(io.BytesIO(tar.extractfile(member).read()))
                    squares.append(letterbox(picture.convert("RGB"), IMAGE_SIZE))
    return model.probabilities(np.stack(squares))


def kept_scores(run: Path, data: Path, split: str, model: TinyModel) -> np.ndarray:
    """Probabilities that the evaluation used, once they are known to be the model's.

    Sums in another order move a probability by 1e-7, and so, now and then, a rank.
    """
    with np.load(run / "eval" / f"predictions-{split}.npz") as cache:
        scores = cache["probabilities"]
    np.testing.assert_allclose(scores, scores_of(data, split, model), atol=1e-5)
    return scores


def oracle_figures(truth: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> dict:
    """The headline figures by scikit-learn."""
    counted = truth.sum(axis=0) >= MIN_POSITIVES
    predicted = scores >= thresholds
    f1 = oracle.f1_score(truth, predicted, average=None, zero_division=0)
    return {
        "macro_ap": oracle.average_precision_score(truth[:, counted], scores[:, counted]),
        "macro_auc": oracle.roc_auc_score(truth[:, counted], scores[:, counted]),
        "micro_ap": oracle.average_precision_score(truth, scores, average="micro"),
        "micro_auc": oracle.roc_auc_score(truth, scores, average="micro"),
        "lrap": oracle.label_ranking_average_precision_score(truth, scores),
        "micro_f1": oracle.f1_score(truth, predicted, average="micro"),
        "macro_f1": f1[counted].mean(),
        "accuracy": (truth == predicted).mean(),
        "brier": np.mean((scores - truth) ** 2),
    }


def per_tag_rows(run: Path) -> list[dict[str, str]]:
    text = (run / "eval" / "per_tag.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def thresholds_of(run: Path) -> np.ndarray:
    return np.array(open_run(run).thresholds())


def test_figures_are_scikit_learns(folders):
    run, data, model = folders
    summary = measured(run)
    truth, scores = truth_of(data, "test"), kept_scores(run, data, "test", model)
    expected = oracle_figures(truth, scores, thresholds_of(run))
    assert {key: summary["model"][key] for key in expected} == pytest.approx(expected, abs=1e-5)
    ranked = np.argsort(-scores, axis=1)
    for k in (1, 5, 10):
        best = np.take_along_axis(truth, ranked[:, :k], axis=1)
        assert summary["model"][f"precision_at_{k}"] == pytest.approx(best.mean(), abs=1e-6)
    assert summary["all_negative_accuracy"] == pytest.approx(1 - truth.mean())
    left_out = int((truth.sum(axis=0) < MIN_POSITIVES).sum())
    assert 0 < summary["num_tags_left_out"] == left_out
    assert summary["num_tags_scored"] == len(NAMES) - left_out


def test_the_prior_row_is_that_of_the_training_shares_as_constant_scores(folders):
    run, data, _ = folders
    summary = measured(run)
    truth, shares = truth_of(data, "test"), truth_of(data, "train").mean(axis=0)
    constant = np.tile(shares, (len(truth), 1))
    expected = oracle_figures(truth, constant, np.full(len(NAMES), np.inf))
    for key in ("macro_ap", "macro_auc", "micro_ap", "micro_auc", "brier"):
        assert summary["prior"][key] == pytest.approx(expected[key], abs=1e-9), key
    counted = truth.sum(axis=0) >= MIN_POSITIVES
    assert summary["prior"]["macro_ap"] == pytest.approx(truth.mean(axis=0)[counted].mean())
    assert summary["prior"]["macro_auc"] == 0.5
    # Whole columns are predicted or not; the best choice on val, as F1 over all pairs sees it.
    val = truth_of(data, "val")
    order = np.argsort(-shares)
    f1 = [
        oracle.f1_score(val.ravel(), (np.tile(shares >= cut, (len(val), 1))).ravel())
        for cut in shares[order]
    ]
    chosen = np.tile(shares >= shares[order][np.argmax(f1)], (len(truth), 1))
    expected_f1 = oracle.f1_score(truth.ravel(), chosen.ravel())
    assert summary["prior"]["micro_f1"] == pytest.approx(expected_f1)
    ratio = summary["model"]["macro_ap"] / summary["prior"]["macro_ap"]
    assert summary["ratio"]["macro_ap"] == pytest.approx(ratio)
    assert "macro_auc" not in summary["ratio"]


def test_the_runs_own_record_of_its_training_shares_wins(folders):
    run, _, _ = folders
    info = read_json(run / "run.json", RunError, "")
    shares = np.linspace(0.1, 0.9, len(NAMES)).round(2)
    info["data"]["num_train"] = 100
    write_json(run / "run.json", info | {"training_shares": shares.tolist()})
    measured(run)
    rows = per_tag_rows(run)
    assert [int(row["num_train"]) for row in rows] == np.rint(shares * 100).astype(int).tolist()


def test_thresholds_come_from_val_only(folders):
    run, data, _ = folders
    before = measured(run)
    fitted = (run / "thresholds.csv").read_bytes()
    relabel(data, "test", 99)
    after = measured(run)
    assert before["model"]["micro_f1"] != after["model"]["micro_f1"]
    assert (run / "thresholds.csv").read_bytes() == fitted
    relabel(data, "val", 98)
    measured(run)
    assert (run / "thresholds.csv").read_bytes() != fitted


def test_each_tags_figures_are_scikit_learns(folders):
    run, data, model = folders
    measured(run)
    truth, scores = truth_of(data, "test"), kept_scores(run, data, "test", model)
    rows = per_tag_rows(run)
    assert [row["name"] for row in rows] == list(NAMES)
    for column, row in enumerate(rows):
        y, s = truth[:, column], scores[:, column]
        predicted = s >= float(row["threshold"])
        assert int(row["positives"]) == y.sum()
        assert int(row["num_train"]) == truth_of(data, "train")[:, column].sum()
        assert float(row["ap"]) == pytest.approx(oracle.average_precision_score(y, s), abs=1e-5)
        assert float(row["auc"]) == pytest.approx(oracle.roc_auc_score(y, s), abs=1e-5)
        assert float(row["prior_ap"]) == pytest.approx(y.mean(), abs=1e-5)
        assert float(row["f1"]) == pytest.approx(oracle.f1_score(y, predicted), abs=1e-5)


def test_every_tag_is_in_one_category_and_one_frequency_band(folders):
    run, _, _ = folders
    summary = measured(run)
    for groups in (summary["categories"], summary["bands"]):
        assert sum(group["num_tags"] for group in groups) == len(NAMES)
        assert sum(group["num_tags_scored"] for group in groups) == summary["num_tags_scored"]
        weights = [group["num_tags_scored"] for group in groups]
        means = [group["macro_ap"] or 0.0 for group in groups]
        assert np.average(means, weights=weights) == pytest.approx(summary["model"]["macro_ap"])


def test_labels_follow_the_names_of_tags_not_their_order(folders):
    run, data, _ = folders
    before = measured(run)
    vocabulary = Vocabulary.read(data / "tags.csv")
    Vocabulary(vocabulary.tags[::-1]).write(data / "tags.csv")
    manifest = read_manifest(data)
    last = len(NAMES) - 1
    labels = [np.array(sorted(last - row), np.int32) for row in manifest["labels"]]
    write_manifest(data, manifest.assign(labels=labels))
    after = measured(run)
    assert after["model"] == before["model"]
    assert after["prior"] == before["prior"]


def test_predictions_are_kept_until_the_model_changes(folders):
    run, data, model = folders
    tagger, dataset = Tagger.open(run), open_dataset(data)
    first = predict_split(tagger, dataset, "val", Failures(), quiet=True)
    np.testing.assert_allclose(first.probabilities, scores_of(data, "val", model), atol=1e-5)
    shard = data / "shards" / "val-00000.tar"
    content = shard.read_bytes()
    shard.unlink()
    again = predict_split(tagger, dataset, "val", Failures(), quiet=True)
    assert np.array_equal(first.probabilities, again.probabilities)
    shard.write_bytes(content)
    other = TinyModel.make(len(NAMES), seed=5)
    rewrite_model(run, other.onnx().SerializeToString())
    anew = predict_split(Tagger.open(run), dataset, "val", Failures(), quiet=True)
    np.testing.assert_allclose(anew.probabilities, scores_of(data, "val", other), atol=1e-5)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", "cut"])
def test_damaged_predictions_are_made_again(folders, damage):
    run, data, _ = folders
    tagger, dataset = Tagger.open(run), open_dataset(data)
    first = predict_split(tagger, dataset, "val", Failures(), quiet=True)
    cache = run / "eval" / "predictions-val.npz"
    cache.write_bytes(cache.read_bytes()[:-200] if damage == "cut" else damage)
    again = predict_split(tagger, dataset, "val", Failures(), quiet=True)
    assert np.array_equal(first.probabilities, again.probabilities)


class Interrupting(Failures):
    """Stands for Ctrl-C at the moment a picture fails."""

    def add(self, name: str, problem: Exception | str) -> None:
        raise KeyboardInterrupt


def test_what_was_predicted_before_an_interruption_is_kept(folders):
    run, data, _ = folders
    whole = predict_split(Tagger.open(run), open_dataset(data), "test", Failures(), quiet=True)
    (run / "eval" / "predictions-test.npz").unlink()
    spoil(data, "test", 40)
    with pytest.raises(KeyboardInterrupt):
        predict_split(Tagger.open(run), open_dataset(data), "test", Interrupting(), quiet=True)
    with np.load(run / "eval" / "predictions-test.npz") as cache:
        kept = cache["probabilities"]
    assert np.array_equal(kept, whole.probabilities[: len(kept)])
    assert len(kept) == 32
    assert not list(run.rglob("*.part"))


def spoil(data: Path, split: str, position: int) -> int:
    """Overwrite the inside of a stored picture; the post it belongs to."""
    rows = read_manifest(data)
    row = rows[rows["split"] == split].iloc[position]
    with (data / "shards" / row["shard"]).open("r+b") as stream:
        stream.seek(row["offset"] + 2)
        stream.write(b"\0" * (row["length"] - 4))
    return int(row["post_id"])


def test_a_picture_that_cannot_be_read_is_named_counted_and_left_out(folders):
    run, data, model = folders
    post = spoil(data, "test", 3)
    command = [ROOT / "eval.py", "--run", run, "--min-positives", "12", "--no-calibrate"]
    result = run_command(command, data)
    assert result.returncode == 1, result.stderr
    assert f"post {post}".encode() in result.stderr
    summary = read_json(run / "eval" / "metrics.json", DataError, "")
    assert (summary["num_failed"], summary["num_pictures"]) == (1, NUM_POSTS // 3 - 1)
    truth = np.delete(truth_of(data, "test"), 3, axis=0)
    scores = kept_scores(run, data, "test", model)
    expected = oracle.average_precision_score(truth, scores, average="micro")
    assert summary["model"]["micro_ap"] == pytest.approx(expected, abs=1e-5)
    assert b"could not be read" in (run / "eval" / "report.html").read_bytes()


def test_a_report_that_does_not_fit_on_the_disk_leaves_everything_as_it_was(folders):
    run, _, _ = folders
    folder = run.parent / "figures"
    command = ["--run", str(run), "--out", str(folder), "--bootstrap", "0"]
    first = run_command([ROOT / "eval.py", *command], run.parent)
    assert first.returncode == 0, first.stderr
    paths = [*folder.iterdir(), run / "thresholds.csv", run / "calibration.csv"]
    before = {path: path.read_bytes() for path in paths}
    limit = len(before[folder / "report.html"]) // 2
    assert limit > max(len(before[folder / name]) for name in ("metrics.json", "per_tag.csv"))
    code = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"sys.argv[0] = 'eval.py'\nrunpy.run_path({str(ROOT / 'eval.py')!r}, run_name='__main__')"
    )
    options = [*command, "--threshold-rule", "balanced", "--no-calibrate"]
    done = run_command(["-c", code, *options], run.parent)
    assert done.returncode == 2, done.stderr
    assert str(folder) in done.stderr.decode()
    assert {path: path.read_bytes() for path in [*folder.iterdir(), *paths[-2:]]} == before


def test_json_on_stdout_is_metrics_json(folders):
    run, data, _ = folders
    result = run_command([ROOT / "eval.py", "--run", run, "--json"], data)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == read_json(run / "eval" / "metrics.json", DataError, "")


def test_the_table_shows_each_figure_beside_the_prior_row(folders, capsys):
    run, _, _ = folders
    summary = measured(run)
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("macro AP"))
    model, prior = summary["model"]["macro_ap"], summary["prior"]["macro_ap"]
    low, high = summary["intervals"]["macro_ap"]
    told = [f"{low:.3f}", "to", f"{high:.3f}", f"{prior:.3f}", f"{model / prior:.1f}x"]
    assert line.split()[-6:] == [f"{model:.3f}", *told]
    assert low < model < high
    assert "nan" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("breakage", "code", "named"),
    [("no run", 5, "run"), ("no data", 4, "data"), ("other tags", 4, "tags.csv")],
)
def test_bad_run_or_data_ends_with_its_exit_code_and_leaves_nothing(folders, breakage, code, named):
    run, data, _ = folders
    if breakage == "no run":
        (run / "model.onnx").write_bytes(b"nothing")
    elif breakage == "no data":
        data.rename(data.with_name("elsewhere"))
    else:
        text = (data / "tags.csv").read_text(encoding="utf-8")
        (data / "tags.csv").write_text(text.replace("wolf", "cat"), encoding="utf-8")
    result = run_command([ROOT / "eval.py", "--run", run], run.parent)
    assert result.returncode == code, result.stderr
    assert named.encode() in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (run / "eval").exists()
    assert not (run / "thresholds.csv").exists()


def test_where_no_tag_counts_the_macro_figures_are_undefined_not_wrong(folders, capsys):
    run, _, _ = folders
    summary = measured(run, min_positives=1000)
    assert summary["num_tags_scored"] == 0
    assert summary["model"]["macro_ap"] is None and summary["model"]["micro_ap"] > 0
    assert "nan" not in capsys.readouterr().out
    html = (run / "eval" / "report.html").read_text(encoding="utf-8")
    assert "nan" not in re.sub(r'src="data:[^"]*"', "", html).lower()


def test_data_without_val_pictures_is_refused(folders):
    run, data, _ = folders
    manifest = read_manifest(data)
    write_manifest(data, manifest.assign(split=manifest["split"].replace("val", "train")))
    with pytest.raises(DataError, match="val split"):
        measured(run)


def test_min_positives_below_one_is_bad_usage(folders):
    with pytest.raises(ConfigError, match="min-positives"):
        measured(folders[0], min_positives=0)


def test_shares_that_do_not_fit_are_a_damaged_run(folders):
    run, _, _ = folders
    info = read_json(run / "run.json", RunError, "")
    info["data"]["num_train"] = 10
    for shares in ([0.5], ["many"] * len(NAMES)):
        write_json(run / "run.json", info | {"training_shares": shares})
        with pytest.raises(RunError, match="training_shares"):
            measured(run)


def test_figures_on_training_or_other_data_carry_a_warning(folders):
    run, data, _ = folders
    assert not measured(run)["trained_on_this_data"]
    assert "trained on other data" in (run / "eval" / "report.html").read_text(encoding="utf-8")
    info = read_json(run / "run.json", RunError, "")
    info["data"]["fingerprint"] = read_json(data / "dataset.json", DataError, "")["fingerprint"]
    write_json(run / "run.json", info)
    assert measured(run, split="train")["trained_on_this_data"]
    assert "trained on these pictures" in (run / "eval" / "report.html").read_text(encoding="utf-8")


@settings(max_examples=60, deadline=None)
@given(
    truth=arrays.arrays(np.uint8, (12, 4), elements=st.integers(0, 1)),
    scores=arrays.arrays(np.float64, (12, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    thresholds=arrays.arrays(np.float64, 4, elements=st.sampled_from([0.0, 0.25, 0.3, 1.0, 2.0])),
)
def test_f1_and_accuracy_agree_with_scikit_learn_whatever_the_ties(truth, scores, thresholds):
    figures, _, decisions = scoring.measure(truth, scores, thresholds, 1)
    f1 = decisions["f1"]
    predicted = scores >= thresholds
    with_some = truth.any(axis=0) | predicted.any(axis=0)
    expected = oracle.f1_score(truth, predicted, average=None, zero_division=0)
    np.testing.assert_allclose(f1[with_some], expected[with_some], atol=1e-12)
    assert np.isnan(f1[~with_some]).all()
    assert figures["accuracy"] == pytest.approx((truth == predicted).mean())
    if truth.any() or predicted.any():
        micro = oracle.f1_score(truth, predicted, average="micro", zero_division=0)
        assert figures["micro_f1"] == pytest.approx(micro)


@given(st.integers(0, 10**7))
def test_a_frequency_band_holds_the_counts_that_its_name_says(count):
    number = int(np.searchsorted(scoring.BAND_EDGES, count, side="right")) - 1
    bounds = scoring.band_name(number).replace(",", "").replace(" or more", "–").split("–")
    low, high = int(bounds[0]), int(bounds[-1] or 10**9)
    assert low <= count <= high


def tagged(run: Path, picture: Path, *options: str) -> dict[str, float]:
    """What test.py says of a picture."""
    command = [ROOT / "test.py", picture, "--run", run, "-k", "0", "--format", "json", *options]
    done = run_command(command, run.parent)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    return told["tags"]


@pytest.fixture
def picture(folders, tmp_path: Path) -> Path:
    _, data, _ = folders
    with tarfile.open(data / "shards" / "test-00000.tar") as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
        (tmp_path / "picture.jpg").write_bytes(tar.extractfile(member).read())
    return tmp_path / "picture.jpg"


def test_test_py_shows_what_was_calibrated_and_cuts_where_eval_did(folders, picture):
    run, _, _ = folders
    measured(run, calibrate=True)
    law = calibration.read(run / "calibration.csv", NAMES)
    raw, shown = tagged(run, picture, "--raw"), tagged(run, picture)
    expected = law.apply(np.array([raw[name] for name in NAMES]))
    # What is printed has six digits, and a steep law makes much of the last.
    assert [shown[name] for name in NAMES] == pytest.approx(expected.tolist(), abs=0.01)
    assert np.abs(expected - np.array([raw[name] for name in NAMES])).max() > 0.05
    passed = set(tagged(run, picture, "-t", "per-tag"))
    assert passed == set(tagged(run, picture, "-t", "per-tag", "--raw"))
    cuts = dict(zip(NAMES, thresholds_of(run), strict=True))
    assert passed == {name for name in NAMES if raw[name] >= cuts[name]}
    # Without it, an earlier one does not stay.
    measured(run)
    assert not (run / "calibration.csv").exists()


def test_calibration_and_cut_offs_are_fitted_on_val_and_told(folders):
    run, data, _ = folders
    before = measured(run, calibrate=True, thresholds="per-category", threshold_rule="balanced")
    fitted = (run / "calibration.csv").read_bytes()
    relabel(data, "test", 97)
    after = measured(run, calibrate=True, thresholds="per-category", threshold_rule="balanced")
    assert (run / "calibration.csv").read_bytes() == fitted
    assert before["calibration"]["after"] != after["calibration"]["after"]
    assert after["thresholds"] == {
        "fitted_on": "val", "shared": "per-category", "rule": "balanced", "withheld": [],
    }  # fmt: skip
    assert len(set(thresholds_of(run))) == 1
    # The tiny model doubts all alike, of which nothing can be learnt.
    assert after["spread"] == []


def test_tags_that_cannot_keep_a_promise_are_withheld_listed_and_never_predicted(folders, picture):
    run, _, _ = folders
    summary = measured(run, target_precision=0.95, calibrate=True)
    assert summary["thresholds"]["withheld"] == list(NAMES)
    assert np.isinf(thresholds_of(run)).all()
    assert tagged(run, picture, "-t", "per-tag") == {}
    assert summary["model"]["accuracy"] == pytest.approx(summary["all_negative_accuracy"])


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, math.nan])
def test_promises_that_nobody_can_keep_are_refused(folders, target):
    run, _, _ = folders
    with pytest.raises(ConfigError, match="--target-precision"):
        measured(run, target_precision=target)


def test_confusions_and_the_surest_errors_are_those_of_the_labels(folders):
    run, data, model = folders
    (data / "implications.csv").write_text(
        "antecedent,consequent\nwolf,animal\nfox,animal\n", encoding="utf-8"
    )
    summary = measured(run)
    truth, scores = truth_of(data, "test"), scores_of(data, "test", model)
    guess = scores >= thresholds_of(run)
    assert summary["confusions"]
    for pair in summary["confusions"]:
        a, b = NAMES.index(pair["predicted"]), NAMES.index(pair["actual"])
        mistaken = guess[:, a] & ~truth[:, a] & truth[:, b]
        assert abs(pair["pictures"] - mistaken.sum()) <= 1
        assert pair["share"] == pair["pictures"] / truth[:, b].sum()
        is_pair_of_animals = {pair["predicted"], pair["actual"]} == {"wolf", "fox"}
        assert pair["parent"] == ("animal" if is_pair_of_animals else None)
    html = (run / "eval" / "report.html").read_text(encoding="utf-8")
    for title in ("Surest false alarms", "Surest misses", "Which tags are taken for which"):
        assert title in html
    # The tiny model's spread is the same everywhere: nothing is said of it.
    assert (summary["spread"], summary["spread_ratio"]) == ([], None)
    assert "Does the model know" not in html
    assert len(html) < 3_000_000


def test_implications_that_are_no_table_are_refused(folders):
    run, data, _ = folders
    (data / "implications.csv").write_text("nothing\n0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"implications\.csv is damaged"):
        measured(run)
    assert not (run / "eval" / "report.html").exists()


def test_a_picture_that_is_damaged_later_is_told_once_and_left_out_of_the_report(folders, caplog):
    run, data, _ = folders
    measured(run)
    images = (run / "eval" / "report.html").read_text(encoding="utf-8").count("<img")
    damaged = [spoil(data, "test", position) for position in range(NUM_POSTS // 3)]
    options = {"min_positives": MIN_POSITIVES, "quiet": True, "calibrate": False}
    assert evaluate(EvalConfig(run=run, **options)) == 1
    told = [text for text in caplog.messages if text.startswith("post ")]
    assert told and len(told) == len(set(told)) <= len(damaged)
    html = (run / "eval" / "report.html").read_text(encoding="utf-8")
    assert 0 < html.count("<img") < images and "data:image/jpeg" not in html
