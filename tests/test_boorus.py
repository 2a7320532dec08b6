"""Boorus without exports: every kind, its quirks, and a whole download from each."""

import json
import os
import typing
import unicodedata
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from api_server import (
    DELETED,
    HIDDEN,
    LARGE,
    MINOR,
    PENDING,
    UNRATED,
    UNUSED,
    ApiServer,
    Request,
    danbooru,
    gelbooru,
    gelbooru_elements,
    gelbooru_xml,
    make_posts,
    moebooru,
    philomena,
    rule34,
    sample_of,
    shimmie2,
    shimmie2_posts,
    szurubooru,
)
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st

from e6tag import acquisition, images, shards
from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError, DataError, RefusedError
from e6tag.sites import API_SITES, NAMES, open_site
from e6tag.sites.base import PostFile
from e6tag.sites.fields import address, ending, seconds, tag_names, whole
from e6tag.sites.listed import UNKNOWN_RATING, ListedPost
from e6tag.sites.xml_rows import read_xml, xml_posts

KINDS = {
    "danbooru": ("danbooru", danbooru),
    "moebooru": ("moebooru", moebooru),
    "gelbooru": ("gelbooru", gelbooru),
    "rule34": ("gelbooru", rule34),
    "gelbooru_xml": ("gelbooru", gelbooru_xml),
    "gelbooru_elements": ("gelbooru", gelbooru_elements),
    "philomena": ("philomena", philomena),
    "szurubooru": ("szurubooru", szurubooru),
    "shimmie2": ("shimmie2", shimmie2),
    "shimmie2_posts": ("shimmie2", shimmie2_posts),
}
POSTS = make_posts()
TELL_CATEGORIES = ("danbooru", "moebooru", "rule34", "philomena", "szurubooru")
HAVE_SAMPLES = [kind for kind in KINDS if not kind.startswith(("szuru", "shimmie"))]
ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
everywhere = pytest.mark.parametrize("kind", KINDS)


def options(name, url, out, **changes):
    """A download of all posts that qualify."""
    values = {
        "site": name, "base_url": url, "out": out, "strategy": "all", "image_size": 64,
        "requests_per_second": 1000.0, "quiet": True,
    }  # fmt: skip
    ratings = {"ratings": UNKNOWN_RATING} if name == "shimmie2" else {}
    return DownloadConfig(**values | ratings | changes)


def first_page(kind, **changes):
    """What a kind's adapter reads from a page of all made posts, by place."""
    name, shape = KINDS[kind]
    with ApiServer(shape, POSTS, most=len(POSTS)) as server:
        site = open_site(name, base_url=server.url)
        url = site.page_url("", None, len(POSTS))
        answer = server.answer(Request(url.removeprefix(server.url), dict(site.headers)))
    page = site.parse_page(answer.body)
    return site, server, {(post.post_id - 1) // 3: post for post in page.posts}


# What adapters read


@everywhere
def test_an_adapter_reads_what_the_site_says(kind):
    site, server, found = first_page(kind)
    assert sorted(found) == list(range(len(POSTS)))
    post, made = found[3], POSTS[3]
    assert (post.post_id, post.width, post.height) == (made.post_id, *made.size)
    assert post.ext == made.ext and post.created_at == made.time
    # Philomena's artists are called so, and its ratings are tags.
    names = {name.removeprefix("artist:") for name in post.tags} - {"safe"}
    assert names == set(made.names)
    artists = {name for name, category in post.tags.items() if category == "artist"}
    assert bool(artists) == (kind in TELL_CATEGORIES)
    assert site.absolute(post.files["original"][0]).startswith(server.url)
    safest = UNKNOWN_RATING if site.name == "shimmie2" else next(iter(site.ratings))
    assert post.rating == safest
    if site.name in ("danbooru", "moebooru", "gelbooru"):
        assert post.parent_id == 1
    elif site.name == "szurubooru":
        assert post.linked == [1] and post.aliases["red_too"] == "red"


@everywhere
def test_posts_are_known_by_some_hash_of_the_original(kind):
    _, _, found = first_page(kind)
    for place in (2, 3):
        md5, other = found[place].md5, found[place].other_hash
        if kind == "philomena":
            assert not md5 and other.startswith("sha512:")
        elif kind == "szurubooru" and POSTS[place].post_id % 2:
            assert not md5 and other.startswith("sha1:")
        else:
            assert (md5, other) == (POSTS[place].md5, "")


@everywhere
def test_what_a_site_hides_has_no_address(kind):
    site, _, found = first_page(kind)
    assert not found[HIDDEN].location and not found[HIDDEN].files
    states = {
        DELETED: found[DELETED].is_deleted or not found[DELETED].location,
        PENDING: found[PENDING].is_pending or not found[PENDING].location,
    }
    assert all(states.values())
    assert found[UNRATED].rating == UNKNOWN_RATING
    assert found[MINOR].rating not in site.safe_ratings


@pytest.mark.parametrize("field", [{"hidden_from_users": True}, {"duplicate_of": 7}])
def test_what_philomena_calls_hidden_is_hidden_although_it_names_addresses(field):
    site = open_site("philomena", base_url="http://127.0.0.1:1")
    assert site.post(ROWS["philomena"]).location
    assert not site.post(ROWS["philomena"] | field).location


def test_philomenas_words_are_those_of_the_others():
    site = open_site("philomena", base_url="http://127.0.0.1:1")
    names = ["safe", "explicit", "oc:Some One", "artist:a b", "x:y"]
    post = site.post(ROWS["philomena"] | {"format": "jpeg", "tags": names})
    assert (post.ext, post.rating) == ("jpg", "e")
    assert post.tags == {
        "safe": "meta", "explicit": "meta", "oc:Some_One": "character", "artist:a_b": "artist",
        "x:y": "general",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "letter"),
    [("general", "g"), ("safe", "g"), ("Sensitive", "s"), ("s", "s"), ("questionable", "q"),
     ("e", "e"), ("", "x"), (None, "x"), ("fine", "x"), ("x", "x")],
)  # fmt: skip
def test_gelboorus_ratings_are_words_or_letters(said, letter):
    site = open_site("gelbooru")
    assert site.post(ROWS["gelbooru"] | {"rating": said}).rating == letter


