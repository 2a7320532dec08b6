"""Answers that no server should give, and what they must not do to a download."""

import gc
import json
import time

import pytest
from fault_server import FaultServer
from hypothesis import given
from hypothesis import strategies as st
from tiny_booru import download_config, tiny_booru

from e6tag import acquisition
from e6tag.downloads import ReplacedError, download_file
from e6tag.errors import DataError
from e6tag.fetch import FAILURES_TO_STOP, FileFailure, Limits, PoliteClient
from e6tag.pace import MAX_PAUSE_SECONDS, retry_after_seconds
from e6tag.sites.e621 import parse_export_index
from e6tag.sites.listed import ListedPost
from e6tag.sites.listing_files import page_path, read_page, write_page
from e6tag.workers import Workers

BODY = b"picture" * 500
QUICK = Limits(
    connect_seconds=1, read_seconds=0.4, header_seconds=0.6, body_seconds=4, grace_seconds=0.3
)


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def client(server):
    client = PoliteClient(server.url, 1000, "tester", backoff_seconds=0.001, limits=QUICK)
    yield client
    client.close()


def raw(head, body=BODY):
    """An answer whose header is just these bytes."""
    return lambda e: (e.send(head.encode("latin-1") + b"\r\n\r\n" + body), e.close())


# --- headers that cannot be --------------------------------------------------------------------

DAYS = st.sampled_from(["Wed, 21 Oct", "Mon, 31 Feb", "1 Jan", "Sat, 99 Dec"])
DATES = st.builds(
    "{} {} {}:{}:{} {}".format, DAYS, st.integers(0, 10**12), *[st.integers(0, 99)] * 3,
    st.sampled_from(["GMT", "", "PST"]) | st.integers(-(10**20), 10**20).map("{:+05d}".format),
)  # fmt: skip


@given(st.text() | DATES | st.integers(-(10**30), 10**30).map(str) | st.floats().map(str))
def test_whatever_stands_in_retry_after_is_a_pause_or_none(header):
    seconds = retry_after_seconds(header)
    assert seconds is None or 0 < seconds <= MAX_PAUSE_SECONDS


def test_a_pause_until_a_year_that_cannot_be_is_one_of_unknown_length(server, client):
    year = "Wed, 21 Oct 99999999999 07:28:00 GMT"
    server.answers = {
        "/a": lambda e: (
            e.answer(b"", "429 Slow", Retry_After=year) if e.count == 1 else e.answer(BODY)
        )
    }
    assert client.get(server.url + "/a") == BODY
    assert client.pauses == 1


NO_ADDRESSES = [
    "http://[::1",
    "http://h:99999/x",
    "http://h:port/x",
    "http://h:-1/",
    "http://[x]y/",
]


@pytest.mark.parametrize("location", NO_ADDRESSES)
def test_a_redirect_to_no_address_is_a_failure_of_its_file_alone(server, client, location):
    server.answers = {
        "/a": lambda e: e.answer(b"", "302 Found", Location=location),
        "/b": lambda e: e.answer(BODY),
    }
    with pytest.raises(FileFailure) as caught:
        client.get(server.url + "/a")
    assert (caught.value.reason, caught.value.permanent) == ("bad_address", True)
    assert "\n" not in str(caught.value)
    assert client.get(server.url + "/b") == BODY


@pytest.mark.parametrize("length", ["²", "abc", "-5", "0x5", "1e3"])
def test_a_length_that_is_none_is_passed_over(server, client, length):
    server.answers = {"/a": raw(f"HTTP/1.1 200 OK\r\nContent-Length: {length}")}
    assert client.get(server.url + "/a") == BODY


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("length", ["5\r\nContent-Length: 6", "5, 6", "3500, 3501"])
def test_two_lengths_are_an_answer_to_try_again(server, client, length):
    bad = raw(f"HTTP/1.1 200 OK\r\nContent-Length: {length}")
    server.answers = {"/a": lambda e: bad(e) if e.count < 3 else e.answer(BODY)}
    assert client.get(server.url + "/a") == BODY
    assert server.times("/a") == 3
    # urllib3 leaves such an answer's socket to the garbage collector, which says so.
    gc.collect()


ODD_HEADS = [
    "HTTP/1.1 abc OK",
    "HTTP/1.1 99999 OK",
    "\xff\xd8\xff a picture without a header",
    "HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 500,
    "HTTP/1.1 200 OK\r\nX: " + "y" * 100_000,
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + "f" * 20,
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5",
]


@pytest.mark.parametrize("head", ODD_HEADS)
def test_a_header_that_is_none_is_an_answer_to_try_again(server, client, head):
    server.answers = {"/a": lambda e: raw(head)(e) if e.count < 3 else e.answer(BODY)}
    assert client.get(server.url + "/a") == BODY
    assert server.times("/a") == 3


