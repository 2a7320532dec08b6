"""Bringing exports: from the index of today, and from the dated files of older sites."""

import gzip
import hashlib
import json
import shutil
import socket
import subprocess
import time

import pytest
from fault_server import FaultServer
from tiny_posts import post_row, write_export

from e6tag import acquisition
from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError, DataError, FetchError
from e6tag.exports import fetch_exports, read_index
from e6tag.fetch import PoliteClient
from e6tag.sites import open_site
from e6tag.sites.e621_dated import parse_dated_page

NAMES = ("posts", "tags", "tag_aliases", "tag_implications", "pools")
DAY = "2026-05-02"


class File:
    """A file with a validator, as static hosts answer for it; `breaks` times it breaks off."""

    def __init__(self, content, etag='"one"', modified=None, breaks=0):
        self.content, self.etag, self.modified, self.breaks = content, etag, modified, breaks

    def __call__(self, exchange):
        asked, extra = exchange.headers, {}
        extra |= {"ETag": self.etag} if self.etag else {}
        extra |= {"Last-Modified": self.modified} if self.modified else {}
        same = {self.etag, self.modified} - {None}
        if {asked.get("if-none-match"), asked.get("if-modified-since")} & same:
            return exchange.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        content, status = self.content, "200 OK"
        if asked.get("if-range") in same:
            start = int(asked["range"].removeprefix("bytes=").rstrip("-"))
            extra["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = "206 Partial Content", content[start:]
        if self.breaks:
            self.breaks -= 1
            exchange.answer(content[: len(content) // 2], status, length=len(content), **extra)
            return exchange.close()
        return exchange.answer(content, status, **extra)


def page(text, status="200 OK", kind="text/html"):
    return lambda exchange: exchange.answer(text.encode(), status, Content_Type=kind)


NO_INDEX = {
    "404": page("<h1>404</h1>", "404 Not Found"),
    "410": page("{}", "410 Gone", "application/json"),
    "403 without a page": page("no", "403 Forbidden", "text/plain"),
    "a page": page("<html>Welcome!</html>"),
    "another JSON": page('{"success": true}', kind="application/json"),
}


def listing(names):
    """What nginx's autoindex writes."""
    rows = "".join(f'<a href="{name}">{name}</a>   02-May-2026 07:13   123\r\n' for name in names)
    return page(f"<html><head><title>Index of /db_export/</title></head><pre>{rows}</pre></html>")


@pytest.fixture
def tables(tmp_path):
    """Bytes of an export's tables, by name."""
    folder = write_export(tmp_path / "made", [post_row(i) for i in range(1, 40)])
    return {name: (folder / f"{name}.csv.gz").read_bytes() for name in NAMES}


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


def old_site(server, tables, day=DAY, **more):
    """Let the server be a site with one day's dated files; the files, by name."""
    files = {f"{name}-{day}.csv.gz": File(content) for name, content in tables.items()}
    server.answers = {
        "/db_exports.json": NO_INDEX["404"],
        "/db_export/": listing([*files, *more]),
        **{f"/db_export/{name}": file for name, file in {**files, **more}.items()},
    }
    return files


def new_site(server, tables, **changes):
    """Let the server be a site with an index; `changes` are to its entries."""
    entries = [
        {
            "name": name,
            "url": f"{server.url}/data/db_export/{name}.csv.gz",
            "file_size": len(content),
            "checksum": hashlib.sha256(content).hexdigest(),
        }
        | changes
        for name, content in tables.items()
    ]
    server.answers = {"/db_exports.json": page(json.dumps(entries), kind="application/json")}
    files = {name: File(content) for name, content in tables.items()}
    server.answers |= {f"/data/db_export/{name}.csv.gz": file for name, file in files.items()}
    return files


def fetch(server, folder):
    client = PoliteClient(server.url, 10_000.0, "tester", backoff_seconds=0.01)
    try:
        return fetch_exports(client, open_site("e621", base_url=server.url), folder, quiet=True)
    finally:
        client.close()


def asked(server):
    """Paths asked for since the last call."""
    paths = [exchange.path for exchange in server.exchanges]
    server.exchanges.clear()
    return paths


# Dated files


@pytest.mark.parametrize("answer", NO_INDEX.values(), ids=NO_INDEX.keys())
def test_without_an_index_the_dated_files_are_brought(server, tables, tmp_path, answer):
    old_site(server, tables)
    server.answers["/db_exports.json"] = answer
    index = fetch(server, tmp_path / "out")
    assert [export.file_name for export in index.values()] == [f"{n}-{DAY}.csv.gz" for n in NAMES]
    for name, content in tables.items():
        assert (tmp_path / "out" / f"{name}-{DAY}.csv.gz").read_bytes() == content
    site = open_site("e621", base_url=server.url, index=index)
    assert len(site.read(tmp_path / "out").posts) == 39


def test_the_files_of_the_list_are_read_not_others_in_the_folder(server, tables, tmp_path):
    old_site(server, tables)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "posts.csv.gz").write_bytes(b"of another time")
    (tmp_path / "out" / "tags-2030-01-01.csv.gz").write_bytes(b"of another time")
    index = fetch(server, tmp_path / "out")
    site = open_site("e621", base_url=server.url, index=index)
    assert site.read(tmp_path / "out").checksums.keys() == {f"{n}-{DAY}.csv.gz" for n in NAMES}


def dated_page(*names):
    return parse_dated_page("\n".join(names).encode(), "http://h/db_export/", ["posts", "tags"])


def test_the_newest_day_that_has_all_tables_is_taken():
    days = ["posts-2026-05-03.csv.gz", "posts-2026-05-02.csv.gz", "tags-2026-05-02.csv.gz"]
    days += ["posts-2026-05-01.csv.gz", "tags-2026-05-01.csv.gz"]
    found = dated_page(*days)
    assert {name: export.url for name, export in found.items()} == {
        "posts": "http://h/db_export/posts-2026-05-02.csv.gz",
        "tags": "http://h/db_export/tags-2026-05-02.csv.gz",
    }
    assert {export.sha256 for export in found.values()} == {None}


@pytest.mark.parametrize(
    "name",
    ["tags.csv.gz", "tags-2026-05-02.csv.gz.part", "old.tags-2026-05-02.csv.gz",
     "tags-2026-5-2.csv.gz", "TAGS-2026-05-02.csv.gz", "x-tags-2026-05-02.csv.gz"],
)  # fmt: skip
def test_names_that_only_look_like_dated_files_are_not_taken(name):
    assert dated_page("posts-2026-05-02.csv.gz", name) == {}


def test_links_of_the_page_lead_nowhere_else():
    page_of_evil = '<a href="http://evil/posts-2026-05-02.csv.gz">tags-2026-05-02.csv.gz</a>'
    urls = {export.url for export in dated_page(page_of_evil).values()}
    assert urls == {f"http://h/db_export/{name}-2026-05-02.csv.gz" for name in ("posts", "tags")}


def test_neither_index_nor_dated_files_is_one_line_with_the_remedy(server, tables, tmp_path):
    old_site(server, tables)
    server.answers["/db_export/"] = page("moved", "404 Not Found")
    with pytest.raises(FetchError, match=r"db_exports\.json.*db_export/.*--export-dir") as caught:
        fetch(server, tmp_path)
    assert "\n" not in str(caught.value)
    server.answers["/db_export/"] = listing([f"posts-{DAY}.csv.gz"])
    with pytest.raises(FetchError, match="list all of posts, tags"):
        fetch(server, tmp_path)


def test_a_site_that_is_down_or_refuses_is_not_asked_for_dated_files(server, tables, tmp_path):
    old_site(server, tables)
    for answer in (page("broken", "500 Internal Server Error"), page("API misuse", "403 No")):
        server.answers["/db_exports.json"] = answer
        with pytest.raises(FetchError):
            fetch(server, tmp_path)
        assert set(asked(server)) == {"/db_exports.json"}


# Without a checksum


def test_a_file_that_the_site_has_not_changed_is_not_sent_again(server, tables, tmp_path):
    files = old_site(server, tables)
    files[f"tags-{DAY}.csv.gz"].etag = None
    files[f"tags-{DAY}.csv.gz"].modified = "Sat, 02 May 2026 07:13:00 GMT"
    fetch(server, tmp_path)
    asked(server)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv.gz")}
    fetch(server, tmp_path)
    conditions = [
        {"if-none-match", "if-modified-since"} & e.headers.keys() for e in server.exchanges
    ]
    assert [len(condition) for condition in conditions[2:]] == [1] * 5
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv.gz")} == before


def test_a_file_that_changed_on_the_site_or_here_is_fetched_anew(server, tables, tmp_path):
    files = old_site(server, tables)
    fetch(server, tmp_path)
    new = gzip.compress(gzip.decompress(tables["posts"]) + b"", 1)
    files[f"posts-{DAY}.csv.gz"].content, files[f"posts-{DAY}.csv.gz"].etag = new, '"two"'
    fetch(server, tmp_path)
    assert (tmp_path / f"posts-{DAY}.csv.gz").read_bytes() == new
    (tmp_path / f"posts-{DAY}.csv.gz").write_bytes(b"damaged here")
    fetch(server, tmp_path)
    assert (tmp_path / f"posts-{DAY}.csv.gz").read_bytes() == new


def test_without_a_validator_a_file_is_fetched_each_time(server, tables, tmp_path):
    files = old_site(server, tables)
    files[f"pools-{DAY}.csv.gz"].etag = None
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert server.times(f"/db_export/pools-{DAY}.csv.gz") == 2
    assert all("range" not in exchange.headers for exchange in server.exchanges)


def test_dated_files_go_on_where_they_broke_off(server, tables, tmp_path):
    files = old_site(server, tables)
    files[f"posts-{DAY}.csv.gz"].breaks = 2
    fetch(server, tmp_path)
    assert (tmp_path / f"posts-{DAY}.csv.gz").read_bytes() == tables["posts"]
    ranges = [e.headers.get("range") for e in server.exchanges if "posts" in e.path]
    half = len(tables["posts"]) // 2
    assert ranges[:2] == [None, f"bytes={half}-"] and len(ranges) == 3


def test_a_file_replaced_under_way_is_never_spliced_without_a_checksum_either(
    server, tables, tmp_path
):
    files = old_site(server, tables)
    posts = files[f"posts-{DAY}.csv.gz"]
    posts.breaks, new = 1, gzip.compress(b"id\n" * 5000, 1)

    def replaced(exchange):
        if exchange.count == 2:
            posts.content, posts.etag = new, '"two"'
        posts(exchange)

    server.answers[f"/db_export/posts-{DAY}.csv.gz"] = replaced
    fetch(server, tmp_path)
    assert (tmp_path / f"posts-{DAY}.csv.gz").read_bytes() == new


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "page"])
def test_a_damaged_gzip_is_tried_twice_and_never_gets_its_name(server, tables, tmp_path, damage):
    content = tables["posts"]
    damaged = {
        "cut": content[:-20],
        "flipped": content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],
        "empty": b"",
        "page": b"<html>come back later</html>",
    }[damage]
    files = old_site(server, tables)
    files[f"posts-{DAY}.csv.gz"].content = damaged
    with pytest.raises(FetchError, match=rf"posts-{DAY}\.csv\.gz.*whole"):
        fetch(server, tmp_path)
    assert not (tmp_path / f"posts-{DAY}.csv.gz").exists()
    assert server.times(f"/db_export/posts-{DAY}.csv.gz") >= 2
    files[f"posts-{DAY}.csv.gz"].content = content
    fetch(server, tmp_path)
    assert (tmp_path / f"posts-{DAY}.csv.gz").read_bytes() == content


