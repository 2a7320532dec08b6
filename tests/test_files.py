"""A file is finished or absent, whatever happens while it is written."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e6tag.errors import ConfigError, DataError
from e6tag.files import (
    all_finished,
    finished,
    json_line,
    locked,
    read_json,
    sha256,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), finished(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("problem", ["the block fails", "one cannot be written"])
def test_files_that_belong_together_are_all_new_or_all_old(tmp_path, problem):
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    with all_finished(dict.fromkeys(paths, "old")):
        assert not paths[0].exists()
    texts = dict.fromkeys(paths, "new")
    if problem == "one cannot be written":
        (tmp_path / "d.txt").mkdir()
        texts[tmp_path / "d.txt"] = "new"
    with pytest.raises((RuntimeError, OSError)), all_finished(texts):
        raise RuntimeError
    assert [path.read_text() for path in paths] == ["old"] * 3
    assert not list(tmp_path.glob("*.part"))


def test_kill_while_writing_never_shows_half_a_file(tmp_path):
    path = tmp_path / "big.bin"
    code = (
        "import sys; from pathlib import Path; from e6tag.files import finished\n"
        "for i in range(10**6):\n"
        "    with finished(Path(sys.argv[1])) as part:\n"
        "        with part.open('wb') as f:\n"
        "            for _ in range(64): f.write(bytes([i % 256]) * 65536)\n"
    )
    for pause in (0.05, 0.11, 0.23, 0.4):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = path.read_bytes()
        assert len(content) == 64 * 65536
        assert len(set(content[:: 65536 // 2])) == 1
        path.unlink()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_lines_hold_no_newline_and_read_back(value):
    import json

    line = json_line({"value": value})
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert json.loads(line) == {"value": value}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_damaged_json_names_the_file_and_the_remedy(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json is damaged.*Do this"):
        read_json(path, DataError, "Do this.")


def test_missing_json_is_the_callers_error(tmp_path):
    with pytest.raises(ConfigError, match="missing"):
        read_json(tmp_path / "no.json", ConfigError, "")


def test_written_json_reads_back(tmp_path):
    write_json(tmp_path / "x.json", {"é": [1, None]})
    assert read_json(tmp_path / "x.json", DataError, "") == {"é": [1, None]}


def test_sha256_equals_the_standard_library_on_the_whole_content(tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_second_process_is_refused_while_the_folder_is_locked(tmp_path):
    code = (
        "import sys; from pathlib import Path; from e6tag.files import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"in\n"
    with pytest.raises(ConfigError, match="another e6tag process"), locked(tmp_path):
        pass
    process.kill()
    process.communicate()
    with locked(tmp_path):
        pass
