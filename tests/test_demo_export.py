"""The local booru on disk: PostgreSQL's quoting, e621's rules, and builds that can be cut off."""

import csv
import getpass
import gzip
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from e6tag.demo.copy_csv import Value, csv_field, csv_line
from e6tag.demo.export import build_booru, static_path
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.demo.variants import Size, has_sample, preview_size, sample_size
from e6tag.errors import DataError

NASTY = 'He said "hi",\nthen\r\nleft; C:\\path \\. {a,b}\t ünïcödé 🦊'


def picture(
    width: int, height: int, seed: int = 0, ext: str = "png", transparent: bool = False
) -> bytes:
    """A few coloured squares, different for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 4), np.uint8)
    colours[..., 3] = 255
    if transparent:
        colours[0, 0] = 0
    image = Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    if ext == "jpg":
        image.convert("RGB").save(stream, "JPEG")
    else:
        (image if transparent else image.convert("RGB")).save(stream, ext.upper())
    return stream.getvalue()


def local_post(key: str, content: bytes | None = None, **fields: object) -> LocalPost:
    values: dict[str, object] = {
        "key": key,
        "picture": picture(40, 30, seed=hash_of(key)) if content is None else content,
        "ext": "png",
        "tags": {"general": ["round"]},
        "group": key,
    }
    return LocalPost(**(values | fields))  # type: ignore[arg-type]


def hash_of(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4])


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(folder / f"db_export/{name}.csv.gz", "rt", encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def tree_of(folder: Path) -> dict[str, str]:
    """Every file and its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


POSTGRESQL_SAYS: list[tuple[Value, str, str]] = [
    (None, "NULL::text", ""),
    ("", "''::text", '""'),
    ("plain", "'plain'::text", "plain"),
    (" spaces at both ends ", "' spaces at both ends '::text", " spaces at both ends "),
    ("a,b", "'a,b'::text", '"a,b"'),
    ('say "hi"', "'say \"hi\"'::text", '"say ""hi"""'),
    ("two\nlines", "E'two\\nlines'::text", '"two\nlines"'),
    ("old\rmac", "E'old\\rmac'::text", '"old\rmac"'),
    ("tab\tis plain", "E'tab\\tis plain'::text", "tab\tis plain"),
    ("back\\slash", "E'back\\\\slash'::text", "back\\slash"),
    ("\\.", "E'\\\\.'::text", "\\."),
    ("NULL", "'NULL'::text", "NULL"),
    ("🦊 é", "'🦊 é'::text", "🦊 é"),
    (True, "true", "t"),
    (False, "false", "f"),
    (0, "0", "0"),
    (-7, "-7", "-7"),
    (2**40, "1099511627776", "1099511627776"),
    (datetime(2007, 2, 10, 3, 12, 4), "timestamp '2007-02-10 03:12:04'", "2007-02-10 03:12:04"),
    (
        datetime(2007, 2, 10, 3, 12, 4, 500_000),
        "timestamp '2007-02-10 03:12:04.5'",
        "2007-02-10 03:12:04.5",
    ),
    (
        datetime(2007, 2, 10, 3, 12, 0, 10),
        "timestamp '2007-02-10 03:12:00.00001'",
        "2007-02-10 03:12:00.00001",
    ),
    ([], "'{}'::int[]", "{}"),
    ([5], "ARRAY[5]", "{5}"),
    ([1, 2, 3], "ARRAY[1,2,3]", '"{1,2,3}"'),
    (["canine", "mammal"], "ARRAY['canine','mammal']", '"{canine,mammal}"'),
    ([":3", "a,b"], "ARRAY[':3','a,b']", '"{:3,""a,b""}"'),
    (["null"], "ARRAY['null']", '"{""null""}"'),
    ([""], "ARRAY['']", '"{""""}"'),
    (['q"b\\s {x}'], "ARRAY[E'q\"b\\\\s {x}']", '"{""q\\""b\\\\s {x}""}"'),
]
"""(our value, the same in SQL, what PostgreSQL 15 writes for it)"""


@pytest.mark.parametrize(("value", "sql", "text"), POSTGRESQL_SAYS)
def test_fields_are_what_postgresql_writes(value: Value, sql: str, text: str) -> None:
    assert csv_field(value) == text


