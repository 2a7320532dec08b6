"""A polite HTTP client: keeps to a rate, backs off, gives up where going on makes it worse."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from e6tag import __version__
from e6tag.credentials import Credentials
from e6tag.errors import ConfigError, FetchError, RefusedError
from e6tag.pace import Pace, Stopped, backoff_seconds, retry_after_seconds
from e6tag.transport import FileFailure, Limits, Transient, Transport

__all__ = ["FileFailure", "Limits", "PoliteClient", "Stopped", "user_agent"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

MAX_BODY_BYTES = 256 << 20
ATTEMPTS = 5
FAILURES_TO_STOP = 20
"""Failed exchanges with a host, one after the other, that end a run: with more than four
connections as many as all of them can have, as one bad moment is a failure of each."""
THROTTLES_TO_STOP = 12
"""Pauses that a host asked for, one after the other, that end a run."""
GONE = frozenset({404, 410, 451})
THROTTLED = frozenset({429, 503})
TRANSIENT = frozenset({202, 204, 206, 304, 407, 408, 421, 425, *range(500, 600)}) - THROTTLED
"""Whatever says nothing of the file: a server's or a proxy's trouble, or an answer to a question
that was not asked."""
CONDITIONAL = {"Range": (206, 416), "If-None-Match": (304,), "If-Modified-Since": (304,)}
"""Statuses that are answers where a header asks for them."""
LATER = "Run the same command again later; it resumes."


class Throttled(Exception):
    """The site asks for a pause; never leaves the client."""

    def __init__(self, status: int, seconds: float | None):
        super().__init__(f"HTTP {status}")
        self.seconds = seconds


@dataclass
class Health:
    """What a host answered lately, counted since its last success."""

    failures: int = 0
    throttles: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """The host has answered."""
        with self.lock:
            self.failures = self.throttles = 0


class PoliteClient:
    """GET requests at one rate for all threads that share the client."""

    def __init__(
        self,
        base_url: str,
        requests_per_second: float,
        contact: str | None = None,
        connections: int = 4,
        *,
        backoff_seconds: float = 1.0,
        limits: Limits | None = None,
        credentials: Credentials | None = None,
    ):
        """Make a client; nothing is sent yet.

        Args:
            base_url: the site; what it links to must not be a private address unless it is one.
            requests_per_second: never more than this, redirects and retries included.
            contact: who runs this, for the User-Agent.
            connections: threads that will use the client.
            backoff_seconds: longest wait before a first retry; doubles with each.
            limits: how long a server may take.
            credentials: what the site itself is shown, and nobody else.
        """
        self.pace = Pace(requests_per_second)
        self.limits = limits or Limits()
        self.transport = Transport(
            base_url, user_agent(contact), self.limits, connections, credentials
        )
        self.backoff_seconds = backoff_seconds
        self.failures_to_stop = max(FAILURES_TO_STOP, ATTEMPTS * connections)
        self.requests = self.retries = self.pauses = 0
        self._health: dict[str, Health] = defaultdict(Health)

    def get(self, url: str, max_bytes: int = MAX_BODY_BYTES, fresh: bool = False) -> bytes:
        """The body at an address, complete.

        Args:
            url: http(s) address.
            max_bytes: larger bodies are refused.
            fresh: ask caches on the way to fetch it anew.

        Raises:
            FileFailure: this file cannot be had; see its `permanent`.
            FetchError: the site refuses us or does not answer any more: stop the run.
            Stopped: `stop` was called.
        """
        headers = {"Cache-Control": "no-cache"} if fresh else {}
        return self.request(url, lambda: headers, lambda r: self.read_body(r, max_bytes))

    def request(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        consume: Callable[[requests.Response], Result],
    ) -> Result:
        """What `consume` makes of the answer, retried where that may help.

        Args:
            url: http(s) address.
            headers: called before each attempt.
            consume: takes an answer with status 200, or one that goes with a header asked with
                (`CONDITIONAL`).

        Raises:
            FileFailure, FetchError, Stopped: as for `get`.
        """
        health = self._health[urlsplit(url).netloc]
        failures = 0
        while True:
            try:
                result = self.attempt(url, headers(), consume)
            except Throttled as problem:
                self.slow_down(url, problem, health)
            except Transient as problem:
                failures += 1
                self.count_failure(url, problem, health)
                if failures >= ATTEMPTS:
                    raise FileFailure("unreachable", f"{problem}.", permanent=False) from None
                self.retries += 1
                self.pace.sleep(backoff_seconds(failures, self.backoff_seconds))
            except FileFailure:
                # That there is no such file is an answer as well.
                health.reset()
                raise
            else:
                health.reset()
                return result

    def attempt(
        self,
        url: str,
        headers: Mapping[str, str],
        consume: Callable[[requests.Response], Result],
    ) -> Result:
        """One exchange; the connection is reused only where the body was read to its end."""
        with self.transport.open(url, headers, self.before_request) as response:
            check_status(response, headers)
            if forbids_learning(response.headers.get("X-Robots-Tag")):
                raise FileFailure("noai", f"{url} is marked as not for machine learning.")
            return consume(response)

    def before_request(self) -> None:
        """Wait for the request's turn."""
        self.pace.wait()
        self.requests += 1

    def read_body(self, response: requests.Response, max_bytes: int) -> bytes:
        """A whole body of bounded size, in bounded time."""
        stated = response.headers.get("Content-Length", "")
        if stated.isascii() and stated.isdigit() and int(stated) > max_bytes:
            raise too_large(response.url, max_bytes)
        pieces, num_bytes = [], 0
        deadline = time.monotonic() + self.limits.body_seconds
        for chunk in self.transport.chunks(response, decoded=True):
            pieces.append(chunk)
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise too_large(response.url, max_bytes)
            if time.monotonic() > deadline:
                raise Transient(f"{response.url}: not there after {self.limits.body_seconds} s")
            if self.pace.stopping.is_set():
                raise Stopped
        return b"".join(pieces)

    def slow_down(self, url: str, problem: Throttled, health: Health) -> None:
        """Pause all threads; a site that never stops asking for it ends the run."""
        host = urlsplit(url).netloc
        with health.lock:
            seconds = problem.seconds
            if seconds is None:
                # Never nothing: half of the back-off is certain, half is chance.
                longest = self.backoff_seconds * 2.0 ** min(health.throttles, 6)
                seconds = longest / 2 + backoff_seconds(1, longest / 2)
            if not self.pace.pause(seconds):
                return
            health.throttles += 1
            self.pauses += 1
        if health.throttles >= THROTTLES_TO_STOP:
            raise FetchError(
                f"{host} keeps asking for pauses ({problem}). Lower --requests-per-second. {LATER}"
            )
        log.info("%s asks for a pause (%s): %.1f s.", host, problem, seconds)

    def count_failure(self, url: str, problem: Transient, health: Health) -> None:
        """A host that only fails ends the run."""
        with health.lock:
            health.failures += 1
        if health.failures >= self.failures_to_stop:
            raise FetchError(
                f"{urlsplit(url).netloc} does not answer: {health.failures} failures in a row, "
                f"the last was {problem}. {LATER}"
            )

    def stop(self) -> None:
        """Let no further request start; threads that wait get `Stopped`."""
        self.pace.stop()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        self.transport.session.close()


