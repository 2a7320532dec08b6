"""Ctrl-C and SIGTERM: one line, exit code 130, within seconds, whatever the libraries do."""

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from e6tag.errors import INTERRUPTED

SECONDS_TO_STOP = 9.0
"""How long a command may take to stop; then it is ended, as by a kill."""
IMPATIENT_SECONDS = 1.0
"""A second signal ends the command at once, unless it comes this soon: a terminal's Ctrl-C and
one that a parent process hands on are one wish."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WORDS = "interrupted. The same command goes on from here."


def leave(*_: object) -> None:
    """End the process now, with the line and the exit code of an interruption.

    Files are finished or absent at any time, so there is nothing to put in order.
    """
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 (pathlib takes longer than all else here)
    os.write(2, f"{'e6tag' if name == '__main__.py' else name}: {WORDS}\n".encode())
    os._exit(INTERRUPTED)


def leave_when_asked() -> None:
    """Let signals end the process; for the time before a command begins."""
    for number in SIGNALS:
        signal.signal(number, leave)


def ignore_signals() -> None:
    """For the moment between a command's end and the process's."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Interruption:
    """A block in which a signal raises KeyboardInterrupt, and which then ends with that.

    Libraries turn the exception into others (an import that fails, a picture that then
    counts as damaged), swallow it, or do not return to Python for a minute.  Whatever comes
    of the first two ends as an interruption here, and against those that do not end a thread
    ends the process after `SECONDS_TO_STOP`.
    """

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self.over = threading.Event()

    def __enter__(self) -> "Interruption":
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        # The thread hears of signals that Python's own handlers still wait for.
        self.wakeup_before = signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        self.before: dict[int, Any] = {n: signal.signal(n, self.handle) for n in SIGNALS}
        self.watcher = threading.Thread(target=self.watch, name="interruption", daemon=True)
        self.watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.wakeup_before)
        self.over.set()
        os.close(self.writing)
        self.watcher.join()
        os.close(self.reading)
        if self.requested_at is not None and (problem is None or isinstance(problem, Exception)):
            raise KeyboardInterrupt from problem

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt the first time; later end the process, unless it is too soon."""
        now = time.monotonic()
        if self.requested_at is None:
            self.requested_at = now
            raise KeyboardInterrupt
        if now > self.requested_at + IMPATIENT_SECONDS:
            leave()

    def watch(self) -> None:
        """End the process where it has not stopped some seconds after a signal."""
        while numbers := os.read(self.reading, 64):
            if not set(numbers).isdisjoint(SIGNALS):
                if not self.over.wait(SECONDS_TO_STOP):
                    leave()
                return
