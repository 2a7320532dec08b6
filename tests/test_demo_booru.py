"""The local booru over real HTTP: e621's interface rule by rule, and two independent clients."""

import contextlib
import csv
import errno
import gzip
import hashlib
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from e6tag.demo.booru import Booru
from e6tag.demo.booru_index import Index
from e6tag.demo.booru_query import search
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.errors import DataError

AGENT = "e6tag-tests/1.0 (by nobody)"


def picture(width: int, height: int, seed: int, kind: str = "PNG") -> bytes:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colours).resize((width, height)).save(stream, kind)
    return stream.getvalue()


def make_posts() -> Iterator[LocalPost]:
    """Posts 1 to 12; 4 becomes deleted, 5 pending, 6 flagged (see `mark`)."""
    for number in range(1, 13):
        general = ["round"] if number % 2 else ["square", "red_ball"]
        if number % 3 == 0:
            general.append("red_car")
        if number in (7, 8):
            general.append("young")
        yield LocalPost(
            key=f"{number:02}",
            picture=picture(*{1: (1800, 900), 2: (300, 1000)}.get(number, (40, 30)), number),
            ext="png",
            tags={"general": general, "species": ["fox"] if number > 6 else ["dog"]},
            group="family" if number in (2, 3, 4) else str(number),
            source="https://a.example/x\nCC0" if number == 1 else "",
            description='two\nlines, "quoted"' if number == 1 else "",
            rating={7: "q", 9: "e", 10: "q"}.get(number, "s"),
        )


RELATIONS = LocalRelations([("sphere", "round"), ("pup", "dog")], [("dog", "canine")])


