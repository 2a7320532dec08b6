"""One HTTP exchange with limits: time, speed, size, and where a redirect may lead."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from e6tag.credentials import NOBODY, Credentials
from e6tag.errors import FetchError

CHUNK_BYTES = 1 << 16
MAX_REDIRECTS = 5


class FileFailure(FetchError):
    """One file could not be had; the run goes on.

    `reason` is one short word to count by; `permanent` ones are not asked for again.
    """

    def __init__(self, reason: str, message: str, permanent: bool = True):
        super().__init__(message)
        self.reason = reason
        self.permanent = permanent


class Transient(Exception):
    """An exchange that failed in a way that may pass; never leaves the client."""


@dataclass(frozen=True)
class Limits:
    """How long a server may take."""

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    """between two pieces of an answer"""
    header_seconds: float = 60.0
    """for all of an answer's header"""
    body_seconds: float = 600.0
    """for a whole picture"""
    grace_seconds: float = 15.0
    """before the slowest speed is asked for"""
    bytes_per_second: float = 500.0
    """the slowest speed, on average since the body began"""


class Transport:
    """Sends requests, keeps connections open, follows redirects that are safe to follow."""

    def __init__(
        self,
        base_url: str,
        user_agent: str,
        limits: Limits,
        connections: int,
        credentials: Credentials | None = None,
    ):
        self.limits = limits
        self.credentials = credentials or NOBODY
        self.base_host = urlsplit(base_url).hostname or ""
        self.session = requests.Session()
        self.session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})
        # No password from ~/.netrc, no cookies: nothing that a redirect could carry away.
        self.session.auth = unchanged
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # A proxy is for the outside; asking the environment each time is slow besides.
        self.session.trust_env = is_public(self.base_host)
        adapter = DeadlineAdapter(limits.header_seconds, pool_maxsize=connections + 1)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    def open(
        self, url: str, headers: Mapping[str, str], before: Callable[[], None]
    ) -> requests.Response:
        """The answer's header; `before` is called ahead of each request, redirects included.

        Raises:
            FileFailure: the address, or one it redirects to, must not be asked.
            Transient: no answer.
        """
        for hop in range(MAX_REDIRECTS + 1):
            self.check_target(url)
            before()
            shown = self.credentials if not hop and self.credentials.fits(url) else NOBODY
            with hiding(shown):
                response = self.send(shown.added_to(url), {**headers, **shown.headers})
            # What is said of an answer from here on must not tell what was shown for it.
            response.url = url
            if not response.is_redirect:
                return response
            with response:
                following = urljoin(url, response.headers["location"])
            following = self.credentials.taken_from(following)
            if url.startswith("https:") and following.startswith("http:"):
                raise FileFailure("redirect", f"{url} redirects from https to {following}.")
            url = following
        raise FileFailure("redirect", f"{url}: more than {MAX_REDIRECTS} redirects.")

    def send(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """One GET, its body not read yet."""
        seconds = (self.limits.connect_seconds, self.limits.read_seconds)
        try:
            return self.session.get(
                url, headers=headers, stream=True, allow_redirects=False, timeout=seconds
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as problem:
            raise FileFailure("bad_address", f"{url}: {problem}.") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
            raise Transient(f"{urlsplit(url).netloc}: {short(problem)}") from None

    def check_target(self, url: str) -> None:
        """A public site must not make us ask the machines around us.

        Raises:
            FileFailure: not http(s), or a public site's link to a private address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FileFailure("redirect", f"{url} is not an http address.")
        if parts.hostname == self.base_host or not is_public(self.base_host):
            return
        if not is_public(parts.hostname):
            raise FileFailure(
                "redirect", f"{url}, named by {self.base_host}, is a private address."
            )

    def chunks(self, response: requests.Response, decoded: bool) -> Iterator[bytes]:
        """The body in pieces as they come.

        Args:
            decoded: undo a Content-Encoding.

        Raises:
            Transient: it breaks off, is shorter than its Content-Length, or comes too slowly.
        """
        start, count = time.monotonic(), 0
        try:
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=decoded):
                yield chunk
                count += len(chunk)
                self.check_speed(response.url, count, time.monotonic() - start)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
            raise Transient(f"{response.url}: {short(problem)} after {count} bytes") from None
        stated = [n for n in ("Content-Length", "Transfer-Encoding") if n in response.headers]
        if not count and not stated:
            # This is also what a header that was cut short looks like.
            raise Transient(f"{response.url}: an answer without a body")

    def check_speed(self, url: str, count: int, seconds: float) -> None:
        """Refuse a server that sends just enough to keep a connection."""
        slowest = self.limits.bytes_per_second
        if seconds > self.limits.grace_seconds and count < slowest * seconds:
            raise Transient(f"{url}: too slow, {count} bytes in {seconds:.0f} s")


@contextmanager
def hiding(credentials: Credentials) -> Iterator[None]:
    """Keep what was shown out of the errors of a block."""
    try:
        yield
    except (FileFailure, Transient) as problem:
        problem.args = tuple(credentials.hidden_in(str(text)) for text in problem.args)
        raise


def unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authentication by nothing."""
    return request


def short(problem: Exception) -> str:
    """The innermost cause of a network error, in a few words."""
    while problem.__cause__ or problem.__context__ or problem.args[:1]:
        inner = problem.__cause__ or problem.__context__
        inner = inner or getattr(problem, "reason", None) or problem.args[0]
        if not isinstance(inner, Exception):
            break
        problem = inner
    return f"{type(problem).__name__}: {problem}"[:200]


@lru_cache(maxsize=256)
def is_public(host: str) -> bool:
    """Whether all addresses of a host are on the public internet; True where it has none."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        # It cannot be asked directly either; behind a proxy this is usual.
        return True
    return all(ipaddress.ip_address(str(entry[4][0])).is_global for entry in found)


class DeadlineAdapter(HTTPAdapter):
    """Adapter whose connections are cut when an answer's header takes too long.

    A socket's time-out starts anew with each byte, so a byte now and then would do for ever.
    """

    def __init__(self, header_seconds: float, **options: Any):
        self.pools = deadline_pools(header_seconds)
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Pools of such connections, when asking directly."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self.pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """And when asking through a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self.pools
        return manager


def deadline_pools(seconds: float) -> dict[str, Any]:
    """Connection pools by scheme, whose connections have a deadline for the header."""

    class Plain(HTTPConnection):
        def getresponse(self) -> Any:
            with deadline(self.sock, seconds):
                return super().getresponse()

    class Secure(HTTPSConnection):
        def getresponse(self) -> Any:
            with deadline(self.sock, seconds):
                return super().getresponse()

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class deadline:
    """Shut a socket down unless the block ends in time.

    Raises:
        TimeoutError: at the end of a block that took too long: the standard library takes an end
            of file within a header for the header's end.
    """

    def __init__(self, connection: Any, seconds: float):
        self.seconds = seconds
        self.timer = threading.Timer(seconds, shut_down, (connection,))
        self.timer.daemon = True

    def __enter__(self) -> None:
        self.start = time.monotonic()
        self.timer.start()

    def __exit__(self, *exception: object) -> None:
        self.timer.cancel()
        if time.monotonic() - self.start >= self.seconds:
            raise TimeoutError(f"no whole header after {self.seconds:g} s")


def shut_down(connection: Any) -> None:
    """End both directions; whoever reads gets an end of file."""
    with suppress(OSError, AttributeError):
        connection.shutdown(socket.SHUT_RDWR)
