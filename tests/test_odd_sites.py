"""Whole downloads from sites whose words are odd, whose answers refuse, or which have nothing."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from changed_booru import read_rows, write_rows
from conftest import ROOT
from fault_server import FaultServer
from PIL import Image, features
from test_bad_input import NAMESPACE, needs_mounts
from tiny_booru import download_config, picture, results, tiny_booru

from e6tag import acquisition, images, shards
from e6tag.demo.booru import Booru
from e6tag.errors import DataError

NUM_POSTS = 40
AWKWARD = [
    ":3", "<3", "/", "..", '"', "'s_name", "%41", "&amp;", "caf\u00e9", "cafe\u0301", "\u202eabc",
    "a\u200bb", "x" * 100, "-x", "rating:s", "Wolf", "wolf", "\U0001f43a", "a,b", "#hash",
]  # fmt: skip
"""each of its own, though some look alike and one pair differs by case alone"""
LOOP, IMPLIED, ODD_CATEGORY = ("loop_a", "loop_b"), ("ring_a", "ring_b", "ring_c"), "of_kind_9"


def tags_of(number: int) -> list[str]:
    """What a post is tagged with."""
    if number == 7:
        return []
    found = [AWKWARD[number % len(AWKWARD)], AWKWARD[number * 7 % len(AWKWARD)]]
    return sorted({*found, LOOP[number % 2], IMPLIED[number % 3], ODD_CATEGORY, "old_name"})


def write_table(folder, name, rows):
    """Rows of an export's table, whose columns stay."""
    path = folder / f"db_export/{name}.csv.gz"
    header = gzip.decompress(path.read_bytes()).decode().splitlines()[0].split(",")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A booru of such tags; what its posts are tagged with, by id."""
    folder = tiny_booru(tmp_path_factory.mktemp("odd") / "booru", NUM_POSTS)
    rows = [dict(row) for row in read_rows(folder)]
    for number, row in enumerate(rows):
        row["tag_string"] = " ".join(tags_of(number))
    write_rows(folder, rows)
    names = sorted({tag for number in range(NUM_POSTS) for tag in tags_of(number)})
    kind = {ODD_CATEGORY: "9"}
    write_table(folder, "tags", [
        {"id": str(i), "name": name, "category": kind.get(name, "0"), "post_count": "9"}
        for i, name in enumerate(names, 1)
    ])  # fmt: skip
    pairs = [LOOP, LOOP[::-1], ("old_name", "nobody_has_this")]
    write_table(folder, "tag_aliases", relations(pairs))
    ring = [*zip(IMPLIED, [*IMPLIED[1:], IMPLIED[0]], strict=True)]
    write_table(folder, "tag_implications", relations(ring))
    return folder, {int(row["id"]): set(tags_of(n)) for n, row in enumerate(rows)}


def relations(pairs):
    return [
        {"id": str(i), "antecedent_name": a, "consequent_name": b, "status": "active"}
        for i, (a, b) in enumerate(pairs, 1)
    ]


def test_odd_names_loops_cycles_and_kinds_come_through_as_they_are(odd, tmp_path):
    folder, tags = odd
    out = tmp_path / "data"
    with Booru(folder, requests_per_second=1e6) as booru:
        assert acquisition.download(download_config(booru.url, out, num_tags=500)) == 0
    data = shards.open_dataset(out)
    names = data.vocabulary.names
    # More tags were asked for than there are.
    assert set(names) >= {*AWKWARD, *IMPLIED} and ODD_CATEGORY not in names and len(names) < 500
    found = {
        row.post_id: {names[column] for column in row.labels} for row in data.manifest.itertuples()
    }
    assert found.keys() == tags.keys()
    for post_id, labels in found.items():
        ring = set(IMPLIED) if tags[post_id] else set()
        assert labels & {*AWKWARD, *IMPLIED} == tags[post_id] & {*AWKWARD} | ring
    # What is in the shards says the same.
    for path in (out / "shards").iterdir():
        for example in shards.read_shard_index(path):
            assert set(example.info["tags"]) == found[example.post_id]


@pytest.mark.parametrize("strategy", ["cover", "quota", "random"])
def test_a_plan_of_odd_tags_is_the_same_each_time(odd, tmp_path, strategy):
    plans = []
    with Booru(odd[0], requests_per_second=1e6) as booru:
        for name in ("a", "b"):
            config = download_config(
                booru.url, tmp_path / name, strategy=strategy, num_tags=500, positives=30,
                plan_only=True,
            )  # fmt: skip
            assert acquisition.download(config) == 0
            plans.append((tmp_path / name / "plan.parquet").read_bytes())
    assert plans[0] == plans[1]


def test_a_site_whose_every_post_is_deleted_is_one_line(tmp_path):
    folder = tiny_booru(tmp_path / "booru", 10)
    write_rows(folder, [row | {"is_deleted": "t"} for row in read_rows(folder)])
    with (
        Booru(folder, requests_per_second=1e6) as booru,
        pytest.raises(DataError, match="10 deleted") as caught,
    ):
        acquisition.download(download_config(booru.url, tmp_path / "data"))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


# --- a site that refuses -----------------------------------------------------------------------

REFUSALS = {
    "403 and a page": ("403 Forbidden", "text/html"),
    "401": ("401 Unauthorized", "application/json"),
}


def serving(folder):
    """Answers with a booru's files, whose exports are brought along."""

    def answer(exchange):
        return exchange.answer((folder / exchange.path[1:]).read_bytes())

    return answer


