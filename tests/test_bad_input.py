"""What bad input gets: one clear line, the right exit code, and a way to go on."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_command
from tiny_data import write_pictures
from tiny_run import make_run

from e6tag import cli, config
from e6tag.checkpoints import State, load_state
from e6tag.config import check_ranges
from e6tag.errors import ConfigError, E6TagError, RunError
from e6tag.files import sha256
from e6tag.index import Index
from e6tag.index_build import Recipe, build_index
from e6tag.interruption import WORDS
from e6tag.plans import read_plan
from e6tag.runs import default_run, open_run
from e6tag.tagger import Tagger
from e6tag.vectors import open_tagger

FROM_FOLDER = ["download.py", "--site", "folder", "--min-side", "8", "--quiet"]


def script(*arguments, folder, **options):
    """(exit code, stdout, lines on stderr) of a command of the repository."""
    first, *more = map(str, arguments)
    done = run_command([ROOT / first if first.endswith(".py") else first, *more], folder, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode().splitlines()


# --- a disk that is full, a folder that is read-only --------------------------------------


def namespace():
    """How to start a process whose mounts are its own; None where that is not allowed."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            probe = subprocess.run(
                [*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
            )
        except OSError:
            continue
        if probe.returncode == 0:
            return command
    return None


NAMESPACE = namespace()
needs_mounts = pytest.mark.skipif(NAMESPACE is None, reason="no mounts can be made here")


def on_small_disk(folder, script_text):
    """Run shell lines with a 200 kB disk in `folder`/disk; $PYTHON and $ROOT are set."""
    (folder / "disk").mkdir(exist_ok=True)
    lines = f"set -u\nmount -t tmpfs -o size=200k none disk\n{script_text}"
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", lines],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHON": sys.executable, "ROOT": str(ROOT), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_pictures(folder / "pictures", 150)
    make_run(folder / "run")
    return folder


COMMANDS = {
    "download": '"$PYTHON" "$ROOT/download.py" --site folder --folder pictures --out disk/data '
    "--min-side 8 --quiet >/dev/null",
    "embed": '"$PYTHON" "$ROOT/embed.py" pictures --run run --out disk/index --quiet >/dev/null',
}


@needs_mounts
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(pictures, name):
    fill = "dd if=/dev/zero of=disk/fill bs=1k count=100 2>/dev/null\n"
    room = "mount -o remount,size=50m disk\n"
    done = on_small_disk(
        pictures, f"{fill}{COMMANDS[name]}; echo $?; find disk -name '*.part'\n{room}"
        f"{COMMANDS[name]}; echo $?",
    )  # fmt: skip
    assert done.stdout.split() == ["2", "0"]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"python {name}.py: ")
    assert "the disk is full" in line


@needs_mounts
@pytest.mark.parametrize("free_kb", [40, 60, 80])
def test_an_index_that_does_not_fit_is_one_line_wherever_it_is_written(pictures, free_kb):
    fill = f"dd if=/dev/zero of=disk/fill bs=1k count={200 - free_kb} 2>/dev/null\n"
    done = on_small_disk(pictures, f"{fill}{COMMANDS['embed']}; echo $?; ls -A disk/index/")
    assert done.stdout.split()[0] == "2"
    assert "CURRENT" not in done.stdout
    assert "the disk is full" in done.stderr.splitlines()[0]


@needs_mounts
def test_a_full_disk_under_tagging_leaves_no_half_written_sidecar(pictures):
    done = on_small_disk(
        pictures,
        "cp pictures/00[0-9].png disk; dd if=/dev/zero of=disk/fill bs=1k 2>/dev/null\n"
        '"$PYTHON" "$ROOT/test.py" disk --run run --format txt; echo $?; ls disk',
    )
    code, *names = done.stdout.split()
    assert code == "2"
    assert sorted(names) == [*(f"00{i}.png" for i in range(10)), "fill"]
    assert "the disk is full" in done.stderr


