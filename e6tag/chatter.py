"""Keeps what a library's native code says of itself while it is loaded off the user's screen."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CHATTER = re.compile(rb"WARNING: All log messages before absl::InitializeLog|I\d{4} \d\d")
"""Start of TensorFlow's lines of level INFO, and of the note that comes with the first of them.

TF_CPP_MIN_LOG_LEVEL does not reach them: they are said before its logging is set up."""


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back stderr, native code's too, and let out what is not chatter at the end."""
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            for line in held:
                if not CHATTER.match(line):
                    os.write(2, line)