# The index


def test_a_listed_file_with_its_checksum_is_not_asked_for_again(server, tables, tmp_path):
    new_site(server, tables)
    fetch(server, tmp_path)
    assert len(asked(server)) == 6
    fetch(server, tmp_path)
    assert asked(server) == ["/db_exports.json"]
    assert not list(tmp_path.glob("*.json"))


def test_a_listed_file_without_a_checksum_is_taken_by_its_validator(server, tables, tmp_path):
    new_site(server, tables, checksum=None, file_size=None)
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert [server.times(f"/data/db_export/{name}.csv.gz") for name in NAMES] == [2] * 5
    assert all("if-none-match" in exchange.headers for exchange in server.exchanges[7:])


def test_an_export_replaced_under_way_is_taken_from_the_next_index(server, tables, tmp_path):
    files = new_site(server, tables)
    new = gzip.compress(gzip.decompress(tables["posts"]), 1)
    old_index = server.answers["/db_exports.json"]
    new_site(server, tables | {"posts": new})
    new_index = server.answers["/db_exports.json"]
    server.answers |= {f"/data/db_export/{name}.csv.gz": file for name, file in files.items()}
    files["posts"].content = new
    server.answers["/db_exports.json"] = lambda exchange: (
        old_index if exchange.count == 1 else new_index
    )(exchange)
    fetch(server, tmp_path)
    assert (tmp_path / "posts.csv.gz").read_bytes() == new
    assert server.times("/db_exports.json") == 2


