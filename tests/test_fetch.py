"""The HTTP client against a server that misbehaves on real sockets."""

import gzip
import hashlib
import itertools
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fault_server import FaultServer
from hypothesis import given
from hypothesis import strategies as st

from e6tag import fetch
from e6tag.downloads import ReplacedError, download_file
from e6tag.errors import ConfigError, FetchError
from e6tag.fetch import FileFailure, Limits, PoliteClient, Stopped
from e6tag.pace import MAX_BACKOFF_SECONDS, Pace, backoff_seconds, retry_after_seconds
from e6tag.transport import is_public

BODY = bytes(range(256)) * 400
QUICK = Limits(
    connect_seconds=2,
    read_seconds=0.5,
    header_seconds=0.8,
    body_seconds=5,
    grace_seconds=0.3,
    bytes_per_second=1000,
)


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def client(server):
    client = make_client(server)
    yield client
    client.close()


def make_client(server, rate=1000.0, **options):
    return PoliteClient(
        server.url, rate, "tester", **{"backoff_seconds": 0.01, "limits": QUICK} | options
    )


def failure(client, url):
    with pytest.raises(FileFailure) as caught:
        client.get(url)
    return caught.value.reason, caught.value.permanent


def test_a_body_comes_whole_and_the_connection_is_used_again(server, client):
    server.answers = {"/a": lambda e: e.answer(BODY)}
    for _ in range(5):
        assert client.get(server.url + "/a") == BODY
    assert server.num_connections == 1
    assert (
        server.exchanges[0].headers["user-agent"] == f"e6tag/{fetch.__version__} (contact: tester)"
    )
    assert server.exchanges[0].headers["accept-encoding"] == "identity"


def cut_short(exchange):
    exchange.answer(BODY[:-1], length=len(BODY))
    exchange.close()


def reset_within(exchange):
    exchange.answer(BODY[:1000], length=len(BODY))
    time.sleep(0.05)
    exchange.reset()


def broken_chunk(exchange):
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
    exchange.close()


def cut_within_the_header(exchange):
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConte")
    exchange.close()


def chunks_cut_between(exchange):
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    exchange.close()


