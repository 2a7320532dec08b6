"""Every kind of split keeps groups whole and does what its name says; so does the blacklist."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planning import OPTIONS, SITE, booru
from tiny_posts import tag_frame, tiny_posts

from e6tag import splits, stratify
from e6tag.config import DownloadConfig
from e6tag.eligibility import is_blacklisted
from e6tag.errors import ConfigError
from e6tag.planning import make_plan
from e6tag.sampling import STRATEGIES, Labels, choose, lower_bound
from e6tag.sites.base import Collection
from e6tag.split_choices import add_random
from e6tag.tags import Relations

KINDS = ["hash", "time", "artist", "stratified"]


def dated(collection):
    """The collection with dates in an order that is not that of the ids."""
    days = np.random.default_rng(5).permutation(len(collection.posts))
    dates = np.datetime64("2020-01-01T00:00:00") + days.astype("timedelta64[D]")
    return replace(collection, posts=replace(collection.posts, created_at=dates))


@pytest.fixture(scope="module")
def collection():
    return dated(booru(600))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_group_is_in_two_splits_and_every_split_has_posts(collection, kind, strategy):
    plan = make_plan(collection, SITE, replace(OPTIONS, split=kind, strategy=strategy))
    assert (plan.table.groupby("group")["split"].nunique() == 1).all()
    if kind != "artist":
        assert set(plan.table["split"]) == set(splits.SPLITS)


def test_by_time_no_group_of_a_later_split_is_older(collection):
    plan = make_plan(collection, SITE, replace(OPTIONS, split="time", strategy="all"))
    dates = dict(
        zip(collection.posts.post_id.tolist(), collection.posts.created_at.tolist(), strict=True)
    )
    plan.table["date"] = plan.table["post_id"].map(dates)
    newest = plan.table.groupby(["split", "group"])["date"].max()
    assert newest["train"].max() < newest["val"].min()
    assert newest["val"].max() < newest["test"].min()
    num_groups = plan.table.groupby("split")["group"].nunique()
    assert num_groups["test"] == pytest.approx(num_groups.sum() / 10, abs=1)


def test_by_time_needs_dates(collection):
    undated = np.full(len(collection.posts), np.datetime64("NaT", "s"))
    without = replace(collection, posts=replace(collection.posts, created_at=undated))
    with pytest.raises(ConfigError, match="--split time: none of the posts has a date"):
        make_plan(without, SITE, replace(OPTIONS, split="time"))


def artists_booru(num_artists=40, num_posts=600):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num_posts):
        drawn_by = [
            f"artist{n}" for n in set(rng.integers(0, num_artists, 1 + number % 2).tolist())
        ]
        tags = [f"t{i}" for i in np.flatnonzero(rng.random(12) < 0.3)]
        rows.append({"tags": " ".join([*tags, *drawn_by, "unknown_artist"])})
    tags = {f"t{i}": (0, 100) for i in range(12)} | {"unknown_artist": (1, 600)}
    tags |= {f"artist{n}": (1, 10) for n in range(num_artists)}
    return Collection(tiny_posts(rows), tag_frame(tags), Relations({}, {}), ())


def test_by_artist_nobody_is_in_two_splits_and_those_between_are_left_out_and_counted():
    collection = artists_booru()
    plan = make_plan(collection, SITE, replace(OPTIONS, split="artist", strategy="all"))
    seen = {}
    for row in plan.table.to_dict("records"):
        for artist in set(row["artists"].split()) - {"unknown_artist"}:
            seen.setdefault(artist, set()).add(row["split"])
    assert all(len(found) == 1 for found in seen.values())
    assert set().union(*seen.values()) == set(splits.SPLITS)
    assert plan.rejected["artists_apart"] == len(collection.posts) - len(plan.table) > 0


def labels_of(rows, num_tags):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    columns = np.array([c for row in rows for c in row], np.int32)
    return Labels.of(offsets, columns, num_tags)


def rare_world(seed, num=2000, num_tags=60):
    rng = np.random.default_rng(seed)
    shares = 0.4 / np.arange(1, num_tags + 1)
    rows = [np.flatnonzero(rng.random(num_tags) < shares).tolist() for _ in range(num)]
    return labels_of(rows, num_tags), np.repeat(np.arange(num // 2), 2)


def deviation(labels, split):
    """Mean relative distance of each tag's share in val from a tenth, over all tags."""
    in_val = labels.count(np.flatnonzero(split == "val"))
    return np.abs(in_val / np.maximum(labels.available, 1) - 0.1).mean() / 0.1


