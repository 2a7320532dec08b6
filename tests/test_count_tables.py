"""`eval.py --counts`: figures of published counts, against scikit-learn on rebuilt labels."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_command
from sklearn.metrics import precision_recall_fscore_support

from e6tag import count_tables
from e6tag.config import EvalConfig
from e6tag.confusion import MAX_BYTES
from e6tag.errors import ConfigError

NUM_PICTURES = 60
# tp, fp, fn: an ordinary tag, a perfect one, one never right, one never predicted, one never
# there, and one that is neither.
ROWS = {
    "wolf": (20, 5, 7),
    "^_^": (9, 0, 0),
    "a,b": (0, 3, 4),
    "night": (0, 0, 6),
    "fox_(x)": (0, 2, 0),
    "none": (0, 0, 0),
}
UNDEFINED = 3
HEADER = "Totals\nPrecision: 0.7\nTP: 29, TN: 999, FP: 10, FN: 17\n\n"
ZERO = {"0": 0.0, "1": 1.0, "skip": np.nan}


def write_csv(path):
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["tag", "tp", "fp", "fn", "tn"])
        for tag, counts in ROWS.items():
            rows.writerow([tag, *counts, NUM_PICTURES - sum(counts)])
    return path


def write_blocks(path, header=""):
    blocks = [
        f"Tag: {tag} ({number})\nPrecision: 0.1\nRecall: 0.2\nF1: 0.3\n"
        f"TP: {tp}, TN: {NUM_PICTURES - tp - fp - fn}, FP: {fp}, FN: {fn}\n\n"
        for number, (tag, (tp, fp, fn)) in enumerate(ROWS.items())
    ]
    path.write_text(header + "".join(blocks), encoding="utf-8")
    return path


def rebuilt():
    """Labels and predictions (60, 6) that have these counts."""
    truth, predicted = np.zeros((2, NUM_PICTURES, len(ROWS)), int)
    for column, (tp, fp, fn) in enumerate(ROWS.values()):
        truth[: tp + fn, column] = 1
        predicted[:tp, column] = 1
        predicted[tp + fn : tp + fn + fp, column] = 1
    return truth, predicted


def run(path, *options, code=0):
    """What the command prints, on stdout or, where it fails, on stderr."""
    done = run_command([ROOT / "eval.py", "--counts", path, *options], path.parent)
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr if code else done.stdout).decode()


def finite(value):
    return None if np.isnan(value) else pytest.approx(float(value))


@pytest.mark.parametrize("rule", ["0", "1", "skip"])
def test_figures_are_scikit_learns(tmp_path, rule):
    path = write_csv(tmp_path / "counts.csv")
    summary = json.loads(
        run(path, "--json", "--zero-division", rule, "--out", tmp_path / "out", "--quiet")
    )
    truth, predicted = rebuilt()
    for average in ("macro", "micro"):
        values = precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=ZERO[rule]
        )
        found = [summary[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert found == [finite(value) for value in values[:3]]
    per_tag = pd.read_csv(tmp_path / "out" / "per_tag.csv", keep_default_na=False, na_values=[""])
    assert per_tag["tag"].tolist() == list(ROWS)
    each = precision_recall_fscore_support(truth, predicted, average=None, zero_division=ZERO[rule])
    for name, values in zip(("precision", "recall", "f1"), each, strict=False):
        np.testing.assert_allclose(per_tag[name], values, rtol=1e-5)
    assert summary["num_undefined"] == UNDEFINED
    assert summary["accuracy"] == pytest.approx((truth == predicted).mean())
    assert summary["all_negative_accuracy"] == pytest.approx((truth == 0).mean())
    assert json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8")) == summary


def test_blocks_under_a_header_of_totals_say_the_same_as_the_csv(tmp_path):
    table = json.loads(run(write_csv(tmp_path / "counts.csv"), "--json"))
    for name, header in (("plain.txt", ""), ("totals.txt", HEADER)):
        blocks = json.loads(run(write_blocks(tmp_path / name, header), "--json"))
        assert blocks | {"counts": 0} == table | {"counts": 0}


def test_the_text_says_the_rule_and_writes_nothing(tmp_path):
    path = write_csv(tmp_path / "counts.csv")
    printed = run(path)
    assert "6 tags on 60 pictures" in printed
    assert "share of nothing: 3 " in printed
    assert "counts 0 (as in most published tables): --zero-division 0" in printed
    macro, micro = (
        precision_recall_fscore_support(*rebuilt(), average=average, zero_division=0)[2]
        for average in ("macro", "micro")
    )
    assert f"F1 {macro:.3f} {micro:.3f}" in " ".join(printed.split())
    assert "left out of the means" in run(path, "--zero-division", "skip")
    assert list(tmp_path.iterdir()) == [path]


def test_tags_counted_on_different_pictures_are_no_number_of_pictures(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("name,tp,fp,fn,tn\na,1,0,0,9\nb,1,0,0,8\n", encoding="utf-8")
    assert json.loads(run(path, "--json"))["num_pictures"] is None
    assert "2 tags.\n" in run(path)


BAD = {
    "tag,tp,fp,fn,tn\na,1,2,3,4\nb,1,-2,3,4\n": "line 3: fp is '-2'",
    "tag,tp,fp,fn,tn\na,1,2.5,3,4\n": "line 2: fp is '2.5'",
    "tag,tp,fp,fn,tn\na,1,,3,4\n": "line 2: fp is ''",
    "tag,tp,fp,fn,tn\na,1,2,3,4\na,1,2,3,4\n": "line 3: 'a' is on line 2",
    "tag,tp,fp,tn\na,1,2,3\n": "line 1: no column 'fn'",
    "tag,tp,fp,fn,tn\na,1,2,3\n": "line 2: 4 values for 5 columns",
    "tag,tp,fp,fn,tn\n" + "a" * 200_000 + ",1,2,3,4\n": "line 2: field larger",
    "tag,tp,fp,fn,tn\n": "no rows",
    "": "Expected the columns tag, tp, fp, fn, tn",
    HEADER: "no column 'tag'",
    "Tag: a (1)\nTP: 1, TN: 2, FP: 3, FN: 4\nTP: 5, TN: 6, FP: 7, FN: 8\n": "line 3: counts of no",
    "Tag: a (1)\nTP: 1, TN: 2, FP: -3, FN: 4\n": "'a' has no FP",
    "Tag: a (1)\nTP: 1, TN: 2\nTag: b (2)\n": "before line 3: 'a' has no FP",
}


@pytest.mark.parametrize(("content", "message"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_table_is_one_line_that_names_the_row(tmp_path, content, message):
    path = tmp_path / "counts.csv"
    path.write_text(content, encoding="utf-8")
    said = run(path, "--out", tmp_path / "out", code=4)
    assert message in said
    assert str(path) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_kind_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 2)
    assert "larger than 256 MB. Is it the right file?" in run(path, code=4)
    assert "cannot be read" in run(tmp_path / "missing.csv", code=4)


@pytest.mark.parametrize("other", ["run", "onnx", "predictions", "compare"])
def test_two_things_to_judge_are_one_too_many(tmp_path, other):
    path = write_csv(tmp_path / "counts.csv")
    value = (path, path) if other == "compare" else path
    config = EvalConfig(counts=path, **{other: value})
    with pytest.raises(ConfigError, match=f"--counts and --{other}"):
        count_tables.judge_counts(config)


def test_the_command_refuses_options_that_do_not_belong_together(tmp_path):
    path = write_csv(tmp_path / "counts.csv")
    assert "--counts and --run" in run(path, "--run", tmp_path, code=2)
    done = run_command([ROOT / "eval.py", "--zero-division", "skip"], tmp_path)
    assert done.returncode == ConfigError.exit_code
    assert b"--zero-division belongs to --counts FILE" in done.stderr
