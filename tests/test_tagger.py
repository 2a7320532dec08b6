import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_run
from conftest import ROOT, run_command
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from e6tag.errors import ConfigError, DataError, FetchError, RunError
from e6tag.heads import Head, check_name, open_head, save_head
from e6tag.inputs import Failures, check_host, find_inputs, printable, read_url
from e6tag.runs import open_run
from e6tag.tag_choice import KAOMOJI, choose, excluded, parse_threshold, spell
from e6tag.tag_output import merge
from e6tag.tagger import Tagger, predict_stream

Done = subprocess.CompletedProcess[str]


def run_test_py(*arguments: object, stdin: bytes = b"") -> Done:
    done = run_command(["test.py", *map(str, arguments)], ROOT, stdin=stdin, seconds=60)
    return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def model(run: Path) -> tiny_run.TinyModel:
    return tiny_run.TinyModel.make()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tagger") / "run"
    tiny_run.make_run(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return tiny_run.make_pictures(tmp_path / "pictures")


def expected(model: tiny_run.TinyModel, path: Path) -> dict[str, float]:
    return dict(
        zip(tiny_run.NAMES, model.probabilities(tiny_run.square(path)[None])[0], strict=True)
    )


# --- the model


def test_predictions_are_those_of_the_arithmetic(
    run: Path, model: tiny_run.TinyModel, pictures: list[Path]
) -> None:
    tagger = Tagger.open(run)
    squares = np.stack([tagger.read(path) for path in pictures])
    prediction = tagger.predict(squares)
    np.testing.assert_allclose(prediction.probabilities, model.probabilities(squares), atol=1e-5)
    np.testing.assert_allclose(prediction.vectors, model.vectors(squares), atol=1e-4)
    np.testing.assert_allclose(prediction.uncertainty, 0.5, atol=1e-6)
    assert len(tagger.predict(squares[:0])) == 0
    with pytest.raises(ValueError, match="expected pictures"):
        tagger.predict(squares[:, :8])


@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_batches_change_nothing(run: Path, pictures: list[Path], batch_size: int) -> None:
    tagger = Tagger.open(run, threads=1)
    squares = [(path, tagger.read(path.read_bytes())) for path in pictures]
    steps = list(predict_stream(tagger, iter(squares), batch_size))
    assert [key for keys, _ in steps for key in keys] == pictures
    found = np.concatenate([prediction.probabilities for _, prediction in steps])
    whole = tagger.predict(np.stack([square for _, square in squares])).probabilities
    np.testing.assert_allclose(found, whole, atol=1e-6)


def damage(run: Path, kind: str) -> None:
    if kind == "no run":
        for path in sorted(run.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.rmdir()
    elif kind == "truncated":
        (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:-10])
    elif kind == "not onnx":
        tiny_run.rewrite_model(run, b"not a model at all")
    elif kind == "other tags":
        proto = tiny_run.TinyModel.make(num_tags=3).onnx()
        tiny_run.rewrite_model(run, proto.SerializeToString())
    elif kind == "other output":
        proto = tiny_run.TinyModel.make().onnx()
        del proto.graph.output[1]
        tiny_run.rewrite_model(run, proto.SerializeToString())
    elif kind == "nan":
        model = tiny_run.TinyModel.make()
        model.bias[0] = np.nan
        tiny_run.rewrite_model(run, model.onnx().SerializeToString())
    elif kind == "preprocessing":
        info = json.loads((run / "run.json").read_text())
        info["preprocessing"]["resample"] = "nearest"
        (run / "run.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("no run", "run"),
        ("truncated", "model.onnx"),
        ("not onnx", "model.onnx"),
        ("other tags", "model.onnx"),
        ("other output", "model.onnx"),
        ("nan", "model.onnx"),
        ("preprocessing", "run.json"),
    ],
)
def test_a_damaged_run_is_refused_naming_the_file(tmp_path: Path, kind: str, named: str) -> None:
    run = tmp_path / "run"
    tiny_run.make_run(run)
    damage(run, kind)
    size = tiny_run.IMAGE_SIZE
    with pytest.raises(RunError, match=named) as problem:
        Tagger.open(run).predict(np.zeros((1, size, size, 3), np.uint8))
    assert "\n" not in str(problem.value)


