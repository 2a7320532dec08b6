"""A data folder follows its site: tags, pictures, posts that come and go; nothing else moves."""

import csv
import gzip
import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from changed_booru import (
    build,
    changed,
    command,
    contents,
    options,
    read_rows,
    replacement,
    write_rows,
)
from hypothesis import given
from hypothesis import strategies as st

from e6tag import acquisition, additions, images, shards
from e6tag.config import DownloadConfig
from e6tag.demo.booru import Booru
from e6tag.errors import DataError
from e6tag.plans import read_plan
from e6tag.purged import read_list
from e6tag.sampling import Labels

NUM_BEFORE, NUM_AFTER = 60, 80
DELETED, RETAGGED, RERATED, REPLACED, COMIC, YOUNG = range(11, 17)
REMOVED = {DELETED: "deleted", RERATED: "rating", COMIC: "comic"}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A booru as it was when the data were fetched."""
    return build(tmp_path_factory.mktemp("before") / "booru", NUM_BEFORE)


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """The same booru some days later: twenty posts more, and six that changed."""
    folder = build(tmp_path_factory.mktemp("grown") / "booru", NUM_AFTER)
    changes = {
        DELETED: {"is_deleted": "t"},
        RETAGGED: {"tag_string": "artist2 blue square", "rating": "s"},
        RERATED: {"rating": "e"},
        REPLACED: replacement(folder, 500),
        COMIC: {"tag_string": "comic red"},
        # Other words that are no tag of the vocabulary: nothing that is stored changes.
        YOUNG: {"tag_string": read_rows(folder)[YOUNG - 1]["tag_string"] + " zebra"},
    }
    return changed(folder, tmp_path_factory.mktemp("after") / "booru", changes)


@pytest.fixture(scope="module")
def fetched(before, tmp_path_factory):
    out = tmp_path_factory.mktemp("fetched") / "data"
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 0
    return out


@pytest.fixture(scope="module")
def updated(fetched, after, tmp_path_factory):
    """The data after an update that nothing interrupted."""
    out = tmp_path_factory.mktemp("updated") / "data"
    shutil.copytree(fetched, out)
    with Booru(after, requests_per_second=2000) as booru:
        assert acquisition.download(update_options(booru, out)) == 0
    return out


@pytest.fixture
def data(fetched, tmp_path):
    return shutil.copytree(fetched, tmp_path / "data")


def update_options(booru, out, **changes):
    values = {
        "out": out, "update": True, "base_url": booru.url, "requests_per_second": 1000.0,
        "contact": "tests", "quiet": True,
    }  # fmt: skip
    return DownloadConfig(**values | changes)


def update(folder, out, **changes):
    with Booru(folder, requests_per_second=2000) as booru:
        return acquisition.download(update_options(booru, out, **changes))


def infos(out):
    return {
        example.post_id: example.info
        for path in sorted((out / "shards").glob("*.tar"))
        for example in shards.read_shard_index(path)
    }


def same_data(out, expected):
    """Equal in all but the address of the booru, which has another port each time."""
    for name in ("dataset.json", "download.json"):
        a, b = (json.loads((folder / name).read_text()) for folder in (out, expected))
        for info in (a, b):
            for volatile in ("base_url", "index", "data", "seconds", "fetched", "fetched_bytes"):
                info.pop(volatile, None)
            info.pop("update", None)
        assert a == b
    left, right = contents(out), contents(expected)
    assert left.keys() == right.keys()
    volatile = ("dataset.json", "download.json")
    return {k: v for k, v in left.items() if k not in volatile} == {
        k: v for k, v in right.items() if k not in volatile
    }


def test_the_data_say_what_the_site_says_today(after, updated):
    data = shards.open_dataset(updated)
    rows = data.manifest.set_index("post_id")
    with gzip.open(after / "db_export/posts.csv.gz", "rt", newline="") as stream:
        site = {int(row["id"]): row for row in csv.DictReader(stream)}
    assert sorted(rows.index) == sorted(site)
    names, stored = data.vocabulary.names, infos(updated)
    for post_id, row in rows[rows["status"] == "ok"].iterrows():
        said = set(site[post_id]["tag_string"].split())
        tags = {names[column] for column in row["labels"]}
        assert tags == (said & set(names)) | ({"warm"} if "red" in said else set())
        assert row["md5"] == site[post_id]["md5"] and row["rating"] == "s"
        assert row["artists"].split() == sorted(t for t in said if t.startswith("artist"))
        info = stored.pop(post_id)
        assert info["tags"] == [names[column] for column in row["labels"]]
        assert (info["md5"], info["artists"]) == (row["md5"], row["artists"])
        md5 = row["md5"]
        source = after / "data" / md5[:2] / md5[2:4] / f"{md5}.png"
        jpeg = shards.read_stored(updated, row["shard"], row["offset"], row["length"])
        assert jpeg == images.store(images.decode(source.read_bytes()), 64, 92)[0]
    assert not stored
    removed = rows[rows["status"] != "ok"]
    assert removed["error"].to_dict() == REMOVED and set(removed["status"]) == {"purged"}


def test_posts_that_were_there_keep_their_place_and_split(fetched, updated):
    old, new = (shards.read_manifest(out) for out in (fetched, updated))
    assert new["post_id"].tolist()[: len(old)] == old["post_id"].tolist()
    for column in ("split", "weight", "reason", "group"):
        assert new[column].tolist()[: len(old)] == old[column].tolist()
    added = new.iloc[len(old) :]
    assert sorted(added["post_id"]) == list(range(NUM_BEFORE + 1, NUM_AFTER + 1))
    assert (updated / "tags.csv").read_bytes() == (fetched / "tags.csv").read_bytes()


def test_only_what_changed_is_fetched(data, after):
    with Booru(after, requests_per_second=2000) as booru:
        acquisition.download(update_options(booru, data))
        asked = [r.target for r in booru.log if r.target.endswith((".png", ".jpg"))]
    md5s = shards.read_manifest(data).set_index("post_id")["md5"]
    new = [REPLACED, *range(NUM_BEFORE + 1, NUM_AFTER + 1)]
    assert sorted(Path(target).stem for target in asked) == sorted(md5s[new])


def test_an_update_is_what_a_new_download_would_have(fetched, after, updated, tmp_path):
    """The same pictures with the same labels in the same splits, in another order."""
    with Booru(after, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, tmp_path)) == 0
    columns = ["post_id", "md5", "split", "group", "sha256", "rating", "artists", "parent_id"]
    tables = []
    for out in (updated, tmp_path):
        data = shards.open_dataset(out)
        rows = data.manifest[data.manifest["status"] == "ok"].sort_values("post_id")
        names = [{data.vocabulary.names[c] for c in row} for row in rows["labels"]]
        tables.append(rows[columns].assign(tags=names).reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables)


def test_shards_that_nothing_touches_keep_their_bytes(data, before, tmp_path):
    rows = shards.read_manifest(data)
    post_id = int(rows.loc[rows["split"] == "val", "post_id"].iloc[0])
    folder = changed(before, tmp_path / "booru", {post_id: {"tag_string": "square"}})
    times = {path.name: path.stat().st_mtime_ns for path in (data / "shards").iterdir()}
    assert update(folder, data) == 0
    now = {path.name: path.stat().st_mtime_ns for path in (data / "shards").iterdir()}
    assert {name for name in times if times[name] != now[name]} == {"val-00000.tar"}


def test_the_folder_is_pinned_to_the_new_exports_and_remembers_the_old(fetched, updated, after):
    old, new = (read_plan(out).info for out in (fetched, updated))
    with Booru(after) as booru:
        assert acquisition.download(options(booru, updated)) == 0
        assert acquisition.download(options(booru, updated, export_dir=after / "db_export")) == 0
    assert new["history"] == [{name: old[name] for name in ("e6tag", "export", "fingerprint")}]
    assert new["export"]["posts.csv.gz"] != old["export"]["posts.csv.gz"]
    assert new["num_posts"] == NUM_AFTER and new["considered"] == NUM_AFTER
    assert not (updated / "update.json").exists()


def test_a_second_update_changes_nothing(updated, after, tmp_path, capsys):
    out = shutil.copytree(updated, tmp_path / "data")
    before = contents(out)
    assert update(after, out, json=True) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["update"] == {
        "added": 0, "available": 0, "retagged": 0, "replaced": 0, "removed": 0, "causes": {},
        "returned": 0,
    }  # fmt: skip
    assert contents(out) == before


def test_plan_only_reports_and_changes_nothing(data, after, capsys):
    before = contents(data)
    assert update(after, data, plan_only=True, json=True) == 0
    changes = json.loads(capsys.readouterr().out)
    assert changes == {
        "added": 20, "available": 20, "retagged": 1, "replaced": 1, "removed": 3,
        "causes": {"deleted": 1, "rating": 1, "comic": 1}, "returned": 0,
    }  # fmt: skip
    assert contents(data) == before
    assert update(after, data, plan_only=True) == 0
    text = capsys.readouterr().out
    assert "added     20 posts, of 20" in text and "changed   1 posts with other tags, 1" in text


def test_a_post_that_is_allowed_again_returns(data, before, tmp_path):
    first = changed(before, tmp_path / "a", {20: {"is_flagged": "t"}, 21: {"is_deleted": "t"}})
    config = DownloadConfig(out=data, purge=True, export_dir=first / "db_export", quiet=True)
    assert acquisition.download(config) == 0
    second = changed(before, tmp_path / "b", {21: {"is_deleted": "t"}})
    assert update(second, data) == 0
    rows = shards.open_dataset(data).manifest.set_index("post_id")
    assert rows.loc[20, "status"] == "ok" and rows.loc[21, "status"] == "purged"
    assert read_list(data).causes == {21: "deleted"}


def test_what_was_taken_out_by_hand_stays_out(data, before, after):
    """As `docs/formats.md` says: listed in purged.json, whether planned or not."""
    own = {5: "takedown", NUM_BEFORE + 2: "takedown"}
    posts = {str(post_id): cause for post_id, cause in own.items()}
    (data / "purged.json").write_text(json.dumps({"format": 1, "done": False, "posts": posts}))
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, data)) == 0
    assert 5 not in infos(data)
    assert update(after, data) == 0
    assert read_list(data).causes == REMOVED | own
    assert not infos(data).keys() & own.keys()
    assert len(infos(data)) == NUM_AFTER - len(REMOVED) - len(own)


def test_a_failure_of_a_replaced_picture_is_forgotten(before, tmp_path):
    """Replaced between the export and the download: the new export knows the new picture."""
    folder, out = shutil.copytree(before, tmp_path / "a"), tmp_path / "data"
    md5 = read_rows(folder)[20]["md5"]
    (folder / "data" / md5[:2] / md5[2:4] / f"{md5}.png").unlink()
    with Booru(folder, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 1
    renewed = changed(folder, tmp_path / "b", {21: replacement(folder, 700)})
    assert update(renewed, out) == 0
    assert (shards.open_dataset(out).manifest["status"] == "ok").all()


def test_held_out_posts_that_are_linked_with_training_are_purged(data, before, tmp_path):
    rows = shards.read_manifest(data).set_index("post_id")
    first = {name: int(part.index.min()) for name, part in rows.groupby("split")}
    changes = {first["val"]: {"parent_id": str(first["train"])}}
    # A group within the held-out splits keeps its validation posts.
    second = sorted(rows.index[rows["split"] == "val"])[1]
    changes[first["test"]] = {"parent_id": str(second)}
    folder = changed(before, tmp_path / "booru", changes)
    assert update(folder, data) == 0
    manifest = shards.open_dataset(data).manifest
    gone = manifest[manifest["status"] == "purged"].set_index("post_id")["error"].to_dict()
    assert gone == {first["val"]: "straddles", first["test"]: "straddles"}
    kept = manifest[manifest["status"] == "ok"]
    assert kept.groupby("group")["split"].nunique().max() == 1
    now = manifest.set_index("post_id")
    assert now.loc[first["train"], "status"] == now.loc[second, "status"] == "ok"


def test_new_posts_go_where_their_group_is(data, after, tmp_path):
    """Whatever the hash of the joined group says."""
    rows = shards.read_manifest(data).set_index("post_id")
    held_out = [int(i) for i in rows.index[rows["split"] != "train"] if i not in REMOVED][:4]
    changes = {
        NUM_BEFORE + 1 + number: {"parent_id": str(post_id)}
        for number, post_id in enumerate(held_out)
    }
    folder = changed(after, tmp_path / "booru", changes)
    assert update(folder, data) == 0
    now = shards.open_dataset(data).manifest.set_index("post_id")
    for number, post_id in enumerate(held_out):
        child = now.loc[NUM_BEFORE + 1 + number]
        assert child["split"] == rows.loc[post_id, "split"] == now.loc[post_id, "split"]
        assert child["group"] == now.loc[post_id, "group"]


def test_new_posts_fill_the_tags_that_lack_some_and_no_others(before, after, tmp_path):
    """Of a plan that asks for more positives of rare tags than there were."""
    small = shutil.copytree(before, tmp_path / "small")
    rows = [row for row in read_rows(small) if "large" not in row["tag_string"]]
    tagged = [{**row, "tag_string": row["tag_string"] + " large"} for row in rows[:3]]
    write_rows(small, [*tagged, *rows[3:]])
    out = tmp_path / "data"
    with Booru(small, requests_per_second=2000) as booru:
        config = options(
            booru, out, strategy="random", positives=8, val_positives=1, categories=("general",)
        )
        assert acquisition.download(config) == 0
    plan = read_plan(out)
    assert "large" in plan.info["shortfalls"]["train"]
    assert update(after, out) == 0
    now = read_plan(out)
    names, is_train = now.vocabulary.names, now.table["split"] == "train"
    is_kept = ~now.table["post_id"].isin(read_list(out).causes)
    is_old = now.table.index < len(plan.table)
    have = Counter(
        names[c] for row in now.table[is_train & is_kept & is_old]["labels"] for c in row
    )
    added = now.table[~is_old & is_train]
    assert "large" in set(added["reason"])
    for row in added.itertuples():
        tags = {names[column] for column in row.labels}
        assert row.reason in tags and have[row.reason] < 8 and row.weight >= 1
        have.update(tags)
    left = now.info["shortfalls"].get("train", {})
    assert all(entry["reached"] == entry["available"] for entry in left.values())


@given(st.lists(st.sets(st.integers(0, 4)), max_size=30), st.data())
def test_picking_is_enough_and_not_too_much(tags, drawn):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in tags])]).astype(np.int64)
    columns = np.array([c for row in tags for c in sorted(row)], np.int32)
    labels = Labels.of(offsets, columns, 5)
    lacking = np.array(drawn.draw(st.lists(st.integers(0, 6), min_size=5, max_size=5)))
    most = drawn.draw(st.integers(0, 30))
    rows, reasons = additions.pick(labels, np.arange(len(tags)), lacking, most)
    assert len(rows) == len(set(rows.tolist())) <= most
    left = lacking.copy()
    for row, reason in zip(rows.tolist(), reasons.tolist(), strict=True):
        assert reason in tags[row] and left[reason] > 0
        left[list(tags[row])] -= 1
    if len(rows) < most:
        reached = np.minimum(lacking, labels.available)
        assert (labels.count(rows) >= reached).all()


def test_a_budget_takes_as_many_as_went(before, after, tmp_path):
    out = tmp_path / "data"
    with Booru(before, requests_per_second=2000) as booru:
        config = options(booru, out, strategy="random", budget=40, positives=50, val_positives=9)
        assert acquisition.download(config) == 0
    had = set(read_plan(out).table["post_id"])
    assert update(after, out) == 0
    manifest = shards.open_dataset(out).manifest
    gone = had & REMOVED.keys()
    assert len(manifest) - 40 <= len(gone) and (manifest["status"] == "ok").sum() <= 40
    rows = len(manifest)
    assert update(after, out) == 0
    assert len(shards.open_dataset(out).manifest) == rows


@pytest.mark.parametrize("kind", ["time", "stratified", "artist"])
def test_other_splits_never_move_a_post_either(before, after, tmp_path, kind):
    """Where a new post's split would depend on all others it is counted and not taken."""
    out = tmp_path / "data"
    with Booru(before, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out, split=kind)) == 0
    old = shards.read_manifest(out)
    assert update(after, out) == 0
    new = shards.open_dataset(out).manifest
    assert new["split"].tolist()[: len(old)] == old["split"].tolist()
    if kind == "artist":
        kept = new[(new["status"] == "ok") & (new["artists"] != "")]
        assert kept.groupby("artists")["split"].nunique().max() == 1 and len(new) > len(old)
    else:
        assert len(new) == len(old)