@pytest.mark.parametrize("name", API_SITES)
def test_a_rating_that_nobody_knows_is_not_safe(name):
    assert UNKNOWN_RATING not in API_SITES[name].safe_ratings
    assert next(iter(API_SITES[name].ratings)) in API_SITES[name].safe_ratings
    assert API_SITES[name].safe_ratings <= API_SITES[name].ratings.keys()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_in_any_field_makes_a_post_or_none(data):
    """Nothing that a site sends ends a run, and what is kept of it is what it must be."""
    kind = data.draw(st.sampled_from([*KINDS, "e621"]))
    name, row = ("e621", E621_ROW) if kind == "e621" else (KINDS[kind][0], ROWS[kind])
    site = open_site(name, base_url="http://127.0.0.1:1", via="api")
    changed = data.draw(st.lists(st.sampled_from(sorted(row)), unique=True, max_size=4))
    row = {**row, **{field: data.draw(ODD_JSON) for field in changed}}
    if not whole(row["id"]):
        return
    post = site.post(row)
    assert ListedPost.from_line(post.to_line()).to_line() == post.to_line()
    assert 0 < post.post_id < 2**63
    assert min(post.width, post.height, post.size_bytes, post.parent_id) >= 0
    assert max(post.width, post.height) < 2**31
    assert post.rating == UNKNOWN_RATING or post.rating in site.ratings
    assert all(tag and tag.split() == [tag] for tag in post.tags)
    if post.location:
        file = PostFile(1, post.md5, "png", 1, 1, 1, post.location)
        for candidate in site.candidates(file, "sample"):
            assert candidate.url.startswith(("http://", "https://"))


def rows_of(kind):
    """A post of a kind as its page holds it."""
    name, shape = KINDS[kind]
    with ApiServer(shape, POSTS, most=1) as server:
        site = open_site(name, base_url=server.url)
        target = site.page_url("", None, 1).removeprefix(server.url)
        rows, _ = site.rows(server.answer(Request(target, dict(site.headers))).body)
    return rows[0]


ROWS = {kind: rows_of(kind) for kind in KINDS}
E621_FILE = {"width": 9, "height": 9, "ext": "png", "size": 9, "md5": "0" * 32, "url": None}
E621_ROW = {
    "id": 1, "created_at": "2020-01-02T03:04:05.678-05:00", "file": E621_FILE,
    "preview": {"width": 9, "height": 9, "url": None, "alt": None},
    "sample": {"has": False, "width": 9, "height": 9, "url": None, "alternates": {}},
    "tags": {"general": ["a"], "artist": []}, "rating": "s",
    "flags": {"pending": False, "flagged": False, "deleted": True},
    "relationships": {"parent_id": None},
}  # fmt: skip


