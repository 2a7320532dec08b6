"""A booru on this machine: the folder of `export.build_booru`, served as e621 serves its own.

It answers programs that say who they are, at a limited rate, and only on the loopback interface.
There are no accounts: everyone is an anonymous visitor.
"""

import contextlib
import html
import logging
import re
import socket
import socketserver
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from e6tag.demo.booru_answer import BAD_REQUEST, NOT_FOUND, Answer, html_answer
from e6tag.demo.booru_api import Api
from e6tag.demo.booru_files import static_answer
from e6tag.demo.booru_index import Index

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
LOG_LENGTH = 200_000
PIECE_BYTES = 1 << 18
LIBRARY_AGENT = re.compile(
    r"(python(-requests|-urllib|-httpx)?|urllib3?|aiohttp|curl|wget|go-http-client|java|okhttp|"
    r"libwww-perl|axios|node(-fetch)?|undici|php|ruby|guzzlehttp|apache-httpclient|scrapy|"
    r"mozilla|opera)(?=[/ ]|$)",
    re.IGNORECASE,
)
"""beginnings of agents that libraries and browsers send"""
MISUSE = (
    "API misuse: set a User-Agent that names your program and how to reach you, "
    "such as MyProgram/1.0 (by NAME). Yours was: "
)


@dataclass(frozen=True)
class Request:
    """One request and how it was answered."""

    seconds: float
    """when it came, by time.monotonic()"""
    method: str
    target: str
    """path and query, as sent"""
    status: int
    user_agent: str
    range: str
    """the Range header, or empty"""


class TokenBucket:
    """Lets through `rate` requests a second on average, and a second's worth at once."""

    def __init__(self, rate: float) -> None:
        self.rate, self.capacity = rate, max(1.0, rate)
        self.tokens, self.last = self.capacity, time.monotonic()
        self.lock = threading.Lock()
        self.num_refused = 0

    def refusals(self) -> int:
        """0 if this request may pass, else how many have been refused so far."""
        with self.lock:
            now = time.monotonic()
            self.tokens = min(self.capacity, self.tokens + (now - self.last) * self.rate)
            self.last = now
            if self.tokens >= 1:
                self.tokens -= 1
                return 0
            self.num_refused += 1
            return self.num_refused


def too_fast(refusal: int) -> Answer:
    """By turns 503 and 429, as sites do; only every other 429 says how long to wait."""
    if refusal % 2:
        return html_answer(503, "503", "Service Temporarily Unavailable")
    headers = {"Retry-After": "1"} if refusal % 4 == 2 else {}
    return html_answer(429, "429", "Too Many Requests", headers)


def is_misuse(user_agent: str) -> bool:
    """Whether an agent is empty, a library's own, or a browser's."""
    return not user_agent.strip() or LIBRARY_AGENT.match(user_agent.strip()) is not None


class Booru:
    """The server; inside a `with` block it answers at `url`.

    Args:
        folder: what `export.build_booru` wrote.
        port: 0 for any that is free.
        requests_per_second: above it requests are refused with 503 or 429.

    Raises:
        DataError: the folder holds no booru.
        OSError: on entering the block, the port is in use.
    """

    def __init__(self, folder: Path, port: int = 0, requests_per_second: float = 200.0) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.url = ""
        self.served = 0
        """requests that were answered with what they asked for"""
        self.log: deque[Request] = deque(maxlen=LOG_LENGTH)
        """the last requests, oldest first, refused ones too"""
        self.index = Index(self.folder)
        self.bucket = TokenBucket(requests_per_second)
        self.lock = threading.Lock()

    def __enter__(self) -> "Booru":
        self.server = Server((HOST, self.port), Handler)
        self.server.booru = self
        self.port = self.server.server_address[1]
        self.url = f"http://{HOST}:{self.port}"
        self.api = Api(self.index, self.url)
        self.thread = threading.Thread(
            target=self.server.serve_forever, args=(0.05,), name="booru", daemon=True
        )
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.server.hang_up()

    def wait(self) -> None:
        """Serve until the process is interrupted."""
        self.thread.join()

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self.lock:
            self.log.append(request)
            self.served += request.status < 400

    def busiest_second(self) -> int:
        """The most requests that came within any one second."""
        with self.lock:
            times = sorted(request.seconds for request in self.log)
        most = first = 0
        for position, moment in enumerate(times):
            while times[first] <= moment - 1.0:
                first += 1
            most = max(most, position - first + 1)
        return most

    def statuses(self) -> Counter[int]:
        """How many requests got each status."""
        with self.lock:
            return Counter(request.status for request in self.log)

    def answer(self, target: str, headers: Message) -> Answer:
        """What a request gets.

        Args:
            target: path and query, as sent.
            headers: of the request.
        """
        user_agent = headers.get("User-Agent", "")
        if is_misuse(user_agent):
            return html_answer(403, "API misuse", html.escape(MISUSE + repr(user_agent)))
        if refusal := self.bucket.refusals():
            return too_fast(refusal)
        try:
            url = urlsplit(target)
        except ValueError:
            return BAD_REQUEST
        path, params = unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True))
        if "Authorization" in headers or params.keys() & {"login", "api_key"}:
            return html_answer(401, "401", "There are no accounts here.")
        if path.startswith("/data/"):
            return static_answer(self.folder, self.index, path, headers)
        return self.api.answer(path, params) or NOT_FOUND


class Server(ThreadingHTTPServer):
    """A thread for each connection; all are hung up at the end."""

    booru: Booru
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Bind without asking the name service for this machine's name, which can be slow."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, then answer it in a thread."""
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection and close it."""
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that visitors keep open."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Visitors who leave early are no error; anything else is ours."""
        if isinstance(sys.exception(), ConnectionError | TimeoutError):
            log.debug("a visitor left early", exc_info=True)
        else:
            log.error("the local booru failed on a request", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with one visitor."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "e6tag-booru", ""
    disable_nagle_algorithm = True
    wbufsize = PIECE_BYTES
    timeout = 60

    def do_GET(self) -> None:
        """Answer, and note what was answered."""
        came = time.monotonic()
        if self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True
        booru = self.server.booru
        answer = booru.answer(self.path, self.headers)
        agent, wanted = self.headers.get("User-Agent", ""), self.headers.get("Range", "")
        booru.note(Request(came, self.command, self.path, answer.status, agent, wanted))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """To the log, not to stderr."""
        log.debug(format, *arguments)
