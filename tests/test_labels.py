"""Labels and vocabulary against plain sets and dicts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_posts import tag_frame, tiny_posts

from e6tag.errors import DataError
from e6tag.labels import build_vocabulary, labels_of, names_of
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