def mark(folder: Path, marks: dict[int, str]) -> None:
    """Set flags of posts in the export."""
    path = folder / "db_export/posts.csv.gz"
    with gzip.open(path, "rt", newline="") as text:
        rows = list(csv.DictReader(text))
    for row in rows:
        if int(row["id"]) in marks:
            row[marks[int(row["id"])]] = "t"
    with gzip.open(path, "wt", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("booru")
    build_booru(make_posts(), RELATIONS, folder, quiet=True)
    mark(folder, {4: "is_deleted", 5: "is_pending", 6: "is_flagged"})
    return folder


@pytest.fixture(scope="module")
def booru(folder: Path) -> Iterator[Booru]:
    with Booru(folder, requests_per_second=1e6) as booru:
        yield booru


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[int, dict[str, str]]:
    with gzip.open(folder / "db_export/posts.csv.gz", "rt", newline="") as text:
        return {int(row["id"]): row for row in csv.DictReader(text)}


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["User-Agent"] = AGENT
        yield session


Get = Callable[..., requests.Response]


@pytest.fixture
def get(booru: Booru, session: requests.Session) -> Get:
    def get(path: str, method: str = "GET", **options: Any) -> requests.Response:
        options.setdefault("allow_redirects", False)
        return session.request(method, booru.url + path, timeout=20, **options)

    return get


def ids(answer: requests.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [post["id"] for post in answer.json()["posts"]]


def find(get: Get, tags: str, **params: Any) -> list[int]:
    return ids(get("/posts.json", params={"tags": tags, **params}))


def path_of(row: dict[str, str], kind: str = "", ext: str = "png") -> str:
    md5 = row["md5"]
    return f"/data/{kind}{md5[:2]}/{md5[2:4]}/{md5}.{ext}"


# Exports


def test_the_list_of_exports_is_true_to_its_files(get: Get) -> None:
    exports = {export["name"]: export for export in get("/db_exports.json").json()}
    assert set(exports) == {"posts", "tags", "tag_aliases", "tag_implications", "pools"}
    for name, export in exports.items():
        fields = ["name", "file_name", "file_size", "checksum", "updated_at", "url"]
        assert list(export) == fields
        assert export["file_name"] == f"{name}.csv.gz"
        assert export["url"].endswith(f"/data/db_export/{name}.csv.gz")
        content = get("/data/db_export/" + export["file_name"])
        assert content.headers["Content-Type"] == "application/gzip"
        assert len(content.content) == export["file_size"]
        assert hashlib.sha256(content.content).hexdigest() == export["checksum"]


@pytest.mark.parametrize("path", ["/db_export", "/db_export/"])
def test_the_old_address_of_the_exports_leads_to_the_new(get: Get, path: str) -> None:
    answer = get(path)
    assert (answer.status_code, answer.headers["Location"]) == (301, "/db_exports")
    assert "posts.csv.gz" in get("/db_exports").text
    assert get("/db_export/posts-2026-01-01.csv.gz").status_code == 404


# Searching

SEARCHES: list[tuple[str, set[int]]] = [
    ("", set(range(1, 13)) - {4}),
    ("round", {1, 3, 5, 7, 9, 11}),
    ("ROUND", {1, 3, 5, 7, 9, 11}),
    ("sphere", {1, 3, 5, 7, 9, 11}),
    ("pup", {1, 2, 3, 5, 6}),
    ("canine", {1, 2, 3, 5, 6}),
    ("round fox", {7, 9, 11}),
    ("round -fox", {1, 3, 5}),
    ("-pup", {7, 8, 9, 10, 11, 12}),
    ("~red_car ~young", {3, 6, 7, 8, 9, 12}),
    ("square ~red_car ~young", {6, 8, 12}),
    ("red_*", {2, 3, 6, 8, 9, 10, 12}),
    ("*_car", {3, 6, 9, 12}),
    ("-red_* fox", {7, 11}),
    ("r*d", {1, 3, 5, 7, 9, 11}),
    ("no_such_tag", set()),
    ("-no_such_tag round", {1, 3, 5, 7, 9, 11}),
    ("id:3", {3}),
    ("id:1,3,4,99", {1, 3}),
    ("id:1,3,4,99 status:any", {1, 3, 4}),
    ("id:9..", {9, 10, 11, 12}),
    ("id:2..5", {2, 3, 5}),
    ("id:>10", {11, 12}),
    ("id:<=2", {1, 2}),
    ("-id:1,2 id:<4", {3}),
    ("rating:s fox", {8, 11, 12}),
    ("rating:questionable", {7, 10}),
    ("-rating:s", {7, 9, 10}),
    ("status:any", set(range(1, 13))),
    ("status:deleted", {4}),
    ("-status:deleted dog", {1, 2, 3, 5, 6}),
    ("status:pending", {5}),
    ("status:flagged", {6}),
    ("status:active dog", {1, 2, 3}),
    ("parent:2", {3}),
    ("parent:2 status:any", {3, 4}),
    ("type:png round fox", {7, 9, 11}),
    ("type:jpg", set()),
]


@pytest.mark.parametrize(("query", "expected"), SEARCHES)
def test_a_search_finds_what_e621_would(get: Get, query: str, expected: set[int]) -> None:
    assert find(get, query) == sorted(expected, reverse=True)


def test_a_search_by_hash_finds_the_post(get: Get, rows: dict[int, dict[str, str]]) -> None:
    wanted = ",".join(rows[number]["md5"] for number in (3, 9)) + "," + "0" * 32
    assert find(get, f"md5:{wanted}") == [9, 3]
    assert get("/posts.json", params={"md5": rows[9]["md5"]}).json()["post"]["id"] == 9
    assert get("/posts.json", params={"md5": "0" * 32}).status_code == 404


def test_order_is_newest_first_unless_asked(get: Get) -> None:
    assert find(get, "round order:id") == [1, 3, 5, 7, 9, 11]
    assert find(get, "round order:id_desc") == [11, 9, 7, 5, 3, 1]


WORDS = ["round", "square", "red_ball", "red_car", "fox", "dog", "canine", "nothing"]


@settings(max_examples=200, deadline=None)
@given(query=st.lists(st.tuples(st.sampled_from(["", "-", "~"]), st.sampled_from(WORDS))))
def test_searches_agree_with_brute_force(
    folder: Path, rows: dict[int, dict[str, str]], query: list[tuple[str, str]]
) -> None:
    expected = []
    for number, row in rows.items():
        tags = set(row["tag_string"].split(" "))
        optional = [word in tags for sign, word in query if sign == "~"]
        fits = all((word in tags) == (sign == "") for sign, word in query if sign != "~")
        if fits and (any(optional) or not optional) and row["is_deleted"] == "f":
            expected.append(number)
    index = INDEXES.setdefault(folder, Index(folder))
    assert search(index, " ".join(sign + word for sign, word in query)) == expected[::-1]


INDEXES: dict[Path, Index] = {}


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": "321"}, 410),
        ({"limit": "-1"}, 410),
        ({"limit": "many"}, 410),
        ({"limit": "9" * 5000}, 410),
        ({"page": "0"}, 410),
        ({"page": "751"}, 410),
        ({"page": "c5"}, 410),
        ({"page": "b99999999999"}, 410),
        ({"page": "9" * 5000}, 410),
        ({"limit": "0", "page": "2"}, 410),
        ({"tags": " ".join(f"tag{i}" for i in range(41))}, 422),
        ({"tags": "id:" + ",".join(map(str, range(321)))}, 422),
        ({"tags": "order:score"}, 422),
        ({"tags": "score:>10"}, 422),
        ({"tags": "status:odd"}, 422),
    ],
)
def test_impossible_questions_get_the_sites_errors(
    get: Get, params: dict[str, str], status: int
) -> None:
    answer = get("/posts.json", params=params)
    assert answer.status_code == status
    assert answer.json()["success"] is False and answer.json()["message"]


