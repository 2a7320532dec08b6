"""Changes to pictures and batches against NumPy; repeat factors against the paper's formula."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from e6tag import mixing, repeats
from e6tag.augmentation import OPERATIONS, Augmentation, augment, choose_operation, jitter


def picture(seed=0, size=(20, 28)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


class Factors:
    """Hands out these numbers instead of random ones."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, low, high):
        assert low <= self.values[0] <= high
        return self.values.pop(0)


def grey(pixels):
    """ITU-R 601-2 luma, as Pillow documents it."""
    return pixels @ np.array([0.299, 0.587, 0.114])


def test_jitter_is_brightness_contrast_and_saturation_in_this_order():
    pixels = np.asarray(picture(), float)
    bright = np.clip(pixels * 1.2, 0, 255)
    contrasted = np.clip(np.mean(grey(bright)) + 0.7 * (bright - np.mean(grey(bright))), 0, 255)
    luma = grey(contrasted)[..., None]
    expected = np.clip(luma + 1.3 * (contrasted - luma), 0, 255)
    found = np.asarray(jitter(picture(), 0.4, Factors(1.2, 0.7, 1.3)), float)
    assert np.abs(found - expected).max() <= 4  # each step rounds


def test_jitter_stays_within_its_bounds():
    rng = np.random.default_rng(0)
    grey_square = Image.new("RGB", (8, 8), (100, 100, 100))
    values = [np.asarray(jitter(grey_square, 0.3, rng)).mean() for _ in range(300)]
    assert 69 <= min(values) < 80 and 120 < max(values) <= 130


def test_operations_are_drawn_evenly_and_strengths_too():
    rng = np.random.default_rng(0)
    drawn = [choose_operation(rng, True) for _ in range(14 * 500)]
    for name in OPERATIONS:
        assert 400 < sum(found == name for found, _, _ in drawn) < 600
    strengths = {strength for _, strength, _ in drawn}
    np.testing.assert_allclose(sorted(strengths), np.linspace(0, 1, 31))
    assert {sign for _, _, sign in drawn} == {-1, 1}


def test_pictures_with_direction_sensitive_tags_are_never_rotated():
    rng = np.random.default_rng(0)
    names = {choose_operation(rng, False)[0] for _ in range(1000)}
    assert names == set(OPERATIONS) - {"rotate"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_size_and_mode_at_every_strength(name):
    for strength in (0.0, 0.5, 1.0):
        for sign in (-1, 1):
            made = OPERATIONS[name](picture(), strength, sign)
            assert (made.size, made.mode) == ((28, 20), "RGB")
    without = OPERATIONS[name](picture(), 0.0, 1)
    if name not in ("autocontrast", "equalize"):
        assert np.abs(np.asarray(without, int) - np.asarray(picture(), int)).max() <= 1


def test_solarize_posterize_and_translation_are_what_they_say():
    pixels = np.asarray(picture(), int)
    solarized = np.asarray(OPERATIONS["solarize"](picture(), 0.5, 1), int)
    np.testing.assert_array_equal(solarized, np.where(pixels < 128, pixels, 255 - pixels))
    posterized = np.asarray(OPERATIONS["posterize"](picture(), 1.0, 1), int)
    np.testing.assert_array_equal(posterized, pixels & 0xF0)
    moved = np.asarray(OPERATIONS["translate_x"](picture(), 1.0, 1), int)
    np.testing.assert_array_equal(moved[:, :-4], pixels[:, 4:])
    assert (moved[:, -4:] == 255).all()


def test_one_change_does_not_alter_what_another_draws():
    def made(**options):
        change = Augmentation(crop=0.5, **options)
        return np.asarray(augment(picture(size=(60, 60)), change, True, np.random.default_rng(5)))

    plain, jittered = made(), made(colour_jitter=1e-9)
    np.testing.assert_array_equal(plain.shape, jittered.shape)
    assert np.abs(plain.astype(int) - jittered).max() <= 1
    assert made(trivial_augment=True).shape == plain.shape


# --- mixing -----------------------------------------------------------------------------------


def batch(n=6, side=16, tags=5):
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (n, side, side, 3)).astype(np.uint8)
    return pictures, rng.integers(0, 2, (n, tags)).astype(np.float32)


