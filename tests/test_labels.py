"""Labels and vocabulary against plain sets and dicts."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_posts import tag_frame, tiny_posts

from e6tag.errors import DataError
from e6tag.labels import (
    build_vocabulary,
    excluded_names,
    labels_of,
    listed_vocabulary,
    names_of,
)
from e6tag.posts import csr_rows
from e6tag.tags import Relations, Tag, Vocabulary

NAMES = [f"t{i}" for i in range(8)]
POSTS = st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=10)
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=8)


def relations_of(aliases, implications):
    return Relations(dict(aliases), {start: [stop] for start, stop in implications})


@given(POSTS, PAIRS, PAIRS, st.integers(1, 8), st.integers(1, 3))
def test_the_vocabulary_is_the_most_frequent_closed_tags(sets, aliases, implied, size, least):
    relations = relations_of(aliases, implied)
    counts = Counter(name for names in sets for name in relations.close(names))
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    expected = [name for name in ranked if counts[name] >= least][:size]
    posts = tiny_posts([{"tags": " ".join(names)} for names in sets])
    frame = tag_frame({name: (0, 0) for name in NAMES})
    if not expected:
        with pytest.raises(DataError, match="no tag"):
            build_vocabulary(posts, frame, relations, num_tags=size, min_count=least)
        return
    found = build_vocabulary(posts, frame, relations, num_tags=size, min_count=least)
    assert found.names == expected
    assert [tag.count for tag in found.tags] == [counts[name] for name in expected]


@given(POSTS, PAIRS, PAIRS, st.lists(st.sampled_from(NAMES), unique=True, max_size=8))
def test_labels_are_the_closed_tags_that_the_vocabulary_has(sets, aliases, implied, names):
    relations = relations_of(aliases, implied)
    vocabulary = Vocabulary([Tag(i, name, 0, 1) for i, name in enumerate(names)])
    posts = tiny_posts([{"tags": " ".join(found)} for found in sets])
    labels = [row.tolist() for row in csr_rows(*labels_of(posts, vocabulary, relations))]
    assert labels == [vocabulary.columns(relations.close(found)) for found in sets]


def test_labels_do_not_depend_on_the_size_of_chunks(monkeypatch):
    posts = tiny_posts([{"tags": f"t{i % 3} t{i % 5}"} for i in range(20)] + [{"tags": ""}])
    vocabulary = Vocabulary([Tag(i, name, 0, 1) for i, name in enumerate(NAMES)])
    relations = Relations(implications={"t4": ["t0", "t1"]})
    whole = [array.tolist() for array in labels_of(posts, vocabulary, relations)]
    monkeypatch.setattr("e6tag.labels.CHUNK_POSTS", 3)
    assert [array.tolist() for array in labels_of(posts, vocabulary, relations)] == whole


def test_only_wanted_categories_known_names_and_unbarred_tags_are_chosen():
    posts = tiny_posts([{"tags": "wolf artist hidden barred unknown_to_the_site :3"}] * 2)
    frame = tag_frame(
        {"wolf": (5, 10), "artist": (1, 9), "hidden": (9, 8), "barred": (0, 9), ":3": (0, 0)}
    )
    vocabulary = build_vocabulary(
        posts, frame, Relations(), num_tags=9, categories={0, 5}, is_barred="barred".__eq__
    )
    # The site's own count, or ours where the site has none.
    assert vocabulary.tags == [Tag(5, ":3", 0, 2), Tag(1, "wolf", 5, 10)]


def test_more_tags_wanted_than_there_are_gives_all():
    vocabulary = build_vocabulary(
        tiny_posts([{"tags": "a b"}]), tag_frame({"a": (0, 1), "b": (0, 1)}), Relations(),
        num_tags=1000,
    )  # fmt: skip
    assert vocabulary.names == ["a", "b"]


def test_names_are_those_wanted_after_aliases():
    posts = tiny_posts([{"tags": "me wolf myself"}, {"tags": "wolf"}, {"tags": "you me"}])
    relations = Relations(aliases={"myself": "me"})
    assert names_of(posts, relations, {"me", "you"}) == ["me", "", "me you"]


# A given list


@given(POSTS, PAIRS, st.lists(st.sampled_from([*NAMES, "unknown"]), min_size=1), st.integers(0, 2))
def test_a_list_gives_its_own_order_after_aliases(sets, aliases, listed, least):
    relations = relations_of(aliases, [])
    counts = Counter(name for names in sets for name in relations.close(names))
    resolved = dict.fromkeys(map(relations.resolve, listed))
    expected = [name for name in resolved if name in NAMES and counts[name] >= least]
    posts = tiny_posts([{"tags": " ".join(names)} for names in sets])
    frame = tag_frame({name: (number, 0) for number, name in enumerate(NAMES)})
    if not expected:
        with pytest.raises(DataError, match="none of the"):
            listed_vocabulary(listed, posts, frame, relations, min_count=least)
        return
    found = listed_vocabulary(listed, posts, frame, relations, min_count=least)
    assert found.names == expected
    assert [tag.count for tag in found.tags] == [counts[name] for name in expected]
    assert [tag.category for tag in found.tags] == [NAMES.index(name) for name in expected]


def test_what_a_list_cannot_give_is_said_in_one_line(caplog):
    caplog.set_level("INFO", "e6tag")
    posts = tiny_posts([{"tags": "wolf bear fox"}])
    frame = tag_frame({"wolf": (5, 9), "bear": (5, 9), "fox": (5, 9), "rare": (0, 0)})
    listed = ["lupus", "wolf", "# comment", "WOLF", "rare", "bear", "a b", "x", "y", "z", "fox"]
    vocabulary = listed_vocabulary(
        listed, posts, frame, Relations({"lupus": "wolf"}), is_barred="bear".__eq__
    )
    assert vocabulary.names == ["wolf", "fox"]
    assert [record.getMessage() for record in caplog.records] == [
        "--tag-list: 2 of 11 names taken; 1 named before (wolf); 6 unknown (# comment, WOLF, a b, "
        "x, y, ...); 1 on fewer than 1 posts (rare); 1 not allowed (bear)."
    ]


def test_excluded_names_are_exact_and_mean_what_they_are_aliases_of(caplog):
    caplog.set_level("INFO", "e6tag")
    frame = tag_frame({"wolf": (5, 9), "wolf_ears": (0, 9)})
    relations = Relations({"wolves": "wolf"})
    assert excluded_names(["wolves"], frame, relations) == {"wolves", "wolf"}
    assert not caplog.records
    assert "Wolf" in excluded_names(["Wolf"], frame, relations)
    assert "1 unknown (Wolf)" in caplog.text


ALIKE = ["café", "cafe\u0301", "ab", "a\u200bb", "\u202eab", "Wolf", "wolf", "%41", "A",
         "&amp;", "&", ":3", '"', "'", "/", "..", "x" * 100, "x" * 99]  # fmt: skip


def test_names_that_only_look_alike_are_different_tags():
    posts = tiny_posts([{"tags": name} for name in ALIKE])
    frame = tag_frame({name: (0, 1) for name in ALIKE})
    vocabulary = listed_vocabulary(ALIKE, posts, frame, Relations())
    assert vocabulary.names == ALIKE
    labels = [row.tolist() for row in csr_rows(*labels_of(posts, vocabulary, Relations()))]
    assert labels == [[column] for column in range(len(ALIKE))]


def test_a_hundred_thousand_tags_are_no_trouble():
    size, rng = 100_000, np.random.default_rng(0)
    names = [f"tag_{number}" for number in range(size + 10_000)]
    rows = [rng.choice(len(names), 30, replace=False) for _ in range(4000)]
    posts = replace(
        tiny_posts([{}] * 4000),
        tag_offsets=np.arange(0, 120_001, 30),
        tag_indices=np.concatenate(rows).astype(np.int32),
        tag_names=names,
    )
    frame = tag_frame({name: (0, len(names) - number) for number, name in enumerate(names)})
    relations = Relations(
        {"tag_1": "tag_2"}, {f"tag_{i}": [f"tag_{i // 2}"] for i in range(2, 5000)}
    )
    start = time.process_time()
    vocabulary = build_vocabulary(posts, frame, relations, num_tags=size)
    listed = listed_vocabulary(names[:size], posts, frame, relations, min_count=0)
    offsets, columns = labels_of(posts, listed, relations)
    seconds = time.process_time() - start
    assert len(listed) == size - 1 and len(vocabulary) > size / 2
    for row, found in list(enumerate(csr_rows(offsets, columns)))[::100]:
        assert found.tolist() == listed.columns(relations.close(posts.tags_of(row)))
    assert seconds < 20
