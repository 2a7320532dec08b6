"""From a command line to one job and an exit code.

Flags are made from the dataclasses of `e6tag.config` by tyro; a job is imported only
after its flags were parsed, so that `--help` does not wait for TensorFlow.
"""

import contextlib
import dataclasses
import errno
import importlib
import itertools
import logging
import os
import re
import sys
import tomllib
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from e6tag import __version__, config
from e6tag.chatter import without_chatter
from e6tag.errors import DEFECT, INTERRUPTED, ConfigError, E6TagError
from e6tag.interruption import WORDS, Interruption

log = logging.getLogger(__name__)

JOBS: dict[str, tuple[type[config.JobConfig], str]] = {
    "download": (config.DownloadConfig, "e6tag.acquisition:download"),
    "train": (config.TrainConfig, "e6tag.training:train"),
    "eval": (config.EvalConfig, "e6tag.evaluation:evaluate"),
    "benchmark": (config.BenchmarkConfig, "e6tag.benchmarking:benchmark"),
    "tag": (config.TagConfig, "e6tag.tagger:tag"),
    "embed": (config.EmbedConfig, "e6tag.vectors:embed"),
    "search": (config.SearchConfig, "e6tag.vectors:search"),
    "transfer": (config.TransferConfig, "e6tag.transfer:transfer"),
    "demo": (config.DemoConfig, "e6tag.demo.job:demo"),
    "doctor": (config.DoctorConfig, "e6tag.doctor:doctor"),
}
"""verb -> its options, and the job that takes them and returns an exit code"""

TALKATIVE = frozenset({"train"})
"""Jobs whose libraries talk while they are loaded."""


def main(argv: Sequence[str] | None = None) -> int:
    """The `e6tag` command: `e6tag VERB [options]`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0
    if verb == "--version":
        sys.stdout.write(f"e6tag {__version__}\n")
        return 0
    if verb not in JOBS:
        sys.stderr.write(f"e6tag: there is no command {verb!r}. One of: {', '.join(JOBS)}\n")
        return ConfigError.exit_code
    return run(verb, arguments[1:], f"e6tag {verb}")


def script(verb: str) -> int:
    """A doorway such as `python test.py`: the verb's job, under the script's own name."""
    return run(verb, sys.argv[1:], f"python {Path(sys.argv[0]).name}")


def overview() -> str:
    """The text of `e6tag --help`."""
    lines = ["usage: e6tag VERB [options]        e6tag VERB --help tells more", ""]
    for verb, (options, _) in JOBS.items():
        lines.append(f"  {verb:10s}{(options.__doc__ or '').splitlines()[0]}")
    return "\n".join(
        [
            *lines,
            "",
            "exit codes: 0 done; 1 done, but some inputs failed; 2 usage;"
            " 3 network; 4 data; 5 model; 70 a defect of e6tag; 130 interrupted",
            "",
        ]
    )


def run(verb: str, arguments: Sequence[str], program: str) -> int:
    """Parse, run the job, and turn what happens into one line and an exit code."""
    try:
        options = parse(JOBS[verb][0], arguments, program)
        config.check_ranges(options)
        configure_logging(options.quiet)
        with Interruption():
            return load_job(verb)(options)
    except E6TagError as problem:
        return fail(program, str(problem), problem.exit_code)
    except KeyboardInterrupt:
        return fail(program, WORDS, INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout (head, less) has gone: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        return fail(program, explain(problem), ConfigError.exit_code)
    except Exception:  # noqa: BLE001 (nothing may pass for "some inputs failed")
        # Python's own code for this is 1, which means here that all but some inputs was done.
        traceback.print_exc()
        return fail(program, "that is a defect of e6tag. Report it with the lines above.", DEFECT)


def load_job(verb: str) -> Callable[[Any], int]:
    """Import the verb's job.

    Raises:
        ConfigError: a package it needs is not installed.
    """
    module, function = JOBS[verb][1].split(":")
    quietly = without_chatter() if verb in TALKATIVE else contextlib.nullcontext()
    try:
        with quietly:
            return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("e6tag"):
            raise
        extra = {"train": "train", "demo": "demo"}.get(verb, "train")
        raise ConfigError(
            f"the package {problem.name} is not installed. "
            f'Run: pip install "e6tag[{extra}]" (or `make env` in the repository).'
        ) from None


def parse(options: type[config.JobConfig], arguments: Sequence[str], program: str) -> Any:
    """Flags over the TOML file named by --config over defaults."""
    path = config_path(arguments)
    default = read_config(options, path) if path is not None else None
    if default is None:
        return tyro.cli(options, args=list(arguments), prog=program)
    return tyro.cli(options, args=list(arguments), prog=program, default=default)


def config_path(arguments: Sequence[str]) -> Path | None:
    """Value of --config, before the flags are parsed (its values are their defaults)."""
    for argument, following in itertools.pairwise([*arguments, ""]):
        if argument == "--config":
            return Path(following)
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None


def read_config(options: type[config.JobConfig], path: Path) -> config.JobConfig:
    """Options from a TOML file of `name = value` lines.

    Raises:
        ConfigError: no such file, not TOML, or a name or value that the options do not have.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path} is not TOML: {problem}.") from None
    known = {field.name: field for field in dataclasses.fields(options)}
    hints = typing.get_type_hints(options, include_extras=False)
    values = {name.replace("-", "_"): value for name, value in values.items()}
    for name in values:
        if name not in known:
            raise ConfigError(f"{path}: there is no option {name}. Known: {', '.join(known)}.")
    converted = {
        name: convert(value, hints[name], f"{path}: {name}") for name, value in values.items()
    }
    # Positionals may lack a default; the command line will give them.
    missing = {n: tyro.MISSING for n, f in known.items() if f.default is dataclasses.MISSING}
    return options(**{**missing, **converted})


