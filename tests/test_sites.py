"""The e621 side: exports with every oddity, the export index, where files are."""

import csv
import gzip
import hashlib
import io
import json
import random

import numpy as np
import pytest
from hypothesis import given
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

MD5 = "0123456789abcdef0123456789abcdef"


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


@given(st.lists(st.tuples(FIELD, FIELD, TAGS), min_size=1, max_size=5))
def test_any_text_in_any_field_leaves_the_rest_as_it_was(tmp_path_factory, posts):
    rows = [
        post_row(i, source=source, description=description, tag_string=" ".join(tags))
        for i, (source, description, tags) in enumerate(posts, 1)
    ]
    found = read(write_export(tmp_path_factory.mktemp("export"), rows)).posts
    assert found.post_id.tolist() == list(range(1, len(posts) + 1))
    assert [found.tags_of(row) for row in range(len(found))] == [tags for _, _, tags in posts]


def test_reading_in_chunks_is_reading_at_once(tmp_path, monkeypatch):
    rows = [post_row(i, tag_string=f"a t{i}", description="x\ny") for i in range(1, 24)]
    write_export(tmp_path, rows)
    whole = read(tmp_path).posts
    monkeypatch.setattr("e6tag.sites.e621_tables.CHUNK_ROWS", 5)
    parts = read(tmp_path).posts
    assert parts.post_id.tolist() == whole.post_id.tolist()
    assert parts.tag_indices.tolist() == whole.tag_indices.tolist()
    assert parts.tag_names == whole.tag_names


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
    "NUL in a text we do not use": {"description": "a\0b"},
}


@pytest.mark.parametrize("fields", GOOD_ROWS.values(), ids=GOOD_ROWS.keys())
def test_odd_but_legal_rows_are_read(tmp_path, fields):
    row = post_row(3) | fields
    posts = read(write_export(tmp_path, [row, post_row(1)])).posts
    assert sorted(posts.post_id.tolist()) == sorted([1, int(row["id"])])
    at = posts.post_id.tolist().index(int(row["id"]))
    assert posts.tags_of(at) == row["tag_string"].split(" " if row["tag_string"] else None)
    assert posts.md5[at].decode() == row["md5"].lower()
    assert posts.ext[at] == "png"


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