def postgresql() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def test_the_table_above_is_what_a_real_postgresql_writes() -> None:
    binaries = postgresql()
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            shutil.chown(folder, user)
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")

        def run(*command: str | Path, text: str = "") -> None:
            subprocess.run(command, input=text.encode(), user=user, cwd=name, check=True)

        run(binaries / "initdb", "-D", "db", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
        # Single-user mode ends a command at a line feed.
        columns = ", ".join(f"{sql} AS c{i}" for i, (_, sql, _) in enumerate(POSTGRESQL_SAYS))
        copy = f"COPY (SELECT {columns}) TO '{folder}/out.csv' WITH CSV HEADER\n"
        run(binaries / "postgres", "--single", "-D", "db", "postgres", text=copy)
        written = (folder / "out.csv").read_bytes().decode()
    names = [f"c{i}" for i in range(len(POSTGRESQL_SAYS))]
    assert written == csv_line(names) + csv_line(value for value, _, _ in POSTGRESQL_SAYS)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.none() | TEXT, min_size=2))
def test_any_row_reads_back_with_pythons_csv(values: list[str | None]) -> None:
    rows = list(csv.reader(io.StringIO(csv_line(values), newline="")))
    assert rows == [[value or "" for value in values]]


# Hand-computed from e621's rules; None: no sample.
SIZES = [
    ((512, 512), None, (256, 256)),
    ((850, 850), None, (256, 256)),
    ((850, 1700), None, (256, 512)),
    ((851, 1000), (850, 999), (256, 301)),
    ((900, 900), (850, 850), (256, 256)),
    ((1800, 400), (1700, 378), (512, 256)),
    ((1200, 3000), (680, 1700), (256, 512)),
    ((100, 400), None, (256, 512)),
    ((64, 48), None, (341, 256)),
]


@pytest.mark.parametrize(("original", "sample", "preview"), SIZES)
def test_variants_have_the_sites_sizes(
    original: tuple[int, int], sample: tuple[int, int] | None, preview: tuple[int, int]
) -> None:
    size = Size(*original)
    assert has_sample(size, "png") == (sample is not None)
    assert sample is None or sample_size(size) == sample
    assert preview_size(size) == preview
    assert not has_sample(size, "gif") and not has_sample(size, "png", animated=True)


@given(st.integers(2, 15_000), st.integers(2, 15_000))
def test_variants_stay_within_the_sites_bounds(width: int, height: int) -> None:
    size = Size(width, height)
    assert min(preview_size(size)) == 256 and max(preview_size(size)) <= 512
    if has_sample(size, "jpg"):
        assert min(sample_size(size)) <= 850 and max(sample_size(size)) <= 1700
        assert min(sample_size(size)) == 850 or max(sample_size(size)) == 1700


def test_files_are_exactly_those_the_rules_name(tmp_path: Path) -> None:
    posts = [
        local_post(f"size/{i}", picture(*original, seed=i, ext=ext), ext=ext)
        for i, (original, _, _) in enumerate(SIZES)
        for ext in [("png", "jpg", "webp")[i % 3]]
    ]
    assert build_booru(posts, LocalRelations(), tmp_path, quiet=True) == len(SIZES)
    expected = set()
    for post, (original, sample, preview) in zip(posts, SIZES, strict=True):
        md5 = hashlib.md5(post.picture).hexdigest()
        path = f"{md5[:2]}/{md5[2:4]}/{md5}"
        assert (tmp_path / f"data/{path}.{post.ext}").read_bytes() == post.picture
        shown = {"": original, "sample/": sample, "preview/": preview}
        for kind, size in shown.items():
            for ext in (post.ext,) if not kind else ("jpg", "webp"):
                if size is not None:
                    expected.add(f"data/{kind}{path}.{ext}")
                    with Image.open(tmp_path / f"data/{kind}{path}.{ext}") as image:
                        assert image.size == size
    files = {str(p.relative_to(tmp_path)) for p in (tmp_path / "data").rglob("*") if p.is_file()}
    assert files == expected