FAULTS = {
    "chunks that end early": chunks_cut_between,
    "a chunk of garbage": lambda e: (
        e.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\nxx"),
        e.close(),
    ),
    "gzip that is none": lambda e: e.answer(BODY, Content_Encoding="gzip"),
    "204": lambda e: e.answer(b"", "204 No Content"),
    "504": lambda e: e.answer(b"", "504 Gateway Timeout"),
    "526": lambda e: e.answer(b"", "526 Invalid SSL Certificate"),
    "a header that is cut": cut_within_the_header,
    "a body that is short": cut_short,
    "a reset within the body": reset_within,
    "a broken chunk": broken_chunk,
    "no answer": lambda e: e.close(),
    "a reset": lambda e: e.reset(),
    "a line that is not HTTP": lambda e: (e.send(b"hello?\r\n\r\n"), e.close()),
    "silence": lambda e: time.sleep(1),
    "500": lambda e: e.answer(b"oops", "500 Internal Server Error"),
    "502": lambda e: e.answer(b"oops", "502 Bad Gateway"),
    "520": lambda e: e.answer(b"oops", "520 Unknown"),
    "408": lambda e: e.answer(b"oops", "408 Request Timeout"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_may_pass_is_tried_again_until_it_is_right(server, client, name):
    fault = FAULTS[name]
    server.answers = {"/a": lambda e: fault(e) if e.count < 3 else e.answer(BODY)}
    assert client.get(server.url + "/a") == BODY
    assert server.times("/a") == 3


def test_what_broke_off_says_after_how_many_bytes(server, client):
    server.answers = {"/a": cut_short}
    with pytest.raises(FileFailure, match=f"after {len(BODY) - 1} bytes"):
        client.get(server.url + "/a")


def test_what_does_not_pass_is_given_up_for_this_run_only(server, client):
    server.answers = {"/a": cut_short}
    assert failure(client, server.url + "/a") == ("unreachable", False)
    assert server.times("/a") == fetch.ATTEMPTS


def test_a_longer_body_than_stated_harms_neither_this_file_nor_the_next(server, client):
    server.answers = {
        "/long": lambda e: e.answer(BODY + b"junk\r\n\r\n", length=len(BODY)),
        "/next": lambda e: e.answer(b"next"),
    }
    assert client.get(server.url + "/long") == BODY
    assert client.get(server.url + "/next") == b"next"


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone", "451 Unavailable"])
def test_what_is_gone_is_not_asked_for_again(server, client, status):
    server.answers = {"/a": lambda e: e.answer(b"", status)}
    assert failure(client, server.url + "/a") == ("gone", True)
    assert server.times("/a") == 1


def test_a_refusal_stops_the_run_and_says_what_to_do(server, client):
    server.answers = {
        "/html": lambda e: e.answer(b"<html>", "403 Forbidden", Content_Type="text/html"),
        "/login": lambda e: e.answer(b"{}", "401 Unauthorized"),
        "/file": lambda e: e.answer(b"no", "403 Forbidden", Content_Type="text/plain"),
        "/odd": lambda e: e.answer(b"no", "418 Teapot"),
    }
    for path in ("/html", "/login"):
        with pytest.raises(FetchError, match="--contact") as caught:
            client.get(server.url + path)
        assert not isinstance(caught.value, FileFailure)
        assert caught.value.exit_code == 3
        assert server.times(path) == 1
    assert failure(client, server.url + "/file") == ("forbidden", True)
    assert failure(client, server.url + "/odd") == ("refused", True)


def throttled(status, **headers):
    return lambda e: e.answer(b"slow", status, **headers) if e.count == 1 else e.answer(BODY)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ({"Retry_After": "1"}, 1.0, 3.0),
        ({"Retry_After": "date"}, 0.8, 4.0),
        ({}, 0.005, 1.5),
        ({"Retry_After": "-5"}, 0.005, 1.5),
        ({"Retry_After": "soon"}, 0.005, 1.5),
    ],
)
def test_all_threads_pause_as_the_site_asks(server, client, status, header, least, most):
    if header.get("Retry_After") == "date":
        when = datetime.now(UTC) + timedelta(seconds=2.5)
        header = {"Retry_After": format_datetime(when, usegmt=True)}
    server.answers = {"/a": throttled(status, **header), "/b": lambda e: e.answer(b"b")}
    start = time.monotonic()
    other = threading.Thread(target=lambda: (time.sleep(0.3), client.get(server.url + "/b")))
    other.start()
    assert client.get(server.url + "/a") == BODY
    other.join()
    seconds = server.exchanges[1].seconds - start
    assert least <= seconds <= most
    if least > 0.5:
        assert all(e.seconds - start >= least for e in server.exchanges[1:])


def test_absurd_pauses_are_capped():
    assert retry_after_seconds("1000000000") == 600
    far = format_datetime(datetime(2190, 1, 1, tzinfo=UTC), usegmt=True)
    assert retry_after_seconds(far) == 600
    past = format_datetime(datetime(1990, 1, 1, tzinfo=UTC), usegmt=True)
    for senseless in (None, "", "0", "-1", "1.5.2", "tomorrow", past, "9" * 400):
        seconds = retry_after_seconds(senseless)
        assert seconds is None or seconds == 600
    assert retry_after_seconds("120") == 120


def test_pauses_do_not_use_up_the_attempts_but_do_end(server):
    server.answers = {
        "/some": lambda e: e.answer(BODY) if e.count > 8 else e.answer(b"", "429 Slow"),
        "/ever": lambda e: e.answer(b"", "503 Slow", Retry_After="0"),
    }
    client = make_client(server, backoff_seconds=0.001)
    assert client.get(server.url + "/some") == BODY
    with pytest.raises(FetchError, match=r"keeps asking for pauses.*--requests-per-second"):
        client.get(server.url + "/ever")
    assert server.times("/ever") == fetch.THROTTLES_TO_STOP


