"""What the disk and the system can do to a download: one line, nothing lost, the same in the end.

A full disk under other commands, read-only folders and files in the way: `test_bad_input`.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from changed_booru import build, command, contents, options, picture
from conftest import ROOT
from test_bad_input import NAMESPACE, needs_mounts

from e6tag import acquisition, shards
from e6tag.config import DownloadConfig
from e6tag.demo.booru import Booru
from e6tag.errors import DataError

NUM_POSTS = 30


@pytest.fixture(scope="module")
def booru_folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("booru") / "booru", NUM_POSTS)


@pytest.fixture(scope="module")
def booru(booru_folder):
    with Booru(booru_folder, requests_per_second=2000) as booru:
        yield booru


@pytest.fixture(scope="module")
def clean(booru, tmp_path_factory):
    """What an undisturbed download makes."""
    out = tmp_path_factory.mktemp("clean") / "data"
    assert acquisition.download(options(booru, out)) == 0
    return out


def arguments(booru, out, *more):
    return [
        *command(out, "--base-url", booru.url, "--strategy", "all", "--image-size", "64"),
        "--requests-per-second", "1000", "--contact", "tests", *more,
    ]  # fmt: skip


def assert_same(out, clean):
    """All but the figures of the last run, and what the one booru is called in dataset.json."""
    left, right = contents(out), contents(clean)
    assert left.keys() == right.keys()
    assert {k for k in left if left[k] != right[k]} <= {"download.json"}


def finish(booru, out, clean):
    """The same command again, with nothing in its way."""
    assert acquisition.download(options(booru, out)) == 0
    assert_same(out, clean)


def one_line(done, *words):
    """A command ended as it must where the system refuses something."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line
    return line


