"""What no option can lift, and what every plan keeps: whole groups, the same bytes anywhere."""

import hashlib
import itertools
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planning import OPTIONS, SITE
from tiny_posts import md5_of, tag_frame, tiny_posts

from e6tag.eligibility import MINOR_TAGS, says_minor
from e6tag.errors import DataError
from e6tag.plan_options import PlanOptions
from e6tag.planning import is_barred, make_plan, without_barred
from e6tag.sampling import STRATEGIES
from e6tag.sites.base import Collection
from e6tag.splits import NOT_ARTISTS, SPLITS, split_number_of_name
from e6tag.tags import Relations, Tag, Vocabulary

KINDS = ["hash", "time", "artist", "stratified"]
EVERY_CATEGORY = tuple(SITE.categories.values())

# The rules that nothing lifts

RELATIONS = Relations({"kit": "cub", "mine": "avoid_posting"}, {"pup": ["young"]})
FORBIDDEN = [
    *({"tags": f"wolf fox {tag}", "rating": rating}
      for tag in (*sorted(MINOR_TAGS), "young_fox", "kit", "pup") for rating in (b"q", b"e")),
    *({"tags": f"wolf fox {tag}", "rating": rating}
      for tag in ("conditional_dnp", "avoid_posting", "mine") for rating in (b"s", b"e")),
    *({"tags": "wolf fox", "rating": rating, fault: True}
      for fault in ("is_deleted", "is_pending", "is_flagged") for rating in (b"s", b"e")),
]  # fmt: skip


@pytest.fixture(scope="module")
def mixed():
    """Posts that may be learnt from, safe ones of the young among them, and forbidden ones."""
    rng = np.random.default_rng(0)
    allowed = [
        {"tags": " ".join(["wolf", *(["fox"] * (i % 2)), *(["cub kit pup"] * (r == b"s"))]),
         "rating": r}
        for i in range(60) for r in (b"s", b"q", b"e")
    ]  # fmt: skip
    rows = [allowed[i] if i < len(allowed) else FORBIDDEN[i - len(allowed)]
            for i in rng.permutation(len(allowed) + len(FORBIDDEN))]  # fmt: skip
    start = np.datetime64("2020-01-01T00:00:00")
    rows = [row | {"created_at": start + i} for i, row in enumerate(rows)]
    posts = tiny_posts(rows)
    tags = {name: (i % 9, 10**6) for i, name in enumerate(posts.tag_names)}
    frame = tag_frame(tags | {"young": (0, 10**6), "wolf": (0, 9), "fox": (5, 9)})
    forbidden = {i for i, row in enumerate(rows, 1)
                 if {key: row[key] for key in row if key != "created_at"} in FORBIDDEN}  # fmt: skip
    return Collection(posts, frame, RELATIONS), forbidden


ATTEMPTS = [
    {"ratings": ["s", "q", "e", "sqe"]},
    {"strategy": list(STRATEGIES), "split": KINDS, "ratings": ["s", "sqe"]},
    {"blacklist": [True, False], "categories": [EVERY_CATEGORY, ("general",)]},
    {"budget": [None, 5, 10**6], "extra_random": [0, 3, 5], "strategy": list(STRATEGIES)},
    {"extra_random": [10**6], "strategy": list(STRATEGIES)},
    {"num_tags": [1, 10**5], "min_count": [1, 30], "min_groups": [1, 3]},
    {"positives": [1, 10**6], "val_positives": [0, 10**6]},
    {"tag_list": [None, ("wolf", "cub", "kit"), ("young_fox", "wolf")],
     "exclude_tags": [(), ("fox",)], "ratings": ["s", "sqe"]},
    {"spare": [0, 1], "budget": [None, 20], "strategy": list(STRATEGIES)},
    {"min_side": [1, 100], "max_aspect": [1.5, 1e9], "seed": [0, 7]},
]  # fmt: skip


def test_every_option_that_shapes_a_plan_is_tried():
    tried = {name for attempt in ATTEMPTS for name in attempt}
    assert tried == {field.name for field in fields(PlanOptions)}


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: "-".join(attempt))
def test_no_option_lets_in_what_is_forbidden(mixed, attempt):
    collection, forbidden = mixed
    assert len(forbidden) == len(FORBIDDEN)
    widest = PlanOptions(
        ratings="sqe", categories=EVERY_CATEGORY, strategy="all", blacklist=False, min_side=1
    )
    for values in itertools.product(*attempt.values()):
        options = replace(widest, **dict(zip(attempt, values, strict=True)))
        plan = make_plan(collection, SITE, options)
        taken = {*plan.table["post_id"], *plan.reserve["post_id"]}
        assert len(plan.table) and not forbidden & taken
        if options.ratings != "s":
            assert not [name for name in plan.vocabulary.names
                        if says_minor(name) or name in ("kit", "pup")]  # fmt: skip


def test_a_safe_set_may_name_the_young(mixed):
    options = PlanOptions(categories=EVERY_CATEGORY, strategy="all")
    assert {"cub", "young", "pup"} <= set(make_plan(mixed[0], SITE, options).vocabulary.names)