@needs_mounts
def test_room_for_a_checkpoint_is_made_sure_of_before_hdf5_writes(pictures):
    code = (
        "from pathlib import Path; from e6tag.checkpoints import reserve\n"
        "reserve(Path('disk/small'), 100_000); reserve(Path('disk/large'), 1_000_000)"
    )
    done = on_small_disk(pictures, f'"$PYTHON" -c "{code}"')
    assert "No space left on device" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_checkpoint_never_needs_more_room_than_was_made_sure_of(tmp_path):
    import keras

    from e6tag.checkpoints import save_weights, size_at_most_bytes

    for width in (1, 300):
        network = keras.Sequential([keras.layers.Dense(width) for _ in range(6)])
        network.compile(keras.optimizers.AdamW(), "mse")
        network.train_on_batch(np.zeros((2, 8)), np.zeros((2, width)))
        path = tmp_path / f"{width}.weights.h5"
        save_weights(network, path)
        assert path.stat().st_size <= size_at_most_bytes(network) < 10 * path.stat().st_size


@needs_mounts
@pytest.mark.slow
def test_a_full_disk_under_training_is_one_line_and_no_crash(pictures):
    train = (
        '"$PYTHON" "$ROOT/train.py" --data data --run disk/run --backbone resnet --depth 1 '
        "--width 8 --image-size 32 --vector-size 8 --heads 0 --factors 0 --epochs 2 "
        "--device cpu --quiet >/dev/null"
    )
    data = COMMANDS["download"].replace("disk/data", "data")
    done = on_small_disk(
        pictures, f"{data}\n{train}; echo $?; mount -o remount,size=50m disk\n{train}; echo $?"
    )
    assert done.stdout.split() == ["2", "0"]
    assert len(done.stderr.splitlines()) == 1
    assert "the disk is full" in done.stderr


@needs_mounts
def test_a_read_only_folder_is_one_line_and_can_still_be_read(pictures):
    done = on_small_disk(
        pictures,
        "cp -r run disk/run; mount -o remount,ro disk\n"
        f"{COMMANDS['download']}; echo $?\n{COMMANDS['embed']}; echo $?\n"
        '"$PYTHON" "$ROOT/test.py" pictures/001.png --run disk/run >/dev/null; echo $?',
    )
    assert done.stdout.split() == ["2", "2", "0"]
    first, second = done.stderr.splitlines()
    assert "disk/data: the folder is read-only" in first
    assert "disk/index: the folder is read-only" in second


def test_a_file_where_a_folder_is_needed_is_one_line(pictures):
    picture = pictures / "pictures" / "001.png"
    code, _, lines = script(*FROM_FOLDER, "--folder", "pictures", "--out", picture, folder=pictures)
    assert (code, len(lines)) == (2, 1)
    assert str(picture) in lines[0]
    assert "Name another" in lines[0]


# --- interruptions ------------------------------------------------------------------------