def test_both_shapes_of_e621s_posts_say_the_same():
    url, md5 = "https://static1.e621.net/data/ab/cd/x", "ab" * 16
    v1 = E621_ROW | {
        "file": E621_FILE | {"md5": md5, "url": f"{url}.png", "width": 2000, "height": 1000},
        "sample": {"has": True, "width": 1700, "height": 850, "url": f"{url}.jpg"},
    }
    v2 = {name: value for name, value in v1.items() if name not in ("file", "sample", "preview")}
    v2["files"] = {
        "meta": {"md5": md5, "ext": "png", "size": 9, "duration": None, "has_sample": True},
        "original": {"width": 2000, "height": 1000, "url": f"{url}.png"},
        "preview": {"width": 9, "height": 9, "jpg": None, "webp": None},
        "sample": {"width": 1700, "height": 850, "jpg": f"{url}.jpg", "webp": f"{url}.webp"},
    }
    site = open_site("e621", via="api")
    first = site.parse_page(json.dumps({"posts": [v1]}).encode()).posts
    second = site.parse_page(json.dumps([v2]).encode()).posts
    assert first == second
    assert first[0].files["sample"] == (f"{url}.jpg", 1700, 850)
    basic = site.parse_page(json.dumps([v2 | {"tags": ["a", "b"]}]).encode()).posts
    assert basic[0].tags == {"a": "general", "b": "general"}


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5) | st.text(max_size=60))
def test_names_of_tags_have_no_space_and_nothing_unseen(value):
    for name in tag_names(value):
        assert name.split() == [name]
        assert not {"Cc", "Cs"} & {unicodedata.category(letter) for letter in name}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1771861877, 1771861877),
        ({"json_class": "Time", "s": 1771861877, "n": 5}, 1771861877),
        ("1771861877", 1771861877),
        ("Mon Feb 23 09:51:17 -0600 2026", 1771861877),
        ("2026-02-23T10:51:17.000-05:00", 1771861877),
        ("2026-02-23T15:51:17Z", 1771861877),
        ("2026-02-23 15:51:17", 1771861877),
        ("yesterday", None), (None, None), (-5, None), ("", None), ([], None),
    ],
)  # fmt: skip
def test_times_are_read_as_each_site_writes_them(value, expected):
    assert seconds(value) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("data/a.png", "https://host/booru/data/a.png"),
        ("/data/a.png", "https://host/data/a.png"),
        ("//cdn.host/a.png", "https://cdn.host/a.png"),
        ("http://other/a.png", "http://other/a.png"),
        ("file:///etc/passwd", ""), ("javascript:1", ""), ("https://me:pw@host/a", ""),
        ("https://:80/a", ""), ("http://[", ""), ("a\nb", ""), ("x" * 5000, ""), (7, ""), ("", ""),
    ],
)  # fmt: skip
def test_addresses_are_made_whole_or_left_out(link, expected):
    assert address(link, "https://host/booru") == expected


def test_endings_are_found_in_paths_and_queries():
    assert ending("/index.php?q=image/3.webp") == "webp"
    assert ending("https://host/a.b/c.JPG?123") == "jpg"
    assert ending("https://host/abc") == ending("") == ""


@pytest.mark.parametrize("kind", HAVE_SAMPLES)
def test_a_sample_is_tried_before_the_original(kind):
    site, server, found = first_page(kind)
    for place, post in ((LARGE[0], found[LARGE[0]]), (3, found[3])):
        file = PostFile(post.post_id, post.md5, post.ext, post.width, post.height, 0, post.location)
        tried = [candidate.variant for candidate in site.candidates(file, "sample")]
        assert tried == (["sample"] if place in LARGE else []) + ["original"]
        original = site.candidates(file, "original")
        assert [c.url for c in original] == [server.file_url(POSTS[place])]
        algorithm = "sha512" if kind == "philomena" else "md5"
        assert original[0].expected_hash[0] == algorithm


def test_a_listing_outlives_a_move_of_its_site():
    post = ListedPost(
        post_id=1, files=open_site("danbooru", base_url="http://a:1/b").files(
            original=("http://a:1/b/x.png", 1, 1), sample=("http://cdn/y.jpg", 1, 1)
        ),
    )  # fmt: skip
    file = PostFile(1, "", "png", 1, 1, 0, post.location)
    moved = open_site("danbooru", base_url="https://c")
    assert [c.url for c in moved.candidates(file, "sample")] == [
        "http://cdn/y.jpg", "https://c/x.png",
    ]  # fmt: skip


