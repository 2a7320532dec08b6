"""One HTTP exchange with limits: time, speed, size, and where a redirect may lead."""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from e6tag.connections import Left, WatchedAdapter
from e6tag.credentials import NOBODY, Credentials, origin
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
        self.origin = origin(base_url)
        self.session = requests.Session()
        self.session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})
        # A proxy is for the outside; asking the environment each time is slow besides.
        self.session.trust_env = is_public(self.base_host)
        adapter = WatchedAdapter(limits.header_seconds, pool_maxsize=connections + 1)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self.ways: dict[str, Mapping[str, Any]] = {}

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
            shown = self.credentials if not hop and self.credentials.fits(url) else NOBODY
            with hiding(shown):
                response = self.send_afresh(
                    shown.added_to(url), {**headers, **shown.headers}, before
                )
            # What is said of an answer from here on must not tell what was shown for it.
            response.url = url
            if not response.is_redirect:
                return response
            with response:
                following = self.target_of(url, response.headers["location"])
            if url.startswith("https:") and following.startswith("http:"):
                raise FileFailure("redirect", f"{url} redirects from https to {following}.")
            url = following
        raise FileFailure("redirect", f"{url}: more than {MAX_REDIRECTS} redirects.")

    def target_of(self, url: str, location: str) -> str:
        """Where a redirect leads, without what was shown to the site.

        Raises:
            FileFailure: it names no address.
        """
        try:
            return self.credentials.taken_from(urljoin(url, location))
        except ValueError as problem:
            raise FileFailure("bad_address", f"{url} redirects to no address: {problem}.") from None

    def send_afresh(
        self, url: str, headers: Mapping[str, str], before: Callable[[], None]
    ) -> requests.Response:
        """One GET; once more where it met an open connection that the server had closed."""
        before()
        try:
            return self.send(url, headers)
        except Left:
            before()
        try:
            return self.send(url, headers)
        except Left as problem:
            raise Transient(f"{urlsplit(url).netloc}: {short(problem)}") from None

    def send(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """One GET, its body not read yet."""
        seconds = (self.limits.connect_seconds, self.limits.read_seconds)
        try:
            request = bare_request(url, self.headers_for(url, headers))
            adapter = self.session.get_adapter(url)
            return adapter.send(request, stream=True, timeout=seconds, **self.way_to(url))
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as problem:
            raise FileFailure("bad_address", f"{url}: {problem}.") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
            cause = innermost(problem)
            if isinstance(cause, Left):
                raise cause from None
            raise Transient(f"{urlsplit(url).netloc}: {short(cause)}") from None

    def headers_for(self, url: str, headers: Mapping[str, str]) -> CaseInsensitiveDict[Any]:
        """What a request says; who we are, as far as that is secret, only to the site itself."""
        everything = CaseInsensitiveDict[Any]({**self.session.headers, **headers})
        if origin(url) != self.origin:
            everything.pop("Authorization", None)
        return everything

    def way_to(self, url: str) -> Mapping[str, Any]:
        """Proxy and certificates for a host, by the environment."""
        host = urlsplit(url).netloc
        if host not in self.ways:
            found = self.session.merge_environment_settings(url, {}, None, None, None)
            self.ways[host] = {name: found[name] for name in ("proxies", "verify", "cert")}
        return self.ways[host]

    def check_target(self, url: str) -> None:
        """A public site must not make us ask the machines around us.

        Raises:
            FileFailure: not http(s), or a public site's link to a private address.
        """
        parts = split_address(url)
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


def split_address(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        FileFailure: its host or port cannot be.
    """
    try:
        parts = urlsplit(url)
        # Looked at here, as it is only read when it is asked for.
        _ = parts.port
    except ValueError as problem:
        raise FileFailure("bad_address", f"{url}: {problem}.") from None
    return parts


@contextmanager
def hiding(credentials: Credentials) -> Iterator[None]:
    """Keep what was shown out of the errors of a block."""
    try:
        yield
    except (FileFailure, Transient) as problem:
        problem.args = tuple(credentials.hidden_in(str(text)) for text in problem.args)
        raise


def bare_request(url: str, headers: CaseInsensitiveDict[Any]) -> requests.PreparedRequest:
    """A GET without what a session adds: passwords from files, cookies, and half its time."""
    request = requests.PreparedRequest()
    request.prepare_method("GET")
    request.prepare_url(url, None)
    request.headers = headers
    return request


def innermost(problem: BaseException) -> BaseException:
    """What a network error was caused by."""
    while True:
        hidden = problem.__suppress_context__
        inner = problem.__cause__ or (None if hidden else problem.__context__)
        inner = inner or getattr(problem, "reason", None) or next(iter(problem.args), None)
        if not isinstance(inner, Exception):
            return problem
        problem = inner


def short(problem: BaseException) -> str:
    """The innermost cause of a network error, in a few words."""
    cause = innermost(problem)
    return f"{type(cause).__name__}: {cause}"[:200]


@lru_cache(maxsize=256)
def is_public(host: str) -> bool:
    """Whether all addresses of a host are on the public internet; True where it has none."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        # It cannot be asked directly either; behind a proxy this is usual.
        return True
    return all(ipaddress.ip_address(str(entry[4][0])).is_global for entry in found)