@given(st.lists(st.sampled_from(["wolf", "cub", "kit", "pup", "young_fox", "Cub"]), unique=True))
def test_barred_tags_leave_a_vocabulary_however_they_got_there(names):
    vocabulary = Vocabulary([Tag(i, name, 0, 1) for i, name in enumerate(["fox", *names])])
    for ratings in ("s", "q", "sqe"):
        options = replace(OPTIONS, ratings=ratings)
        kept = without_barred(vocabulary, RELATIONS, SITE, options).names
        expected = {"fox", "wolf"} if ratings != "s" else {"fox", *names}
        assert set(kept) == expected & {"fox", *names}
        assert [is_barred(name, RELATIONS, SITE, options) for name in kept] == [False] * len(kept)


# Groups

ROW = st.fixed_dictionaries(
    {
        "parent_id": st.just(0) | st.integers(1, 30),
        "md5": st.integers(0, 40).map(md5_of),
        "created_at": st.integers(0, 50).map(
            lambda day: np.datetime64("2020-01-01T00:00:00") + np.timedelta64(day, "D")
        ),
        "tags": st.tuples(
            st.sampled_from(["", "ann", "bob", "cid", "ann bob", "annie", "unknown_artist"]),
            st.sets(st.sampled_from(["t0", "t1", "t2"])).map(lambda tags: " ".join(sorted(tags))),
        ).map(lambda parts: f"t3 {' '.join(parts)}"),
    }
)
POOLS = st.lists(st.lists(st.integers(1, 30), min_size=2, max_size=4, unique=True), max_size=2)
FRAME = tag_frame(
    {f"t{i}": (0, 9) for i in range(4)}
    | dict.fromkeys(("ann", "bob", "cid", "unknown_artist"), (1, 9))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30), POOLS, st.sampled_from(KINDS))
def test_what_belongs_together_never_straddles(rows, pools, kind):
    relations = Relations({"annie": "ann"})
    collection = Collection(tiny_posts(rows), FRAME, relations, [np.array(pool) for pool in pools])
    try:
        plan = make_plan(collection, SITE, replace(OPTIONS, split=kind, strategy="all"))
    except DataError as problem:
        # Where the artists of every group are apart, nothing is left.
        assert "artists_apart" in str(problem)
        return
    split = dict(zip(plan.table["post_id"], plan.table["split"], strict=True))
    ties = [[i, row["parent_id"]] for i, row in enumerate(rows, 1)]
    ties += [[i for i, row in enumerate(rows, 1) if row["parent_id"] == n] for n in range(1, 31)]
    ties += pools
    ties += [[i for i, row in enumerate(rows, 1) if row["md5"] == md5_of(n)] for n in range(41)]
    if kind == "artist":
        ties += [[i for i, row in enumerate(rows, 1) if set(row["tags"].split()) & names]
                 for names in ({"ann", "annie"}, {"bob"}, {"cid"})]  # fmt: skip
    for tie in ties:
        assert len({split[i] for i in tie if i in split}) <= 1


def test_the_split_of_an_artist_is_a_hash_of_the_name():
    for name in ("ann", "bob", "café"):
        share = int(hashlib.blake2b(name.encode(), digest_size=8).hexdigest(), 16) / 2**64
        assert SPLITS[split_number_of_name(name)] == (
            "train" if share < 0.8 else "val" if share < 0.9 else "test"
        )
    numbers = [split_number_of_name(f"artist{i}") for i in range(4000)]
    shares = np.bincount(numbers) / 4000
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=4 * np.sqrt(0.16 / 4000))


def test_tags_that_name_nobody_tie_nothing_together():
    rows = [{"tags": "t3 unknown_artist"}] * 200
    collection = Collection(tiny_posts(rows), FRAME, Relations())
    by_artist, by_hash = (
        make_plan(collection, SITE, replace(OPTIONS, split=kind, strategy="all")).table
        for kind in ("artist", "hash")
    )
    assert by_artist["split"].tolist() == by_hash["split"].tolist()
    assert set(by_artist["split"]) == set(SPLITS)
    assert {"unknown_artist", "anonymous_artist", "third-party_edit"} <= NOT_ARTISTS


# Determinism

MAKE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_planning import booru
from test_split_kinds import dated
from e6tag.config import DownloadConfig
from e6tag.plans import plan_options, write_plan
from e6tag.planning import make_plan
from e6tag.sites import open_site
site, collection = open_site("e621"), dated(booru(500))
for split in ("hash", "time", "artist", "stratified"):
    for strategy in ("random", "cover", "quota", "all"):
        config = DownloadConfig(
            out=Path(split, strategy), ratings="s", split=split, strategy=strategy, positives=20,
            val_positives=3, extra_random=15, budget=150 if split == "time" else None,
        )
        plan = make_plan(collection, site, plan_options(config))
        write_plan(config, site, collection, plan, {{}})
"""


def test_a_plan_has_the_same_bytes_in_every_process(tmp_path):
    made = []
    for seed in ("1", "77"):
        folder = tmp_path / seed
        folder.mkdir()
        command = ["-c", MAKE.format(tests=str(ROOT / "tests"))]
        done = run_command(command, folder, environment={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr.decode()
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        made.append({str(path): (folder / path).read_bytes() for path in files})
    assert made[0] == made[1]
    assert any(path.endswith("reserve.parquet") for path in made[0])
    plans = {content for path, content in made[0].items() if path.endswith("plan.parquet")}
    assert len(plans) == len(KINDS) * len(STRATEGIES)
    info = json.loads(made[0]["hash/cover/dataset.json"])
    assert info["options"]["split"] == "hash" and info["options"]["extra_random"] == 15