def test_a_preview_shows_the_middle_and_a_sample_shows_all(tmp_path: Path) -> None:
    stripes = np.zeros((400, 2000, 3), np.uint8)
    stripes[:, :400] = 255, 0, 0
    stripes[:, 400:1600] = 0, 255, 0
    stripes[:, 1600:] = 0, 0, 255
    stream = io.BytesIO()
    Image.fromarray(stripes).save(stream, "PNG")
    content = stream.getvalue()
    build_booru([local_post("a", content)], LocalRelations(), tmp_path, quiet=True)
    md5 = hashlib.md5(content).hexdigest()
    preview = np.asarray(Image.open(static_path(tmp_path, md5, "jpg", "preview")), np.int16)
    assert (np.abs(preview - [0, 255, 0]) < 12).all()
    sample = np.asarray(Image.open(static_path(tmp_path, md5, "jpg", "sample")), np.int16)
    assert (np.abs(sample[10, 10] - [255, 0, 0]) < 12).all()
    assert (np.abs(sample[-10, -10] - [0, 0, 255]) < 12).all()


def test_transparency_shows_the_posts_background_in_jpegs_only(tmp_path: Path) -> None:
    posts = [
        local_post("clear", picture(300, 300, transparent=True)),
        local_post("solid", picture(300, 300, seed=1)),
    ]
    build_booru(posts, LocalRelations(), tmp_path, quiet=True)
    clear, solid = read_table(tmp_path, "posts")
    assert (clear["bg_color"], solid["bg_color"]) == ("ffffff", "")
    jpeg = Image.open(static_path(tmp_path, clear["md5"], "jpg", "preview"))
    assert min(jpeg.getpixel((5, 5))) > 245  # type: ignore[arg-type]
    webp = Image.open(static_path(tmp_path, clear["md5"], "webp", "preview"))
    assert webp.mode == "RGBA" and webp.getpixel((5, 5))[3] == 0  # type: ignore[index]


def make_folk() -> tuple[list[LocalPost], LocalRelations]:
    """Posts with every oddity that the tables must carry."""
    posts = [
        local_post("b/2", group="pair", tags={"general": ["doggy", "round"], "artist": ["ann"]}),
        local_post("b/1", group="pair", tags={"species": ["fox"]}, rating="q"),
        local_post("a/9", source="https://x.example/1\nCC0", description=NASTY),
        local_post("c/1", group="pair", tags={"general": [":3", "<3", "fox", 'q"t', "a,b"]}),
        local_post("c/2", tags={"species": ["fox"], "meta": ["round"], "general": []}),
        local_post("c/3", tags={"general": ["round"]}),
    ]
    relations = LocalRelations(
        aliases=[("doggy", "dog"), ("pup", "doggy")],
        implications=[("dog", "canine"), ("fox", "canine"), ("canine", "mammal")],
    )
    return posts, relations


def test_tables_hold_what_was_given(tmp_path: Path) -> None:
    posts, relations = make_folk()
    assert build_booru(posts, relations, tmp_path, quiet=True) == 6
    rows = read_table(tmp_path, "posts")
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    by_key = dict(zip(["a/9", "b/1", "b/2", "c/1", "c/2", "c/3"], rows, strict=True))
    for post in posts:
        row = by_key[post.key]
        assert row["md5"] == hashlib.md5(post.picture).hexdigest()
        assert (row["image_width"], row["image_height"]) == ("40", "30")
        assert row["file_size"] == str(len(post.picture))
        assert (row["source"], row["description"]) == (post.source, post.description)
        assert row["rating"] == post.rating
    assert [row["parent_id"] for row in rows] == ["", "", "2", "2", "", ""]
    assert by_key["b/2"]["tag_string"] == "ann canine dog mammal round"
    assert by_key["c/1"]["tag_string"] == ':3 <3 a,b canine fox mammal q"t'
    times = [datetime.fromisoformat(row["created_at"]) for row in rows]
    assert times == sorted(set(times))
    assert {row["is_deleted"] for row in rows} == {"f"}


