"""Write docs/cli.md from the commands themselves; --check fails where it is out of date."""

import contextlib
import io
import os
import sys
from pathlib import Path

os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb")

from e6tag import cli

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
SCRIPTS = {
    "download": "download.py",
    "train": "train.py",
    "eval": "eval.py",
    "tag": "test.py",
    "embed": "embed.py",
}
HEAD = """# Commands

Made from the commands by `make docs`; don't edit.

`python SCRIPT` and `e6tag VERB` are the same command.  Results go to stdout, words to stderr.
Options: default < `--config FILE.toml` < flag.
Exit codes: 0 done; 1 done, but some inputs failed (each is named); 2 bad usage, or a folder, disk
or port that cannot be used; 3 network or site; 4 bad data; 5 run or model missing or broken;
70 a defect of e6tag (please report it); 130 interrupted (the same command resumes).
"""


def help_text(verb: str) -> str:
    """What `e6tag VERB --help` prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        cli.parse(cli.JOBS[verb][0], ["--help"], f"e6tag {verb}")
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def page() -> str:
    """The whole of docs/cli.md."""
    parts = [HEAD]
    for verb in cli.JOBS:
        script = f" (`python {SCRIPTS[verb]}`)" if verb in SCRIPTS else ""
        parts.append(f"## e6tag {verb}{script}\n\n```text\n{help_text(verb)}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Write the page, or compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write("docs/cli.md is out of date. Run: make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