def run_and_kill(folder, out, seconds):
    """Update in a process that is killed so many seconds after it has begun to write."""
    with Booru(folder, requests_per_second=2000) as booru:
        process = subprocess.Popen(
            command(out, "--update", "--base-url", booru.url, "--requests-per-second", "500"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while process.poll() is None and not list(out.glob("plan.next*")):
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(seconds)
        process.kill()
        return process.wait() == -signal.SIGKILL


def check_consistent(out):
    """What holds at any instant: shards are whole, and a manifest fits them."""
    for path in (out / "shards").glob("*.tar"):
        assert list(shards.read_shard_index(path))
    if not (out / "manifest.parquet").exists():
        return
    manifest = shards.open_dataset(out).manifest
    for row in manifest[manifest["status"] == "ok"].itertuples():
        shards.read_stored(out, row.shard, row.offset, row.length)


def test_kill_9_at_any_moment_changes_nothing_in_the_result(fetched, after, updated, tmp_path):
    rng = random.Random(1)
    killed = 0
    for number in range(4):
        out = shutil.copytree(fetched, tmp_path / f"data{number}")
        killed += run_and_kill(after, out, rng.uniform(0, 0.15))
        check_consistent(out)
        assert update(after, out) == 0
        assert same_data(out, updated)
    assert killed >= 2


class Killed(BaseException):
    """Stands for the end of the process at one operation on files."""


@pytest.mark.parametrize("operation", ["replace", "unlink"])
def test_an_update_can_end_before_any_operation_on_files(
    fetched, after, updated, tmp_path, operation, monkeypatch
):
    real = getattr(Path, operation)
    with Booru(after, requests_per_second=2000) as booru:
        for stop_at in range(1, 80):
            out = shutil.copytree(fetched, tmp_path / f"{stop_at}")
            calls = 0

            def call(path, *arguments, stop_at=stop_at, out=out, **named):
                nonlocal calls
                is_state = out in path.parents and "incoming" not in path.parts
                calls += is_state and not (operation == "unlink" and path.name.endswith(".part"))
                if calls >= stop_at:
                    raise Killed
                return real(path, *arguments, **named)

            monkeypatch.setattr(Path, operation, call)
            config = update_options(booru, out, export_dir=after / "db_export")
            try:
                acquisition.download(config)
                ended = True
            except Killed:
                ended = False
            monkeypatch.undo()
            check_consistent(out)
            # Any command goes on with what was begun.
            assert acquisition.download(config) == 0
            assert same_data(out, updated)
            shutil.rmtree(out)
            if ended:
                break
    assert ended and stop_at > 2


def test_relations_are_those_of_the_labels_whenever_an_update_ends(
    data, after, tmp_path, monkeypatch
):
    folder = shutil.copytree(after, tmp_path / "booru")
    rows = read_rows(folder, "tag_implications")
    more = {"id": "99", "antecedent_name": "blue", "consequent_name": "cold"}
    write_rows(folder, [*rows, rows[0] | more], "tag_implications")
    before = (data / "implications.csv").read_bytes()
    real = Path.replace

    def killed(path, target):
        if Path(target).name == "update.json":
            raise Killed
        return real(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        update(folder, data)
    monkeypatch.undo()
    assert (data / "implications.csv").read_bytes() == before
    assert update(folder, data) == 0
    assert b"blue,cold" in (data / "implications.csv").read_bytes()
    assert not list(data.glob("*.next.*"))


def test_exports_that_are_older_are_refused(data, before, tmp_path):
    folder = changed(before, tmp_path / "booru", dict.fromkeys(range(41, NUM_BEFORE + 1)))
    files = contents(data)
    with pytest.raises(DataError, match=r"older than .*, which has post 60"):
        update(folder, data)
    assert contents(data) == files


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"info": {}, "purged": {}, "replaced": []}',
        '{"info": {"fingerprint": "x"}, "purged": [], "replaced": []}',
    ],
)
def test_a_damaged_update_is_named(data, before, after, content):
    (data / "update.json").write_text(content)
    with Booru(before) as booru, pytest.raises(DataError, match=r"update\.json .*--update again"):
        acquisition.download(options(booru, data))
    (data / "update.json").unlink()
    assert update(after, data) == 0


