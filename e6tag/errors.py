"""What can go wrong, and the exit code each kind ends a command with.

    E6TagError
    ├── ConfigError   2   bad usage: an option, a config file, a folder that cannot be written
    ├── FetchError    3   the network or the site
    ├── DataError     4   exports, shards, tables, pictures that are not what they must be
    └── RunError      5   a run folder or model that is missing or broken

A message names what, which file or post, what was expected, and what to do next.
Only `e6tag.cli` catches these.
"""


class E6TagError(Exception):
    """Base of all errors that a user can do something about."""

    exit_code = 1


class ConfigError(E6TagError):
    """Bad usage or configuration."""

    exit_code = 2


class FetchError(E6TagError):
    """The network or the site said no, or nothing."""

    exit_code = 3


class RefusedError(FetchError):
    """The site does not want us, or not without an account."""


class DataError(E6TagError):
    """Bad data: exports, shards, manifests, tables."""

    exit_code = 4


class RunError(E6TagError):
    """A run folder, model or index is missing or broken."""

    exit_code = 5


INPUTS_FAILED = 1
"""Exit code of a command that finished although some inputs failed."""

DEFECT = 70
"""Exit code of a command that ended as nobody foresaw (EX_SOFTWARE of sysexits.h)."""

INTERRUPTED = 130
"""Exit code after Ctrl-C; the same command resumes."""