def test_the_largest_possible_questions_are_answered(get: Get) -> None:
    assert len(find(get, "", limit=320)) == 11
    assert find(get, "", page=750) == []
    assert find(get, "", limit=0) == []
    assert find(get, "-x " * 39 + "fox") == [12, 11, 10, 9, 8, 7]
    assert len(find(get, "id:" + ",".join(map(str, range(320))))) == 11


def test_numbered_pages_cover_everything_once(get: Get) -> None:
    pages = [find(get, "", limit=4, page=number) for number in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [4, 4, 3, 0]
    assert [number for page in pages for number in page] == find(get, "")
    assert find(get, "order:id", limit=4, page=2) == [6, 7, 8, 9]


def test_pages_by_id_go_both_ways_whatever_the_order(get: Get) -> None:
    assert find(get, "", limit=3, page="b6") == [5, 3, 2]
    assert find(get, "order:id", limit=3, page="b6") == [5, 3, 2]
    assert find(get, "", limit=3, page="a3") == [7, 6, 5]
    assert find(get, "order:id", limit=3, page="a3") == [7, 6, 5]
    assert find(get, "", limit=3, page="a12") == []
    assert find(get, "", limit=0, page="a1") == []
    downwards, upwards = find(get, "", limit=3), find(get, "", limit=3, page="a0")
    down, up = downwards, upwards
    while down := find(get, "", limit=3, page=f"b{down[-1]}"):
        downwards += down
    while up := find(get, "", limit=3, page=f"a{up[0]}"):
        upwards = up + upwards
    assert downwards == upwards == find(get, "")


# Posts and tags


def test_a_post_has_every_field_of_the_site(
    get: Get, booru: Booru, rows: dict[int, dict[str, str]]
) -> None:
    post = get("/posts/1.json").json()["post"]
    row, data = rows[1], f"{booru.url}/data"
    place = path_of(row).removeprefix("/data/").removesuffix(".png")
    assert post == {
        "id": 1,
        "created_at": post["created_at"],
        "updated_at": post["updated_at"],
        "file": {
            "width": 1800,
            "height": 900,
            "ext": "png",
            "size": int(row["file_size"]),
            "md5": row["md5"],
            "url": f"{data}/{place}.png",
        },
        "preview": {
            "width": 512,
            "height": 256,
            "url": f"{data}/preview/{place}.jpg",
            "alt": f"{data}/preview/{place}.webp",
        },
        "sample": {
            "has": True,
            "width": 1700,
            "height": 850,
            "url": f"{data}/sample/{place}.jpg",
            "alt": f"{data}/sample/{place}.webp",
            "alternates": {"has": False},
        },
        "score": {"up": 0, "down": 0, "total": 0},
        "tags": {
            "general": ["canine", "round"],
            "artist": [],
            "contributor": [],
            "copyright": [],
            "character": [],
            "species": ["dog"],
            "invalid": [],
            "meta": [],
            "lore": [],
        },
        "locked_tags": [],
        "change_seq": 1,
        "flags": {
            "pending": False,
            "flagged": False,
            "note_locked": False,
            "status_locked": False,
            "rating_locked": False,
            "deleted": False,
        },
        "rating": "s",
        "fav_count": 0,
        "sources": ["https://a.example/x", "CC0"],
        "pools": [],
        "relationships": {
            "parent_id": None,
            "has_children": False,
            "has_active_children": False,
            "children": [],
        },
        "approver_id": None,
        "uploader_id": 1,
        "uploader_name": "e6tag",
        "description": 'two\nlines, "quoted"',
        "comment_count": 0,
        "is_favorited": False,
        "vote": 0,
        "has_notes": False,
        "duration": None,
    }
    moment = np.datetime64(row["created_at"], "ms") - np.timedelta64(5, "h")
    assert post["created_at"] == f"{moment}-05:00"


def test_relatives_know_each_other(get: Get) -> None:
    posts = {number: get(f"/posts/{number}.json").json()["post"] for number in (2, 3, 4)}
    assert posts[2]["relationships"] == {
        "parent_id": None,
        "has_children": True,
        "has_active_children": True,
        "children": [3, 4],
    }
    assert posts[3]["relationships"]["parent_id"] == 2
    assert posts[4]["flags"]["deleted"] and not posts[3]["flags"]["deleted"]
    sample = posts[2]["sample"]
    assert (sample["has"], sample["width"], sample["height"]) == (False, 300, 1000)
    assert sample["url"] is sample["alt"] is None


@pytest.mark.parametrize("path", ["/posts/99.json", "/posts/0.json", "/nothing.json", "/posts"])
def test_what_is_not_there_is_not_found(get: Get, path: str) -> None:
    assert get(path).status_code == 404
    assert get(path).json()["success"] is False


def tag_names(get: Get, **params: str) -> list[str]:
    answer = get("/tags.json", params={f"search[{k}]": v for k, v in params.items()})
    return [tag["name"] for tag in answer.json()]


def test_tags_are_listed_by_count_and_by_name(get: Get) -> None:
    names = {"canine", "dog", "fox", "red_ball", "red_car", "round", "square", "young"}
    counts = {tag["name"]: tag["post_count"] for tag in get("/tags.json").json()}
    assert counts.keys() == names and counts["young"] == 2 and counts["round"] == 6
    by_count = [counts[name] for name in tag_names(get, order="count")]
    assert by_count == sorted(by_count, reverse=True)
    assert tag_names(get, order="name") == sorted(names)
    assert tag_names(get, name_matches="red_*", order="name") == ["red_ball", "red_car"]
    assert tag_names(get, name_matches="fox") == ["fox"]
    assert tag_names(get, category="5", order="name") == ["dog", "fox"]
    assert {"pup", "sphere"} == set(tag_names(get, hide_empty="no")) - names
    first = get("/tags.json", params={"search[order]": "count", "limit": 2}).json()
    rest = get("/tags.json", params={"search[order]": "count", "limit": 320}).json()
    assert first == rest[:2]
    assert get("/tags.json", params={"limit": 321}).status_code == 410


# Files


def test_every_address_that_is_given_leads_to_its_file(get: Get, booru: Booru) -> None:
    for post in get("/posts.json", params={"tags": "rating:s"}).json()["posts"]:
        file = get(post["file"]["url"].removeprefix(booru.url))
        assert hashlib.md5(file.content).hexdigest() == post["file"]["md5"]
        assert file.headers["Content-Type"] == "image/png"
        for part in ("preview", "sample"):
            for key, kind in (("url", "image/jpeg"), ("alt", "image/webp")):
                if post[part][key]:
                    shown = get(post[part][key].removeprefix(booru.url))
                    assert shown.headers["Content-Type"] == kind
                    size = Image.open(io.BytesIO(shown.content)).size
                    assert size == (post[part]["width"], post[part]["height"])


def test_samples_exist_only_where_the_rules_say(get: Get, rows: dict[int, dict[str, str]]) -> None:
    assert get(path_of(rows[1], "sample/", "jpg")).status_code == 200
    assert get(path_of(rows[1], "sample/", "webp")).status_code == 200
    assert get(path_of(rows[1], "sample/", "png")).status_code == 404
    assert get(path_of(rows[2], "sample/", "jpg")).status_code == 404


def test_deleted_posts_have_no_files(get: Get, rows: dict[int, dict[str, str]]) -> None:
    post = get("/posts/4.json").json()["post"]
    assert post["file"]["url"] is post["preview"]["url"] is post["sample"]["url"] is None
    assert post["file"]["md5"] == rows[4]["md5"]
    assert get(path_of(rows[4])).status_code == 404
    assert get(path_of(rows[4], "preview/", "jpg")).status_code == 404


def test_restricted_posts_have_no_files_for_anonymous_visitors(
    get: Get, rows: dict[int, dict[str, str]]
) -> None:
    restricted = get("/posts/7.json").json()["post"]
    assert restricted["rating"] == "q" and restricted["file"]["url"] is None
    assert restricted["preview"]["url"] is restricted["preview"]["alt"] is None
    assert get(path_of(rows[7])).status_code == 403
    assert get("/posts/8.json").json()["post"]["file"]["url"]  # the same tag, rated safe
    assert get("/posts/9.json").json()["post"]["file"]["url"]  # another rating, without the tag


def test_parts_of_files_are_exact(get: Get, rows: dict[int, dict[str, str]]) -> None:
    path = path_of(rows[1])
    whole = get(path).content
    size = len(whole)
    for span, first, last in [
        ("bytes=0-", 0, size - 1),
        ("bytes=5-9", 5, 9),
        ("bytes=0-0", 0, 0),
        (f"bytes={size - 1}-", size - 1, size - 1),
        ("bytes=-7", size - 7, size - 1),
        (f"bytes=3-{size + 100}", 3, size - 1),
        (f"bytes=-{size + 100}", 0, size - 1),
    ]:
        part = get(path, headers={"Range": span})
        assert part.status_code == 206
        assert part.content == whole[first : last + 1]
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert part.headers["Content-Length"] == str(last + 1 - first)


def test_ranges_outside_the_file_are_416_and_nonsense_is_ignored(
    get: Get, rows: dict[int, dict[str, str]]
) -> None:
    path = path_of(rows[1])
    size = len(get(path).content)
    for span in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        answer = get(path, headers={"Range": span})
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"
    for span in ("bytes=9-5", "bytes=-", "bytes=x-", "lines=0-1", "bytes=0-1,4-5"):
        answer = get(path, headers={"Range": span})
        assert (answer.status_code, len(answer.content)) == (200, size)


def test_a_part_is_sent_only_of_the_file_that_is_meant(
    get: Get, rows: dict[int, dict[str, str]]
) -> None:
    path = path_of(rows[1])
    head = get(path, "HEAD")
    etag, modified = head.headers["ETag"], head.headers["Last-Modified"]
    for condition, status in [
        (etag, 206),
        (modified, 206),
        ('"another"', 200),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 200),
        ("nonsense", 200),
    ]:
        headers = {"Range": "bytes=10-", "If-Range": condition}
        assert get(path, headers=headers).status_code == status
    for name, value in [("If-None-Match", etag), ("If-Modified-Since", modified)]:
        answer = get(path, headers={name: value})
        assert (answer.status_code, answer.content) == (304, b"")
    assert get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    assert get(path, headers={"If-Modified-Since": "nonsense"}).status_code == 200


