"""The doctor tells what is there, and what to do about what is not."""

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_command
from tiny_run import make_data, make_run

from e6tag import doctor

COMMAND = ["-m", "e6tag", "doctor", "--json"]


def checks(folder: Path, **environment: str) -> dict[str, dict]:
    """The checks by name, of a process in `folder`."""
    result = run_command(COMMAND, folder, environment=environment)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["ok"] == all(check["ok"] for check in answer["checks"])
    return {check["name"]: check for check in answer["checks"]}


def test_versions_are_those_installed(tmp_path):
    found = checks(tmp_path)
    for name in doctor.BASE_PACKAGES:
        assert found[name]["ok"]
        assert found[name]["found"] == importlib.metadata.version(name)
    assert found["cores"]["found"] == str(len(os.sched_getaffinity(0)))
    assert (shutil.which("nvidia-smi") is not None) or not found["gpu"]["ok"]


def test_default_folders_are_missing_with_a_remedy_then_found(tmp_path):
    found = checks(tmp_path)
    for name in ("default run", "default data", "default index"):
        assert not found[name]["ok"]
        assert ".py" in found[name]["remedy"]
    make_run(tmp_path / "runs" / "demo")
    make_data(tmp_path / "data" / "demo")
    found = checks(tmp_path)
    assert (found["default run"]["ok"], found["default run"]["found"]) == (True, "runs/demo")
    assert (found["default data"]["ok"], found["default data"]["found"]) == (True, "data/demo")
    (tmp_path / "runs" / "demo" / "model.onnx").write_bytes(b"nothing")
    found = checks(tmp_path)
    assert not found["default run"]["ok"]
    assert "model.onnx" in found["default run"]["remedy"]


def test_a_broken_nvidia_driver_is_no_gpu(tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    found = checks(tmp_path, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert not found["gpu"]["ok"]
    fake.write_text("#!/bin/sh\necho 'Some GPU, 24576 MiB'\n")
    found = checks(tmp_path, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (found["gpu"]["ok"], found["gpu"]["found"]) == (True, "Some GPU, 24576 MiB")


def test_tensorflow_is_looked_for_but_not_imported(tmp_path):
    program = (
        "import sys; from e6tag.doctor import package_checks; package_checks(); "
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    result = run_command(["-c", program], tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_package_that_is_absent_names_its_extra():
    check = doctor.package_check("no-such-package-of-ours", "train")
    assert (check.ok, check.found) == (False, "")
    assert check.remedy == 'Run: pip install "e6tag[train]"'


def test_lines_are_aligned_and_only_missing_things_have_a_remedy():
    text = doctor.as_lines(
        [doctor.Check("a", True, "1", "never shown"), doctor.Check("longer", False, "", "do this")]
    )
    lines = text.splitlines()
    assert lines[0] == "ok       a       1"
    assert lines[1] == "missing  longer"
    assert lines[2].strip() == "-> do this"
    assert "never shown" not in text


@pytest.mark.parametrize("verb", ["eval", "doctor"])
def test_help_does_not_need_the_job(verb, tmp_path):
    result = run_command(["-X", "importtime", "-m", "e6tag", verb, "--help"], ROOT)
    assert result.returncode == 0
    assert b"onnxruntime" not in result.stderr
