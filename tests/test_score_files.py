"""Scores of others: three formats give the same figures; what is wrong is named by its row."""

import io
import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from tiny_run import NAMES, make_data

from e6tag.errors import DataError
from e6tag.score_files import read_scores
from e6tag.shards import open_dataset

NUM_POSTS = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores") / "data"
    make_data(folder, NUM_POSTS)
    return folder


def table_of(data, seed=0, splits=("val", "test")):
    """A table of scores of some splits, ascending, that know a little of the truth."""
    manifest = open_dataset(data).manifest
    rows = manifest[manifest["split"].isin(splits)].sort_values("post_id")
    rng = np.random.default_rng(seed)
    truth = np.array([[c in labels for c in range(len(NAMES))] for labels in rows["labels"]])
    scores = (0.4 * rng.random(truth.shape) + 0.5 * truth * rng.random(truth.shape)).clip(0, 1)
    table = pd.DataFrame(scores.astype(np.float32), columns=list(NAMES))
    table.insert(0, "post_id", rows["post_id"].to_numpy())
    return table


def write(table, path):
    """Write a table in the format of the path's ending; `.long.csv` for a row a pair."""
    if path.name.endswith(".long.csv"):
        table.melt("post_id", var_name="tag", value_name="score").to_csv(path, index=False)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        tags = [name for name in table if name != "post_id"]
        np.savez(path, post_id=table["post_id"], tags=np.array(tags), scores=table[tags])
    return path