def test_an_export_that_is_replaced_changes_its_etag(tmp_path: Path) -> None:
    posts = list(make_posts())
    build_booru(posts[:2], LocalRelations(), tmp_path, quiet=True)
    with Booru(tmp_path) as booru:
        url, agent = f"{booru.url}/data/db_export/posts.csv.gz", {"User-Agent": AGENT}
        first = requests.get(url, headers=agent, timeout=10)
        build_booru(posts[:3], LocalRelations(), tmp_path, quiet=True)
        resumed = {"Range": "bytes=100-", "If-Range": first.headers["ETag"]}
        second = requests.get(url, headers=agent | resumed, timeout=10)
    assert second.status_code == 200 and second.content != first.content
    text = io.StringIO(gzip.decompress(second.content).decode(), newline="")
    assert [row["id"] for row in csv.DictReader(text)] == ["1", "2", "3"]


def test_head_answers_like_get_without_a_body(get: Get, rows: dict[int, dict[str, str]]) -> None:
    for path in (path_of(rows[1]), "/posts.json", "/db_exports.json", "/nothing"):
        head, whole = get(path, "HEAD"), get(path)
        assert head.content == b"" and head.status_code == whole.status_code
        for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified"):
            assert head.headers.get(name) == whole.headers.get(name)
    assert get(path_of(rows[1]), "HEAD").headers["Accept-Ranges"] == "bytes"


