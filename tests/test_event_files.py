"""Learning curves: what TensorBoard reads, and that a stopped run draws what another would."""

import json
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import write_dataset
from tiny_training import kill_after_checkpoint, step_of, train

from e6tag.event_files import EventFiles


def points(folder):
    """{curve: [(step, value), ...]} of all event files of a folder, by TensorFlow's own reader."""
    import tensorflow as tf

    found = {}
    for path in sorted(folder.glob("*tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def write(folder, resumed_at, steps):
    files = EventFiles(folder, resumed_at)
    for step in steps:
        files.add(step, {"a": step / 4, "b": -step})
    files.close()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=4), st.binary(max_size=9)
)
def test_however_often_a_run_is_stopped_its_curve_has_each_step_once(tmp_path_factory, stops, tail):
    folder = tmp_path_factory.mktemp("t")
    done = 0
    for steps, lost in stops:
        # It went on for a while after the checkpoint, and was killed within a record.
        write(folder, done, range(done + 1, done + steps + lost + 1))
        (path,) = folder.iterdir()
        with path.open("ab") as stream:
            stream.write(tail)
        done += steps
    write(folder, done, range(done + 1, 101))
    expected = list(range(1, 101))
    assert points(folder) == {
        "a": [(step, step / 4) for step in expected],
        "b": [(step, -step) for step in expected],
    }


def test_a_file_that_a_kill_kept_from_being_removed_is_not_read_twice(tmp_path):
    write(tmp_path, 0, range(1, 11))
    (old,) = tmp_path.iterdir()
    content = old.read_bytes()
    write(tmp_path, 8, [])
    old.write_bytes(content)
    (tmp_path / "unfinished.part").write_bytes(content[:100])
    write(tmp_path, 8, [9])
    assert len(list(tmp_path.iterdir())) == 1
    assert [step for step, _ in points(tmp_path)["a"]] == list(range(1, 10))


def test_tensorboard_reads_them(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, 0, range(1, 11))
    write(tmp_path, 5, range(6, 9))
    found = reader.EventAccumulator(str(tmp_path)).Reload()
    assert [(p.step, p.value) for p in found.Scalars("a")] == [(i, i / 4) for i in range(1, 9)]


@pytest.mark.parametrize("begin", ["", "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"])
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path, begin):
    code = (
        "import errno, resource, signal, sys; from pathlib import Path\n"
        "from e6tag.event_files import EventFiles\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"{begin}\n"
        "files = EventFiles(Path(sys.argv[1]), 0)\n"
        "try:\n"
        "    for step in range(200):\n"
        "        files.add(step, {'a': 1.0})\n"
        "    files.flush()\n"
        "except OSError as problem:\n"
        "    print(problem.errno == errno.EFBIG, problem.filename)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    (path,) = tmp_path.iterdir()
    assert done.stdout == (f"True {path}\n" if begin else ""), done.stderr


def test_a_killed_run_draws_what_an_uninterrupted_one_does(tmp_path):
    data = write_dataset(tmp_path / "data", 240)
    options = ["--epochs", "3", "--optimizer", "nesterov", "--learning-rate", "0.01"]
    options += ["--checkpoint-seconds", "0.2"]
    code, _, err = train(data, tmp_path / "whole", *options)
    assert code == 0, err
    run = tmp_path / "killed"
    kill_after_checkpoint(data, run, signal.SIGKILL, *options)
    reached = step_of(run / "checkpoints" / "state.json")
    drawn = points(run / "tensorboard")["training/loss"]
    assert [step for step, _ in drawn][:reached] == list(range(1, reached + 1))
    code, _, err = train(data, run, *options)
    assert code == 0, err
    whole, killed = points(tmp_path / "whole" / "tensorboard"), points(run / "tensorboard")
    measured = [found.pop("speed/pictures_per_second") for found in (whole, killed)]
    assert [step for step, _ in measured[0]] == [step for step, _ in measured[1]] == [12, 24, 36]
    assert whole == killed
    assert [step for step, _ in whole["training/loss"]] == list(range(1, 37))
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    for name in ("macro_ap", "macro_auc", "prior_macro_ap", "prior_macro_auc"):
        values = [value for _, value in whole[f"validation/{name}"]]
        assert values == pytest.approx([line[name] for line in lines], abs=1e-6)
    check_schedule(whole, 36)


def check_schedule(found, total):
    """Rate and momentum are those of one-cycle by the formula."""
    from e6tag.schedules import one_cycle

    for step, rate in found["training/learning_rate"]:
        wanted, momentum = one_cycle(step - 1.0, total, 0.01)
        assert rate == pytest.approx(wanted, rel=1e-5)
        assert dict(found["training/momentum"])[step] == pytest.approx(momentum, rel=1e-5)
