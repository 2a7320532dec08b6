"""The vocabulary's file, and aliases and implications against a reachability oracle."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import floyd_warshall

from e6tag.errors import DataError, RunError
from e6tag.tags import Relations, Tag, Vocabulary

AWKWARD = [":3", "<3", "...", "^_^", "a,b", '"', "'s_name", "café", "cafe\u0301", "-x", "rating:s"]


def test_a_vocabulary_is_read_as_it_was_written(tmp_path):
    vocabulary = Vocabulary([Tag(i, name, i % 9, 7 * i) for i, name in enumerate(AWKWARD)])
    vocabulary.write(tmp_path / "tags.csv")
    assert Vocabulary.read(tmp_path / "tags.csv") == vocabulary
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == AWKWARD


def test_columns_are_positions_sorted_and_once_each():
    vocabulary = Vocabulary([Tag(1, "b", 0, 1), Tag(2, "a", 0, 1)])
    assert vocabulary.names == ["b", "a"]
    assert (vocabulary.column("a"), vocabulary.column("z")) == (1, None)
    assert vocabulary.columns(["a", "b", "a", "z"]) == [0, 1]


def test_a_tag_comes_once_in_a_vocabulary():
    with pytest.raises(DataError, match="twice"):
        Vocabulary([Tag(1, "a", 0, 1), Tag(2, "a", 0, 1)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: expected the columns"),
        (b"name,count\na,1\n", "line 1: expected the columns"),
        (b"tag_id,name,category,count\n1,a,0,1\n2,b,zero,1\n", "line 3"),
        (b"tag_id,name,category,count\n1,,0,1\n", "line 2.*empty name"),
        (b"tag_id,name,category,count\n1,a\n", "line 2"),
        (b"tag_id,name,category,count\n1,\xff,0,1\n", "not UTF-8"),
    ],
)
def test_a_damaged_tags_csv_is_refused_by_line(tmp_path, content, message):
    (tmp_path / "tags.csv").write_bytes(content)
    with pytest.raises(RunError, match=message):
        Vocabulary.read(tmp_path / "tags.csv", RunError)


def test_a_missing_tags_csv_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"tags\.csv is missing"):
        Vocabulary.read(tmp_path / "tags.csv")


def test_aliases_are_followed_to_the_end():
    relations = Relations(aliases={"wolves": "wolfs", "wolfs": "wolf"})
    assert [relations.resolve(name) for name in ("wolves", "wolf", "cat")] == [
        "wolf",
        "wolf",
        "cat",
    ]


def test_a_loop_of_aliases_ends_and_changes_nothing():
    relations = Relations(aliases={"a": "b", "b": "c", "c": "b", "x": "x"})
    assert [relations.resolve(name) for name in "abcx"] == list("abcx")


def test_implications_reach_through_aliases():
    relations = Relations({"dogs": "dog"}, {"puppy": ["dogs"], "dog": ["canine"]})
    assert relations.close(["puppy"]) == {"puppy", "dog", "canine"}
    assert relations.close(["dogs"]) == {"dog", "canine"}


def test_a_cycle_of_implications_is_walked_once():
    relations = Relations(implications={"a": ["b"], "b": ["c"], "c": ["a"]})
    assert relations.implied("a") == {"b", "c"}
    assert relations.close(["b"]) == {"a", "b", "c"}


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20)


@given(EDGES)
def test_implications_are_reachability(edges):
    implications: dict[str, list[str]] = {}
    for start, stop in edges:
        implications.setdefault(str(start), []).append(str(stop))
    relations = Relations(implications=implications)
    graph = np.zeros((8, 8))
    for start, stop in edges:
        graph[start, stop] = 1
    distance = floyd_warshall(csr_array(graph))
    for start in range(8):
        reached = {str(stop) for stop in range(8) if np.isfinite(distance[start, stop])}
        assert relations.close([str(start)]) == reached


@given(EDGES, EDGES, st.sets(st.integers(0, 7)))
def test_closing_twice_is_closing_once(aliases, implications, names):
    relations = Relations(
        {str(a): str(b) for a, b in aliases},
        {str(a): [str(b)] for a, b in implications},
    )
    once = relations.close(map(str, names))
    assert relations.close(once) == once
