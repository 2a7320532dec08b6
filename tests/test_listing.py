"""The listing of an API's posts: complete whatever happens, then fixed; and the ways to posts."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from api_server import UNUSED, Answer, ApiServer, as_json, danbooru, gelbooru, make_posts, moebooru
from conftest import ROOT, run_here
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_posts import write_export

from e6tag import acquisition, files, shards
from e6tag.config import DownloadConfig
from e6tag.demo.booru import Booru
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.errors import ConfigError, DataError, FetchError
from e6tag.fetch import PoliteClient
from e6tag.listing import Search, list_posts
from e6tag.sites import open_site
from e6tag.sites.listed import ListedPost, make_collection
from e6tag.sites.listing_files import listed_posts, page_path, read_listing, read_page, write_page
from e6tag.splits import groups

POSTS = make_posts()
IDS = sorted((post.post_id for post in POSTS), reverse=True)
CATEGORIES = {0: "general", 1: "artist"}
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)


def list_from(server, folder, name="danbooru", query="", max_posts=None):
    """The ids of a listing, in order."""
    site = open_site(name, base_url=server.url, via="api")
    client = PoliteClient(server.url, 10_000, backoff_seconds=0.01)
    try:
        list_posts(client, site, Search(name, query, max_posts), folder, True)
    finally:
        client.close()
    return ids_of(folder)


def ids_of(folder):
    pages = json.loads((folder / "listing.json").read_text())["pages"]
    return [post.post_id for post in listed_posts(folder, pages)]


def download(server, out, **changes):
    values = {
        "site": "danbooru", "base_url": server.url, "out": out, "strategy": "all",
        "requests_per_second": 1000.0, "image_size": 64, "quiet": True,
    }  # fmt: skip
    return acquisition.download(DownloadConfig(**values | changes))


# Complete


@pytest.mark.parametrize("most", [1, 7, 10, 30, 100])
def test_every_post_is_listed_once_newest_first_whatever_the_page_size(most, tmp_path):
    with ApiServer(danbooru, POSTS, most=most) as server:
        assert list_from(server, tmp_path) == IDS


@pytest.mark.parametrize("max_posts", [1, 7, 10, 11, 29, 30, 99])
def test_max_posts_lists_exactly_so_many_of_the_newest(max_posts, tmp_path):
    with ApiServer(danbooru, POSTS, most=10) as server:
        assert list_from(server, tmp_path, max_posts=max_posts) == IDS[:max_posts]
        asked = sum(int(request.params["limit"]) for request in server.requests)
    assert asked < max_posts + 2 * 200


def test_posts_that_come_in_meanwhile_move_nothing(tmp_path):
    """Numbered pages would show some posts twice; those from the front would then be missed."""
    old, new = POSTS[:20], list(POSTS[20:])

    def upload(server, request):
        if len(server.requests) > 1 and new:
            server.posts = [*server.posts, *(new.pop() for _ in range(min(3, len(new))))]

    with ApiServer(moebooru, old, most=6, before=upload) as server:
        found = list_from(server, tmp_path, "moebooru")
    assert found == sorted((post.post_id for post in old), reverse=True)


def test_a_query_reaches_the_site_and_pages_within_it(tmp_path):
    with ApiServer(danbooru, POSTS, most=4) as server:
        found = list_from(server, tmp_path, query="red circle")
        assert {request.params["tags"] for request in server.requests} == {"red circle"}
    assert found == [i for i in IDS if {"red", "circle"} <= set(POSTS[i // 3].names)]


def test_an_empty_page_in_the_middle_is_asked_for_again(tmp_path):
    def empty_now_and_then(server, request):
        if len(server.requests) % 3 == 0:
            return as_json({"@attributes": {"limit": 100, "offset": 0, "count": 99}})

    with ApiServer(gelbooru, POSTS, before=empty_now_and_then) as server:
        assert list_from(server, tmp_path, "gelbooru") == IDS


def test_pages_in_any_order_with_more_posts_than_asked_for_are_put_right(tmp_path):
    def shuffled(server, request):
        target = request.target.replace(f"limit={request.params['limit']}", "limit=10")
        posts = json.loads(danbooru(server, type(request)(target, {})).body)
        first = json.loads(danbooru(server, type(request)("/posts.json?limit=3", {})).body)
        return as_json(posts[::-1] + (first if posts else []))

    with ApiServer(danbooru, POSTS, most=10, before=shuffled) as server:
        assert list_from(server, tmp_path, max_posts=25) == IDS[:25]


# Resumed


def test_a_listing_that_broke_off_goes_on_where_it_was(tmp_path):
    broken = [True]

    def fails(server, request):
        if broken[0] and len(server.requests) > 2:
            return Answer(b"", status=500)

    with ApiServer(danbooru, POSTS, most=7, before=fails) as server:
        with pytest.raises(FetchError, match="resumes"):
            list_from(server, tmp_path)
        assert not (tmp_path / "listing.json").exists()
        broken[0], done = False, [r.target for r in server.requests[:2]]
        server.requests.clear()
        assert list_from(server, tmp_path) == IDS
        assert not set(done) & {request.target for request in server.requests}
        server.requests.clear()
        assert list_from(server, tmp_path) == IDS
        assert not server.requests


def test_kill_9_at_any_moment_leaves_whole_pages_only(tmp_path):
    def slowly(server, request):
        time.sleep(0.02)

    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path\n"
        "import test_listing; from types import SimpleNamespace\n"
        "test_listing.list_from(SimpleNamespace(url=sys.argv[3]), Path(sys.argv[4]))"
    )
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    arguments = [sys.executable, "-c", code, ROOT / "tests", ROOT]
    with ApiServer(danbooru, POSTS, most=1, before=slowly) as server:
        list_from(server, clean)
        for _ in range(3):
            before = len(list(killed.glob("page*")))
            with subprocess.Popen([*arguments, server.url, killed]) as process:
                while process.poll() is None and len(list(killed.glob("page*.gz"))) < before + 3:
                    time.sleep(0.003)
                process.send_signal(signal.SIGKILL)
            for path in killed.glob("page*.gz"):
                read_page(path)
        list_from(server, killed)
    assert (clean / "listing.json").read_bytes() == (killed / "listing.json").read_bytes()


@pytest.mark.parametrize("harm", [b"", b"no gzip", None])
def test_a_damaged_page_is_named(harm, tmp_path):
    with ApiServer(danbooru, POSTS, most=10) as server:
        list_from(server, tmp_path)
        path = page_path(tmp_path, 2)
        path.unlink() if harm is None else path.write_bytes(harm)
        with pytest.raises(DataError, match="page-000002"):
            read_listing(tmp_path, CATEGORIES)


def test_pages_of_two_searches_are_never_mixed(tmp_path):
    with ApiServer(danbooru, POSTS, most=10) as server:
        list_from(server, tmp_path, query="red")
        for changes in ({"query": "blue"}, {"query": "red", "max_posts": 5}):
            with pytest.raises(ConfigError, match="was begun with --"):
                list_from(server, tmp_path, **changes)


# Refused


def test_a_search_without_posts_is_one_line_and_forgotten(tmp_path):
    with ApiServer(danbooru, POSTS) as server:
        with pytest.raises(DataError, match="finds nothing for 'unicorn'"):
            list_from(server, tmp_path, query="unicorn")
        assert len(list_from(server, tmp_path, query="red")) == 15


@pytest.mark.parametrize("query", ["order:score", "red sort:random", "-order:id", "ORDER:rank"])
def test_words_that_upset_the_order_are_refused(query, tmp_path):
    with ApiServer(danbooru, POSTS) as server, pytest.raises(ConfigError, match="cannot be used"):
        list_from(server, tmp_path, query=query)
    assert not server.requests


def test_a_site_that_ignores_the_cursor_ends_the_run(tmp_path):
    def first_page_for_ever(server, request):
        return danbooru(server, type(request)("/posts.json?limit=5&tags=", {}))

    with (
        ApiServer(danbooru, POSTS, before=first_page_for_ever) as server,
        pytest.raises(FetchError, match="same posts again"),
    ):
        list_from(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [(410, "--max-posts", 3), (422, "fewer words", 3), (401, "E6TAG_LOGIN", 3),
     (404, "Check --base-url", 3), (200, "not JSON", 4)],
)  # fmt: skip
def test_a_page_that_cannot_be_had_is_one_line_and_its_exit_code(status, words, code, tmp_path):
    def refuses(server, request):
        return Answer(b"<html>\nno</html>", "text/html", status)

    with ApiServer(danbooru, POSTS, before=refuses) as server:
        arguments = [
            "--site", "danbooru", "--base-url", server.url, "--quiet", "--out", tmp_path / "data",
            "--requests-per-second", "1000",
        ]  # fmt: skip
        done = run_here("download", arguments)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code and len(lines) == 1
    assert words in lines[0] and "Traceback" not in lines[0]


# Fixed


def test_the_listing_is_what_the_plan_depends_on(tmp_path):
    out = tmp_path / "data"
    with ApiServer(danbooru, POSTS) as server:
        assert download(server, out, plan_only=True) == 0
        info = json.loads((out / "dataset.json").read_text())
        assert info["export"] == {"listing.json": files.sha256(out / "listing" / "listing.json")}
        plan = (out / "plan.parquet").read_bytes()
        server.requests.clear()
        server.posts = POSTS[:3]
        # Planning anew takes the listing that is there, whatever the site has become.
        (out / "dataset.json").unlink()
        assert download(server, out, plan_only=True) == 0
        assert (out / "plan.parquet").read_bytes() == plan
        assert not server.requests
        with pytest.raises(ConfigError, match="--query"):
            download(server, out, query="red")
        with pytest.raises(ConfigError, match="--max-posts"):
            download(server, out, max_posts=3)
        assert download(server, out) == 0


def test_a_site_that_moved_to_another_port_goes_on(tmp_path):
    with ApiServer(danbooru, POSTS) as server:
        assert download(server, tmp_path / "data", plan_only=True) == 0
    with ApiServer(danbooru, POSTS) as server:
        assert download(server, tmp_path / "data") == 0
    assert (shards.open_dataset(tmp_path / "data").manifest["status"] == "ok").all()


LISTED = st.builds(
    ListedPost,
    post_id=st.integers(1, 2**63 - 1),
    tags=st.dictionaries(NAMES, st.sampled_from(["general", "artist", "odd"]), max_size=4),
    rating=st.sampled_from("gsqex"),
    ext=st.sampled_from(["png", "", "gif"]),
    width=st.integers(0, 2**31 - 1),
    height=st.integers(0, 2**31 - 1),
    size_bytes=st.integers(0, 2**63 - 1),
    md5=st.sampled_from(["", "0" * 32, "f" * 32]),
    other_hash=st.sampled_from(["", "sha1:" + "a" * 40]),
    created_at=st.none() | st.integers(1, 2**40),
    is_deleted=st.booleans(),
    files=st.just({}) | st.just({"original": ("x.png", 3, 4), "sample": ("y.jpg", 1, 2)}),
)


@settings(deadline=None)
@given(st.lists(LISTED, min_size=1, max_size=6, unique_by=lambda post: post.post_id))
def test_posts_come_back_from_their_files_as_they_were(tmp_path_factory, listed):
    listed.sort(key=lambda post: -post.post_id)
    path = page_path(tmp_path_factory.mktemp("listing"), 1)
    write_page(path, listed, None, {})
    _, read = read_page(path)
    assert [post.to_line() for post in read] == [post.to_line() for post in listed]
    collection = make_collection(read, CATEGORIES, {})
    posts = collection.posts
    assert posts.post_id.tolist() == sorted(post.post_id for post in listed)
    for row, post in enumerate(reversed(listed)):
        assert posts.md5[row].decode() == post.md5
        assert set(posts.tags_of(row)) == set(post.tags)
        assert posts.size_bytes[row] == post.size_bytes
        assert posts.is_hidden[row] == (not post.files)
        assert np.isnat(posts.created_at[row]) == (post.created_at is None)
    counts = dict(zip(collection.tags["name"], collection.tags["count"], strict=True))
    assert counts == {
        n: sum(n in post.tags for post in listed) for post in listed for n in post.tags
    }


def test_posts_without_any_hash_are_strangers_to_each_other():
    listed = [
        ListedPost(post_id=5), ListedPost(post_id=4),
        ListedPost(post_id=3, other_hash="sha1:" + "a" * 40),
        ListedPost(post_id=2, other_hash="sha1:" + "a" * 40),
        ListedPost(post_id=1, other_hash="sha1:" + "b" * 40, linked=(5, 9)),
    ]  # fmt: skip
    collection = make_collection(listed, CATEGORIES, {})
    assert groups(collection.posts).tolist() == [1, 2, 2, 4, 5]
    assert groups(collection.posts, collection.pools).tolist() == [1, 2, 2, 4, 1]


def test_pages_and_pictures_share_one_pace(tmp_path):
    came = []

    def note(server, request):
        came.append(time.monotonic())

    with ApiServer(danbooru, POSTS, most=5, before=note) as server:
        assert download(server, tmp_path / "data", requests_per_second=40.0) == 0
    assert len(came) == 7 + len(POSTS) - UNUSED
    gaps = np.diff(sorted(came))
    # Threads note times a little apart from when they were asked.
    assert came[-1] - came[0] > (len(came) - 1) / 40 - 0.02
    assert np.sort(gaps)[: len(gaps) // 2].mean() > 0.8 / 40


# Ways


def test_options_of_the_other_way_are_refused(tmp_path):
    export = write_export(tmp_path / "export")
    for changes, word in [
        ({"site": "danbooru", "via": "exports"}, "no exports"),
        ({"site": "danbooru", "export_dir": export}, "--export-dir"),
        ({"site": "e621", "query": "red"}, "--via api"),
        ({"site": "e621", "max_posts": 3}, "--via api"),
        ({"site": "folder", "folder": tmp_path, "via": "api"}, "--via"),
        ({"site": "danbooru", "max_posts": 0}, "--max-posts"),
        ({"site": "danbooru"}, "too much"),
        ({"site": "danbooru", "max_posts": 5, "requests_per_second": 3.0}, "--requests-per-second"),
        ({"site": "gelbooru", "base_url": "https://rule34.xxx", "query": "a",
          "requests_per_second": 1.5}, "60 requests a minute"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=word):
            acquisition.download(DownloadConfig(out=tmp_path / "data", **changes))


@pytest.fixture(scope="module")
def local_booru(tmp_path_factory):
    """The demo's booru, which has exports and an API."""
    folder = tmp_path_factory.mktemp("booru")
    posts = [
        LocalPost(
            key=f"{post.post_id:03}", picture=post.picture, ext=post.ext, tags=post.tags,
            group=str(post.post_id), rating="s" if post.safe else "q",
        )
        for post in POSTS
    ]  # fmt: skip
    build_booru(posts, LocalRelations([("scarlet", "red")], [("red", "warm")]), folder)
    with Booru(folder, requests_per_second=5000) as booru:
        yield booru


def test_e621_gives_the_same_pictures_and_labels_either_way(local_booru, tmp_path):
    outs = {via: tmp_path / via for via in ("exports", "api")}
    for via, out in outs.items():
        assert download(local_booru, out, site="e621", via=via, requests_per_second=2000.0) == 0
    first, second = (shards.open_dataset(out) for out in outs.values())
    assert first.vocabulary.names == second.vocabulary.names
    assert {tag.name: tag.category for tag in first.vocabulary.tags} == {
        tag.name: tag.category for tag in second.vocabulary.tags
    }
    columns = ["post_id", "md5", "ext", "rating", "width", "height", "size_bytes", "split",
               "artists", "variant", "sha256"]  # fmt: skip
    tables = [data.manifest.sort_values("post_id").reset_index() for data in (first, second)]
    assert tables[0][columns].equals(tables[1][columns])
    assert [list(row) for row in tables[0]["labels"]] == [list(row) for row in tables[1]["labels"]]
    assert len(tables[0]) == len(POSTS) - 1
    with pytest.raises(ConfigError, match="--via"):
        download(local_booru, outs["exports"], site="e621", via="api")
