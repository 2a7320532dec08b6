"""Rules on posts: each alone, and those that nothing lifts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_posts import tiny_posts

from e6tag.eligibility import MINOR_TAGS, REASONS, eligible, says_minor
from e6tag.tags import Relations

ALL = {"ratings": "sqe", "safe_ratings": "s"}

ONE_FAULT = {
    "deleted": {"is_deleted": True},
    "pending": {"is_pending": True},
    "flagged": {"is_flagged": True},
    "hidden": {"is_hidden": True},
    "minor": {"tags": "wolf cub", "rating": b"q"},
    "avoid_posting": {"tags": "avoid_posting"},
    "rating": {"rating": b"e", "tags": "wolf"},
    "blacklisted": {"tags": "wolf spider"},
    "extension": {"ext": "gif"},
    "animated": {"tags": "animated_png"},
    "comic": {"tags": "multiple_panels"},
    "too_small": {"height": 63},
    "too_long": {"width": 401, "height": 100},
    "bad_md5": {"md5": b"0" * 31},
    "duplicate": {"md5": b"f" * 32},
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_fault_alone_leaves_a_post_out(reason):
    posts = tiny_posts([{"tags": "wolf"}, {"md5": b"f" * 32}, ONE_FAULT[reason]])
    options = {"ratings": "sq", "safe_ratings": "s", "min_side": 64, "max_aspect": 4}
    options |= {"blacklist": ["spider"]}
    mask, counts = eligible(posts, Relations(), **options)
    assert mask.tolist() == [True, True, False]
    assert counts == {reason: 1}


def test_posts_at_the_limits_stay():
    posts = tiny_posts(
        [
            {"width": 64, "height": 256},
            {"ext": "webp", "tags": "animated_skeleton comical"},
            {"ext": "jpeg", "md5": b"ab" * 16},
        ]
    )
    mask, counts = eligible(posts, Relations(), **ALL, min_side=64, max_aspect=4)
    assert mask.all() and counts == {}


@given(st.lists(st.sampled_from([*ONE_FAULT.values(), {"tags": "wolf"}]), max_size=12))
def test_every_post_is_kept_or_counted_once(rows):
    posts = tiny_posts(rows)
    mask, counts = eligible(
        posts, Relations(), ratings="sq", safe_ratings="s", min_side=64, max_aspect=4,
        blacklist=["spider"],
    )  # fmt: skip
    assert mask.sum() + sum(counts.values()) == len(rows)
    assert len(set(posts.md5[mask].tolist())) == mask.sum()


RELATIONS = Relations(
    aliases={"kit": "cub", "loli": "petite"},
    implications={"wolf_pup": ["pup"], "pup": ["young_canine"], "kitten_(x)": ["kit"]},
)


@pytest.mark.parametrize(
    "tag",
    [*sorted(MINOR_TAGS), "young_anthro", "young_(lore)", "Cub", "kit", "loli", "wolf_pup",
     "pup", "kitten_(x)", "loli_(artist)"],
)  # fmt: skip
@pytest.mark.parametrize("rating", [b"q", b"e"])
def test_no_option_lets_minors_in_unless_safe(tag, rating):
    rows = [{"tags": f"wolf {tag} zebra", "rating": r} for r in (rating, b"s")]
    mask, counts = eligible(tiny_posts(rows), RELATIONS, ratings="gsqe", safe_ratings="s")
    assert mask.tolist() == [False, True]
    assert counts == {"minor": 1}


def test_on_danbooru_only_general_is_safe():
    posts = tiny_posts([{"tags": "loli", "rating": r} for r in (b"g", b"s", b"q", b"e")])
    mask, _ = eligible(posts, Relations(), ratings="gsqe", safe_ratings="g")
    assert mask.tolist() == [True, False, False, False]


@pytest.mark.parametrize("tag", ["wolf", "bunny", "cube", "mature", "cubone", "adult", "minotaur"])
def test_other_tags_do_not_say_minor(tag):
    assert not says_minor(tag)


@pytest.mark.parametrize("tag", ["conditional_dnp", "dnp", "sketch_by_x"])
def test_artists_who_ask_are_left_out_by_alias_and_implication_too(tag):
    relations = Relations({"dnp": "avoid_posting"}, {"sketch_by_x": ["conditional_dnp"]})
    mask, counts = eligible(tiny_posts([{"tags": f"{tag} wolf"}]), relations, **ALL)
    assert not mask.any() and counts == {"avoid_posting": 1}


def test_the_first_of_equal_pictures_that_qualifies_is_kept():
    same = {"md5": b"a" * 32}
    rows = [same | {"is_deleted": True}, same, same, {}]
    mask, _ = eligible(tiny_posts(rows), Relations(), **ALL)
    assert mask.tolist() == [False, True, False, True]


@given(st.sets(st.sampled_from("sqe")))
def test_ratings_are_those_asked_for(ratings):
    rows = [{"rating": r.encode()} for r, _ in itertools.product("sqe", range(2))]
    posts = tiny_posts(rows)
    mask, _ = eligible(posts, Relations(), ratings=ratings, safe_ratings="s")
    assert np.array_equal(mask, [r.decode() in ratings for r in posts.rating.tolist()])
