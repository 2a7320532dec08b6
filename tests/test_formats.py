"""docs/formats.md is true: its tables are the code's, its Python reads what the code writes."""

import csv
import dataclasses
import hashlib
import json
import re
import tarfile
import typing

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, run_command
from PIL import Image, ImageCms, ImageDraw
from tiny_data import write_dataset, write_pictures
from tiny_run import NAMES, make_data, make_pictures, make_run

from e6tag import eligibility, export, figures, index, shards, sites, tables, tags
from e6tag.config import DownloadConfig, EvalConfig, TagConfig, TrainConfig, TransferConfig

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")
FAILURE = re.compile(r'(?:FileFailure|BadPicture)\(\s*"(\w+)"|Failed\(post\.post_id, "(\w+)"')
SMALL = [
    "--backbone", "resnet", "--depth", "1", "--width", "4", "--vector-size", "8", "--heads", "0",
    "--factors", "1", "--image-size", "32", "--epochs", "1", "--batch-size", "48",
    "--device", "cpu", "--workers", "1", "--quiet",
]  # fmt: skip


def section(title):
    """The text under a heading, up to the next one of its rank or above."""
    rank, rest = re.search(rf"^(#+) {re.escape(title)}$(.*)", PAGE, re.M | re.S).groups()
    return re.split(rf"^#{{1,{len(rank)}}} ", rest, flags=re.M)[0]


def rows(title):
    """Cells of the tables in a section, a row for each name of a first cell."""
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            yield from ((name, *cells[1:]) for name in CODE.findall(cells[0]))


def columns(title):
    """(name, type) of a section's table of columns."""
    return [(name, kind) for name, kind, *_ in rows(title)]


def named(text):
    """Everything in backticks."""
    return set(CODE.findall(text))


