"""What the documents say is true: every command of the README runs, every link leads somewhere."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_data import draw, encode, write_pictures

from e6tag.cli import JOBS
from e6tag.config import EvalConfig
from e6tag.demo.booru import Booru
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.figures import FIGURES

EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", README, re.S)]
COMMANDS = [line for block in BLOCKS for line in block]
BY_CI = ["make demo", "make test"]
ENVIRONMENT = ". .venv/bin/activate"
QUICK = "--image-size 64 --checkpoint-seconds 5"
"""added to `train.py`: the README's recipe at a size that a test can wait for"""


def commands(word):
    """README's commands that hold a word, in order."""
    return [line for line in COMMANDS if word in line]


def run(line, folder, more=""):
    """A README command in a folder, as in the environment; `more` is appended."""
    words = shlex.split(f"{line} {more}")
    if words[0] == "python":
        words = [sys.executable, *words[1:]]
    elif words[0] == "e6tag":
        words = [sys.executable, "-m", "e6tag", *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, timeout=280, check=False
    )
    assert done.returncode == 0, (line, done.stderr.decode()[-2000:])
    return done.stdout.decode()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder as a newcomer's: the scripts, some pictures, two classes."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("download.py", "train.py", "eval.py", "test.py", "embed.py", "configs"):
        (folder / name).symlink_to(ROOT / name)
    write_pictures(folder / "my_pictures", 120)
    draw(5000)[0].save(folder / "picture.png")
    for seed in range(60):
        image, tags = draw(6000 + seed)
        kind = next(name for name in ("circle", "square", "triangle") if name in tags)
        (folder / "my_classes" / kind).mkdir(parents=True, exist_ok=True)
        image.save(folder / "my_classes" / kind / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def mine(workspace):
    """The workspace after the README's commands on one's own pictures."""
    printed = {}
    for line in [line for block in BLOCKS[2:5] for line in block]:
        printed[line] = run(line, workspace, QUICK if "train.py" in line else "")
    return workspace, printed


def test_every_command_is_run_by_a_test_or_by_ci():
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(line in COMMANDS and line in ci for line in BY_CI)
    own = [line for block in BLOCKS[2:5] for line in block]
    others = [ENVIRONMENT, *BLOCKS[1][1:], *commands("--contact")]
    assert sorted([*BY_CI, *own, *others]) == sorted(COMMANDS)


def test_the_commands_on_own_pictures_work_in_order(mine):
    _, printed = mine
    tags = printed["python test.py picture.png --run runs/mine -k 5"]
    assert len(tags.splitlines()) == 5
    assert "prior only" in printed["python eval.py --run runs/mine"]
    found = printed["e6tag search picture.png --index data/mine/index"].splitlines()
    assert len(found) == 10
    styles = printed["python test.py picture.png --run runs/mine --head style"]
    assert {line.split()[-1] for line in styles.splitlines()} == {"circle", "square", "triangle"}


def test_caption_files_are_written_beside_the_pictures(mine):
    folder, printed = mine
    lines = next(out for line, out in printed.items() if "jsonl" in line).splitlines()
    assert len(lines) == len(list((folder / "my_pictures").glob("*.png")))
    assert all(p.with_suffix(".txt").exists() for p in (folder / "my_pictures").glob("*.png"))


def test_the_commands_after_the_demo_need_no_other_argument(mine, tmp_path):
    folder, _ = mine
    for name in ("download.py", "eval.py", "test.py", "embed.py", "picture.png"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "runs").mkdir()
    shutil.copytree(folder / "runs" / "mine", tmp_path / "runs" / "demo")
    shutil.copytree(folder / "data" / "mine", tmp_path / "data" / "mine")
    assert BLOCKS[1][0] == ENVIRONMENT
    for line in BLOCKS[1][1:]:
        run(line, tmp_path)
    assert (tmp_path / "index").is_dir()


def test_the_sample_of_a_site_is_planned_as_the_readme_says(workspace, tmp_path):
    posts = [
        LocalPost(
            f"p/{i:03d}",
            encode(draw(i, side=256)[0], "PNG"),
            "png",
            {"general": draw(i)[1]},
            f"g{i}",
        )
        for i in range(80)
    ]
    build_booru(posts, LocalRelations(), tmp_path / "booru", quiet=True)
    (line,) = commands("--contact")
    with Booru(tmp_path / "booru") as booru:
        printed = run(line, workspace, f"--base-url {booru.url} --out {tmp_path / 'out'}")
    assert "posts" in printed
    assert (tmp_path / "out" / "plan.parquet").exists()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *sorted(
    str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])  # fmt: skip
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"[a-z]+:", target):
            assert (ROOT / page).parent.joinpath(target).exists(), (page, target)


def flags(options):
    """The flags of a command, as people write them."""
    return {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(options)}


def test_every_figure_is_explained_in_a_row_of_its_own():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", EVALUATION, re.M)
    assert sorted(key for key, *_ in rows) == sorted(figure.key for figure in FIGURES)
    assert all(len(what) > 20 and len(good) > 10 for _, what, good in rows)


def test_every_option_of_eval_is_mentioned():
    mentioned = set(re.findall(r"`(--[a-z-]+)", EVALUATION))
    assert not flags(EvalConfig) - mentioned


def test_commands_of_the_evaluation_page_have_the_options_they_use():
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", EVALUATION, re.S)
        for line in block.strip().splitlines()
    ]
    assert lines
    for line in lines:
        verb = "eval" if line.startswith("python eval.py") else line.split()[1]
        used = {word.replace("--no-", "--") for word in line.split() if word.startswith("--")}
        assert used <= flags(JOBS[verb][0]), line


def test_anchors_lead_to_headings():
    for page, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", EVALUATION):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8") if page else EVALUATION
        headings = re.findall(r"^#+ (.+)$", text, re.M)
        slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
        assert anchor in slugs, (page, anchor)


def test_the_command_page_is_what_the_commands_say():
    done = subprocess.run(
        [sys.executable, "tools/make_cli_docs.py", "--check"], cwd=ROOT, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):.*##", text, re.M)
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True)
    assert all(f"make {name} " in done.stdout.decode() for name in targets)
    assert {"demo", "test", "check"} <= set(targets)


def test_no_file_of_the_repository_is_large_or_names_a_place_of_this_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split():
        path = ROOT / name
        if path.is_file():
            assert path.stat().st_size < 1 << 20, name


def test_every_decision_says_context_decision_and_consequences():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert pages
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04d}-")
        assert all(f"**{word}.**" in text for word in ("Context", "Decision", "Consequences"))
        assert Path(page).stat().st_size < 4000
