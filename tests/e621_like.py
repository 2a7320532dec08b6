"""A made-up site with the shape of e621: a few tags on most posts, most tags on few, themes."""

import numpy as np

from e6tag.sampling import Labels

NUM_THEMES = 40


def e621_like(num_posts, num_tags=1024, seed=0):
    """Tag frequencies fall as rank^-0.75; posts are more or less thoroughly tagged.

    Each post has one of 40 themes, which makes a random twentieth of the tags six times as
    likely and the others three quarters; about 11.3 tags a post with 1,024 tags.
    """
    rng = np.random.default_rng(seed)
    share = np.minimum(0.6 * np.arange(1, num_tags + 1) ** -0.75, 0.9)
    is_of_theme = rng.random((NUM_THEMES, num_tags)) < 0.05
    themes = (np.where(is_of_theme, 6, 0.75) * share).astype(np.float32)
    lengths, columns = [], []
    for start in range(0, num_posts, 2000):
        size = min(2000, num_posts - start)
        # Log-normal with mean 1.
        activity = np.exp(rng.normal(-0.125, 0.5, size)).astype(np.float32)
        chance = themes[rng.integers(0, NUM_THEMES, size)] * activity[:, None]
        found = rng.random(chance.shape, dtype=np.float32) < np.minimum(chance, 0.95)
        lengths.append(np.count_nonzero(found, axis=1))
        columns.append((np.flatnonzero(found) % num_tags).astype(np.int32))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return Labels.of(offsets, np.concatenate(columns), num_tags)


def labels_of(lists, num_tags=6):
    """Labels of posts given as collections of columns."""
    rows = [sorted(set(found)) for found in lists]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Labels.of(offsets, np.array([c for row in rows for c in row], np.int32), num_tags)


def dense(labels):
    """Multi-hot (posts, tags)."""
    table = np.zeros((len(labels), labels.num_tags), int)
    table[np.repeat(np.arange(len(labels)), np.diff(labels.offsets)), labels.columns] = 1
    return table
