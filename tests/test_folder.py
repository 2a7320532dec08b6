"""Your own pictures: every layout of tags, and what is said of those that cannot be used."""

import hashlib
import json
import struct
import zlib

import numpy as np
import pytest
from conftest import ROOT, run_command
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from e6tag.errors import ConfigError, DataError
from e6tag.shards import open_dataset
from e6tag.sites import open_site
from e6tag.sites.base import PostFile
from e6tag.sites.sidecars import clean_tag, split_tags


def draw(path, colour=0, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour % 256, colour // 256, 99)).save(path, **options)
    return path


def read(folder):
    return open_site("folder", folder=folder).read(folder)


def tags_by_name(collection):
    posts = collection.posts
    return {
        posts.location[row].rsplit("/", 1)[1]: sorted(posts.tags_of(row))
        for row in range(len(posts))
    }


TEXTS = {
    "spaces": ("wolf solo\tred_eyes\n", ["red_eyes", "solo", "wolf"]),
    "commas": ("Wolf, red eyes ,solo,,\n", ["red_eyes", "solo", "wolf"]),
    "one line each, with commas": ("red eyes,\nblue sky", ["blue_sky", "red_eyes"]),
    "BOM and CRLF": ("\ufeffwolf\r\nsolo\r\n", ["solo", "wolf"]),
    "escaped brackets": (r"zoe \(nurse\), solo", ["solo", "zoe_(nurse)"]),
    "awkward": (":3 <3 ^_^ café", [":3", "<3", "^_^", "café"]),
    "decomposed": ("cafe\u0301", ["café"]),
    "twice": ("wolf wolf WOLF", ["wolf"]),
    "empty": ("", []),
}


@pytest.mark.parametrize(("text", "tags"), TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("name", ["a.txt", "a.png.txt"])
def test_txt_sidecars_are_read(tmp_path, name, text, tags):
    draw(tmp_path / "a.png")
    (tmp_path / name).write_bytes(text.encode())
    assert tags_by_name(read(tmp_path)) == {"a.png": tags}


JSONS = {
    "a list": (["Wolf", "red eyes"], ["red_eyes", "wolf"], "s"),
    "tags": ({"tags": ["wolf"]}, ["wolf"], "s"),
    "tags as text": ({"tags": "wolf, red eyes"}, ["red_eyes", "wolf"], "s"),
    "rating letter": ({"tags": ["wolf"], "rating": "E"}, ["wolf"], "e"),
    "rating word": ({"tags": ["wolf"], "rating": "questionable"}, ["wolf"], "q"),
    "no rating": ({"tags": ["wolf"], "rating": None}, ["wolf"], "s"),
    "categories": ({"tags": {"species": ["wolf"], "artist": ["me"]}}, ["me", "wolf"], "s"),
}


@pytest.mark.parametrize(("value", "tags", "rating"), JSONS.values(), ids=JSONS.keys())
@pytest.mark.parametrize("name", ["a.json", "a.png.json"])
def test_json_sidecars_are_read(tmp_path, name, value, tags, rating):
    draw(tmp_path / "a.png")
    (tmp_path / name).write_text(json.dumps(value))
    collection = read(tmp_path)
    assert tags_by_name(collection) == {"a.png": tags}
    assert collection.posts.rating.tolist() == [rating.encode()]


def test_json_gives_categories_and_everything_else_is_general(tmp_path):
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "b.png", 2)
    draw(tmp_path / "c.png", 3)
    (tmp_path / "a.json").write_text('{"tags": {"species": ["wolf"], "general": ["solo"]}}')
    (tmp_path / "b.txt").write_text("wolf solo")
    (tmp_path / "c.json").write_text('{"tags": {"species": ["wolf"]}}')
    tags = read(tmp_path).tags.set_index("name")
    assert tags["category"].to_dict() == {"solo": 0, "wolf": 5}
    assert tags["count"].to_dict() == {"solo": 2, "wolf": 3}


@pytest.mark.parametrize(
    "table",
    [
        'path,tags\na.png,"red eyes, wolf"\nsub/b.jpg,solo wolf\n',
        "labels,filename,more\nred_eyes wolf,a.png,x\nwolf solo,sub/b.jpg,y\n",
        "\ufefffile,tags\r\n./a.png,wolf red_eyes\r\nsub/b.jpg,wolf solo\r\n",
    ],
)
def test_one_csv_names_pictures_and_tags(tmp_path, table):
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "sub" / "b.jpg", 2)
    (tmp_path / "tags.csv").write_bytes(table.encode())
    expected = {"a.png": ["red_eyes", "wolf"], "b.jpg": ["solo", "wolf"]}
    assert tags_by_name(read(tmp_path)) == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "line 1: the columns are"),
        ("a.png,wolf\n", "line 1: the columns are a.png,wolf; expected a header with path"),
        ("path,tags\na.png,red eyes, wolf\n", "line 2: the row does not fit"),
        ("path,tags\na.png\n", "line 2: the row does not fit"),
        ("path,tags\n,wolf\n", "line 2: the row does not fit"),
        ("path,tags,rating\na.png,wolf,x\n", "line 2: the rating is 'x'"),
        ("path,tags\na.png,wolf\na.png,cat\n", "line 3: a.png comes twice"),
        ('path,tags\na.png,"wolf\n', "is not CSV"),
        ("path,tags\na.png,\udcff\n", "is not UTF-8"),
        ("path,tags\n", "no picture in .* has tags"),
    ],
)
def test_another_csv_layout_is_refused(tmp_path, table, message):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_bytes(table.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_two_csvs_are_refused(tmp_path):
    draw(tmp_path / "a.png")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("path,tags\na.png,wolf\n")
    with pytest.raises(DataError, match=r"one\.csv, two\.csv"):
        read(tmp_path)


def test_posts_say_what_the_files_are(tmp_path):
    path = draw(tmp_path / "deep" / "er" / "a.jpeg", size=(64, 48))
    path.with_suffix(".txt").write_text("wolf")
    collection = read(tmp_path)
    posts, md5 = collection.posts, hashlib.md5(path.read_bytes()).hexdigest()
    assert posts.md5.tolist() == [md5.encode()]
    assert posts.post_id.tolist() == [int(md5, 16) >> 65]
    assert (posts.width[0], posts.height[0], posts.ext[0]) == (64, 48, "jpg")
    assert posts.size_bytes.tolist() == [path.stat().st_size]
    assert posts.rating.tolist() == [b"s"]
    post = PostFile(1, md5, "jpg", 64, 48, path.stat().st_size, posts.location[0])
    (candidate,) = open_site("folder", folder=tmp_path).candidates(post, "sample")
    assert (candidate.url, candidate.md5) == (str(path.absolute()), md5)


def test_the_extension_is_that_of_the_contents(tmp_path):
    draw(tmp_path / "a.jpg", format="WEBP")
    (tmp_path / "a.txt").write_text("wolf")
    assert read(tmp_path).posts.ext.tolist() == ["webp"]


def test_corrupt_pictures_and_sidecars_are_named_and_the_rest_is_read(tmp_path):
    for number in range(4):
        draw(tmp_path / f"{number}.png", number)
        (tmp_path / f"{number}.txt").write_text("wolf")
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "1.png").write_bytes(b"<html>not a picture</html>")
    (tmp_path / "2.txt").write_bytes(b"\xff\xfe\xfd")
    collection = read(tmp_path)
    assert tags_by_name(collection) == {"3.png": ["wolf"]}
    assert len(collection.failed) == 3
    for name, line in zip(("2.txt", "0.png", "1.png"), collection.failed, strict=True):
        assert name in line


