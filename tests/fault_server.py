"""A server of raw sockets: what each path answers is a function that writes any bytes at all."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Exchange:
    """A request, and the connection to answer on."""

    connection: socket.socket
    path: str
    headers: dict[str, str]
    count: int
    """how often this path was asked for, this time included"""
    seconds: float

    def send(self, content: bytes) -> None:
        self.connection.sendall(content)

    def answer(
        self, body: bytes = b"", status: str = "200 OK", length: int | None = None, **headers: str
    ) -> None:
        """An answer whose Content-Length may lie."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n"
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        head += "".join(f"{name}: {value}\r\n" for name, value in extra.items())
        self.send(head.encode() + b"\r\n" + body)

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A plain close() would wait for the stream that reads requests.
        os.close(self.connection.detach())

    def close(self) -> None:
        """End the connection with FIN."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


Answer = Callable[[Exchange], None]


@dataclass
class FaultServer:
    """Inside a `with` block it answers at `url`."""

    answers: dict[str, Answer] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    num_connections: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "FaultServer":
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        # A thread that waits in accept() keeps the socket; this wakes it up.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            connection.close()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.num_connections += 1
                self.open.append(connection)
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as stream:
            while line := stream.readline():
                path = line.split()[1].decode()
                headers = {}
                while (line := stream.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                with self.lock:
                    self.counts[path] += 1
                    count = self.counts[path]
                    exchange = Exchange(connection, path, headers, count, time.monotonic())
                    self.exchanges.append(exchange)
                self.respond(exchange)

    def respond(self, exchange: Exchange) -> None:
        """Answer as `answers` says."""
        self.answers[exchange.path](exchange)

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return self.counts[path]
