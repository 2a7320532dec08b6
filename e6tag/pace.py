"""Keeping to a rate, pausing for a site that asks for it, and stopping at once."""

import email.utils
import random
import threading
import time
from datetime import UTC, datetime

MAX_PAUSE_SECONDS = 600.0
"""What a site may ask for at most; more is taken for a mistake."""

MAX_BACKOFF_SECONDS = 60.0

SLACK = 1.03
"""How much longer than need be the interval between requests is: they reach the site with delays
that differ, and must not look like haste to one that counts them by the second."""


class Stopped(Exception):
    """Raised in a waiting thread when the run is being stopped."""


class Pace:
    """One rate for all threads: no two requests start closer together than its interval."""

    def __init__(self, requests_per_second: float):
        self.interval_seconds = SLACK / requests_per_second
        self.stopping = threading.Event()
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may start.

        Raises:
            Stopped: `stop` was called, now or while waiting.
        """
        while not self.stopping.is_set():
            with self._lock:
                now = time.monotonic()
                left = self._next - now
                if left <= 0:
                    # From now, not from when it was due: time that was missed is not made up for.
                    self._next = now + self.interval_seconds
                    return
            self.sleep(left)
        raise Stopped

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while.

        Raises:
            Stopped: `stop` was called.
        """
        if self.stopping.wait(seconds):
            raise Stopped

    def pause(self, seconds: float) -> bool:
        """Let no thread start a request for a while; False where a pause was already on."""
        with self._lock:
            now = time.monotonic()
            already = self._next > now + self.interval_seconds
            self._next = max(self._next, now + seconds)
            return not already

    def stop(self) -> None:
        """Make every wait, now and later, raise `Stopped`."""
        self.stopping.set()


def backoff_seconds(failures: int, first_seconds: float) -> float:
    """Exponential back-off with full jitter: uniform in [0, first * 2^(failures - 1)], capped.

    Source: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    return random.uniform(0, min(MAX_BACKOFF_SECONDS, first_seconds * 2.0 ** (failures - 1)))


def retry_after_seconds(header: str | None) -> float | None:
    """What a Retry-After header asks for (RFC 9110, 10.2.3): seconds, or an HTTP date.

    Returns:
        0 < seconds <= `MAX_PAUSE_SECONDS`; None where there is no header or no sense in it.
    """
    try:
        seconds: float = min(int(header or ""), MAX_PAUSE_SECONDS)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(header or "")
        except (ValueError, OverflowError):
            # A year or a zone of more digits than a computer's numbers have is the latter.
            return None
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return min(seconds, MAX_PAUSE_SECONDS) if seconds > 0 else None
