"""The plan as a whole: its columns, its splits, its honesty about what falls short."""

import time
from dataclasses import replace

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_posts import COLUMNS, tag_frame, tiny_posts

from e6tag.errors import ConfigError, DataError
from e6tag.plan_options import PlanOptions
from e6tag.planning import make_plan
from e6tag.posts import Posts
from e6tag.sampling import STRATEGIES
from e6tag.sites import open_site
from e6tag.sites.base import Collection
from e6tag.split_choices import in_proportion
from e6tag.splits import groups, split_of
from e6tag.tables import PLAN_SCHEMA
from e6tag.tags import Relations

SITE = open_site("e621")
OPTIONS = PlanOptions(num_tags=13, positives=6, val_positives=2)
TAGS = {f"t{i}": (0, 1000 - i) for i in range(12)} | {
    "base": (5, 5000),
    "me": (1, 50),
    "you": (1, 50),
    "young": (0, 900),
}


def booru(num_posts=400, seed=0):
    """Posts with a few tags each, chains of parents, one pool, some artists."""
    rng = np.random.default_rng(seed)
    rows = []
    for post_id in range(1, num_posts + 1):
        tags = [f"t{i}" for i in np.flatnonzero(rng.random(12) < 0.25)]
        parent = post_id - 1 if post_id % 7 == 0 else 0
        rows.append({"tags": " ".join([*tags, ("me", "you")[post_id % 2]]), "parent_id": parent})
    relations = Relations({"yourself": "you"}, {"t3": ["base"]})
    return Collection(tiny_posts(rows), tag_frame(TAGS), relations, (np.arange(10, 30),))


@pytest.fixture(scope="module")
def collection():
    return booru()


@pytest.mark.parametrize("least", [1, 2, 60, 75, 80])
def test_a_tag_is_in_the_vocabulary_when_enough_groups_show_it(collection, least):
    options = replace(OPTIONS, min_groups=least, num_tags=100)
    found = make_plan(collection, SITE, options).vocabulary.names
    group = groups(collection.posts, collection.pools)
    shown = {}
    for row in range(len(group)):
        for name in collection.relations.close(collection.posts.tags_of(row)):
            shown.setdefault(name, set()).add(group[row])
    expected = {name for name in shown if len(shown[name]) >= least} - {"me", "you"}
    assert 0 < len(expected) <= 13
    assert set(found) == expected


def test_too_many_groups_asked_for_is_an_error_that_names_the_option(collection):
    with pytest.raises(DataError, match="--min-groups"):
        make_plan(collection, SITE, replace(OPTIONS, min_groups=10**6))


@pytest.fixture(scope="module")
def plan(collection):
    return make_plan(collection, SITE, OPTIONS)


def test_the_table_has_the_columns_and_kinds_of_a_plan(plan, tmp_path):
    assert plan.table.columns.tolist() == PLAN_SCHEMA.names
    plan.table.to_parquet(tmp_path / "plan.parquet")
    read = pandas.read_parquet(tmp_path / "plan.parquet")
    kinds = {
        "post_id": "int64", "width": "int32", "height": "int32", "size_bytes": "int64",
        "parent_id": "int64", "group": "int64", "weight": "float64",
    }  # fmt: skip
    assert {name: str(read[name].dtype) for name in kinds} == kinds
    assert read["labels"].iloc[0].dtype == np.int32
    for name in ("md5", "ext", "rating", "split", "artists", "reason", "location"):
        assert all(isinstance(value, str) for value in read[name])
    assert read["post_id"].is_unique


def test_rows_say_what_the_posts_are(plan, collection):
    posts = collection.posts
    rows = np.searchsorted(posts.post_id, plan.table["post_id"])
    assert plan.table["md5"].tolist() == [md5.decode() for md5 in posts.md5[rows]]
    assert plan.table["width"].tolist() == posts.width[rows].tolist()
    for row, labels, artists in zip(rows, plan.table["labels"], plan.table["artists"], strict=True):
        tags = collection.relations.close(posts.tags_of(row))
        assert labels.tolist() == plan.vocabulary.columns(tags)
        assert artists.split() == sorted(tags & {"me", "you"})