def user_agent(contact: str | None) -> str:
    """How e6tag introduces itself.

    Raises:
        ConfigError: the contact cannot stand in a header.
    """
    if contact is None:
        return f"e6tag/{__version__}"
    if not (contact.isascii() and contact.isprintable() and contact.strip()):
        raise ConfigError(f"--contact {contact!r} must be printable ASCII: a name or an address.")
    return f"e6tag/{__version__} (contact: {contact.strip()})"


def check_status(response: requests.Response, headers: Mapping[str, str]) -> None:
    """Sort an answer's status.

    Args:
        response: the answer.
        headers: that it was asked with.

    Raises:
        Throttled, Transient: try again, after a pause or a little later.
        FileFailure: this file cannot be had.
        RefusedError: the site does not want us; going on would make a ban worse.
    """
    status, url = response.status_code, response.url
    if status == 200 or any(status in CONDITIONAL.get(name, ()) for name in headers):
        return
    if status in THROTTLED:
        raise Throttled(status, retry_after_seconds(response.headers.get("Retry-After")))
    if status in TRANSIENT:
        raise Transient(f"{url}: HTTP {status} {response.reason}")
    if status in GONE:
        raise FileFailure("gone", f"{url}: HTTP {status} {response.reason}.")
    is_page = "html" in response.headers.get("Content-Type", "").lower()
    if status == 401 or (status == 403 and is_page):
        raise RefusedError(
            f"{urlsplit(url).netloc} refuses us: HTTP {status} for {url}. Stopped, as going on "
            "could get you banned. Name yourself with --contact, wait, and lower "
            "--requests-per-second; the same command resumes."
        )
    reason = "forbidden" if status == 403 else "refused"
    raise FileFailure(reason, f"{url}: HTTP {status} {response.reason}.")


def too_large(url: str, max_bytes: int) -> FileFailure:
    """A body that is not worth having."""
    return FileFailure("too_large", f"{url} is larger than {max_bytes >> 20} MB.")


def forbids_learning(header: str | None) -> bool:
    """Whether an X-Robots-Tag says noai or noimageai, to all or to e6tag."""
    agent = ""
    for part in (header or "").lower().split(","):
        before, colon, after = part.partition(":")
        agent, directive = (before.strip(), after.strip()) if colon else (agent, before.strip())
        if directive in ("noai", "noimageai") and agent in ("", "e6tag"):
            return True
    return False