def test_tags_have_one_category_and_true_counts(tmp_path: Path) -> None:
    posts, relations = make_folk()
    build_booru(posts, relations, tmp_path, quiet=True)
    rows = {row["name"]: row for row in read_table(tmp_path, "tags")}
    assert {name: (row["category"], row["post_count"]) for name, row in rows.items()} == {
        ":3": ("0", "1"),
        "<3": ("0", "1"),
        "a,b": ("0", "1"),
        'q"t': ("0", "1"),
        "ann": ("1", "1"),
        "canine": ("0", "4"),
        "dog": ("0", "1"),
        "doggy": ("0", "0"),
        "fox": ("5", "3"),
        "mammal": ("0", "4"),
        "pup": ("0", "0"),
        "round": ("0", "4"),
    }
    assert len({row["id"] for row in rows.values()}) == len(rows)


def test_relations_are_listed_with_their_consequences(tmp_path: Path) -> None:
    posts, relations = make_folk()
    build_booru(posts, relations, tmp_path, quiet=True)
    aliases = read_table(tmp_path, "tag_aliases")
    assert [(r["antecedent_name"], r["consequent_name"]) for r in aliases] == [
        ("doggy", "dog"),
        ("pup", "doggy"),
    ]
    implications = read_table(tmp_path, "tag_implications")
    assert {r["antecedent_name"]: r["descendant_names"] for r in implications} == {
        "canine": "{mammal}",
        "dog": "{canine,mammal}",
        "fox": "{canine,mammal}",
    }
    assert {r["status"] for r in aliases + implications} == {"active"}


HEADERS = {
    "posts": "id,uploader_id,created_at,md5,source,rating,image_width,image_height,tag_string,"
    "locked_tags,fav_count,file_ext,parent_id,change_seq,approver_id,file_size,comment_count,"
    "description,duration,updated_at,is_deleted,is_pending,is_flagged,score,up_score,down_score,"
    "is_rating_locked,is_status_locked,is_note_locked,bg_color,last_noted_at,last_commented_at",
    "tags": "id,name,category,post_count,created_at,updated_at,is_locked",
    "tag_aliases": "id,antecedent_name,consequent_name,created_at,status,forum_post_id,"
    "forum_topic_id,reason,updated_at,creator_id,approver_id,post_count,down_votes,meh_votes,"
    "up_votes",
    "tag_implications": "id,antecedent_name,consequent_name,created_at,status,forum_post_id,"
    "forum_topic_id,reason,updated_at,creator_id,approver_id,descendant_names,down_votes,"
    "meh_votes,up_votes",
    "pools": "id,name,created_at,updated_at,creator_id,description,is_active,category,post_ids",
}


def test_exports_have_e621s_headers_and_lines(tmp_path: Path) -> None:
    build_booru([local_post("a")], LocalRelations(), tmp_path, quiet=True)
    for name, header in HEADERS.items():
        text = gzip.decompress((tmp_path / f"db_export/{name}.csv.gz").read_bytes()).decode()
        assert text.split("\n")[0] == header
    line = gzip.decompress((tmp_path / "db_export/posts.csv.gz").read_bytes()).decode()
    md5 = hashlib.md5(local_post("a").picture).hexdigest()
    assert f',{md5},"",s,40,30,round,,0,png,,1,,' in line
    assert line.endswith(",f,f,f,0,0,0,f,f,f,,,\n")


def test_a_build_does_not_depend_on_order_or_on_earlier_builds(tmp_path: Path) -> None:
    posts, relations = make_folk()
    build_booru(posts, relations, tmp_path / "one", quiet=True)
    random.Random(1).shuffle(posts)
    build_booru(posts[:3], LocalRelations(), tmp_path / "two", quiet=True)
    build_booru(posts, relations, tmp_path / "two", quiet=True)
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "two")


def test_a_second_build_writes_nothing_but_mends_what_is_wrong(tmp_path: Path) -> None:
    posts, relations = make_folk()
    build_booru(posts, relations, tmp_path, quiet=True)
    before, stamps = tree_of(tmp_path), stamps_of(tmp_path)
    build_booru(posts, relations, tmp_path, quiet=True)
    assert stamps_of(tmp_path) == stamps
    md5 = hashlib.md5(posts[0].picture).hexdigest()
    static_path(tmp_path, md5, "png").write_bytes(b"half a pict")
    static_path(tmp_path, md5, "webp", "preview").unlink()
    build_booru(posts, relations, tmp_path, quiet=True)
    assert tree_of(tmp_path) == before


