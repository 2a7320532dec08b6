"""An update of a folder that replaced posts: its reserve and those that stand in follow as well."""

import shutil

import pytest
from changed_booru import build, changed, options

from e6tag import acquisition, shards
from e6tag.demo.booru import Booru
from e6tag.plans import read_plan
from e6tag.purge import known_posts
from e6tag.purged import read_list

SMALL = {"strategy": "random", "positives": 12, "val_positives": 3, "spare": 1.0}
NUM_POSTS = 240


def fetch(folder, out, **changes):
    with Booru(folder, requests_per_second=2000) as booru:
        return acquisition.download(options(booru, out, **SMALL | changes))


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A booru that has lost some of the files that a plan asks for, and data from it."""
    folder = build(tmp_path_factory.mktemp("before") / "booru", NUM_POSTS)
    out = tmp_path_factory.mktemp("data") / "data"
    assert fetch(folder, out, plan_only=True) == 0
    for md5 in read_plan(out).table["md5"].iloc[:6]:
        (folder / "data" / md5[:2] / md5[2:4] / f"{md5}.png").unlink()
    assert fetch(folder, out) == 1
    assert len(read_plan(out).topup) >= 2
    return folder, out


@pytest.fixture(scope="module")
def gone(before):
    """Posts that go: one that stands in for another, two that never had to."""
    plan = read_plan(before[1])
    unused = plan.reserve[~plan.reserve["post_id"].isin(plan.posts["post_id"])]
    return int(plan.topup["post_id"].iloc[0]), *map(int, unused["post_id"].iloc[:2])


@pytest.fixture(scope="module")
def booru(before, gone, tmp_path_factory):
    changes = {post_id: {"is_deleted": "t"} for post_id in gone}
    kept = int(read_plan(before[1]).topup["post_id"].iloc[1])
    changes[kept] = {"tag_string": "artist2 blue square"}
    return changed(before[0], tmp_path_factory.mktemp("after") / "booru", changes)


@pytest.fixture
def data(before, tmp_path):
    shutil.copytree(before[1], tmp_path / "data")
    return tmp_path / "data"


def in_shards(out):
    paths = (out / "shards").glob("*.tar")
    return {example.post_id: example for path in paths for example in shards.read_shard_index(path)}


def test_posts_that_stand_in_for_others_are_updated_and_removed_like_them(booru, gone, data):
    old = read_plan(data)
    assert fetch(booru, data, update=True) in (0, 1)
    plan, found = read_plan(data), in_shards(data)
    assert not found.keys() & set(gone)
    assert gone[0] in read_list(data).causes
    retagged = int(old.topup["post_id"].iloc[1])
    assert set(found[retagged].info["tags"]) == {"square", "blue"}
    assert plan.topup["post_id"].tolist()[: len(old.topup)] == old.topup["post_id"].tolist()
    assert not set(plan.reserve["post_id"]) & set(gone)
    ids = plan.posts["post_id"]
    assert ids.is_unique
    manifest = shards.open_dataset(data).manifest
    assert manifest["post_id"].tolist() == ids.tolist()


def test_what_is_updated_twice_is_the_same(booru, data):
    fetch(booru, data, update=True)
    names = ("plan.parquet", "reserve.parquet", "topup.parquet", "manifest.parquet")
    once = {name: (data / name).read_bytes() for name in names}
    fetch(booru, data, update=True)
    assert {name: (data / name).read_bytes() for name in names} == once


def test_groups_never_straddle_whatever_stands_in(booru, data):
    fetch(booru, data, update=True)
    plan = read_plan(data)
    whole = [plan.posts[["group", "split"]], plan.reserve[["group", "split"]]]
    for table in whole:
        assert (table.groupby("group")["split"].nunique() == 1).all()


def test_a_purge_takes_posts_out_that_stand_in_and_never_uses_others(before, booru, gone, data):
    assert set(gone) <= set(known_posts(read_plan(data))["post_id"])
    assert fetch(booru, data, purge=True) == 0
    assert set(gone) <= read_list(data).causes.keys()
    assert not in_shards(data).keys() & set(gone)
    fetch(before[0], data)
    assert not set(read_plan(data).topup["post_id"].iloc[1:]) & set(gone)
    assert not in_shards(data).keys() & set(gone)
