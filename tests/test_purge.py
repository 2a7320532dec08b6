"""What a site has taken down leaves the data for good: shards, manifest, later runs."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from changed_booru import build, changed, command, contents, options, picture, replacement

from e6tag import acquisition, shards
from e6tag.config import DownloadConfig
from e6tag.demo.booru import Booru
from e6tag.errors import ConfigError, DataError
from e6tag.purged import PurgeList, finish_purge, read_list, write_list

NUM_POSTS = 80
DELETED, PENDING, FLAGGED, MINOR, CUB, DNP, RERATED, REPLACED, GONE = range(11, 20)
CAUSES = {
    DELETED: "deleted",
    PENDING: "pending",
    FLAGGED: "flagged",
    MINOR: "minor",
    CUB: "minor",
    DNP: "avoid_posting",
    RERATED: "rating",
    REPLACED: "replaced",
    GONE: "not_listed",
}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A booru as it was when the data were fetched."""
    return build(tmp_path_factory.mktemp("before") / "booru", NUM_POSTS)


@pytest.fixture(scope="module")
def after(before, tmp_path_factory):
    """The same booru some days later."""
    changes = {
        DELETED: {"is_deleted": "t"},
        PENDING: {"is_pending": "t"},
        FLAGGED: {"is_flagged": "t"},
        MINOR: {"rating": "q", "tag_string": "red young"},
        CUB: {"rating": "e", "tag_string": "cub_(species) cub red"},
        DNP: {"tag_string": "conditional_dnp red"},
        RERATED: {"rating": "q"},
        REPLACED: replacement(before, 500),
        GONE: None,
        # Still a safe picture, with other tags: its labels are not a purge's business.
        30: {"tag_string": "square young"},
    }
    return changed(before, tmp_path_factory.mktemp("after") / "booru", changes)


@pytest.fixture(scope="module")
def fetched(before, tmp_path_factory):
    """The data as they were first fetched."""
    out = tmp_path_factory.mktemp("fetched") / "data"
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 0
    return out


@pytest.fixture(scope="module")
def purged(fetched, after, tmp_path_factory):
    """The data after a purge that nothing interrupted."""
    out = tmp_path_factory.mktemp("purged") / "data"
    shutil.copytree(fetched, out)
    assert acquisition.download(purge_options(out, after)) == 0
    return out


@pytest.fixture
def data(fetched, tmp_path):
    """A copy of the fetched data."""
    return shutil.copytree(fetched, tmp_path / "data")


def purge_options(out, folder, **changes):
    values = {"out": out, "purge": True, "export_dir": folder / "db_export", "quiet": True}
    return DownloadConfig(**values | changes)


def members(path):
    """Names and contents of the members of a shard, in order, as the tarfile module reads them."""
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def check_readable(out):
    """Every picture that the manifest has is in its place, with its checksum."""
    manifest = shards.open_dataset(out).manifest
    for row in manifest[manifest["status"] == "ok"].itertuples():
        jpeg = shards.read_stored(out, row.shard, row.offset, row.length)
        assert hashlib.sha256(jpeg).hexdigest() == row.sha256
    return manifest


def test_each_cause_removes_its_posts_and_nothing_else(fetched, purged):
    manifest = check_readable(purged)
    rows = manifest[manifest["status"] == "purged"].set_index("post_id")
    assert rows["error"].to_dict() == CAUSES
    assert (rows["shard"] == "").all() and (rows["length"] == 0).all()
    kept = manifest[manifest["status"] == "ok"].set_index("post_id")
    original = shards.read_manifest(fetched).set_index("post_id")
    assert sorted([*kept.index, *CAUSES]) == list(range(1, NUM_POSTS + 1))
    same = [name for name in original.columns if name != "offset"]
    pd.testing.assert_frame_equal(kept[same], original.loc[kept.index, same])
    # The plan, and with it the order of all rows, is what it was.
    assert manifest["post_id"].tolist() == shards.read_manifest(fetched)["post_id"].tolist()


def test_no_byte_of_a_purged_picture_is_left(fetched, purged):
    original = shards.read_manifest(fetched).set_index("post_id")
    rest = b"".join(path.read_bytes() for path in (purged / "shards").iterdir())
    for post_id in CAUSES:
        row = original.loc[post_id]
        jpeg = shards.read_stored(fetched, row["shard"], row["offset"], row["length"])
        assert jpeg not in rest and row["md5"].encode() not in rest


