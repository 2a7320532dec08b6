"""One post's picture over real HTTP: verified, tried again, or refused with the right word."""

import gzip
import hashlib
import io

import numpy as np
import pytest
from fault_server import FaultServer
from PIL import Image

from e6tag import images
from e6tag.fetch import Limits, PoliteClient
from e6tag.obtaining import Failed, Obtained, Obtainer, read_from
from e6tag.posts import Candidate
from e6tag.sites.base import PostFile
from e6tag.sites.e621 import E621

QUICK = Limits(connect_seconds=1, read_seconds=0.5, header_seconds=1, body_seconds=5)


def encode(kind="PNG", size=(60, 44), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(stream, kind)
    return stream.getvalue()


PICTURE = encode()
OTHER = encode(seed=1)


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def obtainer(server):
    client = PoliteClient(server.url, 1000, backoff_seconds=0.01, limits=QUICK)
    yield Obtainer(E621.at(server.url), "sample", 64, 92, read_from(client))
    client.close()


def post_of(content, ext="png", size=(60, 44)):
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return PostFile(7, md5, ext, *size, len(content))


def path_of(post, folder=""):
    ext = "jpg" if folder else post.ext
    return f"/data/{folder}{post.md5[:2]}/{post.md5[2:4]}/{post.md5}.{ext}"


def by_turns(*answers):
    """The first answer first, the last one ever after."""
    return lambda e: answers[min(e.count, len(answers)) - 1](e)


def give(content, **headers):
    return lambda e: e.answer(content, **headers)


def expected(content):
    return images.store(images.decode_fitted(content, 64, enlarge=False), 64, 92)[0]


def test_what_is_not_the_file_is_fetched_once_more_past_the_caches(server, obtainer):
    post = post_of(PICTURE)
    server.answers = {path_of(post): by_turns(give(OTHER), give(PICTURE))}
    found = obtainer.obtain(post)
    assert isinstance(found, Obtained) and found.jpeg == expected(PICTURE)
    assert found.num_bytes == len(PICTURE)
    assert [e.headers.get("cache-control") for e in server.exchanges] == [None, "no-cache"]


@pytest.mark.parametrize(
    ("content", "reason", "permanent"),
    [
        (OTHER, "hash_mismatch", True),
        (PICTURE[:-9] + bytes(9), "hash_mismatch", True),
        (PICTURE + b"trailing junk", "hash_mismatch", True),
        (b"<html>Please log in</html>", "not_an_image", False),
        (b'{"success": false}', "not_an_image", False),
        (b"", "empty", False),
    ],
)
def test_what_is_never_the_file_is_left_out_and_says_why(
    server, obtainer, content, reason, permanent
):
    post = post_of(PICTURE)
    server.answers = {path_of(post): give(content, Content_Type="image/jpeg")}
    failed = obtainer.obtain(post)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.permanent) == (reason, permanent)
    assert failed.message.startswith(f"post 7: {server.url}/data/")
    assert server.times(path_of(post)) == 2


def test_a_login_page_after_a_redirect_is_not_a_picture(server, obtainer):
    post = post_of(PICTURE)
    server.answers = {
        path_of(post): lambda e: e.answer(b"", "302 Found", Location="/login"),
        "/login": give(b"<!doctype html><form>", Content_Type="text/html"),
    }
    failed = obtainer.obtain(post)
    assert isinstance(failed, Failed) and failed.reason == "not_an_image"
    assert "web page" in failed.message


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "PNG"])
@pytest.mark.parametrize("said", ["text/plain", "", "application/octet-stream", "image/gif"])
def test_pictures_are_told_by_their_content(server, obtainer, kind, said):
    # Named png, and said to be anything.
    content = encode(kind)
    post = post_of(content)
    server.answers = {path_of(post): give(content, Content_Type=said)}
    found = obtainer.obtain(post)
    assert isinstance(found, Obtained) and found.jpeg == expected(content)


def test_pictures_may_come_compressed(server, obtainer):
    post = post_of(PICTURE)
    server.answers = {path_of(post): give(gzip.compress(PICTURE), Content_Encoding="gzip")}
    found = obtainer.obtain(post)
    assert isinstance(found, Obtained) and found.jpeg == expected(PICTURE)


def close_delimited(content):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content)
        exchange.close()

    return answer


def test_a_body_without_a_length_is_judged_by_its_hash(server, obtainer):
    # Only the hash, or decoding it, can tell that the first one is cut.
    post = post_of(PICTURE)
    cut = close_delimited(PICTURE[: len(PICTURE) // 2])
    server.answers = {path_of(post): by_turns(cut, close_delimited(PICTURE))}
    found = obtainer.obtain(post)
    assert isinstance(found, Obtained) and found.jpeg == expected(PICTURE)


def test_samples_are_verified_by_decoding_and_size(server, obtainer):
    # They have no hash of their own, so each is looked at; the original is never in doubt.
    large = encode(size=(1200, 900))
    post = post_of(large, size=(1200, 900))
    sample = encode("JPEG", size=(1133, 850))
    sample_path, path = path_of(post, "sample/"), path_of(post)
    for first, variant in [
        (give(sample), "sample"),
        (by_turns(close_delimited(sample[:-400]), give(sample)), "sample"),
        (give(sample[:-400]), "original"),
        (give(encode("JPEG", size=(500, 375))), "original"),
        (lambda e: e.answer(b"", "404 Not Found"), "original"),
        (lambda e: e.answer(b"", "410 Gone"), "original"),
    ]:
        server.counts.clear()
        server.answers = {sample_path: first, path: give(large)}
        found = obtainer.obtain(post)
        assert isinstance(found, Obtained) and found.variant == variant
        assert found.jpeg == expected(sample if variant == "sample" else large)


def test_which_file_shows_a_post_does_not_depend_on_a_moments_luck(server, obtainer):
    large = encode(size=(1200, 900))
    post = post_of(large, size=(1200, 900))
    server.answers = {
        path_of(post, "sample/"): lambda e: e.answer(b"", "500 Oops"),
        path_of(post): give(large),
    }
    failed = obtainer.obtain(post)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.permanent) == ("unreachable", False)
    assert server.times(path_of(post)) == 0


def test_bombs_are_refused_before_they_are_decoded(server, obtainer):
    stream = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(stream, "PNG")
    post = post_of(stream.getvalue(), size=(14_000, 14_000))
    bomb = give(stream.getvalue())
    server.answers = {path_of(post): bomb, path_of(post, "sample/"): bomb}
    failed = obtainer.obtain(post)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.permanent) == ("too_large", True)


def test_a_picture_of_another_size_than_stated_is_refused(server, obtainer):
    post = post_of(PICTURE, size=(61, 44))
    server.answers = {path_of(post): give(PICTURE)}
    failed = obtainer.obtain(post)
    assert isinstance(failed, Failed) and failed.reason == "wrong_size"
    turned = post_of(PICTURE, size=(44, 60))
    assert isinstance(obtainer.obtain(turned), Obtained)


def test_candidates_without_a_hash_and_size_are_taken_if_they_decode(server, obtainer):
    server.answers = {"/x": give(PICTURE)}
    found = obtainer.obtain_candidate(1, Candidate("preview", server.url + "/x"))
    assert found.jpeg == expected(PICTURE)
