"""Rankings in blocks are those of one whole array, wherever labels and scores are kept."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from e6tag import metrics, tag_rankings
from e6tag.ranking import ranking_curve
from e6tag.tag_rankings import SparseLabels


def made_up(seed, num_pictures=83, num_tags=7, levels=20):
    rng = np.random.default_rng(seed)
    truth = rng.random((num_pictures, num_tags)) < rng.random(num_tags) * 0.4
    scores = np.float32(rng.integers(-levels, levels, truth.shape) / levels)
    return truth, scores


def to_sparse(truth):
    matrix = sparse.csr_matrix(truth)
    return SparseLabels(matrix.indptr.astype(np.int64), matrix.indices, truth.shape[1])


def assert_same_curves(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), cells=st.integers(1, 700), is_sparse=st.booleans())
def test_blocks_of_any_size_give_the_curves_of_the_whole(seed, cells, is_sparse):
    truth, scores = made_up(seed)
    labels = to_sparse(truth) if is_sparse else truth
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tag_rankings, "BLOCK_CELLS", cells)
        patch.setattr(tag_rankings, "ROW_CELLS", cells)
        patch.setattr(tag_rankings, "TILE_ROWS", 1 + cells % 9)
        curves = list(tag_rankings.map_tags(lambda curve: curve, labels, scores))
        micro = tag_rankings.micro_curve(labels, scores)
    for column, curve in enumerate(curves):
        assert_same_curves(curve, ranking_curve(truth[:, column], scores[:, column]))
    assert_same_curves(micro, ranking_curve(truth.ravel(), scores.ravel()))


def test_sparse_labels_are_scipys():
    truth, _ = made_up(3)
    labels = to_sparse(truth)
    assert labels.shape == truth.shape
    np.testing.assert_array_equal(labels.dense(slice(5, 30)), truth[5:30])
    by_tag = labels.by_tag(slice(2, 5))
    for number, column in enumerate(range(2, 5)):
        np.testing.assert_array_equal(by_tag.of(number), np.flatnonzero(truth[:, column]))


@pytest.mark.parametrize("labels_as", ["uint8", "int64", "float", "sparse", "file"])
def test_every_figure_is_the_same_however_the_arrays_are_kept(tmp_path, labels_as):
    truth, scores = made_up(1)
    scores = np.abs(scores)
    np.save(tmp_path / "scores.npy", scores)
    np.save(tmp_path / "labels.npy", truth.view(np.uint8))
    labels = {
        "uint8": truth.view(np.uint8),
        "int64": truth.astype(int),
        "float": truth.astype(float),
        "sparse": to_sparse(truth),
        "file": np.load(tmp_path / "labels.npy", mmap_mode="r"),
    }[labels_as]
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    assert metrics.evaluate(labels, mapped, 3) == metrics.evaluate(truth, scores, 3)
    np.testing.assert_array_equal(mapped, scores)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_giving_memory_back_loses_no_change(tmp_path, mode):
    np.save(tmp_path / "a.npy", np.zeros((50, 4), np.float32))
    mapped = np.load(tmp_path / "a.npy", mmap_mode=mode)
    expected = np.zeros((50, 4), np.float32)
    if mode != "r":
        mapped[7] = expected[7] = 1
    tag_rankings.release(np.asarray(mapped)[3:].T, mapped)
    np.testing.assert_array_equal(mapped, expected)


LARGE = """
import resource, sys
import numpy as np
from e6tag import metrics, tag_rankings
tag_rankings.BLOCK_CELLS, tag_rankings.ROW_CELLS = 1 << 21, 1 << 18
scores, labels = (np.load(path, mmap_mode="r") for path in sys.argv[1:])
metrics.evaluate(labels[:50], scores[:50])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
metrics.per_tag(labels, scores), metrics.micro_curve(labels, scores)
metrics.brier(labels, scores), metrics.expected_calibration_error(labels, scores)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
def test_memory_does_not_grow_with_the_arrays(tmp_path):
    rng = np.random.default_rng(0)
    shape = (16_000, 1024)
    np.save(tmp_path / "scores.npy", rng.random(shape, dtype=np.float32))
    np.save(tmp_path / "labels.npy", (rng.random(shape, dtype=np.float32) < 0.01).view(np.uint8))
    paths = [str(tmp_path / "scores.npy"), str(tmp_path / "labels.npy")]
    found = subprocess.run(
        [sys.executable, "-c", LARGE, *paths], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 50_000  # kB; the two files have 82,000