# XML


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abcd"),
            st.text(
                st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
            ),
        ),
        max_size=4,
    )
)
def test_xml_rows_are_what_the_standard_library_reads(rows):
    items = "".join(
        "<tag" + "".join(f" {k}={quoteattr(v)}" for k, v in row.items()) + "/>" for row in rows
    )
    content = f'<posts count="{len(rows)}">{items}</posts>'.encode()
    oracle = ElementTree.fromstring(content)
    found, count = xml_posts(content)
    assert found == [child.attrib for child in oracle] == rows
    assert count == len(rows)


BOMB = '<!DOCTYPE a [<!ENTITY b "cccccccccc">]><posts><tag id="1" tags="&b;"/></posts>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        BOMB.replace('"cccccccccc"', 'SYSTEM "file:///etc/passwd"'),
        '<!DOCTYPE posts SYSTEM "http://127.0.0.1/x.dtd"><posts/>',
        "<a>" * 50,
        '<posts><tag id="1"',
        "<html><body>hello</body></html>",
        "",
    ],
)
def test_xml_that_is_no_list_of_posts_is_refused_in_one_line(text, encoding):
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
    with pytest.raises(DataError) as problem:
        xml_posts(declared)
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 300


def test_text_of_elements_may_come_in_pieces():
    rows = read_xml(b"<posts><post><tags>a &amp; b</tags><id>7</id></post></posts>").rows
    assert rows == [{"tags": "a & b", "id": "7"}]


@pytest.mark.parametrize(
    "content",
    [
        b'"Missing authentication."', b"<error>Missing authentication.</error>",
        b'<response success="false" reason="Missing authentication."/>',
        b'{"success": false, "message": "Missing authentication."}',
        b'{"error": "Missing authentication."}',
    ],
)  # fmt: skip
def test_an_error_with_status_200_is_one(content):
    with pytest.raises(RefusedError, match="Missing authentication"):
        open_site("gelbooru").parse_page(content)