def raw(booru: Booru, target: str, **headers: str) -> tuple[int, bytes]:
    """One request exactly as given; client libraries tidy paths."""
    connection = http.client.HTTPConnection("127.0.0.1", booru.port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("GET", target, skip_accept_encoding=True)
        for name, value in ({"User_Agent": AGENT} | headers).items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_nothing_outside_the_folder_is_served(
    booru: Booru, folder: Path, rows: dict[int, dict[str, str]]
) -> None:
    secret = folder.parent / "secret.csv.gz"
    secret.write_bytes(b"secret")
    (folder / "data" / "note.txt").write_bytes(b"secret")
    md5 = rows[3]["md5"]
    targets = [
        "/data/../secret.csv.gz",
        "/data/db_export/../../secret.csv.gz",
        "/data/db_export/%2e%2e/%2e%2e/secret.csv.gz",
        "/data/db_export/..%2f..%2fsecret.csv.gz",
        "/data//etc/passwd",
        "/data/note.txt",
        "/data/db_export/",
        "/data/",
        f"/data/{md5[:2]}/{md5[2:4]}/../{md5[2:4]}/{md5}.png",
        f"/data/00/{md5[2:4]}/{md5}.png",
        f"/data/{md5[:2]}/{md5[2:4]}/{md5}.png%00.jpg",
        f"/data/{md5[:2]}/{md5[2:4]}/{md5}.png.12.part",
        f"/data/{md5[:2]}/{md5[2:4]}/{'0' * 32}.png",
        "/../secret.csv.gz",
        "/.lock",
        "//data",
    ]
    for target in targets:
        status, body = raw(booru, target)
        assert status in (400, 404), target
        assert b"secret" not in body


def connected(booru: Booru) -> socket.socket:
    return socket.create_connection(("127.0.0.1", booru.port), timeout=5)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://[ HTTP/1.1", 400),
        ("GET /posts.json HTTP/x", 400),
        ("POST /posts.json HTTP/1.1", 501),
    ],
)
def test_broken_requests_are_answered(booru: Booru, line: str, status: int) -> None:
    with connected(booru) as visitor:
        visitor.sendall(f"{line}\r\nHost: x\r\nUser-Agent: {AGENT}\r\n\r\n".encode())
        answer = visitor.recv(65536)
    assert f" {status} ".encode() in answer.split(b"\r\n")[0]