def test_labels_are_closed_and_artists_are_not_in_the_vocabulary(plan):
    base, t3 = plan.vocabulary.column("base"), plan.vocabulary.column("t3")
    assert base is not None and t3 is not None
    assert all(base in row for row in plan.table["labels"] if t3 in row)
    assert not {"me", "you"} & set(plan.vocabulary.names)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_no_group_is_in_two_splits(collection, strategy):
    table = make_plan(collection, SITE, replace(OPTIONS, strategy=strategy)).table
    assert (table.groupby("group")["split"].nunique() == 1).all()
    group = groups(collection.posts, collection.pools)
    expected = dict(zip(collection.posts.post_id, split_of(group), strict=True))
    assert table["split"].tolist() == [expected[post_id] for post_id in table["post_id"]]
    assert set(table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_the_same_seed_gives_the_same_plan_and_another_seed_another(collection, strategy):
    options = replace(OPTIONS, strategy=strategy)
    one, same = (make_plan(collection, SITE, options).table for _ in range(2))
    pandas.testing.assert_frame_equal(one, same)
    other = make_plan(collection, SITE, replace(options, seed=1)).table
    assert one["post_id"].tolist() != other["post_id"].tolist()
    both = one.merge(other, on="post_id")
    assert (both["split_x"] == both["split_y"]).all()


@pytest.mark.parametrize("strategy", ["random", "cover", "quota"])
def test_tags_reach_their_number_or_are_reported(collection, strategy):
    options = replace(OPTIONS, strategy=strategy, positives=90, val_positives=8)
    plan = make_plan(collection, SITE, options)
    short = {(row.name, row.split): row for row in plan.shortfalls.itertuples(index=False)}
    everything = make_plan(collection, SITE, replace(options, strategy="all")).table
    for split, wanted in (("train", 90), ("val", 8), ("test", 8)):
        taken, there = (
            table.loc[table["split"] == split, "labels"].explode().value_counts().to_dict()
            for table in (plan.table, everything)
        )
        for column, name in enumerate(plan.vocabulary.names):
            reached, available = taken.get(column, 0), there.get(column, 0)
            assert reached >= min(wanted, available)
            assert ((name, split) in short) == (reached < wanted)
            if reached < wanted:
                row = short[name, split]
                assert (row.wanted, row.available, row.reached) == (wanted, available, reached)
    assert short


def test_reasons_are_tags_of_the_post_or_the_strategy(collection, plan):
    for labels, reason in zip(plan.table["labels"], plan.table["reason"], strict=True):
        assert plan.vocabulary.column(reason) in labels
    everything = make_plan(collection, SITE, replace(OPTIONS, strategy="all")).table
    assert set(everything["reason"]) == {"all"}
    assert set(everything["weight"]) == {1.0}


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("budget", [1, 10, 50, 10**6])
def test_a_budget_is_spent_exactly_and_shared(collection, strategy, budget):
    options = replace(OPTIONS, strategy=strategy)
    free = make_plan(collection, SITE, options).table
    table = make_plan(collection, SITE, replace(options, budget=budget)).table
    everything = make_plan(collection, SITE, replace(options, strategy="all")).table
    assert len(table) == min(budget, len(everything))
    there = everything["split"].value_counts()
    for split, share in (free["split"].value_counts() / len(free)).items():
        taken = (table["split"] == split).sum()
        assert abs(taken - share * len(table)) <= 1 or taken == there[split] or budget > len(free)


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4),
)
def test_parts_are_in_proportion_and_within_limits(total, pairs):
    shares, limits = zip(*pairs, strict=True)
    parts = in_proportion(total, shares, limits)
    assert sum(parts) == min(total, sum(limits))
    assert all(0 <= part <= limit for part, limit in zip(parts, limits, strict=True))
    exact = [total * share / max(sum(shares), 1) for share in shares]
    if sum(shares) and all(part < limit for part, limit in zip(exact, limits, strict=True)):
        assert all(abs(part - wish) < 1 for part, wish in zip(parts, exact, strict=True))


