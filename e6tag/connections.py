"""Connections that are cut when a header takes too long, and that know when they were left."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

LEFT = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""What a request meets on a connection that the server closed while it was not used."""


class Left(ConnectionResetError):
    """The server closed an open connection between two requests; ask again on a new one."""


class Watchdog:
    """Shuts sockets down that are not let go of in time, by one thread for all of them."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.lock = threading.Lock()
        self.due: dict[socket.socket, float] = {}
        self.is_running = False

    @contextmanager
    def deadline(self, connection: socket.socket) -> Iterator[None]:
        """Shut a socket down unless the block ends in time.

        Raises:
            TimeoutError: at the end of a block that took too long: the standard library takes an
                end of file within a header for the header's end.
        """
        start = time.monotonic()
        with self.lock:
            self.due[connection] = start + self.seconds
            if not self.is_running:
                self.is_running = True
                threading.Thread(target=self.watch, name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            with self.lock:
                self.due.pop(connection, None)
            if time.monotonic() - start >= self.seconds:
                raise TimeoutError(f"no whole header after {self.seconds:g} s")

    def watch(self) -> None:
        """Look after the sockets until there are none."""
        while self.is_running:
            time.sleep(min(1.0, self.seconds / 8))
            with self.lock:
                now = time.monotonic()
                late = [connection for connection, due in self.due.items() if now >= due]
                for connection in late:
                    del self.due[connection]
                    shut_down(connection)
                self.is_running = bool(self.due)


def shut_down(connection: socket.socket) -> None:
    """End both directions; whoever reads gets an end of file."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class WatchedAdapter(HTTPAdapter):
    """Adapter whose connections are cut when an answer's header takes too long.

    A socket's time-out starts anew with each byte, so a byte now and then would do for ever.
    """

    def __init__(self, header_seconds: float, **options: Any):
        self.pools = watched_pools(Watchdog(header_seconds))
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


def watched_pools(watchdog: Watchdog) -> dict[str, Any]:
    """Connection pools by scheme, of connections that the watchdog looks after."""

    class Watched:
        sock: Any
        answers = 0
        """since the connection was made"""

        def connect(self) -> None:
            self.answers = 0
            super().connect()  # type: ignore[misc]

        def request(self, *arguments: Any, **options: Any) -> None:
            with self.noticing():
                super().request(*arguments, **options)  # type: ignore[misc]

        def getresponse(self) -> Any:
            answer = None
            try:
                with self.noticing(), watchdog.deadline(self.sock):
                    answer = super().getresponse()  # type: ignore[misc]
            except TimeoutError:
                if answer is not None:
                    answer.close()
                raise
            self.answers += 1
            return answer

        @contextmanager
        def noticing(self) -> Iterator[None]:
            try:
                yield
            except LEFT as problem:
                if self.answers:
                    raise Left(str(problem)) from None
                raise

    class Plain(Watched, HTTPConnection):
        pass

    class Secure(Watched, HTTPSConnection):
        pass

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