@pytest.mark.parametrize("seed", range(3))
def test_stratified_shares_are_nearer_to_what_is_wanted_than_a_hash(seed):
    labels, group = rare_world(seed)
    split = stratify.stratified_split(group, labels)
    assert deviation(labels, split) < 0.5 * deviation(labels, splits.split_of(group))
    sizes = [np.mean(split == name) for name in splits.SPLITS]
    assert sizes == pytest.approx(splits.SHARES, abs=0.01)
    assert np.array_equal(split, stratify.stratified_split(group, labels))
    assert all(len(set(split[group == g])) == 1 for g in range(50))


EXACT = (0.5, 0.25, 0.25)
"""shares without rounding errors, so that ties are ties"""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 4)).map(sorted), min_size=1, max_size=25))
def test_stratification_is_the_papers_algorithm(rows):
    labels = labels_of(rows, 5)
    counts = np.ones(len(labels.columns), np.int64)
    sums = stratify.GroupSums(labels, counts, np.ones(len(rows), np.int64))
    left = {tag: {i for i, row in enumerate(rows) if tag in row} for tag in range(5)}
    want = {tag: [share * len(left[tag]) for share in EXACT] for tag in left}
    room = [share * len(rows) for share in EXACT]
    expected = [-1] * len(rows)

    def place(post, part):
        expected[post] = part
        room[part] -= 1
        for tag in rows[post]:
            want[tag][part] -= 1
            left[tag].discard(post)

    while any(left.values()):
        tag = min((t for t in left if left[t]), key=lambda t: (len(left[t]), t))
        for post in sorted(left[tag]):
            place(post, max(range(3), key=lambda part: (want[tag][part], room[part], -part)))
    for post in [number for number, part in enumerate(expected) if part < 0]:
        place(post, max(range(3), key=lambda part: (room[part], -part)))
    assert stratify.stratify(sums, EXACT).tolist() == expected


def test_further_posts_are_random_weighted_and_on_top(collection):
    plain = make_plan(collection, SITE, replace(OPTIONS, strategy="cover"))
    more = make_plan(collection, SITE, replace(OPTIONS, strategy="cover", extra_random=60))
    added = more.table[more.table["reason"] == "random"]
    assert (added["split"] == "train").sum() == 60
    assert set(plain.table["post_id"]) < set(more.table["post_id"])
    assert set(more.table["post_id"]) - set(plain.table["post_id"]) == set(added["post_id"])
    held = (added["split"] == "val").sum()
    assert 0 < held < 60
    # Each of those left had the same chance; the inverse of it is the weight.
    train = more.table[more.table["split"] == "train"]
    num_left = len(
        make_plan(collection, SITE, replace(OPTIONS, strategy="all")).table.query(
            "split == 'train'"
        )
    ) - (len(train) - 60)
    weights = added.loc[added["split"] == "train", "weight"].to_numpy()
    assert weights == pytest.approx(num_left / 60)


def test_weighted_counts_with_random_posts_are_right_on_average():
    collection = booru(500)
    every = make_plan(collection, SITE, replace(OPTIONS, strategy="all")).table
    truth = np.zeros(13)
    for row in every[every["split"] == "train"].itertuples():
        truth[list(row.labels)] += 1
    found = np.zeros(13)
    for seed in range(30):
        options = replace(OPTIONS, strategy="cover", extra_random=80, seed=seed)
        table = make_plan(collection, SITE, options).table
        for row in table[table["split"] == "train"].itertuples():
            found[list(row.labels)] += row.weight / 30
    assert found == pytest.approx(truth, rel=0.1)


@given(
    rows=st.lists(st.sets(st.integers(0, 3)).map(sorted), min_size=1, max_size=20),
    wanted=st.integers(0, 4),
    budget=st.none() | st.integers(0, 9),
    seed=st.integers(0, 3),
)
def test_chances_of_all_posts_are_the_inverse_of_the_weights_of_those_chosen(
    rows, wanted, budget, seed
):
    labels = labels_of(rows, 4)
    for strategy in ("random", "all"):
        choice = choose(strategy, labels, wanted, np.random.default_rng(seed), budget)
        assert ((choice.chances >= 0) & (choice.chances <= 1)).all()
        assert choice.weights * choice.chances[choice.rows] == pytest.approx(1)