def test_a_folder_of_own_pictures_is_followed(tmp_path):
    from changed_booru import picture

    pictures, out = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    for number in range(40):
        (pictures / f"{number}.png").write_bytes(picture(number))
        (pictures / f"{number}.txt").write_text("round, red" if number % 2 else "square")
    start = DownloadConfig(site="folder", folder=pictures, out=out, strategy="all", quiet=True)
    assert acquisition.download(start) == 0
    (pictures / "1.png").unlink()
    (pictures / "2.txt").write_text("round")
    (pictures / "3.png").rename(pictures / "moved.png")
    (pictures / "3.txt").rename(pictures / "moved.txt")
    (pictures / "99.png").write_bytes(picture(99))
    (pictures / "99.txt").write_text("square, red")
    assert acquisition.download(DownloadConfig(out=out, update=True, quiet=True)) == 0
    data = shards.open_dataset(out)
    rows = data.manifest[data.manifest["status"] == "ok"]
    said = {
        Path(row.location).name: {data.vocabulary.names[c] for c in row.labels}
        for row in rows.itertuples()
    }
    expected = {
        path.name: set(path.with_suffix(".txt").read_text().split(", "))
        for path in pictures.glob("*.png")
    }
    assert said == expected
    assert acquisition.download(start) == 0
