"""Taggers of the common ONNX layout are fed as they expect, and judged on the tags they share."""

import csv
import io
import json

import numpy as np
import onnx
import pandas as pd
import pytest
from conftest import ROOT, run_command
from onnx import TensorProto, helper
from PIL import Image
from tiny_run import NAMES, make_data

from e6tag import foreign_model
from e6tag.errors import RunError
from e6tag.foreign_model import open_model
from e6tag.scoring import Scored
from e6tag.shards import open_dataset

SIZE = 24
TAGS = [("general", "9"), (NAMES[0], "0"), (NAMES[1].replace("_", " "), "0"), ("stranger", "0")]


def make_model(path, *, channels_first=False, batch="N", outputs=4, size=SIZE):
    """A model whose outputs are the mean of one pixel's channel each, over 255.

    Output k is the value of channel k % 3 at the top left corner pixel: with it the order of
    channels, the scale and the padding show.
    """
    shape = [batch, 3, size, size] if channels_first else [batch, size, size, 3]
    starts, ends = ([0, 0, 0], [3, 1, 1]) if channels_first else ([0, 0, 0], [1, 1, 3])
    nodes = [
        helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "flat"], ["channels"]),
        helper.make_node("Gather", ["channels", "which"], ["picked"], axis=1),
        helper.make_node("Div", ["picked", "scale"], ["scores"]),
    ]
    constants = {
        "starts": np.array(starts), "ends": np.array(ends), "axes": np.array([1, 2, 3]),
        "flat": np.array([-1, 3]), "which": np.arange(outputs) % 3,
        "scale": np.array(255.0, np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "corner",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, outputs])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    )
    text = io.StringIO(newline="")
    rows = [[n, tag, category, 1] for n, (tag, category) in enumerate(TAGS)]
    csv.writer(text).writerows([["tag_id", "name", "category", "count"], *rows])
    path.with_name("selected_tags.csv").write_text(text.getvalue(), encoding="utf-8")
    return path


def png(colour, size):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(("layout", "expected"), [("wd", [30, 20, 10]), ("e6tag", [10, 20, 30])])
def test_channels_come_in_the_layouts_order_from_0_to_255(
    tmp_path, channels_first, layout, expected
):
    path = make_model(tmp_path / "model.onnx", channels_first=channels_first)
    model = open_model(path, None, layout, 1)
    (scores,) = model.predict(model.read(png((10, 20, 30), (40, 40)))[None])
    assert (scores[:3] * 255).tolist() == pytest.approx(expected, abs=1e-3)


def test_pictures_are_padded_to_a_white_square(tmp_path):
    model = open_model(make_model(tmp_path / "model.onnx"), None, "wd", 1)
    square = model.read(png((10, 20, 30), (20, 10)))
    assert square.shape == (SIZE, SIZE, 3)
    assert (square[0] == 255).all() and (square[-1] == 255).all()
    assert square[SIZE // 2, SIZE // 2].tolist() == [30, 20, 10]


@pytest.mark.parametrize("batch", [1, 4, "N"])
def test_any_batch_size_gives_the_same(tmp_path, batch):
    model = open_model(make_model(tmp_path / "model.onnx", batch=batch), None, "wd", 1)
    pictures = np.stack([model.read(png((shade, 0, 0), (9, 9))) for shade in range(0, 60, 10)])
    assert (model.predict(pictures)[:, 2] * 255).tolist() == pytest.approx(range(0, 60, 10))


def test_a_model_is_judged_on_the_tags_it_shares_with_the_data(tmp_path):
    make_data(tmp_path / "data", 60)
    path = make_model(tmp_path / "model.onnx")
    command = [
        ROOT / "eval.py", "--onnx", path, "--data", tmp_path / "data", "--min-positives", "1",
        "--no-calibrate", "--bootstrap", "0", "--json",
    ]  # fmt: skip
    done = run_command(command, tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    summary = json.loads(done.stdout)
    assert summary["num_tags"] == 2
    assert summary["notes"][0] == f"The model has 3 tags, the data {len(NAMES)}; 2 are shared."
    assert (tmp_path / "model-eval" / "report.html").exists()
    rows = open_dataset(tmp_path / "data").split("test")
    assert summary["num_pictures"] == len(rows)
    table = list(csv.DictReader(io.StringIO((tmp_path / "model-eval/per_tag.csv").read_text())))
    assert [row["name"] for row in table] == [NAMES[0], NAMES[1]]


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        ("no model", 2, "there is no file"),
        ("no tags", 2, "selected_tags.csv"),
        ("broken model", 5, "cannot be loaded"),
        ("other outputs", 5, "has 4 rows"),
        ("other columns", 5, "columns name and category"),
        ("no tag in common", 4, "no tag in common"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(tmp_path, damage, code, words):
    make_data(tmp_path / "data", 60)
    path = make_model(tmp_path / "model.onnx", outputs=5 if damage == "other outputs" else 4)
    tags = tmp_path / "selected_tags.csv"
    if damage == "no model":
        path.unlink()
    elif damage == "no tags":
        tags.unlink()
    elif damage == "broken model":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "other columns":
        tags.write_text("id,tag\n1,a\n")
    elif damage == "no tag in common":
        tags.write_text("tag_id,name,category,count\n" + "".join(f"{i},x{i},0,1\n" for i in "1234"))
    command = [ROOT / "eval.py", "--onnx", path, "--data", tmp_path / "data", "--quiet"]
    done = run_command(command, tmp_path)
    assert done.returncode == code, done.stderr.decode()
    (line,) = done.stderr.decode().splitlines()
    assert words in line
    assert not (tmp_path / "model-eval").exists()


def test_a_model_that_takes_no_pictures_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 7])],
    )
    path = tmp_path / "model.onnx"
    make_model(path)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match=r"expected pictures"):
        open_model(path, None, "wd", 1)


def test_logits_are_told_by_all_splits_together(tmp_path):
    rows = pd.DataFrame({"post_id": [1, 2]})
    labels = np.zeros((2, 1), np.uint8)
    low, high = np.array([[0.25], [0.75]], np.float32), np.array([[-3.0], [4.0]], np.float32)
    splits = {"val": Scored(rows, labels, low), "test": Scored(rows, labels, high)}
    taken = foreign_model.as_probabilities(tmp_path / "m.onnx", splits)
    for split, logits in (("val", low), ("test", high)):
        expected = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(taken[split].probabilities, expected, rtol=1e-6)
    alone = {"val": splits["val"]}
    assert foreign_model.as_probabilities(tmp_path / "m.onnx", alone) == alone
