"""Precision, recall and F1 from counts, against scikit-learn and rows that were published."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as oracle

from e6tag import confusion
from e6tag.errors import DataError

# Rows of JoyTag's full-metrics.txt (github.com/fpgaminer/joytag, Apache-2.0; 32,768 pictures):
# tp, fp, fn, and precision, recall and F1 as they stand beside them, to four decimals.
JOYTAG = {
    "megumin": ((28, 0, 0), (1.0, 1.0, 1.0)),
    "light_blush": ((4, 12, 80), (0.25, 0.0476, 0.08)),
    "smirk": ((6, 25, 119), (0.1935, 0.0480, 0.0769)),
    "tearing_up": ((7, 64, 119), (0.0986, 0.0556, 0.0711)),
    "tareme": ((7, 45, 137), (0.1346, 0.0486, 0.0714)),
    "bad_anatomy": ((2, 0, 63), (1.0, 0.0308, 0.0597)),
    "summer": ((2, 21, 44), (0.0870, 0.0435, 0.0580)),
    "light": ((1, 16, 65), (0.0588, 0.0152, 0.0241)),
    ">_o": ((1, 9, 12), (0.1, 0.0769, 0.0870)),
    "impossible_shirt": ((0, 17, 28), (0.0, 0.0, 0.0)),
    "palms": ((0, 0, 13), (0.0, 0.0, 0.0)),
}
NUM_PICTURES = 32_768


def joytag_text() -> str:
    """Those rows in that file's layout."""
    blocks = []
    for number, (tag, ((tp, fp, fn), shown)) in enumerate(JOYTAG.items()):
        precision, recall, f1 = (f"{value:.4f}" for value in shown)
        tn = NUM_PICTURES - tp - fp - fn
        blocks.append(
            f"Tag: {tag} ({number}) (cnt: {number + 1000})\nPrecision: {precision}\n"
            f"Recall: {recall}\nF1: {f1}\nTP: {tp}, TN: {tn}, FP: {fp}, FN: {fn}\n\n"
        )
    return "".join(blocks)


def test_published_figures_follow_from_their_counts(tmp_path):
    path = tmp_path / "full-metrics.txt"
    path.write_text(joytag_text(), encoding="utf-8")
    found = confusion.figures(confusion.read_table(path))
    assert found.per_tag["tag"].tolist() == list(JOYTAG)
    published = np.array([shown for _, shown in JOYTAG.values()])
    for column, name in enumerate(("precision", "recall", "f1")):
        np.testing.assert_allclose(found.per_tag[name], published[:, column], atol=5.1e-5)
        mean = found.summary[f"macro_{name}"]
        assert mean == pytest.approx(published[:, column].mean(), abs=5.1e-5)
    assert found.summary["num_undefined"] == 1  # palms is never predicted


def test_csv_and_text_layouts_say_the_same(tmp_path):
    text, table = tmp_path / "a.txt", tmp_path / "b.csv"
    text.write_text(joytag_text(), encoding="utf-8")
    from_text = confusion.read_table(text)
    shuffled = from_text.rename(columns=str.upper)[["TN", "FP", "TAG", "FN", "TP"]]
    shuffled.assign(note="x").to_csv(table, index=False)
    pd.testing.assert_frame_equal(confusion.read_table(table), from_text)


@settings(deadline=None, max_examples=60)
@given(
    truth=arrays.arrays(np.uint8, (9, 4), elements=st.integers(0, 1)),
    predicted=arrays.arrays(np.uint8, (9, 4), elements=st.integers(0, 1)),
    zero_division=st.sampled_from([0.0, 1.0, np.nan]),
)
def test_figures_equal_scikit_learn_whatever_is_undefined(truth, predicted, zero_division):
    counts = confusion.decide(truth != 0, predicted.astype(float), np.full(4, 0.5))
    hits, guessed, positives = counts
    table = confusion.table(
        list("abcd"), hits, guessed - hits, positives - hits, 9 - guessed - positives + hits
    )
    found = confusion.figures(table, zero_division)
    functions = {
        "precision": oracle.precision_score,
        "recall": oracle.recall_score,
        "f1": oracle.f1_score,
    }
    for name, function in functions.items():
        of_tags = function(truth, predicted, average=None, zero_division=zero_division)
        np.testing.assert_allclose(found.per_tag[name], of_tags, atol=1e-12)
        macro = function(truth, predicted, average="macro", zero_division=zero_division)
        np.testing.assert_allclose(found.summary[f"macro_{name}"], macro, atol=1e-12)
        micro = function(truth, predicted, average="micro", zero_division=zero_division)
        np.testing.assert_allclose(found.summary[f"micro_{name}"], micro, atol=1e-12)
    assert found.summary["accuracy"] == pytest.approx((truth == predicted).mean())


def test_ratios_call_a_missed_chance_0_and_no_chance_undefined():
    found = confusion.ratios(hits=[0, 0, 2], guessed=[0, 0, 4], positives=[5, 0, 2])
    np.testing.assert_array_equal(found["precision"], [0, np.nan, 0.5])
    np.testing.assert_array_equal(found["recall"], [0, np.nan, 1])
    np.testing.assert_allclose(found["f1"], [0, np.nan, 2 / 3])


BAD = {
    "tag,tp,fp,fn\na,1,2,3\n": "line 1: no column 'tn'",
    "tag,tp,fp,fn,tn\na,1,2,3\n": "line 2: 4 values for 5",
    "tag,tp,fp,fn,tn\na,1,2,3,4\nb,1,-2,3,4\n": "line 3: fp is '-2'",
    "tag,tp,fp,fn,tn\na,1,2.5,3,4\n": "line 2: fp is '2.5'",
    "tag,tp,fp,fn,tn\na,1,2,3,99999999999999999999\n": "line 2: tn",
    "tag,tp,fp,fn,tn\na,1,2,3,4\na,1,2,3,4\n": "line 3: 'a' is on line 2",
    "tag,tp,fp,fn,tn\n": "no rows",
    "": "no column 'tag'",
    "Tag: a (1) (cnt: 2)\nTag: b (2) (cnt: 3)\n": "before line 2: 'a' has no TP",
    "Tag: a (1) (cnt: 2)\nTP: 1, TN: 2, FP: 3\n": "'a' has no FN",
    "Tag: a b c\n": "line 1: 'Tag: a b c'",
    "Tag: a (1)\nTP: x, TN: 2, FP: 3, FN: 4\n": "'a' has no TP",
}


@pytest.mark.parametrize(("content", "message"), BAD.items())
def test_a_bad_table_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as problem:
        confusion.read_table(path)
    assert message in str(problem.value) and str(path) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_files_that_cannot_be_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        confusion.read_table(tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"tag,tp\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        confusion.read_table(tmp_path / "binary.csv")