def run(url, folder, out, *more):
    command = [
        sys.executable, "-m", "e6tag", "download", "--base-url", url, "--out", str(out),
        "--strategy", "all", "--image-size", "64", "--requests-per-second", "1000", "--contact",
        "tests", "--quiet", "--export-dir", str(folder / "db_export"), *more,
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_ends_the_run_at_once_and_it_goes_on_later(refusal, tmp_path):
    folder = tiny_booru(tmp_path / "booru", NUM_POSTS)
    status, kind = REFUSALS[refusal]
    with FaultServer() as server:
        file, asked = serving(folder), []

        def answer(exchange):
            asked.append(exchange.path)
            if len(asked) <= 15:
                return file(exchange)
            return exchange.answer(b"<html>blocked</html>", status, Content_Type=kind)

        server.respond = answer
        done = run(server.url, folder, tmp_path / "data", "--connections", "4")
        (line,) = done.stderr.splitlines()
        assert done.returncode == 3 and "refuses us" in line and "--contact" in line
        # What the other connections had asked for already is all that follows.
        assert len(asked) <= 15 + 4
        server.respond = file
        assert run(server.url, folder, tmp_path / "data").returncode == 0
        assert run(server.url, folder, tmp_path / "clean").returncode == 0
    assert results(tmp_path / "data") == results(tmp_path / "clean")


# --- files that are no pictures, whatever they are called --------------------------------------


def encoded(kind, **options):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


NO_STILLS = {
    "JPEG XL, bare": b"\xff\x0a" + bytes(60),
    "JPEG XL, boxed": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(60),
    "SWF, LZMA": b"ZWS\x0d" + bytes(60),
    "a page that begins like one": b"\xff\xd8<html>",
}
if features.check("jpg_2000"):
    NO_STILLS["JPEG 2000"] = encoded("JPEG2000")


@pytest.mark.parametrize("name", NO_STILLS)
def test_kinds_that_are_not_decoded_are_refused_with_a_reason(name):
    with pytest.raises(images.BadPicture) as caught:
        images.decode(NO_STILLS[name])
    assert caught.value.reason in ("not_an_image", "damaged", "truncated", "unsupported")


# --- a disk that is full while the exports come ------------------------------------------------


@pytest.mark.slow
@needs_mounts
def test_a_full_disk_under_an_export_names_it_and_the_part_is_used(tmp_path):
    folder = tiny_booru(tmp_path / "booru", NUM_POSTS)
    rows = [dict(row) for row in read_rows(folder)]
    for number, row in enumerate(rows):
        # What does not get smaller by packing.
        row["description"] = np.random.default_rng(number).bytes(9000).hex()
    write_rows(folder, rows)
    (tmp_path / "disk").mkdir()
    with Booru(folder, requests_per_second=1e6) as booru:
        command = (
            '"$PYTHON" -m e6tag download --strategy all --image-size 64 --quiet '
            f"--requests-per-second 1000 --base-url {booru.url} --out disk/data >/dev/null"
        )
        script = (
            f"mount -t tmpfs -o size=200k none disk\n{command}; echo $?\n"
            "ls disk/data/exports\n"
            f"mount -o remount,size=50m disk\n{command}; echo $?; cat disk/data/download.json"
        )
        done = subprocess.run(
            [*NAMESPACE, "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True,
            timeout=120, env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    first, *there, rest = done.stdout.split("\n", 3)
    (line,) = done.stderr.splitlines()
    assert first == "2" and "the disk is full" in line and "posts.csv.gz" in line
    assert there == ["posts.csv.gz.part", "posts.csv.gz.part.json"]
    assert rest.startswith("0\n") and json.loads(rest[2:])["fetched"] == NUM_POSTS
    ranges = [r.range for r in booru.log if "posts.csv.gz" in r.target]
    assert ranges[0] == "" and ranges[1].startswith("bytes=")


def test_no_picture_is_the_same_as_another():
    """What the tests above stand on."""
    assert len({picture(number) for number in range(NUM_POSTS)}) == NUM_POSTS
