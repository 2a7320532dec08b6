import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_run
from conftest import ROOT, run_command
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from e6tag.errors import ConfigError, DataError, RunError
from e6tag.index import Index, neighbours
from e6tag.index_build import GOOD_DUPLICATES, GOOD_RECALL, Recipe, build_index
from e6tag.nearest import Pca, exact_neighbours, unit
from e6tag.trees import self_test
from e6tag.vectors import parse_search_k

Done = subprocess.CompletedProcess[str]
Vectors = NDArray[np.float32]

needs_annoy = pytest.mark.skipif(self_test() is not None, reason="Annoy is not installed here")


def run_e6tag(*arguments: object, environment: dict[str, str] | None = None) -> Done:
    command = list(map(str, arguments))
    done = run_command(command, ROOT, environment=environment, seconds=100)
    return Done(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def clustered(num: int, dims: int = 64, seed: int = 0) -> Vectors:
    """Vectors around centres, as those of pictures are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, num // 40), 12))
    latent = centres[rng.integers(0, len(centres), num)] + 0.4 * rng.normal(size=(num, 12))
    mixed = np.maximum(latent @ rng.normal(size=(12, dims)), 0)
    return (mixed + 0.1 * rng.normal(size=(num, dims))).astype(np.float32)


def ids(num: int) -> dict[str, list[object]]:
    return {
        "path": [f"picture-{i}.png" for i in range(num)],
        "post_id": list(range(100, 100 + num)),
        "md5": [f"{i:032x}" for i in range(num)],
        "tags": [f"tag_{i % 7} even" if i % 2 == 0 else f"tag_{i % 7}" for i in range(num)],
    }


def build(folder: Path, vectors: Vectors, engine: str = "auto", **knobs: int) -> Index:
    recipe = Recipe(engine=engine, **knobs)  # type: ignore[arg-type]
    build_index(folder, vectors, ids(len(vectors)), recipe, {"model": {"sha256": "x"}})
    return Index.open(folder)


def brute_force(vectors: Vectors, queries: Vectors, k: int) -> NDArray[np.int64]:
    wide, asked = (v.astype(np.float64) for v in (vectors, queries))
    cosines = (asked @ wide.T) / np.linalg.norm(asked, axis=1)[:, None]
    return np.argsort(-cosines / np.linalg.norm(wide, axis=1), axis=1)[:, :k]


def overlap(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)])
    )


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- the arithmetic


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 5))
def test_exact_search_is_brute_force(num: int, k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(num, 8)).astype(np.float32)
    stored = unit(vectors).astype(np.float16)
    queries = unit(np.random.default_rng(seed + 99).normal(size=(3, 8)))
    rows, similarities = exact_neighbours(stored, queries, k)
    assert rows.shape == similarities.shape == (3, min(k, num))
    whole = queries @ stored.astype(np.float32).T
    np.testing.assert_allclose(similarities, -np.sort(-whole, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(whole, rows, 1), similarities, atol=1e-6)


def test_search_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = unit(clustered(500)).astype(np.float16)
    queries = unit(clustered(5, seed=1))
    whole = exact_neighbours(stored, queries, 20)
    monkeypatch.setattr("e6tag.nearest.ROWS_AT_ONCE", 33)
    pieces = exact_neighbours(stored, queries, 20)
    np.testing.assert_array_equal(whole[0], pieces[0])
    np.testing.assert_allclose(whole[1], pieces[1], atol=1e-6)


def test_equal_vectors_come_in_row_order() -> None:
    stored = np.tile(np.array([[1, 0]], np.float16), (40, 1))
    rows, _ = exact_neighbours(stored, np.array([[1, 0]], np.float32), 7)
    assert rows[0].tolist() == list(range(7))


def test_pca_agrees_with_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    vectors = unit(clustered(400, 24)).astype(np.float16)
    ours = Pca.fit(vectors, 6)
    theirs = PCA(6, svd_solver="full").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-6)
    np.testing.assert_allclose(
        np.abs(ours.components.T @ theirs.components_.T), np.eye(6), atol=1e-4
    )


# --- the index


@pytest.mark.parametrize("engine", ["exact", pytest.param("annoy", marks=needs_annoy)])
def test_an_index_finds_the_true_neighbours(tmp_path: Path, engine: str) -> None:
    drawn = clustered(2050)
    vectors, queries = drawn[:2000], np.concatenate([drawn[2000:], clustered(50, seed=1)])
    index = build(tmp_path, vectors, engine, pca=64, trees=20)
    assert index.manifest["engine"] == engine
    rows, similarities = index.query(queries, 10)
    assert rows.shape == similarities.shape == (100, 10)
    assert overlap(rows, brute_force(vectors, queries, 10)) >= 0.95
    assert (np.diff(similarities, axis=1) <= 0).all()
    exact = index.query(queries, 10, exact=True)[0]
    assert overlap(exact, brute_force(vectors, queries, 10)) >= 0.98  # float16 swaps near-ties
    itself = index.query(vectors[:200], 1)
    assert (itself[0][:, 0] == np.arange(200)).mean() == 1.0
    np.testing.assert_allclose(itself[1], 1.0, atol=1e-3)


@needs_annoy
def test_the_default_search_k_is_a_measured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e6tag.index_build.SEARCH_K", (20, 200, 2000, 20_000))
    manifest = build(tmp_path, clustered(3000, seed=3), pca=24, trees=3).manifest
    measured = manifest["measured"]
    assert manifest["search_k"] == measured[-1]["search_k"]
    assert [m["search_k"] for m in measured] == sorted(m["search_k"] for m in measured)
    good = [
        min(m["recall_at_10"], m["unlike_recall_at_10"]) >= GOOD_RECALL
        and m["duplicate_at_1"] >= GOOD_DUPLICATES
        for m in measured
    ]
    assert good[-1] and not any(good[:-1]) and len(good) > 1


@pytest.mark.parametrize("engine", ["exact", pytest.param("annoy", marks=needs_annoy)])
@pytest.mark.parametrize("num", [1, 2, 11])
def test_small_indexes_give_all_they_have(tmp_path: Path, engine: str, num: int) -> None:
    index = build(tmp_path, clustered(num), engine)
    rows, _ = index.query(clustered(3, seed=9), 20)
    assert [sorted(row) for row in rows.tolist()] == [list(range(num))] * 3


def test_neighbours_carry_what_is_known(tmp_path: Path) -> None:
    index = build(tmp_path, clustered(30), "exact")
    ((first, *_),) = neighbours(index, clustered(30)[4:5], 3)
    assert (first.row, first.path, first.post_id) == (4, "picture-4.png", 104)
    assert first.tags == ("tag_4", "even") and first.similarity == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_vectors_without_direction_are_refused_by_name(tmp_path: Path, value: float) -> None:
    vectors = clustered(20)
    vectors[13] = value
    with pytest.raises(DataError, match=r"picture-13\.png"):
        build(tmp_path, vectors)
    assert not (tmp_path / "CURRENT").exists() and not list(tmp_path.glob("*v-*"))
    index = build(tmp_path, clustered(20), "exact")
    for bad in (vectors[13:14], np.ones((1, 5), np.float32)):
        with pytest.raises(DataError):
            index.query(bad, 3)


@needs_annoy
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    vectors = clustered(600)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(tmp_path / name, vectors, pca=16, trees=5, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["trees.ann"] != contents(tmp_path / "c")["trees.ann"]


FILES = ["vectors.f16.npy", "ids.parquet", "manifest.json"]


@pytest.mark.parametrize("harm", ["remove", "truncate", "flip"])
@pytest.mark.parametrize(
    "name", [*FILES, *(pytest.param(n, marks=needs_annoy) for n in ("trees.ann", "pca.npz"))]
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str, harm: str) -> None:
    engine = "exact" if name in FILES else "annoy"
    file = build(tmp_path, clustered(200), engine, pca=16, trees=5).path / name
    content = file.read_bytes()
    if harm == "remove":
        file.unlink()
    elif harm == "truncate":
        # A whole number of tree nodes: Annoy itself would load it without a word.
        file.write_bytes(content[: -(16 * 4 + 12) * 2] if name == "trees.ann" else content[:-7])
    else:
        file.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        Index.open(tmp_path)


def test_no_index_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"python embed\.py"):
        Index.open(tmp_path)
    (tmp_path / "CURRENT").write_text("../../etc\n")
    with pytest.raises(RunError, match="CURRENT"):
        Index.open(tmp_path)


def test_replacing_an_index_never_disturbs_readers(tmp_path: Path) -> None:
    versions = [clustered(300, seed=seed) for seed in range(2)]
    old = build(tmp_path, versions[0], "exact")
    stop, problems, opened = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            index = Index.open(tmp_path)
            opened.add(index.path.name)
            if index.query(np.asarray(index.vectors[5:6], np.float32), 1)[0][0, 0] != 5:
                problems.append(index.path)

    reader = threading.Thread(target=read)
    reader.start()
    for round_number in range(6):
        build(tmp_path, versions[round_number % 2], "exact")
        time.sleep(0.02)
    stop.set()
    reader.join()
    assert not problems and len(opened) == 2
    assert old.query(versions[0][7:8], 1)[0][0, 0] == 7
    build(tmp_path, clustered(300, seed=5), "exact")
    build(tmp_path, clustered(300, seed=6), "exact")
    assert len(list(tmp_path.glob("v-*"))) == 2  # the one in use and the one before


@pytest.mark.parametrize("text", ["0", "-5", "many", "1.5", ""])
def test_search_k_is_auto_or_a_number(text: str) -> None:
    assert parse_search_k("auto") is None and parse_search_k("2000") == 2000
    with pytest.raises(ConfigError):
        parse_search_k(text)


# --- broken builds of Annoy

CRASH = """
    import os, signal, sys
    class AnnoyIndex:
        def __init__(self, *a): pass
        def add_item(self, *a): pass
        def set_seed(self, seed): pass
        def build(self, *a, **k): pass
        def load(self, *a): pass
        def get_n_items(self): return int(sys.argv[3])
        def get_nns_by_item(self, *a, **k): os.kill(os.getpid(), signal.SIGSEGV)
"""
ONE = CRASH.replace("os.kill(os.getpid(), signal.SIGSEGV)", "return [0], [0.0]")
ABSENT = "raise ImportError('no module named annoy')"
STUBS = {"SIGSEGV": CRASH, "1 neighbours of 10": ONE, "not installed": ABSENT}


def stub_annoy(folder: Path, code: str) -> dict[str, str]:
    (folder / "annoy").mkdir(parents=True)
    (folder / "annoy" / "__init__.py").write_text(textwrap.dedent(code))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize("said", STUBS)
def test_without_a_working_annoy_search_is_exact(tmp_path: Path, said: str) -> None:
    environment = stub_annoy(tmp_path / "stub", STUBS[said])
    tiny_run.make_run(tmp_path / "run")
    paths = tiny_run.make_pictures(tmp_path / "pictures", 2)
    options = ("--run", tmp_path / "run", "--out", tmp_path / "index")
    done = run_e6tag("embed.py", paths[0].parent, *options, environment=environment)
    assert done.returncode == 0 and "exact search" in done.stdout
    assert said in done.stderr and "ANNOY_COMPILER_ARGS" in done.stderr
    index = Index.open(tmp_path / "index")
    assert index.trees is None and len(index) == len(paths)


def test_annoy_asked_for_by_name_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", stub_annoy(tmp_path / "stub", CRASH)["PYTHONPATH"])
    with pytest.raises(ConfigError, match="SIGSEGV"):
        build(tmp_path / "index", clustered(20), "annoy")


@needs_annoy
def test_an_index_with_trees_opens_where_annoy_is_broken(tmp_path: Path) -> None:
    tiny_run.make_run(tmp_path / "run")
    paths = tiny_run.make_pictures(tmp_path / "pictures", 2)
    options = ("--run", tmp_path / "run", "--out", tmp_path / "index")
    assert "Annoy" in run_e6tag("embed.py", paths[0].parent, *options).stdout
    search = ("-m", "e6tag", "search", paths[3], "--index", tmp_path / "index", "--json")
    broken = run_e6tag(*search, environment=stub_annoy(tmp_path / "stub", CRASH))
    assert "SIGSEGV" in broken.stderr
    assert broken.stdout == run_e6tag(*search).stdout


# --- the commands


def test_stored_posts_are_found_by_post_and_shard(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    tiny_run.make_data(data)
    model = tiny_run.make_run(run, data=data)
    done = run_e6tag("embed.py", "--run", run, "--out", run / "index")
    assert done.returncode == 0, done.stderr
    query = tmp_path / "query.png"
    tiny_run.picture("blue", 2).save(query)  # what post 103 shows, before its JPEG
    search = ("-m", "e6tag", "search", query, "--index", run / "index", "-k", 4)
    first = run_e6tag(*search).stdout.splitlines()[0]
    assert first == f"1.000  {data}/shards/test-00000.tar: 103.jpg  blue_eyes"
    found = json.loads(run_e6tag(*search, "--json", "--exact").stdout)
    assert (found[0]["post_id"], found[0]["md5"]) == (103, f"{103:032x}")
    assert found[0]["tags"] == ["blue_eyes"] and len(found) == 4
    index = Index.open(run / "index")
    table = pq.read_table(index.path / "ids.parquet").to_pydict()
    vectors = model.vectors(tiny_run.square(query)[None])
    nearest = brute_force(np.asarray(index.vectors, np.float32), vectors, 4)[0]
    assert [table["post_id"][row] for row in nearest] == [each["post_id"] for each in found]
    only_test = run_e6tag("embed.py", "--run", run, "--splits", "test", "--out", tmp_path / "i2")
    assert only_test.returncode == 0 and "8 pictures" in only_test.stdout


def test_corrupt_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    tiny_run.make_run(tmp_path / "run")
    paths = tiny_run.make_pictures(tmp_path / "pictures" / "inner")
    (tmp_path / "pictures" / "bad.png").write_bytes(paths[0].read_bytes()[:600])
    embed = ("embed.py", tmp_path / "pictures", "--run", tmp_path / "run", "--engine", "exact")
    done = run_e6tag(*embed, "--out", tmp_path / "index")
    assert done.returncode == 1 and f"{len(paths)} pictures" in done.stdout
    assert "bad.png" in done.stderr and "1 of 7 inputs failed" in done.stderr
    assert len(Index.open(tmp_path / "index")) == len(paths)
    for path in paths:
        path.write_bytes(b"")
    done = run_e6tag(*embed, "--out", tmp_path / "other")
    assert done.returncode == 4 and not (tmp_path / "other" / "CURRENT").exists()


def test_another_model_than_the_indexs_is_refused(tmp_path: Path) -> None:
    for name, seed in (("run", 0), ("other", 1)):
        tiny_run.make_run(tmp_path / name, seed=seed)
    paths = tiny_run.make_pictures(tmp_path / "pictures")
    index = tmp_path / "index"
    made = run_e6tag(
        "embed.py", paths[0].parent, "--run", tmp_path / "run", "--out", index, "--engine", "exact"
    )
    assert made.returncode == 0, made.stderr
    done = run_e6tag(
        "-m", "e6tag", "search", paths[0], "--index", index, "--run", tmp_path / "other"
    )
    assert done.returncode == 5 and "another model" in done.stderr and "embed.py" in done.stderr
    tiny_run.make_run(tmp_path / "run", seed=2)
    done = run_e6tag("-m", "e6tag", "search", paths[0], "--index", index)
    assert (done.returncode, done.stdout) == (5, "")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_broken_off_run_goes_on_where_it_was(tmp_path: Path, ending: signal.Signals) -> None:
    tiny_run.make_run(tmp_path / "run")
    paths = tiny_run.make_pictures(tmp_path / "pictures", 60)
    late = tmp_path / "pictures" / "zz-late.png"
    os.mkfifo(late)  # the run waits here, with two pieces of vectors written
    out = tmp_path / "index"
    command = ["embed.py", tmp_path / "pictures", late, "--run", tmp_path / "run", "--out", out]
    command += ["--engine", "exact"]
    with subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stderr=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 60
        while len(list(out.glob(".partial/*/*.npz"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(ending)
        assert child.wait(10) == (130 if ending == signal.SIGINT else -signal.SIGKILL)
    assert not (out / "CURRENT").exists()
    kept = len(list(out.glob(".partial/*/*.npz"))) * 128
    late.unlink()
    tiny_run.picture("red", 77).save(late)
    # What was kept is not read again, whatever became of it: same name, size and time.
    status = paths[0].stat()
    paths[0].write_bytes(b"\0" * status.st_size)
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    done = run_e6tag(*command)
    assert done.returncode == 0, done.stderr
    assert kept >= 256 and f"{len(paths) + 1} pictures" in done.stdout
    assert not (out / ".partial").exists()


@pytest.mark.parametrize(
    "options", [["--pca", "0"], ["--trees", "0"], ["--batch-size", "0"], ["nowhere.png"]]
)
def test_bad_options_are_usage_errors(tmp_path: Path, options: list[str]) -> None:
    tiny_run.make_run(tmp_path / "run")
    done = run_e6tag("embed.py", "--run", tmp_path / "run", "--out", tmp_path / "i", *options)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["embed", "search"])
def test_no_tensorflow_is_imported(tmp_path: Path, verb: str) -> None:
    tiny_run.make_run(tmp_path / "run")
    paths = tiny_run.make_pictures(tmp_path / "pictures")
    index = ["--out" if verb == "embed" else "--index", str(tmp_path / "index")]
    if verb == "search":
        run_e6tag("embed.py", *paths, "--run", tmp_path / "run", "--out", tmp_path / "index")
    code = (
        "import sys\nfrom e6tag.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not {'tensorflow', 'keras', 'sklearn', 'scipy'} & set(sys.modules)\n"
    )
    done = run_e6tag("-c", code, verb, paths[0], "--run", tmp_path / "run", *index)
    assert done.returncode == 0, done.stderr