def evaluated(path, data, *options):
    done = run_command(
        [ROOT / "eval.py", "--predictions", path, "--data", data, "--min-positives", "1",
         "--bootstrap", "0", "--json", "--quiet", *options], data.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_every_format_gives_scikit_learns_figures(data, tmp_path):
    table = table_of(data)
    names = ("a.csv", "a.long.csv", "a.parquet", "a.npz")
    figures = [
        evaluated(write(table, tmp_path / name), data, "--no-calibrate")["model"] for name in names
    ]
    assert all(other == pytest.approx(figures[0], abs=1e-6) for other in figures)
    rows = open_dataset(data).split("test")
    truth = np.array([[c in labels for c in range(len(NAMES))] for labels in rows["labels"]])
    scores = table.set_index("post_id").loc[rows["post_id"], list(NAMES)].to_numpy()
    expected = oracle.average_precision_score(truth, scores, average="micro")
    assert figures[0]["micro_ap"] == pytest.approx(expected, abs=1e-6)
    assert figures[0]["brier"] == pytest.approx(np.mean((scores - truth) ** 2), abs=1e-6)


def test_scores_by_md5_are_those_by_post(data, tmp_path):
    table = table_of(data)
    by_id = evaluated(write(table, tmp_path / "a.csv"), data)["model"]
    md5 = open_dataset(data).manifest.set_index("post_id")["md5"]
    table.insert(0, "md5", md5.loc[table.pop("post_id")].to_numpy())
    table = table.sort_values("md5")
    table.to_csv(tmp_path / "b.csv", index=False)
    assert evaluated(tmp_path / "b.csv", data)["model"] == pytest.approx(by_id, abs=1e-6)


def test_without_val_there_are_no_thresholds_and_that_is_said(data, tmp_path):
    summary = evaluated(write(table_of(data, splits=("test",)), tmp_path / "a.csv"), data)
    assert summary["thresholds"] is None
    assert summary["model"]["micro_f1"] is None
    assert summary["model"]["macro_ap"] > summary["prior"]["macro_ap"]
    assert any("val" in note for note in summary["notes"])


def test_logits_are_ranked_but_not_calibrated(data, tmp_path):
    table = table_of(data)
    expected = evaluated(write(table, tmp_path / "p.csv"), data, "--no-calibrate")["model"]
    logits = table.copy()
    logits[list(NAMES)] = 10 * table[list(NAMES)] - 5
    summary = evaluated(write(logits, tmp_path / "z.csv"), data)
    assert summary["model"]["macro_ap"] == pytest.approx(expected["macro_ap"], abs=1e-6)
    assert summary["model"]["brier"] is None
    assert any("not probabilities" in note for note in summary["notes"])


def test_logits_of_val_itself_are_not_fitted_either(data, tmp_path):
    table = table_of(data)
    expected = evaluated(write(table, tmp_path / "p.csv"), data, "--split", "val")["model"]
    table[list(NAMES)] = 100 * table[list(NAMES)] - 50
    summary = evaluated(write(table, tmp_path / "z.csv"), data, "--split", "val")
    assert summary["model"]["macro_ap"] == pytest.approx(expected["macro_ap"], abs=1e-6)
    assert (summary["thresholds"], summary["model"]["micro_f1"]) == (None, None)
    assert not any("no scores of the val" in note for note in summary["notes"])


def test_two_things_to_judge_are_refused(data, tmp_path):
    path = write(table_of(data), tmp_path / "a.csv")
    for more in (["--onnx", "model.onnx"], ["--compare", path, path]):
        done = run_command(
            [ROOT / "eval.py", "--predictions", path, "--data", data, *more], tmp_path
        )
        assert done.returncode == 2
        assert b"--predictions and --onnx" in done.stderr


def test_tags_without_scores_are_left_out_and_counted(data, tmp_path):
    table = table_of(data).drop(columns=[NAMES[0], NAMES[3]])
    summary = evaluated(write(table, tmp_path / "a.parquet"), data)
    assert summary["num_tags"] == len(NAMES) - 2
    assert any(note.startswith("2 of the data's") for note in summary["notes"])


def spoil(table, problem):
    """(what is wrong, words that name where): the table is changed in place or handed back."""
    post = int(table["post_id"].iloc[4])
    column = NAMES[1]
    if problem == "nan":
        table.loc[4, column] = np.nan
        return table, [f"post_id {post}", "row 5", repr(column), "nan"]
    if problem == "inf":
        table.loc[4, column] = np.inf
        return table, [f"post_id {post}", "row 5", "inf"]
    if problem == "unknown tag":
        return table.rename(columns={column: "no_such_tag"}), ["'no_such_tag'", "tags.csv"]
    if problem == "unsorted":
        order = [0, 1, 3, 2, *range(4, len(table))]
        return table.iloc[order], ["row 4", f"post_id {table['post_id'].iloc[2]} follows"]
    if problem == "post twice":
        return table.iloc[[0, 1, 1, *range(2, len(table))]], ["row 3", "is there twice"]
    if problem == "unknown post":
        table.loc[len(table) - 1, "post_id"] = 10**9
        return table, [f"row {len(table)}", "post_id 1000000000 is not in"]
    if problem == "missing posts":
        return table.iloc[:-30], ["posts of the test split are not there", "the first is post_id"]
    raise AssertionError(problem)


PROBLEMS = ["nan", "inf", "unknown tag", "unsorted", "post twice", "unknown post", "missing posts"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_bad_file_is_exit_4_its_first_bad_row_and_no_report(data, tmp_path, problem, suffix):
    table, words = spoil(table_of(data), problem)
    path = write(table, tmp_path / f"bad{suffix}")
    done = run_command([ROOT / "eval.py", "--predictions", path, "--data", data], tmp_path)
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert all(word in line for word in [*words, str(path)]), line
    assert not (tmp_path / "bad-eval").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"post_id": [1, 2], "tags": ["a"], "scores": [[0.1]]}, ["(1, 1)", "(2, 1)"]),
        ({"post_id": [1], "tags": ["a", "a"], "scores": [[0.1, 0.2]]}, ["'a' is there twice"]),
        ({"post_id": [1], "tags": ["a"]}, ["scores"]),
        ({"post_id": [1.5], "tags": ["a"], "scores": [[0.1]]}, ["whole numbers"]),
        ({"post_id": [1], "tags": ["a"], "scores": [["x"]]}, ["expected numbers"]),
        ({"post_id": [1], "tags": np.array([object()]), "scores": [[0.1]]}, ["nothing pickled"]),
        ({"post_id": [[1]], "tags": ["a"], "scores": [[0.1]]}, ["post_id has the shape (1, 1)"]),
        ({"md5": [1], "tags": ["a"], "scores": [[0.1]]}, ["md5 is int64, expected text"]),
    ],
)
def test_archives_of_another_make_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError) as caught:
        read_scores(tmp_path / "a.npz")
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["expected a column post_id"]),
        ("id,a\n1,0.5\n", ["expected a column post_id"]),
        ("post_id\n1\n", ["no tags"]),
        ("post_id,a\n", ["no rows"]),
        ("post_id,a,a\n1,0.5,0.5\n", ["'a' is there twice"]),
        ("post_id,a\n1,0.5\n2,high\n", ["row 2", "'high'", "expected a number"]),
        ("post_id,a\n1,0.5\n2,\n", ["row 2", "expected a"]),
        ("post_id,a\nx,0.5\n", ["post_id is"]),
        ("post_id,tag,score\n1,a,0.5\n1,a,0.6\n", ["row 2", "'a' twice"]),
        ("post_id,tag,score\n1,a,0.5\n1,b,nan\n", ["row 2", "finite"]),
        ("post_id,tag,score\n1,a,0.5\n,b,0.6\n", ["row 2", "post_id is empty"]),
        ("post_id,tag,score\n1,a,0.5\nx,b,0.6\n", ["row 2", "post_id is 'x'"]),
        ("post_id,tag,score\n1,a,0.5\n1,,0.6\n", ["row 2", "tag is empty"]),
        ("post_id,post_id,a\n1,2,0.5\n", ["post_id is there twice"]),
        ("post_id,a\n1,0.5\n2.5,0.5\n", ["row 2", "post_id is 2.5"]),
        ("post_id,a\n1,0.5\n2,1e300\n", ["row 2", "of 32 bits"]),
        ("post_id,a\n1,true\n", ["row 1", "is True, expected a number"]),
        ("post_id,a,b\n1,0.5,0.7\n2,0.5\n", ["cannot be read", "line 3"]),
        ("\x00\x01\x02", ["expected a column post_id"]),
    ],
)
def test_tables_of_another_make_are_refused(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_scores(tmp_path / "a.csv")
    assert all(word in str(caught.value) for word in [*words, "a.csv"]), caught.value


def test_a_row_without_tag_is_not_the_last_tags(tmp_path):
    table = pd.DataFrame({"post_id": [1, 1], "tag": ["a", None], "score": [0.5, 0.2]})
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2: tag is empty"):
        read_scores(tmp_path / "a.parquet")


def test_a_csv_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("post_id,caf\xe9\n1,0.5\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv cannot be read .*utf-8"):
        read_scores(tmp_path / "a.csv")


def archive_of(path, **members):
    """A zip of members in bytes, as no NumPy would write it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_files_that_are_no_archives_are_named(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((2, 2)))
    single = (tmp_path / "one.npy").read_bytes()
    header = io.BytesIO()
    claims = {"descr": "<f8", "fortran_order": False, "shape": (10**8, 10**6)}
    np.lib.format.write_array_header_1_0(header, claims)
    archive_of(tmp_path / "members.npz", post_id=b"1", tags=b"a", scores=b"0.5")
    archive_of(
        tmp_path / "claims.npz",
        **{f"{name}.npy": header.getvalue() for name in ("post_id", "tags")},
    )
    for name, content in (("single", single), ("pickle", pickle.dumps({"a": 1})), ("none", b"")):
        (tmp_path / f"{name}.npz").write_bytes(content)
    for name in ("single", "pickle", "none", "members", "claims"):
        with pytest.raises(DataError, match=rf"{name}\.npz"):
            read_scores(tmp_path / f"{name}.npz")


def test_md5_of_archives_and_pairs_are_text_in_any_case(tmp_path):
    values = np.array([[0.25], [0.5]], np.float32)
    md5, tags = np.array([b"AA01", b"BB02"]), np.array([b"wolf"])
    np.savez(tmp_path / "a.npz", md5=md5, tags=tags, scores=values)
    (tmp_path / "a.csv").write_text("md5,tag,score\nAA01,wolf,0.25\nBB02,wolf,0.5\n")
    for name in ("a.npz", "a.csv"):
        scores = read_scores(tmp_path / name)
        assert (list(scores.posts), list(scores.tags)) == (["aa01", "bb02"], ["wolf"])
        assert scores.values.tolist() == values.tolist()


def test_a_parquet_file_that_is_none_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        read_scores(tmp_path / "a.parquet")


TAGS = st.lists(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
        lambda name: name.strip() and name not in ("post_id", "md5", "tag", "score")
    ),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tags=TAGS, posts=st.sets(st.integers(1, 2**40), min_size=1, max_size=6), seed=st.integers(0, 9)
)
def test_what_is_written_is_what_is_read(tmp_path, tags, posts, seed):
    values = np.random.default_rng(seed).random((len(posts), len(tags))).astype(np.float32)
    table = pd.DataFrame(values, columns=tags)
    table.insert(0, "post_id", sorted(posts))
    for name in ("a.csv", "a.long.csv", "a.parquet", "a.npz"):
        again = read_scores(write(table, tmp_path / name))
        assert again.posts.tolist() == sorted(posts)
        columns = [list(again.tags).index(tag) for tag in tags]
        np.testing.assert_allclose(again.values[:, columns], values, rtol=1e-6)