def test_mixup_blends_pictures_and_labels_alike():
    pictures, labels = batch()
    partner = np.array([1, 2, 3, 4, 5, 0])
    mixed, both = mixing.blend(pictures, labels, partner, 0.3)
    for i, j in enumerate(partner):
        exact = 0.3 * pictures[i] + 0.7 * pictures[j].astype(float)
        assert np.abs(mixed[i] - exact).max() <= 0.5 + 1e-4
        np.testing.assert_allclose(both[i], 0.3 * labels[i] + 0.7 * labels[j], rtol=1e-6)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_cutmix_counts_labels_by_the_pixels(seed, share):
    pictures = np.stack([np.full((16, 12, 3), 10 * i, np.uint8) for i in range(4)])
    labels = np.eye(4, dtype=np.float32)
    partner = np.array([1, 2, 3, 0])
    mixed, both = mixing.cut(pictures, labels, partner, share, np.random.default_rng(seed))
    for i, j in enumerate(partner):
        np.testing.assert_allclose(both[i, i], np.mean(mixed[i] == 10 * i), atol=1e-6)
        np.testing.assert_allclose(both[i, j], np.mean(mixed[i] == 10 * j), atol=1e-6)
        assert set(np.unique(mixed[i])) <= {10 * i, 10 * j}
        side = math.sqrt(1 - share)
        assert np.sum(mixed[i] == 10 * j) / 3 <= (16 * side + 1) * (12 * side + 1)


def test_a_box_in_the_middle_has_the_area_that_was_drawn():
    class Middle:
        def integers(self, ends):
            return [end // 2 for end in ends]

    top, bottom, left, right = mixing.box(100, 200, 0.75, Middle())
    assert (bottom - top, right - left) == (50, 100)


def test_shares_follow_the_beta_distribution_and_the_ways_are_taken_in_turns():
    pictures = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)])
    labels = np.eye(2, dtype=np.float32)
    shares = [mixing.mix(pictures, labels, 0.4, 0.0, [3, step])[1][0, 0] for step in range(3000)]
    mixed = np.array([s for s in shares if 0 < s < 1])
    # Partners are at random: half of the batches are mixed with themselves.
    assert 1300 < len(mixed) < 1700
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.04)
    assert np.var(mixed) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)
    flat = [
        len(np.unique(mixing.mix(pictures, labels, 1.0, 1.0, [3, step])[0][0])) == 1
        for step in range(1000)
    ]
    assert 0.6 < np.mean(flat) < 0.9  # all MixUps, half of the CutMixes (with themselves)


def test_no_mixing_hands_back_the_very_batch():
    pictures, labels = batch()
    assert mixing.mix(pictures, labels, 0.0, 0.0, [1])[0] is pictures


# --- repeat factors -----------------------------------------------------------------------------


def test_factors_are_the_papers_by_brute_force():
    rng = np.random.default_rng(2)
    labels = (rng.random((80, 6)) < [0.5, 0.2, 0.1, 0.03, 0.01, 0.0]).astype(np.uint8)
    found = repeats.picture_factors(labels, 0.1)
    for row, factor in zip(labels, found, strict=True):
        expected = 1.0
        for tag in np.flatnonzero(row):
            share = sum(int(r[tag]) for r in labels) / len(labels)
            expected = max(expected, max(1.0, math.sqrt(0.1 / share)))
        assert factor == pytest.approx(expected)


def test_copies_are_the_factors_on_average_and_rounded_to_either_side():
    factors = np.array([1.0, 1.0, 1.5, 2.25, 3.9, 1.1])
    counts = np.array([
        np.bincount(repeats.draw_copies(factors, np.random.default_rng([0, e])), minlength=6)
        for e in range(4000)
    ])  # fmt: skip
    np.testing.assert_allclose(counts.mean(axis=0), factors, atol=0.04)
    assert (counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all()
    assert set(counts.sum(axis=1)) <= {10, 11}
    assert repeats.steady_length(factors) == 10


@given(st.lists(st.floats(1, 5), min_size=1, max_size=40), st.integers(0, 1000))
def test_no_epoch_is_shorter_than_promised(factors, seed):
    factors = np.array(factors)
    rows = repeats.draw_copies(factors, np.random.default_rng(seed))
    assert len(rows) >= repeats.steady_length(factors)
    assert set(rows.tolist()) == set(range(len(factors)))


def test_occurrences_are_those_of_a_loop():
    order = np.random.default_rng(0).integers(0, 5, 30)
    found = repeats.occurrences(order, 10, 12)
    assert found.tolist() == [order[:i].tolist().count(order[i]) for i in range(10, 22)]