def test_an_index_that_lacks_a_table_is_one_line_that_names_it(server, tables, tmp_path):
    del tables["pools"]
    new_site(server, tables)
    with pytest.raises(FetchError, match=r"does not list pools.*again later"):
        fetch(server, tmp_path)
    assert asked(server) == ["/db_exports.json"]


def test_a_wrapped_index_is_read(server, tables, tmp_path):
    new_site(server, tables)
    plain = server.answers["/db_exports.json"]

    def wrapped(exchange):
        send, sent = exchange.answer, []
        exchange.answer = lambda body, *rest, **more: sent.append(body)
        plain(exchange)
        send(b'{"db_exports": ' + sent[0] + b"}")

    server.answers["/db_exports.json"] = wrapped
    assert fetch(server, tmp_path).keys() == set(NAMES)


# The command


def config(server, out, **changes):
    values = {"base_url": server.url, "out": out, "requests_per_second": 1000.0, "quiet": True}
    return DownloadConfig(**values | {"plan_only": True, "contact": "tests"} | changes)


def test_a_download_from_a_site_with_dated_files_goes_on(server, tables, tmp_path, capsys):
    old_site(server, tables)
    assert acquisition.download(config(server, tmp_path / "data")) == 0
    info = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert info["export"].keys() == {f"{name}-{DAY}.csv.gz" for name in NAMES}
    asked(server)
    assert acquisition.download(config(server, tmp_path / "data")) == 0
    assert asked(server) == []