def in_child(booru, out, before, **more):
    """The command in a process where `before` was run first; it stands for a system at fault."""
    code = f"import sys\n{before}\nfrom e6tag.cli import main\nsys.exit(main(sys.argv[1:]))"
    flags = arguments(booru, out)[3:]
    return subprocess.run(
        [sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, **more
    )


# --- a disk that is full: each thing that is written, in turn ---------------------------------

PLAN = '"$PYTHON" "$ROOT/download.py" --site folder --folder pictures --out disk/data '
PLAN += "--strategy all --image-size 64 --quiet >/dev/null"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    (folder / "pictures").mkdir()
    for number in range(60):
        (folder / f"pictures/{number}.png").write_bytes(picture(number))
        (folder / f"pictures/{number}.txt").write_text("round, red" if number % 2 else "square")
    return folder


def on_disk(folder, size_kb, script):
    """Run shell lines with a disk of so many kB in `folder`/disk."""
    (folder / "disk").mkdir(exist_ok=True)
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", f"mount -t tmpfs -o size={size_kb}k none disk\n{script}"],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHON": sys.executable, "ROOT": str(ROOT), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


SUM = "cat disk/data/shards/* disk/data/manifest.parquet | sha256sum"


@pytest.fixture(scope="module")
def sum_with_room(pictures):
    """Checksum of the data that a disk with room has in the end."""
    return on_disk(pictures, 50_000, f"{PLAN}\n{SUM}").stdout.split()[0]


@needs_mounts
@pytest.mark.parametrize(
    ("room_kb", "written"),
    [(4, "data/plan.parquet"), (60, "data/incoming/"), (260, "data/shards/")],
)
def test_a_full_disk_names_what_did_not_fit_and_loses_nothing(
    pictures, sum_with_room, room_kb, written
):
    script = (
        f"{PLAN}; echo $?; find disk -name '*.part'\n"
        f"mount -o remount,size=50m disk\n{PLAN}; echo $?\n{SUM}"
    )
    done = on_disk(pictures, room_kb, script)
    assert done.stdout.split() == ["2", "0", sum_with_room, "-"]
    (line,) = done.stderr.splitlines()
    assert "the disk is full" in line and written in line


@needs_mounts
def test_a_full_disk_under_the_list_of_failures_loses_no_failure(pictures, tmp_path):
    """Half a line is passed over; what it was about is tried again."""
    folder = tmp_path / "pictures"
    shutil.copytree(pictures / "pictures", folder)
    for path in folder.glob("*.png"):
        path.write_bytes(path.read_bytes()[:-40])
    fill = "dd if=/dev/zero of=disk/fill bs=1k 2>/dev/null; rm disk/room"
    script = (
        f"{PLAN} --plan-only\n"
        f"dd if=/dev/zero of=disk/room bs=1k count=8 2>/dev/null\n{fill}\n"
        f"{PLAN}; echo $?; wc -c < disk/data/incoming/failures.jsonl\n"
        f"rm disk/fill\n{PLAN}; echo $?\n"
        "cat disk/data/download.json"
    )
    done = on_disk(tmp_path, 900, script)
    first, size, second, *rest = done.stdout.split(maxsplit=3)
    assert (first, second) == ("2", "1") and int(size) % 4096 == 0
    assert "failures.jsonl: the disk is full" in done.stderr.splitlines()[0]
    assert json.loads(rest[0])["causes"] == {"truncated": 60}


# --- a disk that errs, limits, names ------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_errs_is_one_line_and_harms_nothing(booru, clean, tmp_path, call):
    """EIO from the system, at the first shard."""
    before = (
        f"import os, errno\nreal = os.{call}\n"
        "def fail(*a, **k):\n"
        "    name = os.readlink(f'/proc/self/fd/{a[0]}') if isinstance(a[0], int) else str(a[0])\n"
        "    if '.tar' in name: raise OSError(errno.EIO, os.strerror(errno.EIO), *a[:1])\n"
        "    return real(*a, **k)\n"
        f"os.{call} = fail"
    )
    done = in_child(booru, tmp_path, before)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "the disk cannot be read or written" in done.stderr
    assert not list(tmp_path.glob("shards/*"))
    finish(booru, tmp_path, clean)


def test_a_shard_that_cannot_be_read_is_one_line(booru, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    (out / "manifest.parquet").unlink()
    before = (
        "import errno, pathlib\nreal = pathlib.Path.open\n"
        "def fail(path, *a, **k):\n"
        "    if path.suffix == '.tar': raise OSError(errno.EIO, 'Input/output error', str(path))\n"
        "    return real(path, *a, **k)\n"
        "pathlib.Path.open = fail"
    )
    one_line(in_child(booru, out, before), ".tar: the disk cannot be read")
    finish(booru, out, clean)


def test_too_few_open_files_is_one_line_and_harms_nothing(booru, clean, tmp_path):
    for limit in (6, 14):

        def few(limit=limit):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        out = tmp_path / str(limit)
        done = subprocess.run(
            arguments(booru, out), preexec_fn=few, capture_output=True, text=True, timeout=100
        )
        assert done.returncode in (0, 2, 3), done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert "open files" in done.stderr
        if out.exists():
            finish(booru, out, clean)


def test_a_path_that_is_too_long_is_one_line(booru, tmp_path):
    for out in (tmp_path / ("x" * 300), tmp_path / "/".join(["y" * 200] * 25)):
        done = subprocess.run(arguments(booru, out), capture_output=True, text=True)
        one_line(done, "the path is too long")


def test_no_two_names_differ_by_case_alone(clean, booru, tmp_path):
    """So a disk that does not tell them apart holds the same."""
    process = subprocess.Popen(
        [*arguments(booru, tmp_path)[:-4], "--requests-per-second", "20"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(tmp_path.glob("incoming/*/*.jpg")):
        assert process.poll() is None
        time.sleep(0.01)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    process.kill()
    process.wait()
    names |= {str(path.relative_to(clean)) for path in clean.rglob("*")}
    assert len({name.lower() for name in names}) == len(names) and all(map(str.isascii, names))


# --- the process and its time -----------------------------------------------------------------


def test_sigterm_ends_it_within_seconds_and_it_goes_on(booru, clean, tmp_path):
    process = subprocess.Popen(
        [*arguments(booru, tmp_path)[:-4], "--requests-per-second", "8"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(tmp_path.glob("incoming/*/*.jpg")):
        assert process.poll() is None
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 130 and "Traceback" not in words
    assert not list(tmp_path.rglob("*.part"))
    finish(booru, tmp_path, clean)


def test_a_clock_that_jumps_changes_nothing(booru, clean, tmp_path):
    """Forwards and backwards by months at every look."""
    before = (
        "import itertools, time\nreal = time.time\njumps = itertools.cycle([0, 9e6, -9e6])\n"
        "time.time = lambda: real() + next(jumps)"
    )
    start = time.monotonic()
    done = in_child(booru, tmp_path, before, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 40
    assert_same(tmp_path, clean)


class Killed(BaseException):
    """Stands for the end of the process at one operation on files."""


@pytest.mark.parametrize("operation", ["replace", "unlink"])
def test_a_run_can_end_before_any_operation_on_files(
    booru, booru_folder, clean, tmp_path, operation, monkeypatch
):
    """A shard that is extended by what failed before: each rename and removal in turn is not
    reached, and a manifest that is there fits the shards at every such moment."""
    posts = shards.read_manifest(clean)
    md5 = posts.loc[posts["split"] == "train", "md5"].iloc[3]
    broken = shutil.copytree(booru_folder, tmp_path / "broken")
    (broken / "data" / md5[:2] / md5[2:4] / f"{md5}.png").write_bytes(b"<html>")
    begun = tmp_path / "begun"
    with Booru(broken, port=0, requests_per_second=2000) as other:
        assert acquisition.download(options(other, begun)) == 1
    real = getattr(Path, operation)
    for stop_at in range(1, 40):
        out = shutil.copytree(begun, tmp_path / f"{stop_at}")
        calls = 0

        def call(path, *arguments, stop_at=stop_at, **named):
            nonlocal calls
            calls += not (operation == "unlink" and path.name.endswith(".part"))
            if calls >= stop_at:
                raise Killed
            return real(path, *arguments, **named)

        monkeypatch.setattr(Path, operation, call)
        try:
            ended = acquisition.download(options(booru, out)) == 0
        except Killed:
            ended = False
        monkeypatch.undo()
        if (out / "manifest.parquet").exists():
            manifest = shards.read_manifest(out)
            for row in manifest[manifest["status"] == "ok"].itertuples():
                shards.read_stored(out, row.shard, row.offset, row.length)
        assert acquisition.download(options(booru, out)) == 0
        left, right = contents(out), contents(clean)
        assert left.keys() == right.keys()
        # The other booru had another port.
        assert {k for k in left if left[k] != right[k]} <= {"download.json", "dataset.json"}
        if ended:
            break
    assert ended and stop_at > 2


# --- state that is damaged, or of another version ---------------------------------------------


def test_state_of_a_newer_version_is_refused_and_left_alone(booru, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    for name in ("dataset.json", "purged.json"):
        before = (out / name).read_bytes() if (out / name).exists() else None
        info = json.loads(before) if before else {"posts": {}, "done": True}
        (out / name).write_text(json.dumps(info | {"format": 2}))
        files = contents(out)
        with pytest.raises(DataError, match=name):
            acquisition.download(options(booru, out))
        assert contents(out) == files
        (out / name).unlink()
        if before:
            (out / name).write_bytes(before)
    finish(booru, out, clean)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 100, b"PAR1" + bytes(50) + b"PAR1"])
def test_a_damaged_manifest_is_made_anew_from_the_shards(booru, clean, tmp_path, content):
    out = shutil.copytree(clean, tmp_path / "data")
    (out / "manifest.parquet").write_bytes(content)
    num_requests = len(booru.log)
    finish(booru, out, clean)
    assert len(booru.log) == num_requests


def test_a_plan_that_is_lost_is_made_anew_and_nothing_is_fetched_twice(booru, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    for name in ("plan.parquet", "dataset.json"):
        (out / name).write_bytes(b"\0" * 50)
        with pytest.raises(DataError, match=rf"{name}.*Delete dataset\.json"):
            acquisition.download(options(booru, out))
        (out / "dataset.json").unlink()
        num_requests = len(booru.log)
        finish(booru, out, clean)
        asked = [r.target for r in list(booru.log)[num_requests:]]
        assert not [target for target in asked if target.endswith((".png", ".jpg"))]


def test_a_damaged_list_of_failures_costs_only_repeated_requests(booru, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    (out / "manifest.parquet").unlink()
    (out / "shards/train-00000.tar").unlink()
    (out / "incoming/train").mkdir(parents=True)
    lines = ['{"post_id": 1, "reason": "gone", "message": "", "permanent": true, "new": 1}', "[]"]
    lines += ["\0\0", "null", '{"post_id": 3', '{"post_id": "x"}']
    (out / "incoming/failures.jsonl").write_bytes("\n".join(lines).encode() + b"\xff\xfe")
    for name in ("notes.jpg", "7.jpg", "8.original.jpg", "9.original.part", ".hidden"):
        (out / "incoming/train" / name).write_bytes(b"\xff\xd8 no picture")
    finish(booru, out, clean)


def test_a_folder_that_is_locked_is_left_alone(booru, clean, tmp_path):
    """A second run is refused at once, also one that would purge or update."""
    out = shutil.copytree(clean, tmp_path / "data")
    code = (
        "import sys; from pathlib import Path; from e6tag.files import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline() == b"in\n"
    files = contents(out)
    for more in ([], ["--purge"], ["--update"]):
        done = subprocess.run(arguments(booru, out, *more), capture_output=True, text=True)
        one_line(done, "another e6tag process is working")
    assert contents(out) == files
    holder.communicate()
    finish(booru, out, clean)


def test_own_pictures_that_differ_by_case_are_two(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(["a", "A", "b", "B"]):
        (folder / f"{name}.png").write_bytes(picture(number))
        (folder / f"{name}.txt").write_text("round")
    out = tmp_path / "data"
    config = DownloadConfig(site="folder", folder=folder, out=out, strategy="all", quiet=True)
    assert acquisition.download(config) == 0
    assert len(shards.open_dataset(out).manifest) == 4