def test_symbolic_links_are_not_followed(
    booru: Booru, folder: Path, rows: dict[int, dict[str, str]], tmp_path: Path
) -> None:
    assert raw(booru, path_of(rows[11]))[0] == 200
    for victim in (folder / path_of(rows[11])[1:], (folder / path_of(rows[11])[1:]).parent):
        moved = tmp_path / "moved"
        victim.rename(moved)
        victim.symlink_to(moved)
        try:
            assert raw(booru, path_of(rows[11]))[0] == 404
        finally:
            victim.unlink()
            moved.rename(victim)
    assert raw(booru, path_of(rows[11]))[0] == 200


# Manners


@pytest.mark.parametrize(
    "agent",
    [
        "",
        "   ",
        "python-requests/2.32.3",
        "Python-urllib/3.11",
        "python-httpx/0.27",
        "Python/3.11 aiohttp/3.9.1",
        "urllib3/2.2",
        "curl/8.5.0",
        "Wget/1.21",
        "Go-http-client/1.1",
        "okhttp/4.9",
        "node-fetch",
        "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0",
        "Opera/9.80",
    ],
)
def test_agents_that_do_not_say_who_they_are_are_turned_away(booru: Booru, agent: str) -> None:
    for target in ("/posts.json", "/data/db_export/posts.csv.gz"):
        status, body = raw(booru, target, User_Agent=agent)
        assert status == 403
        assert b"<html>" in body and b"misuse" in body