@pytest.mark.parametrize("name", API_SITES)
@pytest.mark.parametrize("content", [b"<html>", b"{}", b"7", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_an_answer_that_is_no_page_is_refused_in_one_line(name, content):
    site = open_site(name, base_url="http://127.0.0.1:1", via="api")
    if name == "gelbooru" and content in (b"{}", b"7", b"null"):
        # For these sites an object without posts means that there are none.
        assert not site.parse_page(content).posts
        return
    with pytest.raises(DataError) as problem:
        site.parse_page(content)
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 300


def test_entries_that_are_no_posts_are_counted():
    page = open_site("danbooru").parse_page(b'[7, null, {}, {"id": "x"}, {"id": 5}, {"id": -1}]')
    assert [post.post_id for post in page.posts] == [5]
    assert page.skipped == {"no_id": 5}


# Opening


def test_software_that_anyone_may_host_needs_an_address():
    for name, site in API_SITES.items():
        if site.default_url is None:
            with pytest.raises(ConfigError, match="--base-url"):
                open_site(name)
        else:
            assert open_site(name, via="api").base_url == site.default_url


@pytest.mark.parametrize("url", ["gopher://x", "x", "https://", "https://a?b=1", "https://u:p@a"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="--base-url"):
        open_site("danbooru", base_url=url)


def test_rates_are_those_of_the_host():
    slow = open_site("gelbooru", base_url="https://rule34.xxx")
    assert slow.base_url == "https://api.rule34.xxx"
    assert slow.max_requests_per_second == 1 and "60 requests a minute" in slow.rate_note
    for name in API_SITES:
        site = open_site(name, base_url="https://example.net", via="api")
        assert site.max_requests_per_second <= 2 and site.rate_note


# Whole downloads


@everywhere
def test_a_whole_download_from_each_kind(kind, tmp_path):
    name, shape = KINDS[kind]
    out = tmp_path / "data"
    with ApiServer(shape, POSTS, most=7) as server:
        assert acquisition.download(options(name, server.url, out)) == 0
        assert acquisition.download(options(name, server.url, out)) == 0
        targets = [request.target for request in server.requests]
    data = shards.open_dataset(out)
    assert (data.manifest["status"] == "ok").all()
    special = {POSTS[place].post_id for place in (HIDDEN, DELETED, MINOR, UNRATED, PENDING)}
    assert set(data.manifest["post_id"]) == {post.post_id for post in POSTS} - special
    assert len(special) == UNUSED
    for post_id in special:
        assert not any(f"/{post_id}." in target for target in targets)
    # Nothing is asked for twice, nor by a run that finds all done; but for empty pages.
    assert len(targets) == len(set(targets)) + (2 if kind == "rule34" else 0)
    check_pictures(out, data, kind)


def test_a_command_lists_plans_fetches_and_says_so(tmp_path):
    with ApiServer(moebooru, POSTS) as server:
        command = [
            ROOT / "download.py", "--site", "moebooru", "--base-url", server.url, "--json",
            "--strategy", "all", "--requests-per-second", "1000", "--max-posts", "20",
            "--query", "red", "--image-size", "64", "--out", tmp_path / "data",
        ]  # fmt: skip
        done = run_command(command, tmp_path)
    assert done.returncode == 0, done.stderr
    red = [post for post in POSTS if "red" in post.names]
    summary, words = json.loads(done.stdout), done.stderr.decode()
    assert summary["planned"] == summary["pictures"] == len(red) - 2
    assert f"listed {len(red)} posts, 1 of them hidden from us" in words
    assert "1 deleted, 1 rating" in words
    assert all("red" in r.params.get("tags", "red") for r in server.requests)


def check_pictures(out, data, kind):
    """Stored pictures are those of the posts; labels are their tags."""
    by_id = {post.post_id: post for post in POSTS}
    for row in data.manifest.itertuples():
        made = by_id[row.post_id]
        has_sample = kind in HAVE_SAMPLES and made.size[0] > 850
        source = sample_of(made.picture)[0] if has_sample else made.picture
        stored = shards.read_stored(out, row.shard, row.offset, row.length)
        pixels = [np.asarray(images.decode(jpeg), np.int16) for jpeg in (stored, source)]
        assert abs(pixels[0].mean() - pixels[1].mean()) < 3
        assert row.variant == ("sample" if has_sample else "original")
        names = {data.vocabulary.names[column] for column in row.labels}
        names = {name.removeprefix("artist:") for name in names}
        artists = {name for name in made.names if name.startswith("artist")}
        assert names | artists == set(made.names)
    groups = data.manifest.set_index("post_id")["group"]
    others = {kind for kind in KINDS if kind.startswith(("philomena", "shimmie"))}
    assert groups[10] == (10 if kind in others else 1)
    # Posts without an MD5 are not all one.
    assert groups.nunique() >= len(groups) - 1


@pytest.mark.parametrize("kind", ["philomena", "szurubooru", "danbooru"])
def test_a_file_of_another_hash_is_not_stored(kind, tmp_path):
    """Whatever the hash is that the site has."""
    name, shape = KINDS[kind]
    posts = [POSTS[2], POSTS[3], *POSTS[9:14]]
    with ApiServer(shape, posts) as server:
        server.by_id = server.by_id | {str(POSTS[3].post_id): POSTS[12]}
        assert acquisition.download(options(name, server.url, tmp_path / "data")) == 1
    data = shards.open_dataset(tmp_path / "data")
    failed = data.manifest[data.manifest["status"] != "ok"]
    assert failed["post_id"].tolist() == [POSTS[3].post_id]
    assert "hash_mismatch" in str(failed.iloc[0].to_dict())


@pytest.mark.parametrize("name", API_SITES)
def test_a_running_server_can_be_downloaded_from(name, tmp_path):
    variable = f"E6TAG_TEST_{name.upper().removesuffix('2')}_URL"
    url = os.environ.get(variable)
    if not url:
        pytest.skip(f"{variable} names no running server")
    config = options(
        name, url, tmp_path / "data", via="api", max_posts=30, variant="original"
    )  # fmt: skip
    assert acquisition.download(config) == 0
    assert len(shards.open_dataset(tmp_path / "data").manifest) > 0


def test_the_adapter_of_the_documents_is_one():
    page = (ROOT / "docs" / "acquisition.md").read_text(encoding="utf-8")
    found = {}
    exec(
        compile(page.split("```python\n")[1].split("```")[0], "docs/acquisition.md", "exec"), found
    )
    site = found["Somebooru"].at("http://127.0.0.1:1")
    assert site.page_url("red", 7, 5).endswith("/posts.json?tags=red+id%3A%3C7&limit=5")
    row = {"id": 3, "tags": "a b", "by": "c", "rating": "q", "file_url": "/x.png", "width": "9"}
    post = site.parse_page(json.dumps({"posts": [row]}).encode()).posts[0]
    assert post.tags == {"a": "general", "b": "general", "c": "artist"}
    assert (post.rating, post.ext, post.width) == ("q", "png", 9)
    assert post.files == {"original": ("x.png", 9, 0)}


def test_the_documents_name_every_site():
    page = (ROOT / "docs" / "acquisition.md").read_text(encoding="utf-8")
    table = page.split("### The sites that are there")[1]
    assert all(f"| `{name}" in table for name in API_SITES)
    assert set(typing.get_args(typing.get_type_hints(DownloadConfig)["site"])) == set(NAMES)
