"""The download job end to end: a local booru over HTTP, real processes, kill -9."""

import csv
import gzip
import hashlib
import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from flaky_server import FlakyServer, from_server
from PIL import Image

from e6tag import acquisition, fetch, images, shards
from e6tag.config import DownloadConfig
from e6tag.demo.booru import Booru
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.errors import ConfigError, DataError, FetchError
from e6tag.files import locked
from e6tag.workers import Workers

NUM_POSTS = 90
LARGE = 5
"""posts that have a sample, smaller than the original"""
TAGS = ("round", "square", "red", "blue", "large")


def picture(number):
    width, height = (1000, 900) if number < LARGE else (40 + number % 7, 30 + number % 5)
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 4), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colours).resize((width, height)).save(stream, "PNG")
    return stream.getvalue()


def make_posts():
    for number in range(NUM_POSTS):
        general = [tag for bit, tag in enumerate(TAGS) if (number + 1) >> bit & 1]
        yield LocalPost(
            key=f"{number:03}",
            picture=picture(number),
            ext="png",
            tags={"general": general or ["red"], "artist": [f"artist{number % 3}"]},
            group=str(number // 2),
        )


@pytest.fixture(scope="module")
def booru_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("booru")
    build_booru(make_posts(), LocalRelations([("ball", "round")], [("red", "warm")]), folder)
    return folder


@pytest.fixture(scope="module")
def booru(booru_folder):
    with Booru(booru_folder, requests_per_second=2000) as booru:
        yield booru


def options(booru, out, **changes):
    values = {
        "base_url": booru.url,
        "out": out,
        "strategy": "all",
        "requests_per_second": 1000.0,
        "image_size": 64,
        "contact": "tests",
        "quiet": True,
    }
    return DownloadConfig(**values | changes)


@pytest.fixture(scope="module")
def clean(booru, tmp_path_factory):
    """What an uninterrupted download makes."""
    out = tmp_path_factory.mktemp("clean") / "data"
    assert acquisition.download(options(booru, out)) == 0
    return out


def shard_bytes(out):
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def original(folder, md5, kind="", ext="png"):
    return folder / "data" / kind / md5[:2] / md5[2:4] / f"{md5}.{ext}"


def test_every_picture_is_there_as_the_preprocessing_makes_it(booru_folder, clean):
    data = shards.open_dataset(clean)
    assert (data.manifest["status"] == "ok").all()
    assert sorted(data.manifest["post_id"]) == list(range(1, NUM_POSTS + 1))
    for row in data.manifest.itertuples():
        jpeg = shards.read_stored(clean, row.shard, row.offset, row.length)
        assert hashlib.sha256(jpeg).hexdigest() == row.sha256
        kind, ext = ("", "png") if row.variant == "original" else ("sample", "jpg")
        source = original(booru_folder, row.md5, kind, ext).read_bytes()
        expected, size = images.store(images.decode_fitted(source, 64, enlarge=False), 64, 92)
        assert jpeg == expected
        assert size == (row.stored_width, row.stored_height)
    assert (data.manifest["variant"] == "sample").sum() == LARGE


def test_labels_are_the_tags_of_the_export_with_what_they_imply(booru_folder, clean):
    data = shards.open_dataset(clean)
    with gzip.open(booru_folder / "db_export/posts.csv.gz", "rt", newline="") as text:
        tags = {int(row["id"]): set(row["tag_string"].split()) for row in csv.DictReader(text)}
    names = data.vocabulary.names
    assert {"round", "warm"} <= set(names) and "artist0" not in names
    for row in data.manifest.itertuples():
        said = {names[column] for column in row.labels}
        assert said == tags[row.post_id] & set(names)
        assert "red" not in said or "warm" in said
        assert {row.artists} == {tag for tag in tags[row.post_id] if tag.startswith("artist")}


def test_shards_hold_the_plan_in_order_and_nothing_is_left_over(clean):
    data = shards.open_dataset(clean)
    for split in ("train", "val", "test"):
        with tarfile.open(clean / f"shards/{split}-00000.tar") as tar:
            names = tar.getnames()
            info = json.loads(tar.extractfile(names[1]).read())
        ids = data.split(split)["post_id"].tolist()
        assert names == [f"{i}.{suffix}" for i in ids for suffix in ("jpg", "json")]
        assert info["tags"] == [data.vocabulary.names[column] for column in info["labels"]]
    assert {path.name for path in clean.iterdir()} == {
        "aliases.csv", "dataset.json", "download.json", "exports", "fingerprints", "log",
        "implications.csv", ".lock", "manifest.parquet", "plan.parquet", "shards", "tags.csv",
    }  # fmt: skip
    assert data.info["options"]["image_size"] == 64
    assert data.info["stored"] == {"image_size": 64, "jpeg_quality": 92}
    assert data.info["categories"]["5"] == "species"


def test_related_posts_are_in_one_split(clean):
    manifest = shards.open_dataset(clean).manifest
    assert manifest.groupby("group")["split"].nunique().max() == 1
    assert manifest["group"].nunique() == NUM_POSTS // 2


def test_a_complete_folder_asks_for_nothing(booru, clean, capsys):
    before = {p: p.stat().st_mtime_ns for p in clean.rglob("*") if p.name != ".lock"}
    num_requests = len(booru.log)
    assert acquisition.download(options(booru, clean)) == 0
    assert len(booru.log) == num_requests
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert f"{NUM_POSTS} of {NUM_POSTS} planned" in capsys.readouterr().out


def test_the_number_of_connections_does_not_show_in_the_result(booru, clean, tmp_path):
    assert acquisition.download(options(booru, tmp_path, connections=9)) == 0
    assert shard_bytes(tmp_path) == shard_bytes(clean)
    for name in ("manifest.parquet", "plan.parquet", "tags.csv"):
        assert (tmp_path / name).read_bytes() == (clean / name).read_bytes()


def test_the_rate_is_kept(booru_folder, tmp_path):
    with Booru(booru_folder, requests_per_second=30) as booru:
        start = time.monotonic()
        assert acquisition.download(options(booru, tmp_path, requests_per_second=30.0)) == 0
        assert booru.busiest_second() <= 30 * 1.1 + 1
        # The first request need not wait.
        assert (len(booru.log) - 1) / 30 <= time.monotonic() - start
        assert set(booru.statuses()) == {200}


@pytest.fixture
def broken(booru_folder, clean, tmp_path):
    """A booru with some files that are not what they must be, by post id."""
    folder = tmp_path / "booru"
    shutil.copytree(booru_folder, folder)
    manifest = shards.open_dataset(clean).manifest
    small = manifest[manifest["variant"] == "original"].sort_values("post_id")
    paths = [original(folder, md5) for md5 in small["md5"]]
    paths[0].unlink()
    paths[1].write_bytes(paths[2].read_bytes())
    paths[3].write_bytes(paths[3].read_bytes()[:-30])
    paths[4].write_bytes(b"<html>busy</html>")
    ids = small["post_id"].tolist()
    causes = {ids[0]: "gone", ids[4]: "not_an_image"}
    return folder, causes | {ids[1]: "hash_mismatch", ids[3]: "hash_mismatch"}


def repair(folder, booru_folder):
    shutil.copytree(booru_folder / "data", folder / "data", dirs_exist_ok=True)


def test_failures_are_counted_named_and_left_out(
    broken, booru_folder, clean, tmp_path, capsys, caplog
):
    folder, causes = broken
    out = tmp_path / "data"
    with Booru(folder, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 1
        text = capsys.readouterr().out
        assert (
            "failed    4: hash_mismatch 2, gone 1, not_an_image 1" in text or "failed    4" in text
        )
        manifest = shards.open_dataset(out).manifest.set_index("post_id")
        failed = manifest[manifest["status"] == "failed"]
        assert failed["error"].to_dict() == causes
        assert (failed["shard"] == "").all()
        for post_id in causes:
            assert f"post {post_id}: " in caplog.text
        written = json.loads((out / "download.json").read_text())
        assert written["failed"] == len(written["failures"]) == 4

        num_requests = len(booru.log)
        assert acquisition.download(options(booru, out)) == 1
        # Only what may pass is asked for again, and once past the caches.
        assert len(booru.log) == num_requests + 2

        repair(folder, booru_folder)
        assert acquisition.download(options(booru, out)) == 1
        assert (shards.read_manifest(out)["status"] == "failed").sum() == 3
        assert acquisition.download(options(booru, out, retry_failed=True)) == 0
    assert shard_bytes(out) == shard_bytes(clean)
    assert (out / "manifest.parquet").read_bytes() == (clean / "manifest.parquet").read_bytes()
    assert not (out / "incoming").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_that_fails_a_fifth_of_all_requests_changes_nothing(
    booru, clean, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr("e6tag.fetch.backoff_seconds", lambda failures, first: 0.001)
    server = FlakyServer(from_server(booru.url, lambda: server.url), share=0.2, seed=seed)
    with server:
        # Five failures in a row of one file are left to the next run of the same command.
        codes = [acquisition.download(options(server, tmp_path))]
        while codes[-1] != 0 and len(codes) < 4:
            codes.append(acquisition.download(options(server, tmp_path)))
    assert codes[-1] == 0
    assert sum(server.faults.values()) > 9 and len(server.faults) > 5
    assert shard_bytes(tmp_path) == shard_bytes(clean)
    assert (tmp_path / "manifest.parquet").read_bytes() == (clean / "manifest.parquet").read_bytes()


def test_a_manifest_that_a_crash_left_behind_is_not_believed(broken, clean, booru_folder, tmp_path):
    folder, _ = broken
    out = tmp_path / "data"
    with Booru(folder, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 1
        before = (out / "manifest.parquet").read_bytes()
        repair(folder, booru_folder)
        assert acquisition.download(options(booru, out, retry_failed=True)) == 0
        # As it would be, had the run been killed between its last shard and its manifest.
        (out / "manifest.parquet").write_bytes(before)
        num_requests = len(booru.log)
        assert acquisition.download(options(booru, out)) == 0
        assert len(booru.log) == num_requests
    assert (out / "manifest.parquet").read_bytes() == (clean / "manifest.parquet").read_bytes()
    assert json.loads((out / "download.json").read_text())["failed"] == 0


def test_the_original_stands_in_for_a_missing_sample(broken, clean, booru_folder, tmp_path):
    folder, _ = broken
    repair(folder, booru_folder)
    large = shards.open_dataset(clean).manifest.query("variant == 'sample'")
    md5 = large["md5"].tolist()
    original(folder, md5[0], "sample", "jpg").unlink()
    paths = [original(folder, name, "sample", "jpg") for name in md5]
    paths[1].write_bytes(paths[1].read_bytes()[:-50])
    Image.new("RGB", (80, 80)).save(paths[2], "JPEG")
    out = tmp_path / "data"
    with Booru(folder, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 0
    variants = shards.open_dataset(out).manifest.set_index("md5")["variant"]
    assert variants[md5].tolist() == ["original"] * 3 + ["sample"] * (LARGE - 3)


def command(booru, out, *more, rate=60):
    return [
        sys.executable, "-m", "e6tag", "download", "--base-url", booru.url, "--out", str(out),
        "--strategy", "all", "--image-size", "64", "--requests-per-second", str(rate), *more,
    ]  # fmt: skip


def count_pictures(out):
    return sum(1 for _ in out.glob("incoming/*/*.jpg"))


def test_kill_9_at_any_moment_changes_nothing_in_the_result(booru_folder, clean, tmp_path):
    out = tmp_path / "data"
    killed = 0
    for target in (1, 20, 45, 75):
        # A new server each time: the site may also have moved.
        with Booru(booru_folder, requests_per_second=2000) as booru:
            process = subprocess.Popen(command(booru, out), stderr=subprocess.DEVNULL)
            while process.poll() is None:
                num_stored = sum(f.stat().st_size > 0 for f in out.glob("shards/*.tar")) * 20
                if count_pictures(out) + num_stored >= target:
                    break
                time.sleep(0.002)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        for path in out.glob("shards/*.tar"):
            assert path.read_bytes() == shard_bytes(clean)[path.name]
    assert killed >= 2
    (out / "incoming").mkdir(exist_ok=True)
    with (out / "incoming/failures.jsonl").open("a") as stream:
        stream.write('{"post_id": 1, "rea')  # cut within a line
    with Booru(booru_folder, requests_per_second=2000) as booru:
        subprocess.run(command(booru, out, rate=1000), check=True, capture_output=True)
    assert shard_bytes(out) == shard_bytes(clean)
    assert (out / "manifest.parquet").read_bytes() == (clean / "manifest.parquet").read_bytes()
    assert not (out / "incoming").exists() and not list(out.rglob("*.part"))


def test_half_written_files_of_a_crash_are_not_believed(booru, clean, tmp_path):
    assert acquisition.download(options(booru, tmp_path, budget=None)) == 0
    row = shards.read_manifest(tmp_path).iloc[0]
    (tmp_path / "manifest.parquet").unlink()
    jpeg = shards.read_stored(tmp_path, row["shard"], row["offset"], row["length"])
    (tmp_path / "shards" / row["shard"]).unlink()
    folder = tmp_path / "incoming" / row["split"]
    folder.mkdir(parents=True)
    (folder / f"{row['post_id']}.original.jpg").write_bytes(jpeg[:-1])
    (folder / f"{row['post_id']}.original.part").write_bytes(jpeg)
    (tmp_path / "shards" / "train-00000.tar.1.part").write_bytes(b"half")
    assert acquisition.download(options(booru, tmp_path)) == 0
    assert shard_bytes(tmp_path) == shard_bytes(clean)


def test_ctrl_c_ends_it_quickly_and_it_goes_on(booru, clean, tmp_path):
    process = subprocess.Popen(
        command(booru, tmp_path, rate=4), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while count_pictures(tmp_path) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    first, *_, last = words.strip().splitlines()
    assert first.startswith(f"About to talk to {booru.url}: 4 requests a second at most")
    assert "Ctrl-C" in first and "interrupted" in last and "Traceback" not in words
    assert not list(tmp_path.rglob("*.part")) and count_pictures(tmp_path) >= 2
    num_requests = len(booru.log)
    assert acquisition.download(options(booru, tmp_path)) == 0
    assert len(booru.log) - num_requests <= NUM_POSTS - 2
    assert shard_bytes(tmp_path) == shard_bytes(clean)


def test_a_full_disk_is_one_line_and_harms_nothing(booru, clean, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = subprocess.run(
        command(booru, tmp_path, rate=1000), preexec_fn=limit, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("shards/train*"))
    assert acquisition.download(options(booru, tmp_path)) == 0
    assert shard_bytes(tmp_path) == shard_bytes(clean)


def test_other_options_do_not_go_into_the_same_folder(booru, clean):
    for change, flag in (
        ({"image_size": 65}, "--image-size 64, not 65"),
        ({"seed": 3}, "--seed 0, not 3"),
        ({"ratings": "sq"}, "--ratings s, not sq"),
        ({"categories": ("general",)}, "--categories general copyright"),
    ):
        with pytest.raises(ConfigError, match=f"{flag}.*--out"):
            acquisition.download(options(booru, clean, **change))
    # How fast, and who, may change.
    other = options(booru, clean, contact=None, connections=2, requests_per_second=1.5)
    assert acquisition.download(other) == 0


def test_another_export_does_not_go_into_the_same_folder(broken, clean, booru_folder, tmp_path):
    folder, _ = broken
    exports = folder / "db_export"
    # The same exports from a folder are the same plan; so are they at another address.
    with Booru(booru_folder) as moved:
        assert acquisition.download(options(moved, clean, export_dir=exports)) == 0
        num_requests = len(moved.log)
        assert acquisition.download(options(moved, clean)) == 0
        assert [r.target for r in list(moved.log)[num_requests:]] == ["/db_exports.json"]
        with gzip.open(exports / "tags.csv.gz", "ab") as stream:
            stream.write(b"")
        with pytest.raises(ConfigError, match=r"another version of tags\.csv\.gz"):
            acquisition.download(options(moved, clean, export_dir=exports))


def test_a_plan_can_be_made_without_fetching(booru, tmp_path, capsys):
    num_requests = len(booru.log)
    config = options(
        booru, tmp_path, plan_only=True, json=True, strategy="random", positives=5, val_positives=1
    )
    assert acquisition.download(config) == 0
    asked = [request.target for request in list(booru.log)[num_requests:]]
    assert all("export" in target for target in asked) and len(asked) == 6
    summary = json.loads(capsys.readouterr().out)
    assert summary["missing"] == summary["planned"] > 5
    assert summary["missing_bytes"] > 0
    assert not (tmp_path / "shards").exists()
    rest = options(booru, tmp_path, strategy="random", positives=5, val_positives=1)
    assert acquisition.download(rest) == 0
    assert len(shards.open_dataset(tmp_path).manifest) == summary["planned"]


def test_tags_that_fall_short_are_listed(booru, tmp_path, capsys):
    config = options(booru, tmp_path, strategy="cover", positives=60, json=True)
    acquisition.download(config)
    summary = json.loads(capsys.readouterr().out)
    data = shards.open_dataset(tmp_path)
    counts = shards.label_matrix(data.split("train")["labels"], len(data.vocabulary)).sum(0)
    expected = {
        name: [int(count), 60]
        for name, count in zip(data.vocabulary.names, counts, strict=True)
        if count < 60
    }
    assert summary["short"] == expected != {}


def test_a_site_that_does_not_answer_is_exit_code_3(booru, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    with Booru(booru.folder) as gone:
        pass
    with pytest.raises(FetchError, match="--export-dir"):
        acquisition.download(options(gone, tmp_path))


def test_a_folder_of_exports_needs_no_index(booru, booru_folder, clean, tmp_path):
    config = options(booru, tmp_path, export_dir=booru_folder / "db_export")
    assert acquisition.download(config) == 0
    assert shard_bytes(tmp_path) == shard_bytes(clean)
    with pytest.raises(ConfigError, match="there is no folder"):
        acquisition.download(options(booru, tmp_path / "x", export_dir=tmp_path / "nowhere"))


def test_shards_that_are_not_the_plans_are_refused(booru, clean, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(clean, out)
    shutil.copy(out / "shards/val-00000.tar", out / "shards/test-00000.tar")
    with pytest.raises(DataError, match=r"test-00000\.tar is not of this plan"):
        acquisition.download(options(booru, out))
    (out / "shards/test-00000.tar").write_bytes(b"x" * 10240)
    with pytest.raises(DataError, match=r"test-00000\.tar is damaged"):
        acquisition.download(options(booru, out))
    (out / "shards/test-00000.tar").unlink()
    assert acquisition.download(options(booru, out)) == 0
    assert shard_bytes(out) == shard_bytes(clean)


def test_a_damaged_plan_is_named(booru, clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    shutil.copy(clean / "manifest.parquet", tmp_path / "data/plan.parquet")
    with pytest.raises(DataError, match=r"plan\.parquet"):
        acquisition.download(options(booru, tmp_path / "data"))
    (tmp_path / "data/dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json is damaged"):
        acquisition.download(options(booru, tmp_path / "data"))


def test_one_process_at_a_time_works_in_a_folder(booru, tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match="another e6tag process"):
        acquisition.download(options(booru, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"requests_per_second": 0.0},
        {"requests_per_second": float("nan")},
        {"connections": 0},
        {"connections": 1000},
        {"image_size": 1},
        {"jpeg_quality": 101},
        {"base_url": "http://8.8.8.8", "requests_per_second": 3.0},
        {"folder": Path("x")},
        {"contact": "a\nb"},
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_asked(booru, tmp_path, change):
    with pytest.raises(ConfigError, match="--"):
        acquisition.download(options(booru, tmp_path, **change))


def write_folder(folder):
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(picture(number + LARGE))
        (folder / f"{number:02}.txt").write_text("round, red" if number % 2 else "square")
    (folder / "00.png").write_bytes(picture(50)[:-40])  # a header, then nothing
    (folder / "01.png").write_bytes(b"not a picture")


def test_a_folder_takes_the_same_path(tmp_path, capsys, caplog):
    folder, out = tmp_path / "pictures", tmp_path / "data"
    write_folder(folder)
    config = DownloadConfig(site="folder", folder=folder, out=out, strategy="all", quiet=True)
    assert acquisition.download(config) == 1
    assert "00.png" in caplog.text and "01.png" in caplog.text
    data = shards.open_dataset(out)
    rows = data.manifest[data.manifest["status"] == "ok"]
    assert len(rows) == 38
    assert data.manifest["error"].value_counts().to_dict() == {"": 38, "truncated": 1}
    for row in rows.itertuples():
        jpeg = shards.read_stored(out, row.shard, row.offset, row.length)
        content = Path(row.location).read_bytes()
        expected, _ = images.store(images.decode_fitted(content, 320, enlarge=False), 320, 92)
        assert jpeg == expected
        tags = {data.vocabulary.names[column] for column in row.labels}
        number = int(Path(row.location).stem)
        assert tags == ({"round", "red"} if number % 2 else {"square"})
    assert acquisition.download(config) == 1
    (folder / "99.png").write_bytes(picture(77))
    (folder / "99.txt").write_text("square")
    with pytest.raises(ConfigError, match="another version of pictures"):
        acquisition.download(config)


def test_what_goes_wrong_in_a_thread_comes_out():
    def work(job):
        if job == 30:
            raise FetchError("refused")
        return job

    results = []
    with pytest.raises(FetchError, match="refused"):
        results.extend(Workers(work, 3).map(range(100)))
    assert sorted(Workers(str, 3).map(range(100))) == sorted(map(str, range(100)))
    assert list(Workers(str, 3).map([])) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_in_a_thread_does_not_hang_the_run():
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="ended early"):
        list(Workers(lambda job: job.no_such_thing, 2).map(range(1, 9)))
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


def test_jobs_are_handed_out_as_results_are_taken():
    handed_out = 0

    def jobs():
        nonlocal handed_out
        for number in range(1000):
            handed_out = number
            yield number

    for taken, _ in enumerate(Workers(lambda job: job, 2).map(jobs())):
        assert handed_out <= taken + 10