def convert(value: Any, hint: Any, where: str) -> Any:
    """A TOML value as the type of its option.

    Raises:
        ConfigError: it is of another type, or not among the choices.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value in parts:
            return value
    elif origin is tuple and isinstance(value, list):
        return tuple(convert(item, parts[0], where) for item in value)
    elif origin in (types.UnionType, typing.Union):
        return convert(value, next(part for part in parts if part is not type(None)), where)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is hint:
        return value
    expected = " or ".join(map(str, parts)) if parts else getattr(hint, "__name__", hint)
    raise ConfigError(f"{where}: expected {expected}. Received: {value!r}.")


def configure_logging(quiet: bool) -> None:
    """Words to stderr; only errors when quiet."""
    level = logging.ERROR if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("e6tag").setLevel(level)


def fail(program: str, message: str, code: int) -> int:
    """One line on stderr; hands back the exit code."""
    sys.stderr.write(f"{program}: {message}\n")
    return code


REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space and run the same command again; it resumes.",
    errno.EDQUOT: "the disk quota is used up. Free some space and run the same command again.",
    errno.EIO: "the disk cannot be read or written there. Check it before you go on.",
    errno.EROFS: "the folder is read-only. Name another folder.",
    errno.EACCES: "permission denied. Name another folder, or change the permissions.",
    errno.EPERM: "permission denied. Name another folder, or change the permissions.",
    errno.EADDRINUSE: "the port is in use. Name another with --port, or 0 for any free one.",
    errno.EMFILE: "too many open files. Raise the limit (ulimit -n) and run the command again.",
    errno.EEXIST: "there is a file of that name where a folder is needed. Name another.",
    errno.ENOTDIR: "a part of the path is a file where a folder is needed. Name another.",
    errno.ENAMETOOLONG: "the path is too long. Name a shorter folder.",
}


FULL_DISK = r"No space left|\d+ requested and \d+ written"


def explain(problem: OSError) -> str:
    """What the system refused, on which file, and what to do."""
    where = f"{problem.filename}: " if problem.filename else ""
    text = f"{problem.strerror or problem}."
    # NumPy and Annoy hand on no number.
    is_full = problem.errno is None and re.search(FULL_DISK, text) is not None
    return where + REMEDIES.get(errno.ENOSPC if is_full else problem.errno or 0, text)
