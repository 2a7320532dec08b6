"""The vocabulary's file, and aliases and implications against a reachability oracle."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import floyd_warshall

from e6tag.errors import ConfigError, DataError, RunError
from e6tag.tags import Relations, Tag, Vocabulary, named, on_cycles, problems_of, read_tag_list

AWKWARD = [
    ":3", "<3", "...", "..", "/", "../x", "^_^", "a,b", '"', "'s_name", "café", "cafe\u0301", "-x",
    "rating:s", "%41", "&amp;", "#hash", "\u202eabc", "a\u200bb", "ab", "x" * 100, "🐺", "Wolf",
    "wolf", "\u2028", "\x85x",
]  # fmt: skip
"""names that look alike, or like something else"""


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


# What leads nowhere


@given(EDGES)
def test_cycles_are_where_a_node_reaches_itself(edges):
    targets: dict[int, set[int]] = {}
    graph = np.zeros((8, 8))
    for start, stop in edges:
        targets.setdefault(start, set()).add(stop)
        graph[start, stop] = 1
    # In exactly n steps, by powers of the adjacency matrix.
    power, reaches = graph, np.zeros(8, bool)
    for _ in range(8):
        reaches |= np.diag(power) > 0
        power = (power @ graph > 0).astype(float)
    assert sorted(on_cycles(targets)) == np.flatnonzero(reaches).tolist()


def test_loops_and_missing_targets_are_told_apart():
    relations = Relations(
        {"a": "b", "b": "a", "into": "a", "old": "new", "dogs": "dog", "very_old": "old"},
        {"c": ["d"], "d": ["c"], "dog": ["canine", "gone"], "wolf": ["dogs"], "dogs": ["wolf"]},
    )
    known = {"a", "b", "c", "d", "dog", "wolf", "canine"}
    assert problems_of(relations, known) == {
        "alias_loop": ["a", "b"],
        "alias_to_nothing": ["into", "old", "very_old"],
        "implication_cycle": ["c", "d", "dog", "wolf"],
        "implication_to_nothing": ["dog"],
    }
    assert problems_of(Relations({"dogs": "dog"}, {"dog": ["canine"]}), known) == {}


def test_many_names_are_counted_and_the_first_few_shown():
    kinds = {"alias_loop": ["a"], "unknown": [*"bcdefgh"]}
    assert named(kinds) == "1 alias loop (a); 7 unknown (b, c, d, e, f, ...)"


# Lists of tags


LIST = "\ufeff" + "\n".join(["  wolf ", "", "#hash", "two words\r", "\t:3", *AWKWARD]) + "\n\n"


def test_a_list_of_tags_is_its_lines(tmp_path):
    (tmp_path / "list").write_bytes(LIST.encode())
    expected = ("wolf", "#hash", "two words", ":3", *AWKWARD)
    assert read_tag_list(tmp_path / "list") == expected


def test_a_tags_csv_is_a_list_of_its_names(tmp_path):
    vocabulary = Vocabulary([Tag(i, name, 0, 1) for i, name in enumerate(AWKWARD)])
    vocabulary.write(tmp_path / "tags.csv")
    assert read_tag_list(tmp_path / "tags.csv") == tuple(AWKWARD)
    text = "count,name,category,tag_id,more\r\n1,b,0,7,x\r\n1,a,0,8,y\r\n"
    (tmp_path / "other.csv").write_bytes(text.encode())
    assert read_tag_list(tmp_path / "other.csv") == ("b", "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no tag"),
        (b" \n\t\r\n", "names no tag"),
        (b"a\n\xff\n", "not UTF-8"),
        (b"tag_id,name,category,count\n1,a,zero,3\n", "line 2"),
        (None, "missing"),
    ],
)
def test_a_list_that_is_none_is_a_usage_error_that_names_it(tmp_path, content, message):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_tag_list(tmp_path / "list")


def test_a_list_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "list").write_text("wolf\n")
    monkeypatch.setattr("e6tag.tags.MAX_TAGS_FILE_BYTES", 3)
    with pytest.raises(ConfigError, match="larger"):
        read_tag_list(tmp_path / "list")