def test_a_host_that_only_fails_ends_the_run(server, client):
    server.answers = {f"/{i}": lambda e: e.close() for i in range(9)}
    with pytest.raises(FetchError, match=r"does not answer.*resumes") as caught:
        for i in range(9):
            with pytest.raises(FileFailure):
                client.get(f"{server.url}/{i}")
    assert not isinstance(caught.value, FileFailure)
    assert len(server.exchanges) <= fetch.FAILURES_TO_STOP


def test_nobody_listening_is_named():
    with FaultServer() as server:
        url = server.url
    client = PoliteClient(url, 100, backoff_seconds=0.01, limits=QUICK)
    with pytest.raises(FileFailure, match=r"127\.0\.0\.1.*refused") as caught:
        client.get(url + "/a")
    assert not caught.value.permanent


def slow_body(exchange):
    exchange.answer(b"", length=len(BODY))
    for byte in BODY:
        exchange.send(bytes([byte]))
        time.sleep(0.05)


def slow_header(exchange):
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 500:
        exchange.send(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize("slow", [slow_body, slow_header])
def test_a_byte_now_and_then_is_not_enough(server, client, slow):
    server.answers = {"/a": lambda e: slow(e) if e.count == 1 else e.answer(BODY)}
    start = time.monotonic()
    assert client.get(server.url + "/a") == BODY
    assert time.monotonic() - start < 4


def test_the_whole_body_has_a_deadline(server):
    limits = Limits(read_seconds=1, body_seconds=0.2, bytes_per_second=0.0)
    client = make_client(server, limits=limits)
    server.answers = {"/a": slow_body}
    start = time.monotonic()
    assert failure(client, server.url + "/a") == ("unreachable", False)
    assert time.monotonic() - start < 10


def test_bodies_are_bounded(server, client):
    def endless(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            exchange.send(b"10000\r\n" + bytes(65536) + b"\r\n")

    server.answers = {"/stated": lambda e: e.answer(BODY), "/endless": endless}
    for path in ("/stated", "/endless"):
        with pytest.raises(FileFailure) as caught:
            client.get(server.url + path, max_bytes=50_000)
        assert caught.value.reason == "too_large"
        assert caught.value.permanent


def redirect(target, status="302 Found"):
    return lambda e: e.answer(b"", status, Location=target)


def test_redirects_are_followed_on_the_same_host(server, client):
    server.answers = {
        "/a": redirect("/b"),
        "/b": redirect(server.url + "/c", "301 Moved"),
        "/c": lambda e: e.answer(BODY),
    }
    assert client.get(server.url + "/a") == BODY


def test_redirects_that_lead_nowhere_good_are_refused(server, client):
    server.answers = {
        "/loop": redirect("/loop"),
        "/file": redirect("file:///etc/passwd"),
        "/ftp": redirect("ftp://example.org/x"),
    }
    for path in server.answers:
        assert failure(client, server.url + path) == ("redirect", True)
    assert server.times("/loop") == 6


def test_a_public_site_cannot_make_us_ask_private_addresses():
    client = PoliteClient("http://8.8.8.8", 1000, limits=QUICK)
    for address in (
        "http://127.0.0.1/x",
        "http://localhost:80/x",
        "http://[::1]/x",
        "http://10.1.2.3/",
        "http://192.168.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "gopher://8.8.8.8/",
    ):
        with pytest.raises(FileFailure) as caught:
            client.transport.check_target(address)
        assert caught.value.reason == "redirect", address
    client.transport.check_target("http://8.8.8.8/x")
    client.transport.check_target("http://8.8.4.4/x")
    assert not is_public("127.0.0.1") and is_public("1.1.1.1")


def test_no_password_and_no_cookie_is_ever_sent(server, tmp_path, monkeypatch):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client = make_client(server)
    client.transport.session.trust_env = True  # as for a site that is not on this machine
    server.answers = {"/a": lambda e: e.answer(BODY, Set_Cookie="id=1")}
    client.get(server.url + "/a")
    client.get(server.url + "/a")
    for exchange in server.exchanges:
        assert not {"authorization", "cookie"} & exchange.headers.keys()


def test_a_proxy_is_not_used_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answers = {"/a": lambda e: e.answer(BODY)}
    assert make_client(server).get(server.url + "/a") == BODY


def test_compressed_answers_are_unpacked(server, client):
    packed = gzip.compress(BODY)
    server.answers = {"/a": lambda e: e.answer(packed, Content_Encoding="gzip")}
    assert client.get(server.url + "/a") == BODY


@pytest.mark.parametrize(
    ("header", "forbidden"),
    [
        ("noai", True),
        ("NoImageAI, noindex", True),
        ("otherbot: noai", False),
        ("otherbot: noindex, e6tag: noai", True),
        ("otherbot: noindex, noai", False),
        ("noindex", False),
        ("", False),
    ],
)
def test_sites_that_forbid_learning_are_obeyed(server, client, header, forbidden):
    server.answers = {"/a": lambda e: e.answer(BODY, X_Robots_Tag=header)}
    if forbidden:
        assert failure(client, server.url + "/a") == ("noai", True)
    else:
        assert client.get(server.url + "/a") == BODY


def test_the_rate_is_never_exceeded_by_all_threads_together(server):
    rate, num_threads, each = 50.0, 6, 10
    client = make_client(server, rate)
    # Every third is a failure: retries count as well.
    server.answers = {
        f"/{n}": lambda e: e.answer(b"", "500 Oops") if e.count % 3 == 1 else e.answer(b"x")
        for n in range(num_threads)
    }

    def work(number):
        for _ in range(each):
            client.get(f"{server.url}/{number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(num_threads)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    times = sorted(e.seconds for e in server.exchanges)
    assert len(times) > num_threads * each
    # In any window of w seconds at most rate * w + 1 may start; a late thread may bring two close.
    jitter = 0.25
    for first in range(0, len(times), 7):
        for last in range(first + 10, len(times), 11):
            window = times[last] - times[first]
            assert last - first <= rate * (window + jitter) + 1
    assert times[0] - start < 0.2 + jitter and seconds >= (len(times) - 1) / rate


def test_requests_start_at_least_an_interval_apart():
    pace = Pace(200.0)
    starts, lock = [], threading.Lock()

    def work():
        for _ in range(15):
            pace.wait()
            with lock:
                starts.append(pace._next)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    starts = sorted(set(starts))
    assert all(b - a >= 0.005 - 1e-9 for a, b in itertools.pairwise(starts))


def test_waiting_threads_stop_at_once():
    pace = Pace(0.001)
    pace.wait()
    stopped = []

    def work():
        try:
            pace.wait()
        except Stopped:
            stopped.append(time.monotonic())

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    start = time.monotonic()
    pace.stop()
    for thread in threads:
        thread.join(5)
    assert len(stopped) == 4 and max(stopped) - start < 2


@given(st.integers(1, 60), st.floats(0.01, 10))
def test_backoff_is_jittered_and_capped(failures, first):
    seconds = [backoff_seconds(failures, first) for _ in range(20)]
    most = min(MAX_BACKOFF_SECONDS, first * 2 ** (failures - 1))
    assert all(0 <= s <= most for s in seconds)
    assert len(set(seconds)) > 1


@pytest.mark.parametrize("contact", ["", " ", "a\nb", "naïve"])
def test_contacts_that_cannot_stand_in_a_header_are_refused(contact):
    with pytest.raises(ConfigError, match="--contact"):
        fetch.user_agent(contact)


class FileOnServer:
    """A file with a validator, Range and If-Range, that breaks off as often as wanted."""

    def __init__(self, content, etag='"one"', breaks=0):
        self.content, self.etag, self.breaks = content, etag, breaks

    def __call__(self, exchange):
        wanted = exchange.headers.get("range", "")
        content, status, extra = self.content, "200 OK", {"ETag": self.etag}
        if wanted and exchange.headers.get("if-range") == self.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return exchange.answer(b"", "416 Range Not Satisfiable")
            extra["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = "206 Partial Content", content[start:]
        if self.breaks:
            self.breaks -= 1
            exchange.answer(content[: len(content) // 2], status, length=len(content), **extra)
            return exchange.close()
        return exchange.answer(content, status, **extra)


LARGE = hashlib.sha256(b"seed").digest() * 20_000
LARGE_SHA = hashlib.sha256(LARGE).hexdigest()


def test_large_files_go_on_where_they_broke_off(server, client, tmp_path):
    server.answers = {"/f": FileOnServer(LARGE, breaks=3)}
    path, counted = tmp_path / "sub" / "f.gz", []
    download_file(client, server.url + "/f", path, LARGE_SHA, len(LARGE), counted.append)
    assert path.read_bytes() == LARGE
    assert [p.name for p in path.parent.iterdir()] == ["f.gz"]
    ranges = [e.headers.get("range") for e in server.exchanges]
    assert ranges == [None, "bytes=320000-", "bytes=480000-", "bytes=560000-"]
    assert sum(counted) == len(LARGE)


def test_large_files_go_on_in_the_next_run(server, tmp_path):
    server.answers = {"/f": FileOnServer(LARGE, breaks=99)}
    path = tmp_path / "f.gz"
    with pytest.raises(FetchError):
        download_file(make_client(server), server.url + "/f", path, LARGE_SHA)
    assert not path.exists()
    there = (tmp_path / "f.gz.part").stat().st_size
    assert there > len(LARGE) * 0.9
    server.answers["/f"].breaks = 0
    download_file(make_client(server), server.url + "/f", path, LARGE_SHA)
    assert path.read_bytes() == LARGE
    assert server.exchanges[-1].headers["range"] == f"bytes={there}-"


def test_a_file_that_was_replaced_meanwhile_is_never_spliced(server, client, tmp_path):
    file = FileOnServer(LARGE, breaks=1)
    other = bytes(len(LARGE))

    def replaced(exchange):
        if exchange.count == 2:
            file.content, file.etag = other, '"two"'
        file(exchange)

    server.answers = {"/f": replaced}
    path = tmp_path / "f.gz"
    with pytest.raises(ReplacedError, match="replaced"):
        download_file(client, server.url + "/f", path, LARGE_SHA)
    assert list(tmp_path.iterdir()) == []
    download_file(client, server.url + "/f", path, hashlib.sha256(other).hexdigest())
    assert path.read_bytes() == other


def test_a_finished_part_needs_no_request(server, client, tmp_path):
    (tmp_path / "f.gz.part").write_bytes(LARGE)
    download_file(client, server.url + "/f", tmp_path / "f.gz", LARGE_SHA)
    assert (tmp_path / "f.gz").read_bytes() == LARGE
    assert server.exchanges == []


@pytest.mark.parametrize("odd", ["416", "wrong range", "ignores range"])
def test_odd_answers_to_a_range_start_over(server, client, tmp_path, odd):
    def answer(exchange):
        if "range" not in exchange.headers or odd == "ignores range":
            return exchange.answer(LARGE, ETag='"x"')
        if odd == "416":
            return exchange.answer(b"", "416 Range Not Satisfiable")
        span = f"bytes 7-{len(LARGE) - 1}/{len(LARGE)}"
        return exchange.answer(LARGE[7:], "206 Partial Content", Content_Range=span)

    server.answers = {"/f": answer}
    (tmp_path / "f.part").write_bytes(LARGE[:1000])
    note = {"url": server.url + "/f", "sha256": LARGE_SHA, "validator": '"x"'}
    (tmp_path / "f.part.json").write_text(json.dumps(note))
    download_file(client, server.url + "/f", tmp_path / "f", LARGE_SHA)
    assert (tmp_path / "f").read_bytes() == LARGE


def test_a_damaged_part_is_found_by_its_checksum(server, client, tmp_path):
    server.answers = {"/f": FileOnServer(LARGE)}
    (tmp_path / "f.part").write_bytes(b"\0" * 1000)
    note = {"url": server.url + "/f", "sha256": LARGE_SHA, "validator": '"one"'}
    (tmp_path / "f.part.json").write_text(json.dumps(note))
    download_file(client, server.url + "/f", tmp_path / "f", LARGE_SHA)
    assert (tmp_path / "f").read_bytes() == LARGE
    assert server.times("/f") == 2