BAD_JSON = ["{", '{"labels": []}', '{"tags": [1]}', '{"tags": 3}', '"wolf"', "[" * 100_000]
BAD_JSON += ['{"tags": ["a"], "rating": "x"}', '{"tags": {"style": ["a"]}}', "null"]


@pytest.mark.parametrize("text", BAD_JSON)
def test_another_json_layout_is_a_failed_input(tmp_path, text):
    for name in ("a", "b"):
        draw(tmp_path / f"{name}.png", ord(name))
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.txt").write_text("wolf")
    collection = read(tmp_path)
    assert len(collection.posts) == 1
    assert len(collection.failed) == 1 and "a.json" in collection.failed[0]


def png_header(width, height):
    """A black-and-white PNG as far as its size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + checksum + b"\0\0\0\0IDAT"


def test_a_bomb_is_a_failed_input(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(14000, 14000))
    (tmp_path / "warning.png").write_bytes(png_header(10000, 9500))
    draw(tmp_path / "a.png")
    for name in ("bomb", "warning", "a"):
        (tmp_path / f"{name}.txt").write_text("wolf")
    collection = read(tmp_path)
    assert tags_by_name(collection) == {"a.png": ["wolf"]}
    assert ["bomb" in collection.failed[0], "warning" in collection.failed[1]] == [True, True]


def test_a_listed_picture_that_is_missing_is_a_failed_input(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,tags\na.png,wolf\ngone.png,wolf\n")
    collection = read(tmp_path)
    assert len(collection.posts) == 1
    assert "gone.png" in collection.failed[0]


def test_pictures_without_tags_are_left_out_and_counted(tmp_path):
    for name in ("a", "b", "c"):
        draw(tmp_path / f"{name}.png", ord(name))
    (tmp_path / "b.txt").write_text("wolf")
    collection = read(tmp_path)
    assert tags_by_name(collection) == {"b.png": ["wolf"]}
    assert collection.skipped == {"no_tags": 2}
    assert collection.failed == []


def test_the_same_picture_twice_is_one_post_with_the_tags_of_both(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "copy" / "b.png")
    (tmp_path / "a.txt").write_text("wolf solo")
    (tmp_path / "copy" / "b.json").write_text('{"tags": ["night", "wolf"], "rating": "q"}')
    collection = read(tmp_path)
    assert tags_by_name(collection) == {"a.png": ["night", "solo", "wolf"]}
    assert collection.posts.rating.tolist() == [b"q"]
    assert collection.skipped == {"duplicate": 1}


def test_ids_and_fingerprint_do_not_depend_on_place_or_name(tmp_path):
    for folder, name in (("one", "a"), ("two/deep", "z")):
        for number in range(5):
            draw(tmp_path / folder / f"{name}{number}.png", number)
            (tmp_path / folder / f"{name}{number}.txt").write_text(f"wolf t{number}")
    one, two = (read(tmp_path / folder) for folder in ("one", "two"))
    assert one.posts.post_id.tolist() == two.posts.post_id.tolist()
    assert np.all(np.diff(one.posts.post_id) > 0)
    assert one.checksums == two.checksums
    (tmp_path / "two/deep/z0.txt").write_text("wolf other")
    assert read(tmp_path / "two").checksums != one.checksums


def test_hidden_files_are_left_out(tmp_path):
    draw(tmp_path / ".cache" / "a.png", 1)
    draw(tmp_path / "b.png", 2)
    (tmp_path / "._b.png").write_bytes(b"resource fork")
    for name in (".cache/a.txt", "b.txt", "._b.txt"):
        (tmp_path / name).write_text("wolf")
    collection = read(tmp_path)
    assert tags_by_name(collection) == {"b.png": ["wolf"]}
    assert collection.failed == []


def test_a_folder_without_tags_says_what_was_expected(tmp_path):
    draw(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"expected a\.txt .* or a\.json .* or one CSV"):
        read(tmp_path)


def test_a_folder_without_pictures_and_no_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        read(tmp_path / "gone")


def test_nothing_but_corrupt_pictures_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("wolf")
    with pytest.raises(DataError, match="none of the 1 tagged pictures"):
        read(tmp_path)


@given(st.text())
def test_a_cleaned_tag_stays_as_it_is(text):
    tag = clean_tag(text)
    assert clean_tag(tag.replace("\\", "")) == tag.replace("\\", "")
    assert not any(character.isspace() for character in tag)


@given(st.lists(st.text("abcé:(^_", min_size=1, max_size=5), max_size=6))
def test_commas_and_spaces_are_two_ways_to_write_one_list(names):
    assert split_tags(" ".join(names)) == names
    assert split_tags(" , ".join([*names, ""]) + ",") == names


@pytest.mark.parametrize("ending", ["gif", "bmp", "webp"])
def test_pictures_of_every_accepted_ending_reach_the_shards(tmp_path, ending):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(40):
        draw(pictures / f"{seed}.{ending}", 7000 + 5000 * seed)
        (pictures / f"{seed}.txt").write_text(f"tag{seed % 3} all")
    options = ["--site", "folder", "--folder", pictures, "--out", tmp_path / "out"]
    options.append("--no-near-duplicates")
    done = run_command(["download.py", *options], ROOT)
    assert done.returncode == 0, done.stderr
    distinct = {path.read_bytes() for path in pictures.glob(f"*.{ending}")}
    manifest = open_dataset(tmp_path / "out").manifest
    assert (manifest["status"] == "ok").all()
    assert len(manifest) == len(distinct)
