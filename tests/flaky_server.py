"""A server that fails a share of all requests, each in a way that chance picks."""

import random
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from fault_server import Exchange, FaultServer

Upstream = Callable[[str, Mapping[str, str]], tuple[str, dict[str, str], bytes]]
"""(path, request headers) -> (status line's end, headers, body)"""


def short(exchange: Exchange, body: bytes) -> None:
    exchange.answer(body[: len(body) // 2], length=len(body))
    exchange.close()


def reset_within(exchange: Exchange, body: bytes) -> None:
    exchange.answer(body[: len(body) // 3], length=len(body))
    exchange.reset()


def broken_chunk(exchange: Exchange, body: bytes) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
    exchange.close()


def cut_header(exchange: Exchange, body: bytes) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConte")
    exchange.close()


def slow(exchange: Exchange, body: bytes) -> None:
    exchange.answer(body[:100], length=len(body))
    time.sleep(0.3)
    exchange.send(body[100:])


def another_picture(exchange: Exchange, body: bytes) -> None:
    """Of the same length, so that only its hash tells."""
    exchange.answer(body[:-40] + bytes(40), Content_Type="image/jpeg")


def page(exchange: Exchange, body: bytes) -> None:
    exchange.answer(b"<html><body>Just a moment...</body></html>", Content_Type="image/jpeg")


FAULTS: dict[str, Callable[[Exchange, bytes], None]] = {
    "short body": short,
    "reset within": reset_within,
    "broken chunk": broken_chunk,
    "cut header": cut_header,
    "closed": lambda e, body: e.close(),
    "reset": lambda e, body: e.reset(),
    "slow": slow,
    "500": lambda e, body: e.answer(b"oops", "500 Internal Server Error"),
    "502": lambda e, body: e.answer(b"<html>", "502 Bad Gateway", Content_Type="text/html"),
    "522": lambda e, body: e.answer(b"", "522 Connection Timed Out"),
    "408": lambda e, body: e.answer(b"", "408 Request Timeout", Connection="close"),
    "nothing": lambda e, body: e.answer(b"", "204 No Content"),
}
LIES = {"another picture": another_picture, "page": page}
"""What only a hash or a look tells; once for a path, as a file that is never right is a failure."""
THROTTLES = {
    "429": lambda e, body: e.answer(b"", "429 Too Many Requests", Retry_After="1"),
    "503": lambda e, body: e.answer(b"", "503 Service Unavailable"),
}
"""Rare, as each stops everything for a second."""
THROTTLE_SHARE = 0.01


class FlakyServer(FaultServer):
    """What `upstream` answers, but a share of it spoilt; inside a `with` block it is at `url`."""

    def __init__(self, upstream: Upstream, share: float, seed: int = 0):
        super().__init__()
        self.upstream, self.share, self.seed = upstream, share, seed
        self.faults: Counter[str] = Counter()

    def respond(self, exchange: Exchange) -> None:
        rng = random.Random(f"{self.seed} {exchange.path} {exchange.count}")
        status, headers, body = self.upstream(exchange.path, exchange.headers)
        name, fault = self.pick(rng, exchange)
        if rng.random() >= self.share or not status.startswith("200"):
            return exchange.answer(body, status, **headers)
        self.faults[name] += 1
        return fault(exchange, body)

    def pick(
        self, rng: random.Random, exchange: Exchange
    ) -> tuple[str, Callable[[Exchange, bytes], None]]:
        may_lie = exchange.count == 1 and "export" not in exchange.path
        known = FAULTS | (LIES if may_lie else {})
        known = THROTTLES if rng.random() < THROTTLE_SHARE else known
        return rng.choice(list(known.items()))


def from_folder(folder: Path) -> Upstream:
    """Files."""

    def read(path: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str], bytes]:
        try:
            return "200 OK", {}, (folder / path.lstrip("/")).read_bytes()
        except OSError:
            return "404 Not Found", {}, b""

    return read


def from_server(url: str, own: Callable[[], str]) -> Upstream:
    """Another server, whose address becomes `own()` where it is named."""

    def read(path: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str], bytes]:
        wanted = ("user-agent", "range", "if-range")
        sent = {name: headers[name] for name in wanted if name in headers}
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, headers=sent)) as got:
                status, found, body = got.status, got.headers, got.read()
        except urllib.error.HTTPError as problem:
            with problem:
                status, found, body = problem.code, problem.headers, problem.read()
        kept = {k.replace("-", "_"): found[k] for k in ("ETag", "Content-Range") if k in found}
        return f"{status} x", kept, body.replace(url.encode(), own().encode())

    return read
