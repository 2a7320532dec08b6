"""Batches are a pure function of (seed, epoch, step) and show what the shards hold."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_data import NAMES, draw, encode, write_dataset

from e6tag import images
from e6tag.augmentation import Augmentation, crop, is_directional
from e6tag.batches import Batches, ahead
from e6tag.errors import DataError
from e6tag.shards import open_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_dataset(tmp_path_factory.mktemp("data"), 60))


def make(dataset, **options):
    defaults = dict(augmentation=Augmentation(), seed=3)
    return Batches(dataset, "train", 32, 8, **{**defaults, **options})


def test_plain_batches_are_the_stored_pictures_in_order(dataset):
    found = list(make(dataset).plain(workers=2))
    pictures = np.concatenate([p for p, _ in found])
    labels = np.concatenate([truth for _, truth in found])
    indexes = [i for i in range(60) if i % 10 < 8]
    expected = [images.read_square(encode(draw(i)[0]), 32) for i in indexes]
    np.testing.assert_array_equal(pictures, np.stack(expected))
    for index, truth in zip(indexes, labels, strict=True):
        assert {NAMES[c] for c in np.flatnonzero(truth)} == set(draw(index)[1])


def test_a_step_is_the_same_batch_however_one_gets_there(dataset):
    straight = list(make(dataset).training(0, 9, workers=3))
    for step in (0, 4, 8):
        pictures, labels = next(make(dataset).training(step, 9, workers=1))
        np.testing.assert_array_equal(pictures, straight[step][0])
        np.testing.assert_array_equal(labels, straight[step][1])


def test_an_epoch_takes_no_example_twice_and_the_next_has_another_order(dataset):
    source = make(dataset)
    per_epoch = source.steps_per_epoch
    epochs = [  # rows of each
        np.concatenate([source.rows_of(e * per_epoch + s) for s in range(per_epoch)])
        for e in (0, 1)
    ]
    assert all(len(set(rows)) == len(rows) == per_epoch * 8 for rows in epochs)
    assert not np.array_equal(*epochs)


def test_seed_changes_order_and_augmentation(dataset):
    one = make(dataset, seed=1).training_batch(0)[0]
    other = make(dataset, seed=2).training_batch(0)[0]
    assert not np.array_equal(one, other)


def test_augmentation_differs_between_epochs_but_not_without_augmentation(dataset):
    source = make(dataset)
    assert any(
        not np.array_equal(source.augmented(row, 0), source.augmented(row, 1)) for row in range(4)
    )
    plain = make(dataset, augmentation=None)
    np.testing.assert_array_equal(plain.augmented(0, 0), plain.augmented(0, 5))


def test_pictures_with_direction_sensitive_tags_are_never_mirrored(dataset):
    source = make(dataset, augmentation=Augmentation(flip=True, crop=1.0))
    plain = make(dataset, augmentation=None)
    asymmetric = next(
        row for row in range(20)
        if not np.array_equal(plain.augmented(row, 0), plain.augmented(row, 0)[:, ::-1])
    )  # fmt: skip
    seen = [
        np.array_equal(source.augmented(asymmetric, e), plain.augmented(asymmetric, 0))
        for e in range(20)
    ]
    assert any(seen) and not all(seen)
    source.flippable[:] = False
    for epoch in range(20):
        np.testing.assert_array_equal(
            source.augmented(asymmetric, epoch), plain.augmented(asymmetric, 0)
        )


def test_flippable_follows_from_the_labels(dataset):
    source = make(dataset)
    assert source.flippable.all()
    column = dataset.vocabulary.column("facing_left")
    table = dataset.manifest.copy()
    table["labels"] = [np.array([column], np.int32), *table["labels"][1:]]
    changed = Batches(
        type(dataset)(dataset.path, dataset.info, dataset.vocabulary, table), "train", 32, 8
    )
    assert not changed.flippable[0]
    assert changed.flippable[1:].all()


@pytest.mark.parametrize(
    "name, directional",
    [
        ("facing_left", True), ("right_arrow", True), ("arrow", True), ("english_text", True),
        ("flag", True), ("copyright", False), ("bright", False), ("wolf", False),
        ("leftovers", False), ("clockwork", False), ("text", True),
    ],
)  # fmt: skip
def test_direction_is_read_off_whole_words(name, directional):
    assert is_directional(name) is directional


@given(
    st.integers(1, 300), st.integers(1, 300), st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 1)
)
def test_a_crop_lies_inside_and_keeps_the_aspect_ratio(width, height, side, left, top):
    image = Image.new("RGB", (width, height))
    cut = crop(image, side, left, top)
    assert 1 <= cut.width <= width
    assert 1 <= cut.height <= height
    assert abs(cut.width - width * side) <= 1
    assert abs(cut.height - height * side) <= 1


def test_repeated_pictures_are_augmented_apart_and_epochs_stay_equally_long(dataset):
    source = make(dataset, repeat_factor=0.9)
    plain = make(dataset)
    assert source.steps_per_epoch > plain.steps_per_epoch
    for epoch in range(5):
        order = source.order(epoch)
        assert len(order) >= 8 * source.steps_per_epoch
        assert set(order) == set(range(len(source)))
        steps = range(epoch * source.steps_per_epoch, (epoch + 1) * source.steps_per_epoch)
        examples = [
            (row, copy)
            for step in steps
            for row, copy in zip(*map(np.ndarray.tolist, source.examples_of(step)), strict=True)
        ]
        assert len(set(examples)) == len(examples)
    assert not np.array_equal(source.augmented(0, 0, 0), source.augmented(0, 0, 1))
    straight = list(source.training(0, 20, workers=2))
    again = next(make(dataset, repeat_factor=0.9).training(17, 20, workers=1))
    np.testing.assert_array_equal(again[0], straight[17][0])


@pytest.mark.parametrize(
    "change",
    [dict(colour_jitter=0.4), dict(trivial_augment=True), dict(mixup=0.4), dict(cutmix=1.0)],
)
def test_every_change_is_a_function_of_the_step(dataset, change):
    source = make(dataset, augmentation=Augmentation(**change))
    straight = list(source.training(0, 6, workers=3))
    again = next(make(dataset, augmentation=Augmentation(**change)).training(4, 6, workers=1))
    for one, other in zip(again, straight[4], strict=True):
        np.testing.assert_array_equal(one, other)
    plain = make(dataset).training_batch(4)
    assert not np.array_equal(again[0], plain[0])
    assert again[0].dtype == np.uint8 and again[1].dtype == np.float32


def test_threads_on_both_sides_of_an_epoch_get_the_order_of_their_own(dataset):
    source = make(dataset)
    expected = [make(dataset).order(epoch) for epoch in (0, 1)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: source.order(i % 2), range(2000)))
    for i, order in enumerate(found):
        np.testing.assert_array_equal(order, expected[i % 2])


def test_a_damaged_picture_is_counted_and_replaced(tmp_path):
    folder = write_dataset(tmp_path / "data", 40)
    data = open_dataset(folder)
    first = data.split("train").iloc[0]
    with (folder / "shards" / first["shard"]).open("r+b") as shard:
        shard.seek(int(first["offset"]) + 2)
        shard.write(b"\0" * 200)
    source = Batches(data, "train", 32, 8, seed=0)
    taken = [source.training_batch(step) for step in range(source.steps_per_epoch)]
    assert all(len(pictures) == len(labels) == 8 for pictures, labels in taken)
    plain = sum(len(pictures) for pictures, _ in source.plain(1))
    assert plain == len(source) - 1
    assert list(source.failures) == [int(first["post_id"])]


def test_a_batch_without_one_readable_picture_is_an_error_that_says_what_to_do(tmp_path):
    folder = write_dataset(tmp_path / "data", 20)
    source = Batches(open_dataset(folder), "train", 32, 8)
    (folder / "shards" / "train-00000.tar").unlink()
    with pytest.raises(DataError, match=r"step 0.*download\.py"):
        source.training_batch(0)


def test_reading_ahead_keeps_the_order_and_stops_with_its_reader():
    started = []

    def slow(argument):
        started.append(argument)
        return argument

    stream = ahead(slow, range(1000), workers=2)
    assert [next(stream) for _ in range(10)] == list(range(10))
    stream.close()
    assert len(started) < 40
