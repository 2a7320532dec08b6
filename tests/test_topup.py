"""Posts that cannot be had are made up for from the reserve; whatever stops that, it goes on."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from changed_booru import build, contents, options
from hypothesis import given, settings
from hypothesis import strategies as st

from e6tag import acquisition, shards, tables
from e6tag.demo.booru import Booru
from e6tag.errors import DataError
from e6tag.plans import read_plan
from e6tag.shard_work import plan_shards
from e6tag.tables import PLAN_SCHEMA, TOPUP_SCHEMA
from e6tag.topup import choose_topup, count, pin_topup

NUM_POSTS = 240
SMALL = {"strategy": "random", "positives": 12, "val_positives": 3, "spare": 1.0}
LOST = 9
"""planned posts whose file has gone"""


def path_of(folder, md5):
    return folder / "data" / md5[:2] / md5[2:4] / f"{md5}.png"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build(tmp_path_factory.mktemp("whole") / "booru", NUM_POSTS)


@pytest.fixture(scope="module")
def planned(whole, tmp_path_factory):
    """A plan of which nothing is fetched yet."""
    out = tmp_path_factory.mktemp("planned") / "data"
    with Booru(whole, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out, plan_only=True, **SMALL)) == 0
    return out


@pytest.fixture(scope="module")
def lossy(whole, planned, tmp_path_factory):
    """The booru without some of the planned files, nor the one that replaces the first of them."""
    folder = tmp_path_factory.mktemp("lossy") / "booru"
    shutil.copytree(whole, folder)
    plan = read_plan(planned)
    lost = [*lost_posts(plan)["md5"], first_replacement(plan)["md5"]]
    for md5 in lost:
        path_of(folder, md5).unlink()
    return folder


def lost_posts(plan):
    """Some of each split."""
    table = plan.table
    some = [table[table["split"] == name].iloc[: max(1, LOST - 5)] for name in ("train", "val")]
    return pd.concat([*some, table[table["split"] == "test"].iloc[:1]])


def first_replacement(plan):
    lost = plan.table["post_id"].isin(lost_posts(plan)["post_id"]).to_numpy()
    wanted = {"train": 12, "val": 3, "test": 3}
    num_tags = len(plan.vocabulary)
    chosen = choose_topup(plan.table, lost, len(plan.table), plan.reserve, num_tags, wanted)
    return chosen.iloc[0]


def fetch_into(folder, out, **changes):
    with Booru(folder, requests_per_second=2000) as booru:
        code = acquisition.download(options(booru, out, **SMALL | changes))
        return code, [r.target for r in booru.log if r.target.endswith(".png")]


@pytest.fixture(scope="module")
def clean(lossy, tmp_path_factory):
    """What an uninterrupted download makes of it."""
    out = tmp_path_factory.mktemp("clean") / "data"
    assert fetch_into(lossy, out)[0] == 1
    return out


def positives(data, split):
    rows = data.split(split)["labels"]
    return shards.label_matrix(rows, len(data.vocabulary)).sum(0, dtype=int)


def test_every_tag_gets_its_positives_back_as_far_as_the_reserve_goes(planned, clean):
    plan, data = read_plan(clean), shards.open_dataset(clean)
    assert plan.table.equals(read_plan(planned).table)
    left = plan.reserve[~plan.reserve["post_id"].isin(data.manifest["post_id"])]
    for split, wanted in (("train", 12), ("val", 3), ("test", 3)):
        table = plan.table[plan.table["split"] == split]
        target = np.minimum(count(table, len(plan.vocabulary)), wanted)
        lacking = target > positives(data, split)
        still = count(left[left["split"] == split], len(plan.vocabulary))
        assert not (lacking & (still > 0)).any()
    assert (data.manifest["status"] == "failed").sum() > LOST


def test_posts_of_the_reserve_come_after_the_plans_in_shards_of_their_own(clean):
    plan, manifest = read_plan(clean), shards.open_dataset(clean).manifest
    number = len(plan.table)
    assert manifest["post_id"].tolist()[:number] == plan.table["post_id"].tolist()
    added = manifest.iloc[number:]
    assert added["post_id"].tolist() == plan.topup["post_id"].tolist()
    assert set(added["post_id"]) <= set(plan.reserve["post_id"])
    ok = added[added["status"] == "ok"]
    assert len(ok) > 5 and not set(ok["shard"]) & set(manifest["shard"][:number])
    for row in ok.itertuples():
        assert row.shard.startswith(f"{row.split}-0000")
        shards.read_stored(clean, row.shard, row.offset, row.length)
    assert plan.topup.columns.tolist() == TOPUP_SCHEMA.names
    # A replacement that failed was replaced in a second round, in another shard.
    assert plan.topup.groupby("split")["shard"].nunique().max() >= 2


def test_a_complete_folder_asks_for_nothing(lossy, clean):
    before = {p: p.stat().st_mtime_ns for p in clean.rglob("*") if p.is_file()}
    code, asked = fetch_into(lossy, clean)
    assert (code, asked) == (1, [])
    assert {p: p.stat().st_mtime_ns for p in clean.rglob("*") if p.is_file()} == before


def test_without_losses_the_reserve_is_not_touched(whole, tmp_path):
    code, asked = fetch_into(whole, tmp_path)
    plan = read_plan(tmp_path)
    assert code == 0 and len(asked) == len(plan.table)
    assert not (tmp_path / "topup.parquet").exists()
    assert len(shards.open_dataset(tmp_path).manifest) == len(plan.table)


def test_failures_that_may_pass_are_not_made_up_for(whole, planned, tmp_path, capsys):
    folder = tmp_path / "booru"
    shutil.copytree(whole, folder)
    for md5 in lost_posts(read_plan(planned))["md5"]:
        path_of(folder, md5).write_bytes(b"<html>busy</html>")
    out = tmp_path / "data"
    assert fetch_into(folder, out)[0] == 1
    assert "tries again" in capsys.readouterr().out
    assert not (out / "topup.parquet").exists()
    shutil.copytree(whole / "data", folder / "data", dirs_exist_ok=True)
    assert fetch_into(folder, out)[0] == 0
    assert (shards.read_manifest(out)["status"] == "ok").all()


def test_retry_failed_asks_for_lost_posts_again_and_keeps_what_replaced_them(
    whole, lossy, clean, tmp_path
):
    out = shutil.copytree(clean, tmp_path / "data")
    replaced = (out / "topup.parquet").read_bytes()
    failed = (shards.read_manifest(out)["status"] == "failed").sum()
    code, asked = fetch_into(whole, out, retry_failed=True)
    assert code == 0 and len(asked) == failed
    assert (shards.open_dataset(out).manifest["status"] == "ok").all()
    assert (out / "topup.parquet").read_bytes() == replaced


def test_a_budget_is_kept_post_for_post(whole, tmp_path):
    folder, out = tmp_path / "booru", tmp_path / "data"
    shutil.copytree(whole, folder)
    change = {"strategy": "random", "budget": 60, "spare": 0.5}
    fetch_into(whole, out, plan_only=True, **change)
    plan = read_plan(out)
    lost = plan.table[plan.table["split"] == "train"].iloc[:7]
    for md5 in lost["md5"]:
        path_of(folder, md5).unlink()
    assert fetch_into(folder, out, **change)[0] == 1
    data = shards.open_dataset(out)
    sizes = data.manifest.loc[data.manifest["status"] == "ok", "split"].value_counts()
    assert sizes.to_dict() == plan.table["split"].value_counts().to_dict()
    train = plan.reserve[plan.reserve["split"] == "train"]
    assert read_plan(out).topup["post_id"].tolist() == train["post_id"].tolist()[:7]


def same(out, expected):
    a, b = contents(out), contents(expected)
    assert a.keys() == b.keys()
    # The address of the booru, and what the last run fetched, are others.
    return all(a[name] == b[name] for name in a.keys() - {"dataset.json", "download.json"})


def command(booru, out):
    return [
        sys.executable, "-m", "e6tag", "download", "--base-url", booru.url, "--out", str(out),
        "--strategy", "random", "--positives", "12", "--val-positives", "3", "--spare", "1",
        "--image-size", "64", "--requests-per-second", "120", "--quiet",
    ]  # fmt: skip


def test_kill_9_at_any_moment_changes_nothing_in_the_result(lossy, clean, tmp_path):
    out, killed = tmp_path / "data", 0
    rng = np.random.default_rng(0)
    for _ in range(6):
        with Booru(lossy, requests_per_second=2000) as booru:
            process = subprocess.Popen(command(booru, out), stderr=subprocess.DEVNULL)
            while process.poll() is None and not (out / "dataset.json").exists():
                time.sleep(0.01)
            time.sleep(rng.uniform(0.1, 0.9))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    assert fetch_into(lossy, out)[0] == 1
    failures = "incoming/failures.jsonl"
    # Failures are listed in the order in which they came.
    for folder in (out, clean):
        (folder / failures).write_text("")
    assert same(out, clean)


@pytest.mark.parametrize("name", ["replace", "unlink"])
def test_a_run_can_end_before_any_operation_on_files(name, lossy, clean, tmp_path, monkeypatch):
    """Each run gets a little further than the one before."""
    out, operation = tmp_path / "data", getattr(Path, name)

    class Ended(BaseException):
        pass

    def run(allowed):
        left = [allowed]

        def count_down(self, *arguments, **options):
            if "incoming" not in self.parts:
                if not left[0]:
                    raise Ended
                left[0] -= 1
            return operation(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, name, count_down)
            fetch_into(lossy, out)

    fetch_into(lossy, out, plan_only=True)
    for allowed in range(2, 40, 5):
        try:
            run(allowed)
            break
        except Ended:
            continue
    assert fetch_into(lossy, out)[0] == 1
    for folder in (out, clean):
        (folder / "incoming/failures.jsonl").write_text("")
    assert same(out, clean)


def test_a_manifest_of_before_a_topup_can_still_be_read(clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    manifest, number = shards.read_manifest(out), len(read_plan(out).table)
    shards.write_manifest(out, manifest.iloc[:number])
    assert len(shards.open_dataset(out).manifest) == number
    for wrong in (manifest.iloc[: number - 1], pd.concat([manifest, manifest.iloc[:1]])):
        shards.write_manifest(out, wrong)
        with pytest.raises(DataError, match=r"dataset\.json says .* and topup\.parquet"):
            shards.open_dataset(out)
    (out / "topup.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"topup\.parquet is damaged"):
        shards.open_dataset(out)


def test_a_new_plan_forgets_what_replaced_posts_of_the_old(whole, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    (out / "dataset.json").unlink()
    assert fetch_into(whole, out, plan_only=True)[0] == 0
    assert not (out / "topup.parquet").exists()


# --- the choice


def table_of(rows):
    """A plan with these (split, labels)."""
    empty = {
        field.name: [""] * len(rows) if pa.types.is_string(field.type) else [0] * len(rows)
        for field in PLAN_SCHEMA
    }
    frame = pd.DataFrame(empty)
    labels = pd.Series([np.array(sorted(found), np.int32) for _, found in rows], dtype=object)
    return frame.assign(post_id=range(len(rows)), split=[name for name, _ in rows], labels=labels)


rows = st.lists(
    st.tuples(st.sampled_from(["train", "val", "test"]), st.sets(st.integers(0, 4), max_size=3)),
    max_size=20,
)


@given(rows, rows, st.integers(0, 4), st.data())
@settings(max_examples=80, deadline=None)
def test_what_is_taken_helps_and_what_helps_is_taken(planned_rows, reserve_rows, wanted, data):
    posts, reserve = table_of(planned_rows), table_of(reserve_rows)
    reserve["post_id"] += 100
    num_planned = data.draw(st.integers(0, len(posts)))
    lost = np.array(data.draw(st.lists(st.booleans(), min_size=len(posts), max_size=len(posts))))
    lost = lost.astype(bool)
    demands = dict.fromkeys(("train", "val", "test"), wanted)
    chosen = choose_topup(posts, lost, num_planned, reserve, 5, demands)
    ids = chosen["post_id"].tolist()
    for split in demands:
        target, have = [0] * 5, [0] * 5
        for row, (name, labels) in enumerate(planned_rows):
            for tag in labels if name == split else ():
                target[tag] += row < num_planned
                have[tag] += not lost[row]
        target = [min(number, wanted) for number in target]
        for post_id, (name, labels) in zip(reserve["post_id"], reserve_rows, strict=True):
            if name == split:
                helps = any(have[tag] < target[tag] for tag in labels)
                assert helps == (post_id in ids)
                for tag in labels if helps else ():
                    have[tag] += 1


@given(rows, rows, st.data())
@settings(max_examples=40, deadline=None)
def test_with_a_budget_as_many_come_as_went(planned_rows, reserve_rows, data):
    posts, reserve = table_of(planned_rows), table_of(reserve_rows)
    lost = np.array(data.draw(st.lists(st.booleans(), min_size=len(posts), max_size=len(posts))))
    lost = lost.astype(bool)
    chosen = choose_topup(posts, lost, len(posts), reserve, 5, None)
    for split in ("train", "val", "test"):
        there = reserve.loc[reserve["split"] == split, "post_id"].tolist()
        went = int(lost[(posts["split"] == split).to_numpy()].sum())
        assert chosen.loc[chosen["split"] == split, "post_id"].tolist() == there[:went]


def test_rounds_get_shards_of_their_own_that_the_plan_leaves_free(tmp_path):
    plan = table_of([("train", {0})] * 1001 + [("val", {0})])
    reserve = table_of([("train", {0})] * 1500 + [("val", {1})] * 3)
    names = [work.name for work in plan_shards(plan, tables.no_rows(TOPUP_SCHEMA))]
    assert names == ["train-00000.tar", "train-00001.tar", "val-00000.tar"]
    first = pin_topup(tmp_path, tables.no_rows(TOPUP_SCHEMA), reserve.iloc[:1200], names)
    assert first["shard"].value_counts().to_dict() == {
        "train-00002.tar": 1000,
        "train-00003.tar": 200,
    }
    works = plan_shards(plan, first)
    both = pin_topup(tmp_path, first, reserve.iloc[1200:], [work.name for work in works])
    assert both["shard"].tolist()[1200:] == ["train-00004.tar"] * 300 + ["val-00001.tar"] * 3
    assert tables.read_table(tmp_path / "topup.parquet", TOPUP_SCHEMA)["shard"].equals(
        both["shard"]
    )
    # A plan that grows later does not take their names.
    grown = table_of([("train", {0})] * 3100 + [("val", {0})])
    works = plan_shards(grown, both)
    found = [work.name for work in works]
    assert len(set(found)) == len(found)
    assert found[:4] == ["train-00000.tar", "train-00001.tar", "train-00005.tar", "train-00006.tar"]
    rows = np.concatenate([work.rows for work in works])
    assert sorted(rows.tolist()) == list(range(len(grown) + len(both)))
    for work in works:
        assert work.rows_of(work.ids).tolist() == work.rows.tolist()
