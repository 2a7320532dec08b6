"""The e621 side: exports with every oddity, the export index, where files are."""

import csv
import getpass
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tempfile
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_posts import POST_HEADER, csv_text, md5_of, post_row, write_export, write_gzip

from e6tag.errors import ConfigError, DataError
from e6tag.sites import NAMES, open_site
from e6tag.sites.base import PostFile
from e6tag.sites.e621 import (
    E621,
    export_index_url,
    parse_export_index,
    preview_size,
    sample_size,
)
from e6tag.sites.e621_posts import POST_COLUMNS, collect
from e6tag.sites.e621_quick import read_quickly
from e6tag.sites.e621_tables import typed_chunks

MD5 = "0123456789abcdef0123456789abcdef"


def postgresql():
    """Folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def read(folder):
    return open_site("e621").read(folder)


def post_file(width=2000, height=1000, ext="png"):
    return PostFile(1, MD5, ext, width, height, 99)


# Exports: what is read


def test_posts_have_what_the_export_says(tmp_path):
    row = post_row(
        7,
        parent_id=3,
        is_pending="t",
        tag_string="b a",
        rating="q",
        created_at="2020-02-29 01:02:03",
    )
    collection = read(write_export(tmp_path, [row]))
    posts = collection.posts
    assert posts.post_id.tolist() == [7]
    assert posts.md5.tolist() == [md5_of(7)]
    assert posts.ext.tolist() == ["png"]
    assert posts.rating.tolist() == [b"q"]
    assert (posts.width[0], posts.height[0], posts.size_bytes[0]) == (900, 600, 12345)
    assert posts.parent_id.tolist() == [3]
    assert posts.created_at[0] == np.datetime64("2020-02-29T01:02:03")
    assert (posts.is_deleted[0], posts.is_pending[0], posts.is_flagged[0]) == (False, True, False)
    assert posts.tags_of(0) == ["b", "a"]
    assert collection.skipped == {}


def test_relations_pools_and_tags_are_the_approved_ones(tmp_path):
    collection = read(write_export(tmp_path))
    assert collection.relations.aliases == {"wolves": "wolf"}
    assert collection.relations.implications == {"wolf": ["canine"]}
    assert [pool.tolist() for pool in collection.pools] == [[1, 2, 3]]
    assert collection.tags.values.tolist() == [
        [1, "solo", 0, 900],
        [2, "wolf", 5, 800],
        [3, "canine", 5, 850],
    ]


def test_checksums_are_those_of_the_files(tmp_path):
    collection = read(write_export(tmp_path))
    expected = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    assert collection.checksums == expected


FIELD = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)
TAGS = st.lists(
    st.text(
        st.characters(min_codepoint=33, blacklist_categories=["Cs", "Zs", "Cc"]), min_size=1
    ).filter(lambda name: " " not in name),
    unique=True,
    max_size=5,
)


@settings(deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD, TAGS), min_size=1, max_size=5))
def test_any_text_in_any_field_leaves_the_rest_as_it_was(tmp_path_factory, posts):
    rows = [
        post_row(i, source=source, description=description, tag_string=" ".join(tags))
        for i, (source, description, tags) in enumerate(posts, 1)
    ]
    found = read(write_export(tmp_path_factory.mktemp("export"), rows)).posts
    assert found.post_id.tolist() == list(range(1, len(posts) + 1))
    assert [found.tags_of(row) for row in range(len(found))] == [tags for _, _, tags in posts]


def columns_of(posts):
    return {f.name: np.asarray(getattr(posts, f.name)).tolist() for f in fields(posts)}


def read_both_ways(path):
    """Columns and skipped rows, read quickly and line by line."""
    for reader in (read_quickly, typed_chunks):
        posts, skipped = collect(path, reader(path, POST_COLUMNS), frozenset("sqe"))
        yield columns_of(posts), skipped


ODD_FIELDS = {
    "md5": st.sampled_from([MD5, MD5.upper(), "", "é" * 16, MD5[:-1], MD5[:-1] + "G", "0" * 33]),
    "rating": st.sampled_from(["s", "q", "e", "S", "", "safe"]),
    "file_ext": st.sampled_from(["png", "JPG", "swf", "", "exe", "pn\0g"]),
    "image_width": st.integers(-3, 2**31 + 3).map(str) | st.just(""),
    "parent_id": st.integers(-(2**63), 2**63 - 1).map(str) | st.just(""),
    "created_at": st.sampled_from(
        ["", "1969-12-31 23:59:59.999999", "2007-02-10 03:12:04.5", "2020-02-29 00:00:00"]
    ),
    "is_deleted": st.sampled_from("tf"),
    "tag_string": TAGS.map(" ".join) | st.sampled_from([" ", "a  b", " a ", "a a", "a\0b"]),
    "description": FIELD,
    "source": FIELD,
}
ODD_ROWS = st.lists(st.fixed_dictionaries({}, optional=ODD_FIELDS), min_size=1, max_size=8)


@settings(deadline=None)
@given(ODD_ROWS)
def test_reading_quickly_is_reading_line_by_line(tmp_path_factory, odd):
    rows = [post_row(number, **fields) for number, fields in enumerate(odd, 1)]
    folder = write_export(tmp_path_factory.mktemp("export"), [*rows, post_row(99)])
    quick, exact = read_both_ways(folder / "posts.csv.gz")
    assert quick == exact


@pytest.mark.parametrize("size", [1400, 1700, 2500, 5000])
def test_reading_in_pieces_is_reading_at_once(tmp_path, monkeypatch, size):
    rows = [post_row(i, tag_string=f"a t{i}", description='x\n"y"\r\n' * i) for i in range(1, 24)]
    path = write_export(tmp_path, rows) / "posts.csv.gz"
    (whole, _), _ = read_both_ways(path)
    monkeypatch.setattr("e6tag.sites.e621_quick.BLOCK_BYTES", size)
    monkeypatch.setattr("e6tag.sites.e621_tables.CHUNK_ROWS", 5)
    assert [columns for columns, _ in read_both_ways(path)] == [whole, whole]


UNCLEAR = {
    "a row longer than a block": [post_row(1), post_row(2, description="x" * 4000)],
    "a number with a plus": [post_row(1), post_row(2, score="1", parent_id="+1")],
}


@pytest.mark.parametrize("rows", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_cannot_be_read_quickly_is_read_all_the_same(tmp_path, monkeypatch, caplog, rows):
    monkeypatch.setattr("e6tag.sites.e621_quick.BLOCK_BYTES", 2000)
    caplog.set_level("INFO", "e6tag")
    posts = read(write_export(tmp_path, rows)).posts
    assert posts.post_id.tolist() == [1, 2]
    assert caplog.text.count("line by line") == 1


def test_an_end_within_quotes_is_noticed_where_arrow_would_not(tmp_path):
    text = csv_text(POST_HEADER, [post_row(1), post_row(2, last_commented_at="x,")])
    write_export(tmp_path)
    write_gzip(tmp_path / "posts.csv.gz", text[: text.rindex('"')])
    with pytest.raises(DataError, match=r"line 3.*quoted"):
        read(tmp_path)


LONG_TAGS = " ".join(f"tag_{i:0>95}" for i in range(2000))
LONG_WORDS = 'say "hello",\r\n' * 4000

GOOD_ROWS = {
    "negative score": {"score": "-999"},
    "id over 2^31": {"id": str(2**31 + 5)},
    "2,000 tags": {"tag_string": LONG_TAGS},
    "50,000 characters with newlines and quotes": {"description": LONG_WORDS},
    "md5 in upper case": {"md5": MD5.upper()},
    "extension in upper case": {"file_ext": "PNG"},
    "no creation time": {"created_at": ""},
    "duration with decimals": {"duration": "3.50"},
    "deleted": {"is_deleted": "t"},
    "awkward tags": {
        "tag_string": ":3 <3 ... ^_^ \" ' %41 &amp; café cafe\u0301 \u202eabc \u200b 🐺"
    },
    "no size in bytes": {"file_size": ""},
    "no tags": {"tag_string": ""},
    "100 characters": {"tag_string": f"{'a' * 100} {'é' * 100}"},
    "width 1": {"image_width": "1"},
    "like a path or a search": {"tag_string": "../.. / .. -x rating:s wolf Wolf \\. #x"},
    "NUL in a text we do not use": {"description": "a\0b"},
}


@pytest.mark.parametrize("fields", GOOD_ROWS.values(), ids=GOOD_ROWS.keys())
def test_odd_but_legal_rows_are_read_and_quickly(tmp_path, caplog, fields):
    caplog.set_level("INFO", "e6tag")
    row = post_row(3) | fields
    posts = read(write_export(tmp_path, [row, post_row(1)])).posts
    assert sorted(posts.post_id.tolist()) == sorted([1, int(row["id"])])
    at = posts.post_id.tolist().index(int(row["id"]))
    assert posts.tags_of(at) == row["tag_string"].split(" " if row["tag_string"] else None)
    assert posts.md5[at].decode() == row["md5"].lower()
    assert posts.ext[at] == "png"
    assert "line by line" not in caplog.text


BAD_ROWS = {
    "bad_md5": [
        {"md5": ""},
        {"md5": "xyz"},
        {"md5": MD5 + "0"},
        {"md5": "é" * 32},
        {"md5": MD5[:-1] + "g"},
    ],
    "bad_ext": [{"file_ext": "exe"}, {"file_ext": ""}],
    "bad_size": [{"image_width": "0"}, {"image_height": "-1"}, {"image_width": str(2**31)}],
    "bad_rating": [{"rating": "g"}, {"rating": ""}],
    "bad_id": [{"id": ""}, {"id": "0"}],
    "bad_tags": [{"tag_string": "a\0b"}],
}


@pytest.mark.parametrize(
    ("reason", "fields"), [(reason, fields) for reason, rows in BAD_ROWS.items() for fields in rows]
)
def test_unusable_rows_are_skipped_and_counted(tmp_path, reason, fields):
    collection = read(write_export(tmp_path, [post_row(1), post_row(2) | fields, post_row(3)]))
    assert collection.posts.post_id.tolist() == [1, 3]
    assert collection.skipped == {reason: 1}


def test_posts_are_in_order_and_the_last_row_of_an_id_counts(tmp_path):
    rows = [post_row(5), post_row(2, tag_string="old"), post_row(9), post_row(2, tag_string="new")]
    collection = read(write_export(tmp_path, rows))
    assert collection.posts.post_id.tolist() == [2, 5, 9]
    assert collection.posts.tags_of(0) == ["new"]
    assert collection.skipped == {"duplicate_id": 1}


def test_what_a_real_postgresql_writes_is_read_as_it_was_meant(tmp_path_factory, caplog):
    caplog.set_level("INFO", "e6tag")
    binaries, user = postgresql(), "postgres" if os.geteuid() == 0 else getpass.getuser()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    tags = [":3 café cafe\u0301 \\. \" ' %41 &amp;", "", "solo", None, "a,b c"]
    texts = ["a\r\nb", "\\.", '"', "", "x\ry,"]
    values = ",".join(
        f"({i + 1}, {sql(texts[i])}, {sql(tags[i])}, {sql(texts[-i])}, {parent})"
        for i, parent in enumerate([9, "NULL", 11, "NULL", 13])
    )
    select = (
        "SELECT id, timestamp '2007-02-10 03:12:04.5' created_at, md5(id::text) md5, source, "
        "'s' rating, 900 image_width, 600 image_height, tag_string, 'png' file_ext, parent_id, "
        "12345 file_size, description, 3.50::numeric duration, id = 3 is_deleted, "
        "false is_pending, id = 2 is_flagged, ARRAY[1,2] ids FROM (VALUES "
        f"{values}) t(id, source, tag_string, description, parent_id) ORDER BY id"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            shutil.chown(folder, user)
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")

        def run(*command, text=""):
            subprocess.run(command, input=text.encode(), user=user, cwd=name, check=True)

        run(binaries / "initdb", "-D", "db", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
        copy = f"COPY ({select}) TO '{folder}/out.csv' WITH CSV HEADER\n"
        run(binaries / "postgres", "--single", "-D", "db", "postgres", text=copy)
        content = (folder / "out.csv").read_bytes()
    folder = write_export(tmp_path_factory.mktemp("export"))
    write_gzip(folder / "posts.csv.gz", content)
    posts = read(folder).posts
    assert "line by line" not in caplog.text
    assert posts.post_id.tolist() == [1, 2, 3, 4, 5]
    assert posts.md5.tolist() == [md5_of(i) for i in range(1, 6)]
    assert posts.parent_id.tolist() == [9, 0, 11, 0, 13]
    assert posts.is_deleted.tolist() == [i == 3 for i in range(1, 6)]
    assert [posts.tags_of(row) for row in range(5)] == [(text or "").split() for text in tags]
    assert set(posts.created_at.tolist()) == {datetime(2007, 2, 10, 3, 12, 4)}


def sql(text):
    """A text as an SQL literal on one line, as single-user mode needs it."""
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return "E'" + escaped.replace("\r", "\\r").replace("\n", "\\n") + "'"


# Exports: how files may be written


def shuffled_columns(text):
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    header = list(rows[0])
    random.Random(0).shuffle(header)
    return csv_text(",".join([*header, "new_column"]), rows)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: gzip.compress(("\ufeff" + text).encode()), id="BOM"),
        pytest.param(lambda text: gzip.compress(text.replace("\n", "\r\n").encode()), id="CRLF"),
        pytest.param(
            lambda text: gzip.compress(text[:50].encode()) + gzip.compress(text[50:].encode()),
            id="two gzip members",
        ),
        pytest.param(lambda text: gzip.compress(shuffled_columns(text).encode()), id="columns"),
    ],
)
def test_other_ways_to_write_the_same_table_are_read_alike(tmp_path, change):
    write_export(tmp_path, [post_row(1), post_row(2)])
    before = read(tmp_path).posts
    text = gzip.decompress((tmp_path / "posts.csv.gz").read_bytes()).decode()
    (tmp_path / "posts.csv.gz").write_bytes(change(text))
    after = read(tmp_path).posts
    assert after.md5.tolist() == before.md5.tolist()
    assert after.tag_indices.tolist() == before.tag_indices.tolist()
    assert after.is_flagged.tolist() == before.is_flagged.tolist()


@pytest.mark.parametrize("name", ["posts.csv", "posts-2026-01-02.csv.gz"])
def test_unpacked_and_dated_files_are_found(tmp_path, name):
    write_export(tmp_path)
    packed = (tmp_path / "posts.csv.gz").read_bytes()
    (tmp_path / "posts.csv.gz").unlink()
    (tmp_path / "posts-2025-12-31.csv.gz").write_bytes(b"older")
    (tmp_path / name).write_bytes(packed if name.endswith(".gz") else gzip.decompress(packed))
    assert name in read(tmp_path).checksums


# Exports: what is refused, and that the message says where


def packed(text):
    return gzip.compress(text.encode(), mtime=0)


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


GOOD = csv_text(POST_HEADER, [post_row(i, source=f"{i:x}" * 40) for i in range(1, 60)])
LAST = GOOD.splitlines(keepends=True)[-1]

DAMAGED = {
    "truncated gzip": (packed(GOOD)[:-200], "truncated or damaged"),
    "no gzip trailer": (packed(GOOD)[:-4], "truncated or damaged"),
    "flipped byte": (flip(packed(GOOD)), "truncated or damaged|not UTF-8|line|row"),
    "HTML instead": (b"<html>no</html>", "truncated or damaged"),
    "trailing junk": (packed(GOOD) + b"junk", "truncated or damaged"),
    "empty file": (b"", "is empty"),
    "nothing packed": (packed(""), "is empty"),
    "header only": (packed(POST_HEADER + "\n"), "has no posts"),
    "no md5 column": (packed(GOOD.replace("md5", "sha1", 1)), "line 1: no column md5"),
    "unterminated quote": (packed(GOOD + '60,"'), "line 61.*quoted"),
    "text after a quote": (packed(GOOD + '60,"a"b\n'), "line 61.*quoted"),
    "too few fields": (packed(GOOD + "60,1\n"), "line 61: 2 fields where 32"),
    "too many fields": (packed(GOOD + LAST.rstrip("\n") + ",x\n"), "line 61: 33 fields where 32"),
    "empty line": (packed(GOOD + "\n"), "line 61: 0 fields"),
    "not UTF-8": (gzip.compress(GOOD.encode() + b"\xff\xfe\n"), "not UTF-8"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_exports_are_refused_by_name_and_line(tmp_path, content, message):
    write_export(tmp_path)
    (tmp_path / "posts.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=rf"posts\.csv\.gz.*({message})") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_width": "wide"}, "row 2: image_width is 'wide', expected a whole number"),
        ({"id": str(2**63)}, "row 2: id is"),
        ({"is_deleted": "maybe"}, "row 2: is_deleted is 'maybe', expected t or f"),
        ({"created_at": "yesterday"}, "row 2: created_at is 'yesterday'"),
        ({"created_at": "2020-13-01 00:00:00"}, "created_at holds no time"),
    ],
)
def test_fields_of_the_wrong_kind_are_refused_by_row(tmp_path, fields, message):
    write_export(tmp_path, [post_row(1), post_row(2) | fields])
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_pool_that_is_no_list_is_refused(tmp_path):
    write_export(tmp_path)
    write_gzip(tmp_path / "pools.csv.gz", "id,category,post_ids\n8,series,{1;2}\n")
    with pytest.raises(DataError, match="pool 8"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["posts", "tags", "tag_aliases", "tag_implications", "pools"])
def test_a_missing_table_is_named(tmp_path, name):
    write_export(tmp_path)
    (tmp_path / f"{name}.csv.gz").unlink()
    with pytest.raises(DataError, match=rf"no {name}\.csv\.gz"):
        read(tmp_path)


def test_a_truncation_at_a_member_boundary_is_caught_by_its_checksum(tmp_path):
    write_export(tmp_path)
    path = tmp_path / "posts.csv.gz"
    first = path.read_bytes()
    both = first + packed(GOOD.partition("\n")[2])
    index = json.dumps(
        [{"name": "posts", "url": "http://h/x", "checksum": hashlib.sha256(both).hexdigest()}]
    )
    site = open_site("e621", index=parse_export_index(index))
    path.write_bytes(both)
    assert len(site.read(tmp_path).posts) == 59
    path.write_bytes(first)
    with pytest.raises(DataError, match=r"posts\.csv\.gz.*SHA-256"):
        site.read(tmp_path)


# The export index


INDEX = [
    {
        "name": "posts",
        "file_name": "posts.csv.gz",
        "file_size": 123,
        "checksum": "AB" * 32,
        "updated_at": "2026-06-01T00:00:00Z",
        "url": "https://static9.example.net/files/data/db_export/posts.csv.gz",
    },
    {"name": "tags", "file_size": None, "checksum": None, "url": "http://h/tags.csv.gz"},
]


def test_the_export_index_is_parsed():
    index = parse_export_index(json.dumps(INDEX))
    assert index.keys() == {"posts", "tags"}
    assert (index["posts"].sha256, index["posts"].size_bytes) == ("ab" * 32, 123)
    assert (index["tags"].sha256, index["tags"].size_bytes) == (None, None)
    assert index["tags"].file_name == "tags.csv.gz"
    assert parse_export_index(json.dumps({"db_exports": INDEX})) == index


@pytest.mark.parametrize("content", [b"<html>", "", "3", '{"a": 1}', b"\xff"])
def test_what_is_not_an_export_index_is_refused(content):
    with pytest.raises(DataError, match="export index is not"):
        parse_export_index(content)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../posts", "url": "http://h/x"},
        {"name": "posts", "url": "file:///etc/passwd"},
        {"name": "posts"},
        {"name": 3, "url": "http://h/x"},
        "posts",
    ],
)
def test_entries_that_cannot_be_used_are_passed_over(entry):
    assert parse_export_index(json.dumps([entry])) == {}


@pytest.mark.parametrize(
    ("base_url", "index", "static_url"),
    [
        (None, None, "https://static1.e621.net"),
        ("https://e926.net/", None, "https://static1.e621.net"),
        ("http://127.0.0.1:8000/", None, "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000", INDEX, "https://static9.example.net/files"),
        ("http://127.0.0.1:8000", INDEX[1:], "http://127.0.0.1:8000"),
    ],
)
def test_static_files_are_where_the_exports_are(base_url, index, static_url):
    parsed = None if index is None else parse_export_index(json.dumps(index))
    site = E621.at(base_url, parsed)
    assert site.candidates(post_file(), "original")[0].url == (f"{static_url}/data/01/23/{MD5}.png")


def test_the_index_is_asked_of_the_site_itself():
    assert export_index_url("http://h:1/") == "http://h:1/db_exports.json"


@pytest.mark.parametrize("base_url", ["e621.net", "ftp://e621.net", "https://"])
def test_addresses_that_are_none_are_refused(base_url):
    with pytest.raises(ConfigError, match="--base-url"):
        E621.at(base_url)


# Which files show a post


@pytest.mark.parametrize(
    ("width", "height", "ext", "expected"),
    [
        (850, 850, "png", None),
        (851, 851, "png", (850, 850)),
        (850, 1700, "jpg", None),
        (850, 1701, "jpg", (850, 1700)),
        (2000, 1000, "webp", (1700, 850)),
        (1000, 2000, "jpeg", (850, 1700)),
        (400, 2000, "png", (340, 1700)),
        (1200, 900, "png", (1133, 850)),
        (15000, 1, "png", (1700, 1)),
        (4000, 4000, "gif", None),
        (4000, 4000, "swf", None),
        (1920, 1080, "webm", None),
    ],
)
def test_samples_exist_where_the_site_makes_them(width, height, ext, expected):
    assert sample_size(post_file(width, height, ext)) == expected


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(512, 512, (256, 256)), (300, 600, (256, 512)), (300, 601, None), (1, 1, None)],
)
def test_previews_count_where_they_show_the_whole_picture(width, height, expected):
    assert preview_size(post_file(width, height)) == expected


def test_the_original_is_the_last_resort_and_the_only_one_with_an_md5():
    site = E621.at("http://h")
    sample, original = site.candidates(post_file(), "sample")
    assert sample.url == f"http://h/data/sample/01/23/{MD5}.jpg"
    assert (sample.variant, sample.md5, sample.size_bytes) == ("sample", None, None)
    assert (sample.width, sample.height) == (1700, 850)
    assert original.url == f"http://h/data/01/23/{MD5}.png"
    assert (original.md5, original.size_bytes) == (MD5, 99)
    assert [c.variant for c in site.candidates(post_file(), "preview")] == ["preview", "original"]
    assert [c.variant for c in site.candidates(post_file(800, 800), "sample")] == ["original"]
    assert [c.variant for c in site.candidates(post_file(), "original")] == ["original"]


def test_a_table_row_says_where_the_files_are():
    row = {
        "post_id": np.int64(1), "md5": MD5, "ext": "png", "width": np.int32(2000),
        "height": np.int32(1000), "size_bytes": np.int64(99), "location": "", "labels": [],
    }  # fmt: skip
    assert PostFile.from_row(row) == post_file()


# Opening sites


def test_every_site_offers_what_a_site_must(tmp_path):
    for name in NAMES:
        folder = tmp_path if name == "folder" else None
        url = None if folder else "https://example.net"
        site = open_site(name, base_url=url, folder=folder)
        assert site.name == name
        assert site.safe_ratings <= site.ratings.keys()
        assert "general" in site.categories.values()
        assert site.max_requests_per_second > 0
        assert site.base_url
    assert open_site("e621").max_requests_per_second == 2


@pytest.mark.parametrize(
    ("name", "folder"),
    [("e621", "here"), ("folder", None), ("danbooru", "here"), ("nobooru", None)],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, name, folder):
    with pytest.raises(ConfigError):
        open_site(name, folder=tmp_path if folder else None)