def test_random_posts_mend_the_counts_that_the_random_strategy_gets_wrong():
    """Posts that have only tags which rarer ones had filled stood no chance before."""
    table = np.random.default_rng(3).random((2000, 12)) < np.linspace(0.03, 0.3, 12)
    labels = labels_of([np.flatnonzero(row).tolist() for row in table], 12)
    counts = {0: np.zeros(13), 200: np.zeros(13)}
    for seed in range(60):
        for num_extra in counts:
            rng = np.random.default_rng(seed)
            choice = add_random(labels, choose("random", labels, 40, rng), num_extra, rng)
            weighted = table[choice.rows].T @ choice.weights
            counts[num_extra] += np.append(weighted, choice.weights.sum()) / 60
    truth = np.append(labels.available, 2000)
    without, mended = counts[0] / truth, counts[200] / truth
    assert without.min() < 0.9
    assert mended == pytest.approx(np.ones(13), abs=0.08)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("budget", "num_extra"), [(60, 0), (60, 10), (60, 60), (None, 10**6)])
def test_a_budget_is_what_all_of_a_plan_comes_to(collection, strategy, budget, num_extra):
    options = replace(OPTIONS, strategy=strategy, budget=budget, extra_random=num_extra)
    table = make_plan(collection, SITE, options).table
    assert table["post_id"].is_unique
    assert len(table) <= (budget or len(collection.posts))
    num_random = (table["reason"] == "random").sum()
    if budget is None:
        assert len(table) == len(collection.posts)
    else:
        assert min(num_extra, 45) <= num_random <= min(num_extra * 1.3, budget)


def test_more_random_posts_than_the_budget_are_refused(collection):
    options = replace(OPTIONS, budget=60, extra_random=61)
    with pytest.raises(ConfigError, match="--extra-random 61 is more than --budget 60"):
        make_plan(collection, SITE, options)


BLACKLISTED = [
    ("gore", "gore wolf", "s", True),
    ("gore", "wolf", "s", False),
    ("gore", "blood_and_gore", "s", True),
    ("gore", "gores", "s", True),
    ("young -rating:s", "young", "s", False),
    ("young -rating:s", "young", "e", True),
    ("wolf fox", "wolf", "s", False),
    ("wolf fox", "wolf fox", "s", True),
    ("wolf -fox", "wolf fox", "s", False),
    ("rating:q,e", "wolf", "q", True),
    ("", "wolf", "s", False),
]


@pytest.mark.parametrize(("entry", "tags", "rating", "hidden"), BLACKLISTED)
def test_an_entry_hides_what_it_says(entry, tags, rating, hidden):
    relations = Relations({"gores": "gore"}, {"blood_and_gore": ["gore"]})
    posts = tiny_posts([{"tags": tags, "rating": rating}])
    assert is_blacklisted(posts, relations, [entry]).tolist() == [hidden]


def test_what_the_site_hides_by_default_is_left_out_unless_asked_for():
    rows = [{"tags": "t0 gore" if number % 4 == 0 else "t0 t1"} for number in range(80)]
    tags = {"t0": (0, 80), "t1": (0, 60), "gore": (0, 20)}
    collection = Collection(tiny_posts(rows), tag_frame(tags), Relations({}, {}), ())
    options = replace(OPTIONS, strategy="all", num_tags=3)
    assert make_plan(collection, SITE, options).rejected == {"blacklisted": 20}
    shown = make_plan(collection, SITE, replace(options, blacklist=False))
    assert len(shown.table) == 80
    assert DownloadConfig().blacklist


@given(
    rows=st.lists(st.sets(st.integers(0, 3), min_size=1).map(sorted), min_size=1, max_size=9),
    wanted=st.integers(0, 4),
)
def test_no_choice_that_meets_the_demands_is_smaller_than_the_bound(rows, wanted):
    labels = labels_of(rows, 4)
    demands = np.minimum(labels.available, wanted)
    sizes = [
        bin(chosen).count("1")
        for chosen in range(1 << len(rows))
        if (
            labels.count(np.flatnonzero([chosen >> i & 1 for i in range(len(rows))])) >= demands
        ).all()
    ]
    assert lower_bound(labels, wanted) <= min(sizes)