def test_shards_hold_the_rest_as_it_was_and_in_order(fetched, purged):
    gone = {f"{post_id}.{suffix}" for post_id in CAUSES for suffix in ("jpg", "json")}
    for path in (purged / "shards").iterdir():
        old = members(fetched / "shards" / path.name)
        assert members(path) == [member for member in old if member[0] not in gone]


def test_shards_without_a_purged_post_are_not_touched(data, before, tmp_path):
    manifest = shards.read_manifest(data)
    post_id = int(manifest.loc[manifest["split"] == "val", "post_id"].iloc[0])
    folder = changed(before, tmp_path / "booru", {post_id: {"is_deleted": "t"}})
    times = {path.name: path.stat().st_mtime_ns for path in (data / "shards").iterdir()}
    assert acquisition.download(purge_options(data, folder)) == 0
    now = {path.name: path.stat().st_mtime_ns for path in (data / "shards").iterdir()}
    assert {name for name in times if times[name] != now[name]} == {"val-00000.tar"}


def test_a_shard_of_purged_posts_alone_goes(data, before, tmp_path):
    manifest = shards.read_manifest(data)
    ids = manifest.loc[manifest["split"] == "test", "post_id"].tolist()
    folder = changed(before, tmp_path / "booru", {i: {"is_deleted": "t"} for i in ids})
    assert acquisition.download(purge_options(data, folder)) == 0
    assert [p.name for p in sorted((data / "shards").iterdir())] == [
        "train-00000.tar", "val-00000.tar",
    ]  # fmt: skip
    check_readable(data)


def test_later_runs_neither_fetch_nor_miss_what_was_purged(data, before, after, purged, capsys):
    """The folder stays pinned to the exports that it was planned from."""
    shutil.copytree(purged, data, dirs_exist_ok=True)
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, data)) == 0
        assert acquisition.download(options(booru, data, retry_failed=True)) == 0
        assert not [r for r in booru.log if "/data/" in r.target and "export" not in r.target]
        # Not even where everything has to be fetched again.
        shutil.rmtree(data / "shards")
        (data / "manifest.parquet").unlink()
        assert acquisition.download(options(booru, data)) == 0
    assert "purged    9 posts, which are not fetched again" in capsys.readouterr().out
    assert (data / "manifest.parquet").read_bytes() == (purged / "manifest.parquet").read_bytes()
    for path in (purged / "shards").iterdir():
        assert (data / "shards" / path.name).read_bytes() == path.read_bytes()