# --- statuses that say nothing of the file -----------------------------------------------------

NOT_OF_THE_FILE = ["206 Partial Content", "304 Not Modified", "407 Proxy", "501 No", "507 Full"]
NOT_OF_THE_FILE += ["508 Loop", "509 Limit", "511 Log In", "599 Timeout"]


@pytest.mark.parametrize("status", NOT_OF_THE_FILE)
def test_no_file_is_given_up_for_good_for_what_is_not_said_of_it(server, client, status):
    server.answers = {"/a": lambda e: e.answer(b"", status)}
    with pytest.raises(FileFailure) as caught:
        client.get(server.url + "/a")
    assert (caught.value.reason, caught.value.permanent) == ("unreachable", False)
    server.answers = {"/b": lambda e: e.answer(b"", status) if e.count < 3 else e.answer(BODY)}
    assert client.get(server.url + "/b") == BODY


# --- when a host counts as down ----------------------------------------------------------------


def test_one_bad_moment_of_many_connections_does_not_end_the_run(server):
    """Each of them fails, as when a server starts anew: that is one failure, not thirty."""
    num = 32
    client = PoliteClient(server.url, 1e6, "tester", num, backoff_seconds=0.05, limits=QUICK)
    server.answers = {
        f"/{n}": lambda e: e.close() if e.count < 3 else e.answer(BODY) for n in range(num)
    }
    found = list(Workers(lambda n: client.get(f"{server.url}/{n}"), num).map(range(num)))
    assert found == [BODY] * num


def test_files_that_are_not_there_show_that_the_host_is(server, client):
    answer = lambda e: e.close() if e.count < 3 else e.answer(b"", "404 Not Found")  # noqa: E731
    server.answers = {f"/{n}": answer for n in range(FAILURES_TO_STOP)}
    for n in range(FAILURES_TO_STOP):
        with pytest.raises(FileFailure) as caught:
            client.get(f"{server.url}/{n}")
        assert caught.value.reason == "gone"


# --- exports -----------------------------------------------------------------------------------


def test_a_file_without_an_end_is_left_where_it_is_longer_than_listed(server, client, tmp_path):
    sent = []

    def endless(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        # There is an end for the sake of this machine's disk.
        for _ in range(400):
            exchange.send(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent.append(65536)
        exchange.close()

    server.answers = {"/f": endless}
    start = time.monotonic()
    with pytest.raises(ReplacedError, match="size or checksum differ"):
        download_file(client, server.url + "/f", tmp_path / "f", "0" * 64, 1_000_000)
    assert time.monotonic() - start < 10 and not list(tmp_path.iterdir())
    # Twice, and what was on its way.
    assert sum(sent) < 2 * (400 << 16)


@pytest.mark.parametrize("url", [*NO_ADDRESSES, "http://", "http://me:pw@h/x", "http://h\n/x"])
def test_exports_at_no_address_are_passed_over(url):
    assert parse_export_index(json.dumps([{"name": "posts", "url": url}])) == {}


def test_an_index_of_brackets_alone_is_none():
    with pytest.raises(DataError, match="not JSON"):
        parse_export_index(b"[" * 200_000)


# --- characters that Python takes for ends of lines --------------------------------------------

ENDS = "\x85\u2028\u2029"


@pytest.mark.parametrize("end", ENDS)
def test_listed_posts_come_back_whatever_their_tags_and_addresses_hold(tmp_path, end):
    place = (f"http://h/a{end}b.png", 3, 4)
    post = ListedPost(post_id=7, tags={f"a{end}b": "general"}, files={"original": place})
    path = page_path(tmp_path, 1)
    write_page(path, [post, ListedPost(post_id=6)], None, {})
    assert [found.post_id for found in read_page(path)[1]] == [7, 6]
    assert read_page(path)[1][0].to_line() == post.to_line()


def test_a_failure_is_remembered_whatever_its_words_hold(tmp_path, server):
    folder = tiny_booru(tmp_path / "booru", 12)
    paths = sorted((folder / "data").rglob("*.png"))
    gone = "/" + str(paths[0].relative_to(folder))

    def answer(exchange):
        if exchange.path == gone:
            return exchange.send(
                "HTTP/1.1 404 Not\x85Found\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
            )
        if exchange.path == "/db_exports.json":
            return exchange.answer(b"", "404 Not Found")
        return exchange.answer((folder / exchange.path[1:]).read_bytes())

    server.respond = answer
    config = download_config(
        server.url, tmp_path / "data", export_dir=folder / "db_export", min_side=1
    )
    assert acquisition.download(config) == 1
    assert server.times(gone) == 1
    lines = (tmp_path / "data/incoming/failures.jsonl").read_text(encoding="utf-8").split("\n")
    assert len(lines) == 2 and "\x85" in lines[0]
    assert acquisition.download(config) == 1
    assert server.times(gone) == 1