def test_the_tiny_model_is_valid_onnx() -> None:
    onnx.checker.check_model(tiny_run.TinyModel.make().onnx())


# --- which tags, in which order, how spelled


@given(
    arrays.arrays(np.float32, st.integers(1, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.integers(0, 40),
)
def test_tags_come_best_first_and_ties_by_column(
    probabilities: np.ndarray, cutoff: float, top: int
) -> None:
    found = choose(probabilities, np.full(len(probabilities), cutoff), top).tolist()
    pairs = sorted((-p, column) for column, p in enumerate(probabilities.tolist()) if p >= cutoff)
    assert found == [column for _, column in pairs][: top or None]


@pytest.mark.parametrize(
    ("name", "spaces", "escape", "written"),
    [
        ("blue_eyes", False, False, "blue_eyes"),
        ("blue_eyes", True, False, "blue eyes"),
        ("a_(b)", True, True, r"a \(b\)"),
        ("a_(b)", False, True, r"a_\(b\)"),
        ("^_^", True, False, "^_^"),
    ],
)
def test_spelling(name: str, spaces: bool, escape: bool, written: str) -> None:
    assert spell(name, spaces, escape) == written


def test_kaomoji_keep_their_underscores() -> None:
    assert len(KAOMOJI) == 19
    assert all(spell(face, spaces=True, escape=False) == face for face in KAOMOJI)


def test_excluding_by_name_pattern_and_spaced_name() -> None:
    hidden, unmatched = excluded(tiny_run.NAMES, ["*_fur", "blue eyes", "^_^", "nothing*", "sol?"])
    names = np.array(tiny_run.NAMES)[hidden]
    assert set(names) == {"red_fur", "blue_eyes", "^_^", "solo"}
    assert unmatched == ["nothing*"]


@pytest.mark.parametrize("text", ["1.5", "-0.1", "nan", "many", "", "inf"])
def test_thresholds_that_are_no_probabilities_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--threshold"):
        parse_threshold(text)


TAGS = st.lists(st.sampled_from(["wolf", "blue eyes", "blue_eyes", r"a_\(b\)", "a_(b)", "Wolf"]))


@given(TAGS, TAGS)
def test_merging_keeps_what_was_there_and_adds_each_tag_once(
    before: list[str], new: list[str]
) -> None:
    merged = merge(before, new)
    assert merge(merged, [*before, *new]) == merged
    assert {spelled.replace(" ", "_").replace("\\", "").lower() for spelled in merged} == {
        spelled.replace(" ", "_").replace("\\", "").lower() for spelled in (*before, *new)
    }
    assert merged[:1] == (before or new)[:1]


@given(st.text())
def test_names_fit_one_line(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1
    printable(text).encode("utf-8")


# --- the command


def test_lines_of_one_picture(run: Path, model: tiny_run.TinyModel, pictures: list[Path]) -> None:
    done = run_test_py(pictures[0], "--run", run, "-k", 4)
    truth = sorted(expected(model, pictures[0]).items(), key=lambda pair: -pair[1])[:4]
    assert done.stdout == "".join(f"{p:.3f} {name}\n" for name, p in truth)
    assert (done.returncode, done.stderr) == (0, "")


def test_machine_formats_agree(run: Path, model: tiny_run.TinyModel, pictures: list[Path]) -> None:
    outputs = {
        name: run_test_py(pictures[0].parent, "--run", run, "-k", 0, "--format", name).stdout
        for name in ("json", "jsonl", "csv", "lines")
    }
    objects = json.loads(outputs["json"])
    assert objects == [json.loads(line) for line in outputs["jsonl"].splitlines()]
    assert [each["path"] for each in objects] == [str(path) for path in pictures]
    for each, path in zip(objects, pictures, strict=True):
        assert each["tags"] == pytest.approx(expected(model, path), abs=2e-5)
        assert list(each["tags"].values()) == sorted(each["tags"].values(), reverse=True)
    rows = list(csv.DictReader(io.StringIO(outputs["csv"])))
    flat = [(each["path"], tag, p) for each in objects for tag, p in each["tags"].items()]
    assert [(r["path"], r["tag"], float(r["probability"])) for r in rows] == flat
    blocks = outputs["lines"].split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [str(path) for path in pictures]


def test_uncertainty_is_given_on_request(run: Path, pictures: list[Path]) -> None:
    done = run_test_py(pictures[0], "--run", run, "-k", 2, "--format", "jsonl", "--uncertainty")
    found = json.loads(done.stdout)
    assert found["uncertainty"] == dict.fromkeys(found["tags"], 0.5)


def test_per_tag_thresholds_and_their_absence(tmp_path: Path, pictures: list[Path]) -> None:
    run = tmp_path / "run"
    model = tiny_run.make_run(run)
    done = run_test_py(pictures[0], "--run", run, "-k", 0, "-t", "per-tag", "--format", "jsonl")
    cuts = np.linspace(0.2, 0.8, len(tiny_run.NAMES))
    truth = expected(model, pictures[0])
    wanted = {name for (name, p), cut in zip(truth.items(), cuts, strict=True) if p >= cut}
    assert set(json.loads(done.stdout)["tags"]) == wanted
    (run / "thresholds.csv").unlink()
    done = run_test_py(pictures[0], "--run", run, "-t", "per-tag")
    assert done.returncode == 5
    assert "thresholds.csv" in done.stderr and "eval.py" in done.stderr


def test_one_bad_file_does_not_end_the_run(run: Path, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not a picture")
    (folder / "cut.png").write_bytes(pictures[0].read_bytes()[:700])
    done = run_test_py(folder, folder / "absent.png", "--run", run, "--format", "jsonl")
    assert done.returncode == 1
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == list(
        map(str, pictures)
    )
    for name in ("empty.png", "text.jpg", "cut.png", "absent.png"):
        assert sum(name in line for line in done.stderr.splitlines()) == 1
    assert "4 of 10 inputs failed" in done.stderr


def test_standard_input_is_a_picture(run: Path, pictures: list[Path]) -> None:
    ours = run_test_py("-", "--run", run, stdin=pictures[2].read_bytes())
    assert ours.stdout == run_test_py(pictures[2], "--run", run).stdout
    assert run_test_py("-", "--run", run, stdin=b"").returncode == 1


def test_nothing_to_do_is_said(run: Path, tmp_path: Path) -> None:
    for arguments in ([], [tmp_path], [tmp_path / "absent.png"]):
        done = run_test_py("--run", run, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
    assert "python test.py picture.png" in run_test_py("--run", run).stderr


@pytest.mark.parametrize(
    "options", [["-k", "-1"], ["-t", "2"], ["--batch-size", "0"], ["--threads", "-1"]]
)
def test_bad_options_are_usage_errors(run: Path, pictures: list[Path], options: list[str]) -> None:
    done = run_test_py(pictures[0], "--run", run, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_patterns_that_match_nothing_are_named(run: Path, pictures: list[Path]) -> None:
    done = run_test_py(pictures[0], "--run", run, "-k", 0, "--exclude", "wolf", "unknown*")
    assert "unknown*" in done.stderr
    assert "wolf" not in done.stdout.split()


def test_sidecars_skip_overwrite_append(run: Path, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    mine = pictures[0].with_suffix(".txt")
    mine.write_text("my tag, blue eyes\n")
    options = ("--run", run, "--format", "txt", "-k", 0, "--spaces", "--escape")
    done = run_test_py(folder, *options)
    assert done.returncode == 0 and "1 pictures have a .txt" in done.stderr
    assert mine.read_text() == "my tag, blue eyes\n"
    written = pictures[1].with_suffix(".txt").read_text()
    assert written.endswith("\n") and sorted(written.strip().split(", ")) == sorted(
        spell(name, True, True) for name in tiny_run.NAMES
    )
    run_test_py(folder, *options, "--on-existing", "append")
    tags = mine.read_text().strip().split(", ")
    assert tags[:2] == ["my tag", "blue eyes"] and len(tags) == len(tiny_run.NAMES) + 1
    assert pictures[1].with_suffix(".txt").read_text() == written
    run_test_py(folder, *options, "--on-existing", "overwrite")
    assert "my tag" not in mine.read_text()
    assert not list(folder.glob("*.part"))


def test_skipped_pictures_are_not_even_read(tmp_path: Path, pictures: list[Path]) -> None:
    for path in pictures:
        path.write_bytes(b"damaged since")
        path.with_suffix(".txt").write_text("done\n")
    done = run_test_py(pictures[0].parent, "--run", tmp_path / "no run", "--format", "txt")
    assert done.returncode == 0


def test_two_pictures_never_share_a_sidecar(run: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        tiny_run.picture("red").save(tmp_path / name)
    done = run_test_py(tmp_path, "--run", run, "--format", "txt", "--on-existing", "overwrite")
    assert done.returncode == 1
    assert "a.txt" in done.stderr and (tmp_path / "a.txt").exists()


def test_results_come_as_they_are_made(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    # The second picture is a pipe that nobody has written to yet.
    pipe = tmp_path / "late.png"
    os.mkfifo(pipe)
    command = [sys.executable, ROOT / "test.py", pictures[0], pipe, "--run", run]
    with subprocess.Popen(
        [*map(str, command), "--batch-size", "1", "--format", "jsonl"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["path"] == str(pictures[0])
        pipe.write_bytes(pictures[1].read_bytes())
        assert json.loads(child.stdout.readline())["path"] == str(pipe)
    assert child.returncode == 0


def test_odd_file_names_can_be_written(run: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n\x1b[31m.png")
    tiny_run.picture("red").save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(tmp_path / name)
    tiny_run.picture("red").save(tmp_path / "b.png")
    done = run_test_py(tmp_path, "--run", run)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    done = run_test_py(tmp_path, "--run", run, "--format", "json")
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 2


def test_tagging_answers_soon_and_without_heavy_packages(run: Path, pictures: list[Path]) -> None:
    code = (
        "import sys; sys.argv = ['test.py', *sys.argv[1:]]\n"
        "from e6tag.cli import script\n"
        "assert script('tag') == 0\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'pyarrow', 'sklearn', 'scipy', 'requests'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(pictures[0]), "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr


# --- heads


def test_a_head_is_a_linear_map_of_the_vectors(tmp_path: Path, pictures: list[Path]) -> None:
    run = tmp_path / "run"
    model = tiny_run.make_run(run)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(tiny_run.VECTOR_SIZE, 3)).astype(np.float32)
    bias = np.array([0.1, -0.2, 0.3], np.float32)
    labels = ("cat", "dog", "bird")
    head = Head("animals", "softmax", weights, bias, tiny_run.vocabulary(labels))
    save_head(open_run(run), head, {})
    done = run_test_py(pictures[0], "--run", run, "--head", "animals", "--format", "jsonl")
    logits = model.vectors(tiny_run.square(pictures[0])[None])[0] @ weights + bias
    truth = np.exp(logits) / np.exp(logits).sum()
    assert json.loads(done.stdout)["tags"] == pytest.approx(
        dict(zip(labels, truth, strict=True)), abs=1e-5
    )
    by_path = run_test_py(pictures[0], "--run", run, "--head", run / "heads" / "animals")
    assert by_path.returncode == 0
    assert (
        run_test_py(pictures[0], "--run", run, "--head", "animals", "-t", "per-tag").returncode == 2
    )
    absent = run_test_py(pictures[0], "--run", run, "--head", "plants")
    assert absent.returncode == 5 and "animals" in absent.stderr


@pytest.mark.parametrize("kind", ["other model", "truncated", "pickle", "nan", "shape"])
def test_damaged_heads_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    tiny_run.make_run(path)
    run = open_run(path)
    weights = np.ones((tiny_run.VECTOR_SIZE, 2), np.float32)
    if kind == "nan":
        weights[0, 0] = np.nan
    head = Head("h", "sigmoid", weights, np.zeros(2, np.float32), tiny_run.vocabulary(("a", "b")))
    folder = save_head(run, head, {})
    about = json.loads((folder / "head.json").read_text())
    if kind == "other model":
        about["model_sha256"] = "0" * 64
    elif kind == "truncated":
        (folder / "head.npz").write_bytes((folder / "head.npz").read_bytes()[:-9])
    elif kind == "shape":
        about["vector_size"] = 5
    elif kind == "pickle":
        odd = np.array([object()], dtype=object)
        np.savez(folder / "head.npz", weights=odd, bias=odd)
        about["sha256"] = tiny_run.sha256(folder / "head.npz")
    (folder / "head.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match=r"heads/h"):
        open_head(run, "h")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "../x", ".hidden", "a b", "x" * 65, "é"]
)
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


# --- addresses


class Site(BaseHTTPRequestHandler):
    picture = b""
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append(self.headers["User-Agent"])
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200 if self.path.startswith("/a.png") else 404)
        self.send_header("Content-Length", str(len(self.picture)))
        self.end_headers()
        self.wfile.write(self.picture)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_are_fetched_under_our_name(site: str, run: Path, pictures: list[Path]) -> None:
    Site.picture = pictures[0].read_bytes()
    done = run_test_py(f"{site}/a.png", "--run", run)
    assert done.stdout == run_test_py(pictures[0], "--run", run).stdout
    assert Site.seen[0].startswith("e6tag/")
    assert read_url(f"{site}/to/{site}/a.png") == Site.picture
    done = run_test_py(f"{site}/b.png", pictures[0], "--run", run)
    assert done.returncode == 1 and "b.png" in done.stderr and "404" in done.stderr


def test_redirects_never_lead_to_private_hosts(site: str) -> None:
    Site.picture = b"secret"
    port = site.rpartition(":")[2]
    for target in (f"http://localhost:{port}/a.png", f"http://127.0.0.2:{port}/a.png"):
        with pytest.raises(FetchError, match="private network"):
            read_url(f"{site}/to/{target}")
    with pytest.raises(FetchError, match="redirects"):
        read_url(f"{site}/to/{site}/to/{site}/to/{site}/to/{site}/to/{site}/to/{site}/a.png")
    with pytest.raises(FetchError, match="not an http"):
        read_url(f"{site}/to/file:///etc/passwd")


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "192.168.1.1", "0.0.0.0"])
def test_private_addresses_are_asked_only_if_named(host: str) -> None:
    with pytest.raises(FetchError, match="private network"):
        check_host(f"http://{host}/", "example.org")
    check_host(f"http://{host}/", host.strip("[]"))


def test_large_and_slow_replies_are_cut(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Site.picture = b"x" * 200_000
    monkeypatch.setattr("e6tag.inputs.MAX_BYTES", 100_000)
    with pytest.raises(FetchError, match="larger"):
        read_url(f"{site}/a.png")
    monkeypatch.setattr("e6tag.inputs.MAX_SECONDS", -1.0)
    with pytest.raises(FetchError, match="not done"):
        read_url(f"{site}/a.png")


def test_each_file_is_taken_once(pictures: list[Path]) -> None:
    failures = Failures()
    folder = str(pictures[0].parent)
    found = find_inputs([str(pictures[1]), folder, folder], False, failures)
    assert [item.path for item in found] == [pictures[1], pictures[0], *pictures[2:]]
    assert not failures.lines


def test_a_terminal_is_not_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = os.openpty()
    with os.fdopen(terminal) as stream, os.fdopen(controller):
        monkeypatch.setattr(sys, "stdin", stream)
        item = find_inputs(["-"], False, Failures())[0]
        with pytest.raises(DataError, match="terminal"):
            item.read()