def test_a_second_purge_finds_nothing_and_changes_nothing(purged, after, data, capsys):
    shutil.copytree(purged, data, dirs_exist_ok=True)
    before = contents(data)
    assert acquisition.download(purge_options(data, after, json=True)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["purged"] == 0 and summary["purged_before"] == len(CAUSES)
    assert contents(data) == before


def test_purges_add_up(data, before, after, purged, tmp_path):
    first = changed(before, tmp_path / "booru", {DELETED: {"is_deleted": "t"}})
    assert acquisition.download(purge_options(data, first)) == 0
    assert read_list(data).causes == {DELETED: "deleted"}
    assert acquisition.download(purge_options(data, after)) == 0
    assert contents(data) == contents(purged)


def test_counts_by_cause_are_printed(data, after, capsys, caplog):
    caplog.set_level("INFO", "e6tag")
    assert acquisition.download(purge_options(data, after, plan_only=True)) == 0
    assert "to purge  9 posts: minor 2, avoid_posting 1" in capsys.readouterr().out
    assert read_list(data) == PurgeList() and "embed.py" not in caplog.text
    assert acquisition.download(purge_options(data, after, json=True)) == 0
    summary = json.loads(capsys.readouterr().out)
    expected = pd.Series(list(CAUSES.values())).value_counts().to_dict()
    assert summary["causes"] == expected and summary["purged"] == len(CAUSES)
    assert caplog.text.count("run embed.py again") == 1


def test_the_exports_are_fetched_anew_from_the_folders_own_site(data, before, after, purged):
    """Without --export-dir, and without any of the options that the folder was begun with."""
    with Booru(after, requests_per_second=2000) as booru:
        info = json.loads((data / "dataset.json").read_text())
        (data / "dataset.json").write_text(json.dumps(info | {"base_url": booru.url}))
        subprocess.run(command(data, "--purge"), check=True, capture_output=True)
        asked = {request.target for request in booru.log}
    assert "/data/db_export/posts.csv.gz" in asked
    assert not [target for target in asked if target.endswith((".png", ".jpg"))]
    assert contents(data).keys() == contents(purged).keys()
    for name in ("manifest.parquet", "purged.json", "shards/train-00000.tar"):
        assert (data / name).read_bytes() == (purged / name).read_bytes()


def run_and_kill(out, folder, seconds):
    """Purge in a process that is killed after so many seconds; whether it was."""
    process = subprocess.Popen(
        command(out, "--purge", "--export-dir", str(folder / "db_export")),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    # Starting Python takes a time of its own: count from the first sign of work.
    while process.poll() is None and not (out / "purged.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(seconds)
    process.kill()
    return process.wait() == -signal.SIGKILL


def check_consistent(out):
    """What holds at any instant: shards are whole, and a manifest fits them."""
    for path in (out / "shards").glob("*.tar"):
        assert list(shards.read_shard_index(path))
    if (out / "manifest.parquet").exists():
        check_readable(out)
    else:
        with pytest.raises(DataError, match=r"manifest\.parquet is missing\. Run download\.py"):
            shards.open_dataset(out)


def test_kill_9_at_any_moment_changes_nothing_in_the_result(fetched, after, purged, tmp_path):
    rng = random.Random(0)
    killed = 0
    for number in range(4):
        out = shutil.copytree(fetched, tmp_path / f"data{number}")
        killed += run_and_kill(out, after, rng.uniform(0, 0.02))
        check_consistent(out)
        assert acquisition.download(purge_options(out, after)) == 0
        assert contents(out) == contents(purged)
    assert killed >= 2


class Killed(BaseException):
    """Stands for the end of the process at one operation on files."""


OPERATIONS = ("replace", "unlink", "write_bytes")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_purge_can_end_before_any_operation_on_files(
    fetched, after, purged, tmp_path, operation, monkeypatch
):
    """Every rename, removal and write in turn is the one that is not reached any more."""
    real = getattr(Path, operation)
    for stop_at in range(1, 40):
        out = shutil.copytree(fetched, tmp_path / f"{stop_at}")
        calls = 0

        def call(path, *arguments, stop_at=stop_at, **named):
            nonlocal calls
            # The sibling's removal after a failure is not one that a killed process would do.
            calls += not path.name.endswith(".part") or operation != "unlink"
            if calls >= stop_at:
                raise Killed
            return real(path, *arguments, **named)

        monkeypatch.setattr(Path, operation, call)
        try:
            acquisition.download(purge_options(out, after))
            ended = True
        except Killed:
            ended = False
        monkeypatch.undo()
        check_consistent(out)
        assert acquisition.download(purge_options(out, after)) == 0
        assert contents(out) == contents(purged)
        shutil.rmtree(out)
        if ended:
            break
    assert ended and stop_at > 1


def test_a_download_finishes_a_purge_that_was_broken_off(data, before, purged):
    write_list(data, PurgeList(CAUSES, is_done=False))
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, data)) == 0
    assert contents(data) == contents(purged)


def test_pictures_and_failures_that_wait_are_purged_too(fetched, after, tmp_path, before):
    """A download that is not done yet: nothing is lost but what must go."""
    out = tmp_path / "data"
    shutil.copytree(fetched, out)
    manifest = shards.read_manifest(out).set_index("post_id")
    folder = out / "incoming" / "train"
    folder.mkdir(parents=True)
    train = manifest[manifest["split"] == "train"]
    for row in train.itertuples():
        jpeg = shards.read_stored(out, row.shard, row.offset, row.length)
        if row.Index not in (21, 22):
            (folder / f"{row.Index}.original.jpg").write_bytes(jpeg)
    failures = [
        {"post_id": i, "reason": "gone", "message": f"post {i}", "permanent": True}
        for i in (22, DELETED)
    ]
    lines = "".join(json.dumps(failure) + "\n" for failure in failures)
    (out / "incoming/failures.jsonl").write_text(lines + '{"post_id": 1')
    (out / "shards/train-00000.tar").unlink()
    (out / "manifest.parquet").unlink()
    assert acquisition.download(purge_options(out, after)) == 0
    assert not (out / "manifest.parquet").exists()
    left = {int(path.name.split(".")[0]) for path in folder.iterdir()}
    assert left == set(train.index) - set(CAUSES) - {21, 22}
    assert str(DELETED) not in (out / "incoming/failures.jsonl").read_text()
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 1
        assert acquisition.download(options(booru, out, retry_failed=True)) == 0
    statuses = check_readable(out)["status"].value_counts().to_dict()
    assert statuses == {"ok": NUM_POSTS - len(CAUSES), "purged": len(CAUSES)}


def test_a_post_that_failed_and_is_deleted_is_purged(data, before, tmp_path):
    manifest = shards.read_manifest(data)
    ids = manifest["post_id"].tolist()
    manifest.loc[0, ["status", "error", "shard", "sha256", "variant"]] = [
        "failed",
        "gone",
        "",
        "",
        "",
    ]
    manifest.loc[0, ["offset", "length", "stored_width", "stored_height"]] = 0
    shard = data / "shards/train-00000.tar"
    index = [e for e in shards.read_shard_index(shard) if e.post_id != ids[0]]
    pictures = [shards.read_stored(data, shard.name, e.offset, e.length) for e in index]
    shards.write_shard(
        shard,
        [shards.Example(e.post_id, j, e.info) for e, j in zip(index, pictures, strict=True)],
    )
    folder = changed(before, tmp_path / "booru", {ids[0]: {"is_deleted": "t"}})
    shards.write_manifest(data, manifest)
    write_list(data, PurgeList({ids[0]: "deleted"}, is_done=False))
    finish_purge(data)
    assert check_readable(data).loc[0, ["status", "error"]].tolist() == ["purged", "deleted"]
    assert acquisition.download(purge_options(data, folder)) == 0


def test_exports_of_another_site_remove_nothing(data, tmp_path, before):
    changes = {i: {"md5": f"{i:032x}"} for i in range(1, 42)}
    folder = changed(before, tmp_path / "booru", changes)
    files = contents(data)
    with pytest.raises(DataError, match=r"41 of the 80 posts of .*Nothing was removed"):
        acquisition.download(purge_options(data, folder))
    assert contents(data) == files


def test_older_exports_say_nothing_of_newer_posts(data, before, tmp_path, caplog):
    changes = {i: None for i in range(70, NUM_POSTS + 1)} | {5: {"is_deleted": "t"}, 6: None}
    folder = changed(before, tmp_path / "booru", changes)
    assert acquisition.download(purge_options(data, folder, quiet=False)) == 0
    assert read_list(data).causes == {5: "deleted", 6: "not_listed"}
    assert "older than 11 posts of the folder" in caplog.text


def test_a_folders_purge_follows_its_files(tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    for number in range(40):
        (pictures / f"{number}.png").write_bytes(picture(number))
        (pictures / f"{number}.txt").write_text("round, red" if number % 2 else "square")
    start = DownloadConfig(site="folder", folder=pictures, out=out, strategy="all", quiet=True)
    assert acquisition.download(start) == 0
    rows = shards.read_manifest(out).set_index("location")
    (pictures / "7.png").unlink()
    (pictures / "8.png").write_bytes(picture(9000))
    assert acquisition.download(DownloadConfig(out=out, purge=True, quiet=True)) == 0
    gone = {int(rows.loc[str(pictures / f"{n}.png"), "post_id"]): "not_listed" for n in (7, 8)}
    assert read_list(out).causes == gone
    assert (check_readable(out)["status"] == "ok").sum() == 38


def test_options_that_are_not_the_folders_are_refused(data, after, tmp_path):
    with pytest.raises(ConfigError, match="--ratings s, not sq"):
        acquisition.download(purge_options(data, after, ratings="sq"))
    with pytest.raises(ConfigError, match=r"no dataset\.json\. Name a data folder with --out"):
        acquisition.download(purge_options(tmp_path / "nowhere", after))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 2, "done": true, "posts": {}}', '{"format": 1, "posts": {}}',
     '{"format": 1, "done": true, "posts": {"x": "deleted"}}',
     '{"format": 1, "done": true, "posts": [[1]]}'],
)  # fmt: skip
def test_a_damaged_list_stops_every_run(data, before, after, content):
    """Going on without it would fetch again what had to go."""
    (data / "purged.json").write_text(content)
    with Booru(before) as booru, pytest.raises(DataError, match=r"purged\.json .*--purge at once"):
        acquisition.download(options(booru, data))
    with pytest.raises(DataError, match=r"purged\.json"):
        acquisition.download(purge_options(data, after))
    (data / "purged.json").unlink()
    assert acquisition.download(purge_options(data, after)) == 0


def test_the_labels_that_are_left_can_be_learnt_from(purged):
    data = shards.open_dataset(purged)
    rows = pd.concat([data.split(name) for name in ("train", "val", "test")])
    matrix = shards.label_matrix(rows["labels"], len(data.vocabulary))
    assert matrix.shape[0] == NUM_POSTS - len(CAUSES) and np.all(matrix.sum(1) >= 0)
