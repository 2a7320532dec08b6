"""Posts as columns, against plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tiny_posts import tiny_posts

from e6tag.posts import csr_rows, take_csr

ROWS = [
    {"id": 3, "tags": "wolf solo", "width": 10},
    {"id": 5, "tags": "", "width": 20},
    {"id": 9, "tags": "cat", "width": 30},
]


def test_tags_of_a_post_are_those_it_was_given():
    posts = tiny_posts(ROWS)
    assert [sorted(posts.tags_of(row)) for row in range(3)] == [["solo", "wolf"], [], ["cat"]]
    assert len(posts) == 3


def test_taken_posts_keep_every_column_and_their_tags():
    taken = tiny_posts(ROWS).take(np.array([2, 0]))
    assert taken.post_id.tolist() == [9, 3]
    assert taken.width.tolist() == [30, 10]
    assert [sorted(taken.tags_of(row)) for row in range(2)] == [["cat"], ["solo", "wolf"]]


def test_a_mask_takes_the_same_posts_as_positions():
    posts = tiny_posts(ROWS)
    by_mask = posts.take(np.array([True, False, True]))
    by_rows = posts.take(np.array([0, 2]))
    assert by_mask.post_id.tolist() == by_rows.post_id.tolist()
    assert by_mask.tag_indices.tolist() == by_rows.tag_indices.tolist()


def test_no_posts_can_be_taken():
    assert len(tiny_posts(ROWS).take(np.zeros(3, bool))) == 0


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=8), st.data())
def test_taking_csr_rows_is_taking_lists(lists, data):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    offsets = np.concatenate([[0], np.cumsum([len(found) for found in lists])]).astype(np.int64)
    indices = np.array([value for found in lists for value in found], np.int32)
    taken = take_csr(offsets, indices, np.array(rows, np.int64))
    assert [row.tolist() for row in csr_rows(*taken)] == [lists[row] for row in rows]
