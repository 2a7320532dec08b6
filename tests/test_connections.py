"""Connections that stall, break or were left, on real sockets."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from fault_server import FaultServer

from e6tag.fetch import FileFailure, Limits, PoliteClient

BODY = b"picture" * 999
QUICK = Limits(
    connect_seconds=0.4, read_seconds=0.4, header_seconds=0.6, body_seconds=4, grace_seconds=0.3
)


def make_client(url, backoff_seconds=0.01, limits=QUICK):
    return PoliteClient(url, 1000, "tester", backoff_seconds=backoff_seconds, limits=limits)


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


def unreachable(client, url, words):
    start = time.monotonic()
    with pytest.raises(FileFailure, match=words) as caught:
        client.get(url)
    assert caught.value.reason == "unreachable" and not caught.value.permanent
    return time.monotonic() - start


def test_a_connection_that_was_closed_meanwhile_costs_nothing(server):
    # A back-off would take up to a minute; a lost attempt would count as a failure.
    client = make_client(server.url, backoff_seconds=60)
    server.answers = {"/a": lambda e: (e.answer(BODY), e.close())}
    start = time.monotonic()
    for _ in range(4):
        assert client.get(server.url + "/a") == BODY
        time.sleep(0.02)
    assert time.monotonic() - start < 2
    assert server.times("/a") == 4 == server.num_connections
    assert not any(health.failures for health in client._health.values())


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_connection_that_closes_as_it_is_used_again_costs_nothing(server, end):
    def answer(exchange):
        if exchange.count in (2, 4):
            return getattr(exchange, end)()
        return exchange.answer(BODY)

    client = make_client(server.url, backoff_seconds=60)
    server.answers = {"/a": answer}
    start = time.monotonic()
    for _ in range(3):
        assert client.get(server.url + "/a") == BODY
    assert time.monotonic() - start < 2
    # It is a request all the same, and kept to the pace.
    assert server.times("/a") == 5 == client.requests


def test_a_new_connection_that_closes_at_once_is_a_failure(server):
    server.answers = {"/a": lambda e: e.close()}
    client = make_client(server.url)
    unreachable(client, server.url + "/a", "RemoteDisconnected")
    assert server.times("/a") == 5


def test_threads_keep_their_connections(server):
    server.answers = {"/a": lambda e: e.answer(BODY)}
    client = make_client(server.url)
    threads = [
        threading.Thread(target=lambda: [client.get(server.url + "/a") for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.times("/a") == 80 and server.num_connections <= 4


def test_a_stalled_handshake_is_given_up():
    # It takes connections, but never answers the client's hello.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert unreachable(make_client(url), url + "/a", "(?i)timed? ?out") < 6


def test_a_host_that_has_no_address_is_named():
    client = make_client("http://127.0.0.1")
    unreachable(client, "http://no-such-host.invalid/a", "no-such-host.invalid")


def test_a_host_that_does_not_take_connections_is_given_up():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as s:
        # A queue that is full: further connections are left without an answer.
        for _ in range(4):
            waiting = s.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert unreachable(make_client(url), url + "/a", "(?i)timed? ?out") < 6


def test_one_thread_watches_all_headers_and_goes_when_there_are_none(server):
    server.answers = {"/slow": lambda e: (time.sleep(0.3), e.answer(BODY))}
    client = make_client(server.url)
    threads = [threading.Thread(target=lambda: client.get(server.url + "/slow")) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert [t.name for t in threading.enumerate()].count("watchdog") == 1
    for thread in threads:
        thread.join()
    time.sleep(0.3)
    assert "watchdog" not in [t.name for t in threading.enumerate()]


def test_a_secret_goes_to_the_site_itself_and_nowhere_else(server):
    with FaultServer() as other:
        there = {"Authorization": "Basic c2VjcmV0"}
        server.answers = {
            "/away": lambda e: e.answer(b"", "302 Found", Location=other.url + "/a"),
            "/home": lambda e: e.answer(b"", "302 Found", Location="/a"),
            "/a": lambda e: e.answer(BODY),
        }
        other.answers = {
            "/a": lambda e: e.answer(BODY),
            "/back": lambda e: e.answer(b"", "302 Found", Location=server.url + "/a"),
        }
        client = make_client(server.url)
        for url in (server.url + "/away", server.url + "/home", other.url + "/back"):
            body = client.request(url, lambda: there, lambda r: client.read_body(r, 10**6))
            assert body == BODY
        assert all("authorization" not in exchange.headers for exchange in other.exchanges)
        assert all("authorization" in exchange.headers for exchange in server.exchanges)


@pytest.fixture
def certificate(tmp_path):
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl to make a certificate")
    key, paper = tmp_path / "key.pem", tmp_path / "paper.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", key, "-out", paper, "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return key, paper


class TlsServer(FaultServer):
    """A fault server that speaks TLS."""

    def __init__(self, key, paper):
        super().__init__()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(paper, key)

    def serve(self, connection):
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(connection, server_side=True) as secure,
        ):
            super().serve(secure)


def test_https_works_and_does_not_step_down_to_http(server, certificate):
    with TlsServer(*certificate) as secure:
        url = secure.url.replace("http:", "https:")
        client = make_client(url)
        unreachable(client, url + "/a", "(?i)certificate")
        client = make_client(url)
        client.transport.session.verify = str(certificate[1])
        secure.answers = {
            "/a": lambda e: e.answer(BODY),
            "/down": lambda e: e.answer(b"", "301 Moved", Location=server.url + "/a"),
        }
        assert client.get(url + "/a") == BODY
        with pytest.raises(FileFailure, match="from https to http") as caught:
            client.get(url + "/down")
        assert caught.value.reason == "redirect" and server.exchanges == []
