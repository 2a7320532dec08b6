"""Flags, config files, errors and exit codes."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_command

from e6tag import cli, config
from e6tag.chatter import without_chatter
from e6tag.errors import DEFECT, ConfigError, DataError, FetchError, RunError

SCRIPTS = ["download.py", "train.py", "eval.py", "test.py", "embed.py"]
HELP_SECONDS = 0.5


def fastest(arguments, tries=5):
    """CPU seconds of the quickest of some runs (the machine may be busy with other tests)."""
    best = float("inf")
    for _ in range(tries):
        before = os.times()
        done = run_command(arguments, ROOT)
        after = os.times()
        assert done.returncode == 0, done.stderr
        used = after.children_user + after.children_system
        best = min(best, used - before.children_user - before.children_system)
        if best < HELP_SECONDS:
            break
    return best


@pytest.mark.parametrize("command", [[s] for s in SCRIPTS] + [["-m", "e6tag", v] for v in cli.JOBS])
def test_help_answers_at_once(command):
    assert fastest([*command, "--help"]) < HELP_SECONDS


@pytest.mark.parametrize("verb", cli.JOBS)
def test_every_option_has_a_help_text(verb):
    fields = [f.name for f in dataclasses.fields(cli.JOBS[verb][0])]
    source = "".join(path.read_text() for path in (ROOT / "e6tag/config").glob("*.py"))
    for name in fields:
        assert re.search(rf'    {name}: .*\n    r?"""\S', source), name


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('image-size = 64\nloss = "bce"\ndepth = [1, 1]\nlearning_rate = 1\n')
    options = cli.parse(config.TrainConfig, ["--config", str(path), "--loss", "focal"], "x")
    assert (options.image_size, options.loss, options.depth) == (64, "focal", (1, 1))
    assert options.learning_rate == 1.0
    assert options.batch_size == config.TrainConfig().batch_size


@pytest.mark.parametrize(
    "text, problem",
    [
        ("nonsense = 1", "no option nonsense"),
        ("image_size = 'x'", "expected int"),
        ("flip = 1", "expected bool"),
        ("loss = 'hinge'", "expected bce or"),
        ("image_size = [", "not TOML"),
        ("depth = ['a']", "expected int"),
    ],
)
def test_a_bad_config_file_is_one_line_that_names_it(tmp_path, text, problem):
    path = tmp_path / "c.toml"
    path.write_text(text)
    done = run_command(["train.py", "--config", path], ROOT)
    assert done.returncode == 2
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert problem in lines[0]
    assert str(path) in lines[0]


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "configs").glob("*.toml")))
def test_every_recipe_fits_the_options(name):
    cli.read_config(config.TrainConfig, ROOT / "configs" / name)


def test_unknown_verbs_and_options_are_usage_errors():
    assert run_command(["-m", "e6tag", "fly"], ROOT).returncode == 2
    assert run_command(["train.py", "--fly"], ROOT).returncode == 2
    assert run_command(["-m", "e6tag", "search"], ROOT).returncode == 2


def test_version_and_overview():
    assert run_command(["-m", "e6tag", "--version"], ROOT).stdout.startswith(b"e6tag 0.")
    overview = run_command(["-m", "e6tag"], ROOT).stdout.decode()
    assert all(f"  {verb} " in overview for verb in cli.JOBS)


@pytest.mark.parametrize(
    "error, code", [(ConfigError, 2), (FetchError, 3), (DataError, 4), (RunError, 5)]
)
def test_errors_end_with_their_code_and_one_line(monkeypatch, capsys, error, code):
    def job(_):
        raise error("this. Do that.")

    monkeypatch.setattr(cli, "load_job", lambda verb: job)
    assert cli.run("doctor", [], "prog") == code
    assert capsys.readouterr().err == "prog: this. Do that.\n"


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EADDRINUSE, "port is in use"),
        (errno.EIO, "cannot be read or written"),
        (errno.ENOEXEC, os.strerror(errno.ENOEXEC)),
    ],
)
def test_what_the_system_refuses_is_explained(number, words):
    text = cli.explain(OSError(number, os.strerror(number), "/some/file"))
    assert words in text
    assert "/some/file" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_one_line(tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "e6tag", "doctor"],
            stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert b"disk is full" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m e6tag doctor | true; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == b"0"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_with_130_and_says_that_the_command_resumes(number):
    code = (
        "import sys, time; from e6tag import cli\n"
        "def job(options):\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "cli.load_job = lambda verb: job\n"
        "sys.exit(cli.run('doctor', [], 'prog'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline() == b"ready\n"
    began = time.monotonic()
    process.send_signal(number)
    _, words = process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert words == b"prog: interrupted. The same command goes on from here.\n"


def test_doctor_prints_json():
    done = run_command(["-m", "e6tag", "doctor", "--json"], ROOT)
    assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.parametrize(
    "script, code, words",
    [
        ("train.py", 4, "download.py"),
        ("eval.py", 5, "train.py"),
        ("test.py", 2, "no picture was named"),
        ("embed.py", 5, "train.py"),
    ],
)
def test_without_arguments_in_an_empty_folder_a_script_says_what_to_do(
    tmp_path, script, code, words
):
    done = run_command([ROOT / script], tmp_path)
    assert done.returncode == code
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]


def test_what_is_not_chatter_gets_through(capfd):
    with without_chatter():
        os.write(2, b"W0000 00:00:1 a.cc:1] out of memory soon\nI0000 00:00:1 port.cc:153] on\n")
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() ...\nTraceback\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == (
        "W0000 00:00:1 a.cc:1] out of memory soon\nTraceback\nafter\n"
    )


def test_download_without_arguments_says_whom_it_will_ask_how_fast_and_how_to_stop(tmp_path):
    # A proxy that is not there: nothing leaves this machine.
    dead = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy"), "http://127.0.0.1:9")
    done = run_command([ROOT / "download.py"], tmp_path, environment={**dead, "NO_PROXY": ""})
    words = done.stderr.decode()
    assert done.returncode == 3, words
    first = words.splitlines()[0]
    assert "https://e621.net" in first
    assert "1 request a second" in first
    assert "Ctrl-C stops it" in first
    assert "Traceback" not in words


def test_a_defect_has_a_code_of_its_own_and_tells_where(monkeypatch, capsys):
    def broken(options):
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr(cli, "load_job", lambda verb: broken)
    assert cli.run("doctor", [], "e6tag doctor") == DEFECT
    told = capsys.readouterr().err
    assert "deep inside" in told and told.splitlines()[-1].startswith("e6tag doctor: that is a")