@pytest.mark.parametrize(
    "agent",
    ["e6tag/0.1 (by someone on e621)", "gallery-dl/1.32.18 (by mikf)", "javascripter-bot/2 (x@y)"],
)
def test_agents_that_say_who_they_are_are_served(booru: Booru, agent: str) -> None:
    assert raw(booru, "/posts.json", User_Agent=agent)[0] == 200


def test_there_are_no_accounts(get: Get) -> None:
    assert get("/posts.json", auth=("name", "key")).status_code == 401
    assert get("/posts.json", params={"login": "name", "api_key": "key"}).status_code == 401


def test_too_many_requests_are_refused_in_the_ways_of_real_sites(folder: Path) -> None:
    with Booru(folder, requests_per_second=5) as booru:
        answers = [
            requests.get(booru.url + "/posts.json", headers={"User-Agent": AGENT}, timeout=10)
            for _ in range(25)
        ]
        statuses = [answer.status_code for answer in answers]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert statuses[:5] == [200] * 5
        assert {503, 429} == {answer.status_code for answer in refused}
        assert all("<html>" in answer.text for answer in refused)
        waits = [a.headers.get("Retry-After") for a in refused if a.status_code == 429]
        assert "1" in waits and None in waits
        assert not any("Retry-After" in a.headers for a in refused if a.status_code == 503)
        assert booru.served == statuses.count(200)
        assert booru.statuses() == {s: statuses.count(s) for s in set(statuses)}
        time.sleep(0.5)
        assert raw(booru, "/posts.json")[0] == 200


def test_a_patient_visitor_is_never_refused(folder: Path) -> None:
    with Booru(folder, requests_per_second=10) as booru:
        for _ in range(20):
            assert raw(booru, "/posts.json?limit=1")[0] == 200
            time.sleep(0.11)
        assert 8 <= booru.busiest_second() <= 10
        assert booru.served == 20


def test_every_request_is_noted(folder: Path, rows: dict[int, dict[str, str]]) -> None:
    with Booru(folder) as booru:
        raw(booru, "/posts.json?tags=a%20b", User_Agent="one/1.0 (by x)")
        raw(booru, path_of(rows[1]), Range="bytes=3-")
        raw(booru, "/nothing")
        noted = [(r.method, r.target, r.status, r.range) for r in booru.log]
        assert noted == [
            ("GET", "/posts.json?tags=a%20b", 200, ""),
            ("GET", path_of(rows[1]), 206, "bytes=3-"),
            ("GET", "/nothing", 404, ""),
        ]
        assert booru.log[0].user_agent == "one/1.0 (by x)"
        assert booru.served == 2


# The server