def documented_code():
    """The page's Python, run; what it defines."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert not any("e6tag" in block for block in blocks)
    found = {}
    for block in blocks:
        exec(compile(block, "docs/formats.md", "exec"), found)
    return found


READ = documented_code()

CAUSES = {
    name
    for line in section("manifest.parquet").splitlines()
    if line.startswith(("| by", "| no"))
    for name in named(line)
}


def schema_columns(schema):
    short = {"list<item: int32>": "list<int32>", "list<element: int32>": "list<int32>"}
    return [(field.name, short.get(str(field.type), str(field.type))) for field in schema]


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def flat(info, parents):
    """Keys of an object; those of the named parents as parent.key."""
    inner = {f"{name}.{key}" for name in parents for key in info[name]}
    return (set(info) - set(parents)) | inner


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder made by download.py from pictures with sidecars; one picture has gone bad."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pictures", 40)
    path = folder / "pictures" / "017.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "pictures" / "038.txt").unlink()
    done = download(folder)
    assert done.returncode == 1, done.stderr.decode()
    return folder / "data"


def download(folder):
    options = "--site folder --folder pictures --out data --strategy all --image-size 64"
    return run_command([ROOT / "download.py", *options.split()], folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = write_dataset(folder / "data", 60)
    done = run_command(["train.py", "--data", data, "--run", folder / "run", *SMALL], ROOT)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "run"


FOLDERS = ("shards", "incoming", "log", "fingerprints")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "run"
    make_run(path)
    return path


def test_the_tables_of_columns_are_the_schemas():
    plan = columns("plan.parquet")
    assert plan == schema_columns(tables.PLAN_SCHEMA)
    assert plan + columns("manifest.parquet") == schema_columns(tables.MANIFEST_SCHEMA)
    assert [name for name, _ in columns("tags.csv")] == tags.HEADER


def test_every_cause_of_failure_is_listed_and_exists():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "e6tag").glob("*.py"))
    literal = {name for pair in FAILURE.findall(source) for name in pair if name}
    assert len(literal) > 10
    assert literal <= CAUSES
    assert not [cause for cause in CAUSES if f'"{cause}"' not in source]
    rejected = next(cells for name, *cells in rows("dataset.json") if name == "rejected")
    assert CODE.findall(rejected[0]) == list(eligibility.REASONS)


def test_a_data_folder_is_as_described(data):
    files = {name for name, *_ in rows("Data folder")}
    there = {path.name for path in data.iterdir()} - {".lock", *FOLDERS}
    assert there <= files
    assert all(any(name.startswith(f"{folder}/") for name in files) for folder in FOLDERS)
    assert set(FOLDERS) >= {path.name for path in data.iterdir()} - there - {".lock"}
    info = read_json(data / "dataset.json")
    assert set(info) == {name for name, *_ in rows("dataset.json")}
    assert info["fingerprint"] == hashlib.sha256((data / "plan.parquet").read_bytes()).hexdigest()
    assert set(read_json(data / "download.json")) <= named(section("download.json"))
    assert schema_columns(pq.read_schema(data / "plan.parquet")) == columns("plan.parquet")
    assert pq.read_schema(data / "manifest.parquet").equals(tables.MANIFEST_SCHEMA)
    for name in ("aliases.csv", "implications.csv"):
        assert (data / name).read_text("utf-8").startswith("antecedent,consequent\n")
    assert set(info["options"]) <= {field.name for field in dataclasses.fields(DownloadConfig)}


def test_a_reader_made_from_the_page_finds_every_picture(data):
    manifest = pq.read_table(data / "manifest.parquet").to_pylist()
    names = tag_names(data)
    done = [row for row in manifest if row["status"] == "ok"]
    assert len(done) == 38
    found = [
        pair
        for shard in dict.fromkeys(row["shard"] for row in done)
        for pair in READ["read_shard"](data / "shards" / shard)
    ]
    info_keys = named(section("Shards"))
    for row, (info, jpeg) in zip(done, found, strict=True):
        assert READ["read_stored"](data, row) == jpeg
        assert jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9"
        assert hashlib.sha256(jpeg).hexdigest() == row["sha256"]
        assert set(info) <= info_keys
        assert {key: row[key] for key in info if key != "tags"} | {"tags": info["tags"]} == info
        assert info["tags"] == [names[column] for column in row["labels"]]
        assert row["split"] == READ["split_of"](row["group"])
        assert row["post_id"] == int(row["md5"], 16) >> 65


def test_a_failed_post_has_empty_cells(data):
    manifest = pq.read_table(data / "manifest.parquet").to_pylist()
    failed = [row for row in manifest if row["status"] == "failed"]
    assert [row["error"] for row in failed] == ["truncated"]
    assert not any(failed[0][name] for name in ("shard", "offset", "length", "stored_width"))
    assert not any(failed[0][name] for name in ("stored_height", "sha256", "variant"))
    lines = (data / "incoming" / "failures.jsonl").read_text("utf-8").splitlines()
    assert set(json.loads(lines[-1])) <= named(section("incoming/ and exports/"))


def test_shards_are_plain_tars_without_owners_or_times(data):
    for path in (data / "shards").iterdir():
        assert path.stat().st_size % 10_240 == 0
        assert path.read_bytes()[257:263] == b"ustar\0"
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                assert member.offset_data - member.offset == 512
    assert str(shards.EXAMPLES_PER_SHARD) in section("Shards")


def test_a_lost_manifest_comes_back_from_plan_and_shards(data):
    before = (data / "manifest.parquet").read_bytes()
    for name in ("manifest.parquet", "download.json"):
        (data / name).unlink()
    times = {path: path.stat().st_mtime_ns for path in (data / "shards").iterdir()}
    assert download(data.parent).returncode == 1
    assert (data / "manifest.parquet").read_bytes() == before
    assert times == {path: path.stat().st_mtime_ns for path in (data / "shards").iterdir()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "Red Fox, solo\n"),
        ("a.txt", "red_fox solo"),
        ("a.json", '["red fox", "solo"]'),
        ("a.png.json", '{"tags": ["red_fox", "solo"], "rating": "safe"}'),
        ("a.json", '{"tags": "red_fox, solo"}'),
        ("a.json", '{"tags": {"species": ["red_fox"], "general": ["solo"]}}'),
        ("any.csv", "path,tags\na.png,red_fox solo\n"),
        ("any.csv", 'filename,labels,rating\na.png,"red fox, solo",s\n'),
    ],
)
def test_every_form_of_own_tags_is_read(tmp_path, name, content):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    posts = sites.open_site("folder", base_url=None, folder=tmp_path).read(tmp_path).posts
    assert sorted(posts.tags_of(0)) == ["red_fox", "solo"]


def test_a_trained_run_is_as_described(trained):
    files = {name.removesuffix("/") for name, *_ in rows("Run folder")}
    assert {path.name for path in trained.iterdir()} - {".lock"} <= files
    info = read_json(trained / "run.json")
    keys = {name for name, *_ in rows("run.json")}
    assert flat(info, ("data", "preprocessing", "model")) == keys
    assert set(info["config"]) == {field.name for field in dataclasses.fields(TrainConfig)} - {
        "config",
        "data",
        "run",
    }
    words = named(section("run.json"))
    line = json.loads((trained / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert set(line) | set(read_json(trained / "checkpoints" / "state.json")) <= words
    assert line == info["metrics"]
    kinds = {path.name for path in (trained / "checkpoints").iterdir()}
    assert kinds == {"state.json", "best.weights.h5", "step-00000001.weights.h5"}
    assert info["model"]["bytes"] == (trained / "model.onnx").stat().st_size
    share = dict(zip(tag_names(trained), info["training_shares"], strict=True))["facing_left"]
    assert share == pytest.approx(0.5 / (info["data"]["num_train"] + 1), abs=1e-8)


def tag_names(folder):
    lines = (folder / "tags.csv").read_text("utf-8").splitlines()
    return [row["name"] for row in csv.DictReader(lines)]


def test_the_model_has_the_inputs_and_outputs_of_the_table(trained):
    info = read_json(trained / "run.json")
    sizes = {"S": info["preprocessing"]["image_size"], "K": info["model"]["num_tags"]}
    sizes |= {"D": info["model"]["vector_size"], "3": 3}
    table = list(rows("model.onnx"))
    assert [name for name, way, *_ in table if way == "output"] == list(export.OUTPUTS)
    session = onnxruntime.InferenceSession(
        str(trained / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    nodes = {node.name: node for node in [*session.get_inputs(), *session.get_outputs()]}
    assert nodes.keys() == {name for name, *_ in table}
    for name, _, dtype, shape, _ in table:
        free, *fixed = shape.strip("()").split(", ")
        assert (dtype, free) == ("float32", "N") and nodes[name].type == "tensor(float)"
        assert nodes[name].shape[1:] == [sizes[letter] for letter in fixed]
    opset = onnx.load(trained / "model.onnx").opset_import[0].version
    assert f"opset {opset}," in section("model.onnx")


def draw_pictures(folder):
    """Pictures that meet each step of the preprocessing."""
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 255, (41, 83, 3), np.uint8))
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    exif = Image.Exif()
    exif[0x0112] = 6
    veiled = wide.convert("RGBA")
    veiled.putalpha(Image.fromarray(rng.integers(0, 255, (41, 83), np.uint8)))
    large = Image.effect_mandelbrot((900, 700), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    ImageDraw.Draw(large).ellipse((100, 50, 500, 600), "orange")
    grey = np.linspace(0, 65535, 30 * 50).reshape(30, 50).astype(np.uint16)
    wide.save(folder / "wide.png")
    wide.save(folder / "profile.png", icc_profile=bytes(profile))
    wide.crop((0, 0, 5, 41)).save(folder / "narrow.webp", lossless=True)
    veiled.save(folder / "veiled.png")
    wide.quantize(16).save(folder / "palette.png", transparency=3)
    Image.fromarray(grey).save(folder / "grey16.png")
    large.save(folder / "turned.jpg", quality=90, exif=exif)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        wide.save(folder / f"turned{orientation}.png", exif=exif)
    wide.convert("CMYK").save(folder / "cmyk.jpg")
    return sorted(folder.iterdir())


def test_the_recipe_gives_the_probabilities_of_test_py(run, tmp_path):
    paths = draw_pictures(tmp_path)
    command = [ROOT / "test.py", *paths, "--run", run, "-k", "0", "--format", "json"]
    done = run_command([*command, "--uncertainty"], ROOT)
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert [one["path"] for one in said] == list(map(str, paths))
    for one, path in zip(said, paths, strict=True):
        probabilities, vector, uncertainty = READ["outputs"](run, path)
        assert vector.shape == (32,)
        for column, name in enumerate(NAMES):
            assert one["tags"][name] == pytest.approx(probabilities[column], abs=2e-6), path
            assert one["uncertainty"][name] == pytest.approx(uncertainty[column], abs=2e-6)


def test_the_recipe_and_the_code_prepare_the_same_pixels(tmp_path):
    from e6tag.images import read_square

    for path in draw_pictures(tmp_path):
        assert np.array_equal(READ["square"](path, 32), read_square(path, 32)), path


def test_an_evaluation_is_as_described(tmp_path, capsys):
    from e6tag.evaluation import evaluate

    make_data(tmp_path / "data", 60)
    make_run(tmp_path / "run", data=tmp_path / "data")
    assert evaluate(EvalConfig(run=tmp_path / "run", min_positives=1, quiet=True)) == 0
    folder, text = tmp_path / "run" / "eval", section("eval/")
    summary = read_json(folder / "metrics.json")
    keys = set(summary) | {key for group in summary["categories"] for key in group}
    assert keys | {figure.key for figure in figures.FIGURES} <= named(text)
    assert set(summary["model"]) == {figure.key for figure in figures.FIGURES}
    assert (folder / "per_tag.csv").read_text("utf-8").split("\n")[0] in named(text)
    with np.load(folder / "predictions-test.npz", allow_pickle=False) as cache:
        assert set(cache) <= named(text)
        assert cache["probabilities"].shape == (20, len(NAMES))


def test_an_audit_is_as_described(tmp_path, capsys):
    from e6tag.audit import COLUMNS
    from e6tag.evaluation import evaluate

    make_data(tmp_path / "data", 60)
    make_run(tmp_path / "run", data=tmp_path / "data")
    config = EvalConfig(run=tmp_path / "run", min_positives=1, bootstrap=0, audit=True, quiet=True)
    assert evaluate(config) == 0
    folder, text = tmp_path / "run" / "eval", section("eval/")
    audit = read_json(folder / "metrics.json")["audit"]
    planted = audit["planted"]
    keys = set(audit) | set(audit["neighbours"]) | set(planted) | set(planted["missing"])
    assert keys | set(planted["wrong"]["at"][0]) <= named(text)
    assert (folder / "audit.csv").read_text("utf-8").split("\n")[0] == ",".join(COLUMNS)
    assert ",".join(COLUMNS) in named(text)


def test_a_head_is_used_as_described(run, tmp_path):
    from e6tag.transfer import transfer

    paths = make_pictures(tmp_path, 4, ("red", "blue", "grey"))
    table = "".join(f"{path.name},{path.name.split('-')[0]}\n" for path in paths)
    (tmp_path / "labels.csv").write_text("path,labels\n" + table)
    config = TransferConfig(source=tmp_path / "labels.csv", name="hue", run=run, quiet=True)
    assert transfer(config) == 0
    folder = run / "heads" / "hue"
    about = read_json(folder / "head.json")
    assert set(about) <= named(section("heads/NAME/")) and about["kind"] == "softmax"
    with np.load(folder / "head.npz", allow_pickle=False) as head:
        logits = READ["outputs"](run, paths[0])[1] @ head["weights"] + head["bias"]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert tagged(run, paths[0], "hue") == pytest.approx(
        dict(zip(tag_names(folder), expected, strict=True)), abs=2e-6
    )


def tagged(run, path, head):
    """What the tag job prints of a picture, through a pipe."""
    command = [ROOT / "test.py", path, "--run", run, "--head", head, "-k", "0", "--format", "jsonl"]
    return json.loads(run_command(command, ROOT).stdout)["tags"]


def test_an_index_is_searched_as_described(run, tmp_path, capsys):
    from e6tag.config import EmbedConfig, SearchConfig
    from e6tag.vectors import embed, search

    paths = make_pictures(tmp_path / "pictures", 3)
    folder = tmp_path / "index"
    options = {"run": run, "out": folder, "engine": "exact", "quiet": True}
    assert embed(EmbedConfig(paths=(tmp_path / "pictures",), **options)) == 0
    version = folder / (folder / "CURRENT").read_text().strip()
    content = (version / "manifest.json").read_bytes()
    assert version.name == "v-" + hashlib.sha256(content).hexdigest()[:12]
    words = named(section("Index folder"))
    manifest = json.loads(content)
    inner = [manifest["model"], manifest["source"], manifest["files"]["ids.parquet"]]
    assert set(manifest).union(*inner) <= words
    assert [name for name, _ in columns("Index folder")] == list(index.ID_COLUMNS)
    assert columns("Index folder") == schema_columns(pq.read_schema(version / "ids.parquet"))
    capsys.readouterr()
    assert search(SearchConfig(picture=paths[0], index=folder, exact=True, json=True)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed[0]) <= named(section("What commands print"))
    found = READ["nearest"](folder, READ["outputs"](run, paths[0])[1], 10)
    assert [one["path"] for one in printed] == [path for path, _ in found]
    assert np.allclose([one["similarity"] for one in printed], [s for _, s in found], atol=1e-5)


def test_every_format_of_test_py_is_in_the_table():
    formats = typing.get_type_hints(TagConfig)["format"].__args__
    assert [name for name, *_ in rows("What commands print")] == list(formats)