def test_a_folder_of_dated_exports_goes_on_and_notices_other_ones(server, tables, tmp_path, capsys):
    folder = tmp_path / "made"
    for name in NAMES:
        (folder / f"{name}.csv.gz").rename(folder / f"{name}-{DAY}.csv.gz")
    options = config(server, tmp_path / "data", export_dir=folder)
    assert [acquisition.download(options) for _ in range(2)] == [0, 0]
    (folder / f"tags-{DAY}.csv.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(ConfigError, match=f"another version of tags-{DAY}"):
        acquisition.download(options)
    (folder / f"tags-{DAY}.csv.gz").unlink()
    with pytest.raises(DataError, match=r"no tags\.csv\.gz"):
        acquisition.download(options)


# A real server


NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log; client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s; types {{ text/html html; }} default_type application/gzip;
    server {{
        listen 127.0.0.1:{port}; root {folder}/site;
        location /db_export/ {{ autoindex on; }}
    }}
}}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def nginx(tmp_path, tables):
    """The address of an nginx that lists and serves dated files, and its folder."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    folder, port = tmp_path / "nginx", free_port()
    (folder / "site" / "db_export").mkdir(parents=True)
    for name, content in tables.items():
        (folder / "site" / "db_export" / f"{name}-{DAY}.csv.gz").write_bytes(content)
    # As root it would serve as nobody, who cannot enter a test's folder.
    (folder / "conf").write_text("user root;" + NGINX.format(folder=folder, port=port))
    process = subprocess.Popen([program, "-c", folder / "conf", "-p", folder])
    try:
        for _ in range(200):
            with socket.socket() as connection:
                if not connection.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.terminate()
        process.wait()


class At:
    """Something with an address."""

    def __init__(self, url):
        self.url = url


def test_nginx_is_an_older_site_whose_unchanged_files_are_not_sent_again(nginx, tables, tmp_path):
    url, folder = nginx
    out = tmp_path / "out"
    fetch(At(url), out)
    assert {path.name: path.read_bytes() for path in out.glob("*.gz")} == {
        f"{name}-{DAY}.csv.gz": content for name, content in tables.items()
    }
    fetch(At(url), out)
    part = out / f"posts-{DAY}.csv.gz.part"
    memo = json.loads((out / f"posts-{DAY}.csv.gz.json").read_text())
    (out / f"posts-{DAY}.csv.gz.part.json").write_text(json.dumps(memo))
    part.write_bytes(tables["posts"][:100])
    (out / f"posts-{DAY}.csv.gz").unlink()
    fetch(At(url), out)
    assert (out / f"posts-{DAY}.csv.gz").read_bytes() == tables["posts"]
    lines = (folder / "access.log").read_text().splitlines()
    statuses = [line.split('" ')[1].split()[0] for line in lines]
    per_run = ["404", "200"]
    assert statuses == [
        *per_run,
        *["200"] * 5,
        *per_run,
        *["304"] * 5,
        *per_run,
        "206",
        *["304"] * 4,
    ]


def test_the_index_of_the_site_itself_is_still_asked_first(server, tables):
    new_site(server, tables)
    server.answers["/db_export/"] = listing([f"{name}-{DAY}.csv.gz" for name in NAMES])
    client = PoliteClient(server.url, 10_000.0, "tester")
    index = read_index(client, open_site("e621", base_url=server.url))
    client.close()
    assert {export.file_name for export in index.values()} == {f"{n}.csv.gz" for n in NAMES}