def test_one_connection_carries_many_requests(
    booru: Booru, rows: dict[int, dict[str, str]]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", booru.port, timeout=10)
    with contextlib.closing(connection):
        connection.connect()
        opened = connection.sock
        for path in (path_of(rows[1]), "/nothing", "/posts.json", path_of(rows[7])) * 3:
            for method in ("GET", "HEAD"):
                connection.request(method, path, headers={"User-Agent": AGENT})
                connection.getresponse().read()
                assert connection.sock is opened


def test_many_visitors_at_once_all_get_their_files(
    booru: Booru, rows: dict[int, dict[str, str]]
) -> None:
    failures: list[object] = []

    def visit() -> None:
        for number in (1, 2, 3, 9, 10, 11, 12):
            status, body = raw(booru, path_of(rows[number]))
            if status != 200 or hashlib.md5(body).hexdigest() != rows[number]["md5"]:
                failures.append((number, status))

    threads = [threading.Thread(target=visit) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_only_this_machine_can_connect(booru: Booru) -> None:
    assert booru.server.socket.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", booru.port), timeout=2)


def test_a_port_in_use_is_an_oserror(booru: Booru, folder: Path) -> None:
    with pytest.raises(OSError) as caught, Booru(folder, port=booru.port):
        pass
    assert caught.value.errno == errno.EADDRINUSE


def test_the_end_frees_the_port_and_hangs_up(folder: Path) -> None:
    with Booru(folder) as booru:
        visitor = connected(booru)
        visitor.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {AGENT}\r\n\r\n".encode())
        assert visitor.recv(4096).startswith(b"HTTP/1.1 200")
        start = time.monotonic()
    assert time.monotonic() - start < 2
    with contextlib.closing(visitor):
        while visitor.recv(4096):
            pass
    with Booru(folder, port=booru.port) as again:
        assert raw(again, "/")[0] == 200


def test_a_visitor_who_leaves_early_harms_nobody(
    booru: Booru, rows: dict[int, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        with connected(booru) as visitor:
            request = f"GET {path_of(rows[1])} HTTP/1.1\r\nHost: x\r\nUser-Agent: {AGENT}\r\n\r\n"
            visitor.sendall(request.encode() * 20)
            linger = bytes([1, 0, 0, 0, 0, 0, 0, 0])  # closing sends a reset
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert raw(booru, path_of(rows[1]))[0] == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_folder_without_a_booru_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="build the local booru"):
        Booru(tmp_path)


# Independent clients

NUM_MANY = 330
"""more than one page of the largest size"""


def plain_picture(number: int, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 24), (number % 16 * 16, number // 16 * 8, 128)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booru]:
    folder = tmp_path_factory.mktemp("many")
    posts = (
        LocalPost(
            key=f"{number:03}",
            picture=plain_picture(number, kind),
            ext=ext,
            tags={"general": ["everywhere", f"n{number % 7}"], "species": [":3"]},
            group=f"{number // 2}",
            description='"a",\nb',
        )
        for number in range(NUM_MANY)
        for kind, ext in [[("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")][number % 3]]
    )
    assert build_booru(posts, LocalRelations(), folder, quiet=True) == NUM_MANY
    with Booru(folder, requests_per_second=1000) as booru:
        yield booru


def md5s_of(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_gallery_dl_pages_and_downloads_everything(many: Booru, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    address = f"127.0.0.1:{many.port}"
    site = {"root": f"http://{address}", "pattern": address.replace(".", r"\.")}
    config.write_text(json.dumps({"extractor": {"E621": {"local": site}}}))
    command = [sys.executable, "-m", "gallery_dl", "--config-ignore", "-c", str(config)]
    command += ["-d", str(tmp_path / "files"), f"http://{address}/posts?tags=everywhere"]
    environment = os.environ | {"HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert md5s_of(tmp_path / "files") == set(many.index.by_md5)
    searches = [request.target for request in many.log if "gallery-dl" in request.user_agent]
    assert sum(target.startswith("/posts.json") for target in searches) == 2


def test_six2one_pages_and_downloads_everything(many: Booru, tmp_path: Path) -> None:
    six2one = pytest.importorskip("six2one.e621")
    with six2one.E621Client(base_url=many.url, user_agent=AGENT, rate_limit=None) as client:
        posts = list(client.posts.search("everywhere", limit=100))
        for post in posts:
            post.file.download(tmp_path / "files" / f"{post.id}.{post.file.ext}")
        exported = list(client.db_exports.posts().rows())
        one = client.posts.get(5)
    assert [post.id for post in posts] == list(range(NUM_MANY, 0, -1))
    assert md5s_of(tmp_path / "files") == set(many.index.by_md5)
    assert {row["md5"] for row in exported} == set(many.index.by_md5)
    assert {row["description"] for row in exported} == {'"a",\nb'}
    assert one.tags.species == [":3"] and one.created_at.year == 2019  # Eastern time
    assert posts[0].parent_id == NUM_MANY - 1