def test_rejected_posts_are_counted(collection):
    changed = replace(collection.posts, is_deleted=collection.posts.post_id % 2 == 0)
    plan = make_plan(replace(collection, posts=changed), SITE, OPTIONS)
    assert plan.rejected == {"deleted": 200}
    assert (plan.table["post_id"] % 2 == 1).all()


@pytest.mark.parametrize(("ratings", "is_in"), [("s", True), ("sq", False), ("q,e,s", False)])
def test_tags_of_minors_are_only_in_the_vocabulary_of_safe_posts(ratings, is_in):
    rows = [{"tags": "young youngish t1", "rating": r} for r in (b"s", b"q")] * 20
    rows = [row | {"id": i} for i, row in enumerate(rows, 1)]
    relations = Relations(implications={"youngish": ["young"]})
    frame = tag_frame(TAGS | {"youngish": (0, 5)})
    collection = Collection(tiny_posts(rows), frame, relations)
    options = replace(OPTIONS, ratings=ratings, strategy="all")
    plan = make_plan(collection, SITE, options)
    assert ({"young", "youngish"} <= set(plan.vocabulary.names)) is is_in
    assert is_in or not {"young", "youngish"} & set(plan.vocabulary.names)
    assert set(plan.table["rating"]) == {"s"}


@pytest.mark.parametrize(
    "change",
    [
        {"ratings": ""},
        {"ratings": "g"},
        {"categories": ("generel",)},
        {"categories": ()},
        {"num_tags": 0},
        {"positives": 0},
        {"budget": 0},
        {"max_aspect": 0.5},
        {"max_aspect": float("nan")},
        {"extra_random": -1},
        {"split": "author"},
    ],
)
def test_options_that_cannot_be_met_are_refused(collection, change):
    with pytest.raises(ConfigError, match="--" + next(iter(change)).replace("_", "-")):
        make_plan(collection, SITE, replace(OPTIONS, **change))


def test_when_nothing_qualifies_the_causes_are_named(collection):
    with pytest.raises(DataError, match="400 rating"):
        make_plan(collection, SITE, replace(OPTIONS, ratings="e"))
    with pytest.raises(DataError, match="no tag"):
        make_plan(collection, SITE, replace(OPTIONS, min_count=10**6))


def test_pictures_of_a_folder_keep_their_place(collection):
    located = replace(collection.posts, location=[f"/p/{i}.png" for i in collection.posts.post_id])
    table = make_plan(replace(collection, posts=located), SITE, OPTIONS).table
    assert table["location"].tolist() == [f"/p/{i}.png" for i in table["post_id"]]


def big_posts(num_posts, num_tags):
    """e621-like: tag frequencies fall as rank^-0.75, about a dozen tags a post."""
    rng = np.random.default_rng(0)
    share = np.minimum(0.6 * np.arange(1, num_tags + 1) ** -0.75, 0.9)
    owners = [rng.choice(num_posts, int(s * num_posts), replace=False) for s in share]
    tags = np.repeat(np.arange(num_tags), [len(rows) for rows in owners])
    posts = np.concatenate(owners)
    order = np.argsort(posts, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(posts, minlength=num_posts))])
    columns = {
        name: np.full(num_posts, default, kind)
        for name, (kind, default) in COLUMNS.items()
        if name != "md5"
    }
    columns["md5"] = np.char.mod("%032x", np.arange(num_posts)).astype("S32")
    names = [f"tag{i:04}" for i in range(num_tags)]
    return Posts(
        post_id=np.arange(1, num_posts + 1), tag_offsets=offsets.astype(np.int64),
        tag_indices=tags[order].astype(np.int32), tag_names=names, **columns,
    )  # fmt: skip


@pytest.mark.slow
def test_a_plan_for_400_000_posts_takes_seconds():
    posts = big_posts(400_000, 1024)
    frame = tag_frame({name: (0, 1) for name in posts.tag_names})
    start = time.monotonic()
    plan = make_plan(Collection(posts, frame, Relations()), SITE, PlanOptions())
    assert time.monotonic() - start < 30
    assert len(plan.vocabulary) == 1024
    assert set(plan.shortfalls["split"]) <= {"train", "val", "test"}