def interrupted(job, *, wait=0.0, again=None, number=signal.SIGINT, more=""):
    """Run a job's body as a command, signal it; (exit code, stderr, seconds it took to end)."""
    code = (
        f"import sys, time\nfrom e6tag import cli, interruption, start\n{more}\n"
        "def job(options):\n    print('ready', flush=True)\n"
        + "".join(f"    {line}\n" for line in job.splitlines())
        + "    return 0\ncli.load_job = lambda verb: job\nsys.argv = ['e6tag', 'doctor']\n"
        "sys.exit(start.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(wait)
    began = time.monotonic()
    process.send_signal(number)
    if again is not None:
        time.sleep(again)
        process.send_signal(number)
    out, words = process.communicate(timeout=30)
    return process.returncode, out.decode() + words.decode(), time.monotonic() - began


LINE = "e6tag doctor: interrupted. The same command goes on from here.\n"
SHORT = "interruption.SECONDS_TO_STOP = 1.0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_a_library_takes_for_an_error_is_still_one(number):
    job = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    raise ImportError('x')"
    assert interrupted(job, number=number)[:2] == (130, LINE)


def test_an_interruption_that_a_library_swallows_is_still_one_at_the_end():
    job = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    return 1"
    assert interrupted(job)[:2] == (130, LINE)


def test_an_interruption_that_a_library_swallows_ends_the_command_soon():
    job = (
        "while True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"
    )
    code, words, seconds = interrupted(job, more=SHORT)
    assert code == 130
    assert "interrupted." in words
    assert 0.9 < seconds < 5


def test_a_library_that_does_not_return_to_python_cannot_hold_the_command():
    job = "import hashlib\nhashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)"
    code, words, seconds = interrupted(job, wait=0.2, more=SHORT)
    assert code == 130
    assert "interrupted." in words
    assert seconds < 5


CLEANING = (
    "try:\n    time.sleep(60)\nfinally:\n    time.sleep(2)\n    print('in order', flush=True)"
)


def test_a_second_signal_at_once_does_not_disturb_the_cleaning_up():
    assert interrupted(CLEANING, again=0.3)[:2] == (130, "in order\n" + LINE)


def test_a_second_signal_later_ends_the_command_at_once():
    code, words, seconds = interrupted(CLEANING, again=1.3)
    assert code == 130
    assert "in order" not in words
    assert "interrupted." in words
    assert seconds < 1.9


@pytest.mark.parametrize(
    "moment, code, words",
    [
        ("start.command_line(); os.kill(os.getpid(), 2)", 130, 1),
        ("code = start.end(0); os.kill(os.getpid(), 2); sys.exit(code)", 0, 0),
    ],
)
def test_before_and_after_the_command_an_interruption_is_no_traceback(moment, code, words):
    done = run_command(["-c", f"import os, sys\nfrom e6tag import start\n{moment}"], ROOT)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == words
    assert b"Traceback" not in done.stderr


def test_an_interrupted_index_is_finished_by_the_same_command(tmp_path):
    write_pictures(tmp_path / "pictures", 40, sidecars=False)
    make_run(tmp_path / "run")
    command = [ROOT / "embed.py", "pictures", "--run", "run", "--engine", "exact", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    while not (tmp_path / "index").exists():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, words = process.communicate(timeout=10)
    assert process.returncode == 130, words.decode()
    assert words.decode().splitlines()[-1].endswith(WORDS)
    assert run_command(command, tmp_path).returncode == 0
    assert len(Index.open(tmp_path / "index")) == 40


# --- the machine: Python, packages, ports --------------------------------------------------


def test_an_old_python_is_one_line():
    code = "import sys\nsys.version_info = (3, 10, 1)\nfrom e6tag import start\nstart.main()"
    done = run_command(["-c", code], ROOT)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("e6tag needs Python 3.11, 3.12 or 3.13")
    assert "make env" in line


@pytest.mark.parametrize("command", [["test.py", "x.png"], ["-m", "e6tag", "demo"]])
def test_a_python_without_the_packages_is_one_line(command):
    done = run_command(["-S", *command], ROOT)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "is not installed" in line
    assert "make env" in line


STUB = """#!/bin/sh
case "$*" in
  *"import sys, venv"*) exit 0 ;;
  "-m venv"*) mkdir -p "$3/bin"; sed 's/NO_PIP=1/NO_PIP=0/' "$0" >"$3/bin/python"
     chmod +x "$3/bin/python"; exit 0 ;;
  *"pip --version"*) NO_PIP=1; exit $NO_PIP ;;
  *"[search]"*) echo "error: command 'g++' failed"; exit ${SEARCH_FAILS:-0} ;;
  *"pip"*install*) echo "ERROR: No matching distribution found for numpy"; exit ${ALL_FAILS:-0} ;;
esac
echo "Python 3.12.9"
"""
"""Behaves like a Python and its pip, as far as the making of an environment asks."""


def make_env(folder, **environment):
    """Run tools/make_env.sh with a stub for a Python; (exit code, stdout, stderr lines)."""
    stub = folder / "python3.12"
    stub.write_text(STUB)
    stub.chmod(0o755)
    done = subprocess.run(
        ["sh", str(ROOT / "tools" / "make_env.sh"), "env"], cwd=folder, capture_output=True,
        text=True, timeout=30, env={"PATH": f"{folder}:/usr/bin:/bin"} | environment,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_without_a_compiler_the_environment_is_made_and_annoy_is_explained(tmp_path):
    code, out, lines = make_env(tmp_path, SEARCH_FAILS="1")
    assert code == 0
    assert "done: env" in out
    (line,) = lines
    assert "C++ compiler" in line
    assert "env/bin/pip install annoy" in line
    assert (tmp_path / "env" / ".installed").exists()


def test_without_a_package_index_the_environment_is_unfinished_and_made_by_the_next_try(tmp_path):
    code, _, lines = make_env(tmp_path, ALL_FAILS="1")
    assert code == 3
    assert "No matching distribution" in lines[0]
    assert "Is the package index reachable" in lines[-1]
    assert not (tmp_path / "env" / ".installed").exists()
    assert make_env(tmp_path)[0] == 0


def test_an_environment_whose_making_was_interrupted_is_made_anew(tmp_path):
    (tmp_path / "env" / "bin").mkdir(parents=True)
    half = tmp_path / "env" / "bin" / "python"
    half.write_text(STUB)
    half.chmod(0o755)
    code, out, _ = make_env(tmp_path)
    assert code == 0
    assert "making env" in out


@pytest.mark.parametrize("named, found", [("/bin/false", "none"), ("/no/python", "none")])
def test_a_named_python_that_does_not_fit_is_one_line_that_names_it(tmp_path, named, found):
    code, _, lines = make_env(tmp_path, PYTHON=named)
    assert code == 2
    (line,) = lines
    assert f"({named} here: {found})" in line
    assert "PYTHON=/path/to" in line


def test_an_annoy_that_does_not_work_is_said_before_any_picture_is_read(pictures, tmp_path):
    (tmp_path / "annoy.py").write_text("raise ImportError('no compiler here')")
    code, _, lines = script(
        "embed.py", "pictures", "--run", "run", "--out", tmp_path / "index", "--engine", "annoy",
        folder=pictures, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert code == 2
    (line,) = lines
    assert "pip install" in line
    assert not (tmp_path / "index").exists()


def test_the_demo_refuses_before_it_builds_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, words in [
            (["--port", port], "the port is in use"),
            (["--port", port, "--serve"], "the port is in use"),
            (["--port", "65536"], "--port must be"),
            (["--requests-per-second", "nan"], "--requests-per-second must be"),
            (["--train-config", "missing.toml"], "there is no recipe missing.toml"),
        ]:
            assert cli.run("demo", list(map(str, options)), "e6tag demo") == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert words in line
    assert not list(tmp_path.iterdir())


# --- options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        (["--epochs", "0"], "--epochs must be from 1"),
        (["--batch-size", "-4"], "--batch-size must be"),
        (["--learning-rate", "nan"], "--learning-rate must be"),
        (["--learning-rate", "inf"], "--learning-rate must be"),
        (["--depth", "2", "0"], "--depth must be"),
        (["--depth"], "--depth needs at least one value"),
        (["--ema", "1"], "--ema must be"),
        (["--seed", "-1"], "--seed must be from 0 to 4294967295. Received: -1."),
    ],
)
def test_numbers_that_cannot_be_are_usage_errors(capsys, options, words):
    assert cli.run("train", options, "train.py") == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("kind", [kind for kind, _ in cli.JOBS.values()])
def test_defaults_and_recipes_are_within_the_ranges(kind):
    needed = {"picture": Path("x"), "source": Path("x"), "name": "x", "paths": ()}
    needed |= {"action": "make", "file": Path("x")}
    names = set(kind.__dataclass_fields__)
    check_ranges(kind(**{name: value for name, value in needed.items() if name in names}))
    if kind is config.TrainConfig:
        for recipe in (ROOT / "configs").glob("*.toml"):
            check_ranges(cli.read_config(kind, recipe))


# --- files that say something else than they should -----------------------------------------

ABSENT = object()
STRANGE = [ABSENT, None, "x", -1, [], {}, 1e300, [1]]


def changed(value, depth=2):
    """Copies of a JSON object, each with one part missing or of another kind."""
    for key, old in value.items():
        for new in STRANGE:
            rest = {k: v for k, v in value.items() if k != key}
            yield rest if new is ABSENT else rest | {key: new}
        if isinstance(old, dict) and depth > 1:
            yield from (value | {key: inner} for inner in changed(old, depth - 1))


def survives(path, use):
    """Every change of a JSON file is accepted or refused as an error for users."""
    good = json.loads(path.read_text())
    refused = 0
    for value in changed(good):
        path.write_text(json.dumps(value))
        try:
            use()
        except E6TagError as problem:
            assert "\n" not in str(problem)
            refused += 1
    path.write_text(json.dumps(good))
    use()
    assert refused > 5


def test_a_damaged_run_json_is_a_run_error(tmp_path):
    make_run(tmp_path / "run")
    survives(tmp_path / "run" / "run.json", lambda: Tagger.open(tmp_path / "run").run.data_path)


def test_a_damaged_index_manifest_is_a_run_error(tmp_path):
    make_run(tmp_path / "run")
    info = open_run(tmp_path / "run").info
    vectors = np.random.default_rng(0).normal(size=(20, 32)).astype(np.float32)
    ids = {name: [""] * 20 for name in ("path", "md5", "tags")} | {"post_id": [0] * 20}
    about = {"model": {"run": str(tmp_path / "run"), "sha256": info["model"]["sha256"]}}
    build_index(tmp_path / "index", vectors, ids, Recipe("exact"), about)
    (path,) = (tmp_path / "index").glob("v-*/manifest.json")

    def use():
        index = Index.open(tmp_path / "index")
        index.query(vectors[:1], 3)
        open_tagger(index, None)

    survives(path, use)


def test_a_damaged_training_state_is_a_run_error(tmp_path):
    state = State({"loss": "bce"}, "f", 3, "step.weights.h5", 1.5, [{"epoch": 1}], {"epoch": 1})
    path = tmp_path / "state.json"
    path.write_text(json.dumps(vars(state)))
    good = json.loads(path.read_text())
    for value in changed(good, depth=1):
        path.write_text(json.dumps(value))
        try:
            read = load_state(tmp_path, good["options"], "f")
        except (RunError, ConfigError):
            continue
        assert {name: type(v) for name, v in vars(read).items()} | {"seconds": float} == {
            name: type(v) for name, v in vars(state).items()
        }


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("download")
    write_pictures(folder / "pictures", 30)
    code, *_ = script(*FROM_FOLDER, "--folder", "pictures", "--out", "data", folder=folder)
    assert code == 0
    return folder


def again():
    """The same command once more, in this process; its exit code."""
    return cli.run("download", [*FROM_FOLDER[1:], "--folder", "pictures", "--out", "data"], "x")


@pytest.fixture
def data(downloaded, monkeypatch):
    """The downloaded folder; what a test does to it is undone."""
    monkeypatch.chdir(downloaded)
    shutil.copytree(downloaded / "data", downloaded / "kept")
    yield downloaded / "data"
    shutil.rmtree(downloaded / "data")
    (downloaded / "kept").rename(downloaded / "data")


def test_a_damaged_dataset_json_is_a_data_error(data):
    survives(data / "dataset.json", lambda: read_plan(data))


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_manifest_that_is_damaged_is_written_anew(data, damage):
    path = data / "manifest.parquet"
    good = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage)
    assert again() == 0
    assert path.read_bytes() == good


@pytest.mark.parametrize("name", ["plan.parquet", "tags.csv"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_plan_that_is_damaged_is_named_and_the_remedy_works(data, name, damage, capsys):
    path = data / name
    good, manifest = path.read_bytes(), (data / "manifest.parquet").read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(good[: len(good) * 2 // 3])
    assert again() == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert str(Path("data") / name) in line
    assert "Delete dataset.json" in line
    (data / "dataset.json").unlink()
    assert again() == 0
    assert path.read_bytes() == good
    assert (data / "manifest.parquet").read_bytes() == manifest


def test_tags_of_another_run_are_refused(tmp_path):
    make_run(tmp_path / "run")
    path, tags = tmp_path / "run" / "run.json", tmp_path / "run" / "tags.csv"
    info = json.loads(path.read_text())
    info["model"]["tags_sha256"] = sha256(tags)
    path.write_text(json.dumps(info))
    open_run(tmp_path / "run")
    head, first, second, *rest = tags.read_text().splitlines()
    tags.write_text("\n".join([head, second, first, *rest]) + "\n")
    with pytest.raises(RunError, match=r"tags\.csv is damaged"):
        open_run(tmp_path / "run")


def test_a_training_that_is_not_finished_is_not_the_default_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/demo"))
    Path("runs/default/checkpoints").mkdir(parents=True)
    assert default_run(None) == Path("runs/demo")
    make_run(Path("runs/default"))
    assert default_run(None) == Path("runs/default")
