"""The benchmarks of the input pipeline and of the training step run, at a tiny size."""

import subprocess
import sys

import pytest
from tiny_data import write_dataset


def table(root, script, *options):
    """Rows of the Markdown tables that a benchmark prints, as lists of cells."""
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / script, *map(str, options)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "| " in line]
    return [row for row in rows if any(cell[0].isdigit() for cell in row if cell)]


@pytest.mark.slow
def test_the_input_pipeline_is_measured_without_a_rival_too(root, tmp_path):
    data = write_dataset(tmp_path / "data", 60)
    sizes = ["--image-size", 32, "--batch-size", 8, "--num", 64, "--warm-up", 1, "--repeats", 1]
    rows = table(root, "input_pipeline.py", "--data", data, *sizes)
    assert [row[0].startswith("**e6tag**") for row in rows] == [True] * 3 + [False] * 2


@pytest.mark.slow
def test_training_steps_are_measured_beside_the_bare_model(root):
    sizes = ["--image-size", 32, "--batch-size", 4, "--num-tags", 20]
    short = ["--steps", 2, "--repeats", 1, "--tables", "parts", "--sides", "ours"]
    rows = table(root, "training_step.py", *sizes, *short)
    assert len(rows) == 2 and "100%" in rows[0][4]
