"""Where a process of e6tag's begins.

An old Python, a missing environment and Ctrl-C are one line each here too, so this module
is read by Python 3.6 and imports nothing of others at first.
"""

import sys
from types import ModuleType
from typing import NoReturn

OLDEST = (3, 11)


def main() -> int:
    """The `e6tag` command."""
    code: int = command_line().main()
    return end(code)


def script(verb: str) -> int:
    """A doorway such as `python test.py`."""
    code: int = command_line().script(verb)
    return end(code)


def command_line() -> ModuleType:
    """The module `e6tag.cli`, whose import takes a quarter of a second and some packages."""
    if sys.version_info < OLDEST:
        refuse(f"e6tag needs Python 3.11, 3.12 or 3.13, this is {sys.version.split()[0]}")
    from e6tag.interruption import leave_when_asked

    leave_when_asked()
    try:
        from e6tag import cli
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("e6tag"):
            raise
        refuse(f"the package {problem.name} is not installed for {sys.executable}")
    return cli


def refuse(problem: str) -> NoReturn:
    """End the process, saying how to get an environment that works."""
    sys.stderr.write(
        f"{problem}. In the repository `make env` makes an environment with all that is needed; "
        "use it with `. .venv/bin/activate`.\n"
    )
    raise SystemExit(2)


def end(code: int) -> int:
    """Hand back a command's exit code; from here on only the process is left to end."""
    from e6tag.interruption import ignore_signals

    ignore_signals()
    return code