def stamps_of(folder: Path) -> dict[Path, int]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_same_picture_is_posted_once_under_its_first_key(tmp_path: Path) -> None:
    content = picture(50, 50, seed=5)
    posts = [local_post(key, content, tags={"general": [f"from_{key}"]}) for key in "cab"]
    assert build_booru(posts, LocalRelations(), tmp_path, quiet=True) == 1
    assert [row["tag_string"] for row in read_table(tmp_path, "posts")] == ["from_a"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"picture": b"<html>"}, "not a picture"),
        ({"picture": picture(400, 400)[:700]}, "damaged"),
        ({"ext": "jpg"}, "extension 'jpg'"),
        ({"ext": "gif"}, "extension 'gif'"),
        ({"tags": {"colour": ["red"]}}, "category 'colour'"),
        ({"tags": {"general": ["two words"]}}, "'two words'"),
        ({"tags": {"general": ["Upper"]}}, "'Upper'"),
        ({"tags": {"general": [""]}}, "''"),
        ({"rating": "g"}, "rating 'g'"),
    ],
)
def test_what_a_booru_cannot_hold_is_refused_by_name(
    tmp_path: Path, fields: dict[str, object], complaint: str
) -> None:
    content = fields.pop("picture", None)
    bad = local_post("bad/one", content, **fields)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"bad/one") as caught:
        build_booru([local_post("a"), bad], LocalRelations(), tmp_path, quiet=True)
    assert complaint in str(caught.value)
    assert not list(tmp_path.rglob("*.part"))


def test_equal_keys_and_circular_aliases_are_refused(tmp_path: Path) -> None:
    twins = [local_post("x"), local_post("x", picture(9, 9))]
    with pytest.raises(DataError, match="'x'"):
        build_booru(twins, LocalRelations(), tmp_path, quiet=True)
    circle = LocalRelations(aliases=[("round", "ring"), ("ring", "round")])
    with pytest.raises(DataError, match="circle"):
        build_booru([local_post("x")], circle, tmp_path, quiet=True)


def test_ctrl_c_leaves_only_whole_files_and_the_next_build_ends_it(tmp_path: Path) -> None:
    posts, relations = make_folk()

    def interrupted() -> Iterator[LocalPost]:
        yield from posts[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_booru(interrupted(), relations, tmp_path / "a", quiet=True)
    assert not list((tmp_path / "a").rglob("*.part"))
    build_booru(posts, relations, tmp_path / "a", quiet=True)
    build_booru(posts, relations, tmp_path / "b", quiet=True)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")


CHILD = """
import sys
from pathlib import Path
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations

def posts():
    for path in sorted(Path(sys.argv[1]).glob("*.png")):
        yield LocalPost(path.name, path.read_bytes(), "png", {"general": ["round"]}, path.name)

build_booru(posts(), LocalRelations(), Path(sys.argv[2]), quiet=True)
"""


def test_a_killed_build_resumes_to_the_same_bytes(tmp_path: Path, root: Path) -> None:
    source, whole, cut = (tmp_path / name for name in ("source", "whole", "cut"))
    source.mkdir()
    for number in range(40):
        (source / f"{number:02}.png").write_bytes(picture(300, 300, seed=number))

    def build(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", CHILD, source, folder], cwd=root)

    assert build(whole).wait() == 0
    for files_before_kill in (3, 15):
        child = build(cut)
        deadline = time.monotonic() + 60
        while len(list(cut.rglob("*.webp"))) < files_before_kill and time.monotonic() < deadline:
            time.sleep(0.01)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert not (cut / "db_export/posts.csv.gz").exists()
    assert build(cut).wait() == 0
    assert tree_of(cut) == tree_of(whole)
    assert len(read_table(cut, "posts")) == 40


def test_pictures_are_not_kept_in_memory(tmp_path: Path) -> None:
    def posts() -> Iterator[LocalPost]:
        for number in range(24):
            noise = np.random.default_rng(number).integers(0, 256, (500, 700, 3), np.uint8)
            stream = io.BytesIO()
            Image.fromarray(noise).save(stream, "PNG", compress_level=0)
            yield local_post(f"{number:02}", stream.getvalue())

    tracemalloc.start()
    try:
        build_booru(posts(), LocalRelations(), tmp_path, quiet=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 14e6  # the pictures are 25 MB
