"""Laws of the hashes and thumbnails that near-copies are found by."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageEnhance

from e6tag import fingerprints
from e6tag.fingerprints import (
    LEAST_CONTRAST,
    LEAST_STEP,
    MAX_DIFFERENCE,
    MAX_DISTANCE,
    difference,
    distance,
    fingerprint,
    near_pairs,
)

IMAGEHASH = [
    ("555669aaaad2aab4", "b24db28b546db24d"),
    ("5595552ad3ac2b46", "33cc22f5c837798e"),
    ("4db3adb39a3295b3", "5a8f61bc837817e5"),
    ("52b4cad1aa353535", "5b04f24dab35c21c"),
]
"""str(dhash(across)), str(dhash_vertical(down)) of ImageHash 4.3.2 for the pictures of `walks`"""


def walk(rng, rows, columns):
    """Grey levels that go up or down by 60 to 120 from each column to the next."""
    levels = np.empty((rows, columns), int)
    levels[:, 0] = rng.integers(0, 256, rows)
    for column in range(1, columns):
        step, up = rng.integers(60, 121, rows), rng.random(rows) < 0.5
        before = levels[:, column - 1]
        after = np.where(up, before + step, before - step)
        turned = np.where(up, before - step, before + step)
        levels[:, column] = np.where((after < 0) | (after > 255), turned, after)
    return np.clip(levels, 0, 255).astype(np.uint8)


def enlarged(levels, times=40):
    return Image.fromarray(np.kron(levels, np.ones((times, times), np.uint8))).convert("RGB")


@pytest.mark.parametrize("seed", range(len(IMAGEHASH)))
def test_hashes_of_clear_steps_are_those_of_imagehash(seed):
    rng = np.random.default_rng(seed)
    across, down = walk(rng, 8, 9), walk(rng, 8, 9).T
    found = fingerprint(enlarged(across))[0], fingerprint(enlarged(down))[1]
    assert tuple(f"{number:016x}" for number in found) == IMAGEHASH[seed]


@given(arrays(np.uint8, (72, 72)))
@settings(max_examples=30, deadline=None)
def test_a_hash_says_which_cells_are_brighter_than_the_one_before(levels):
    across, down, _ = fingerprint(Image.fromarray(levels).convert("RGB"))
    for number, cells in ((across, means(levels, 8, 9)), (down, means(levels, 9, 8).T)):
        bits = np.array([int(bit) for bit in f"{number:064b}"]).reshape(8, 8)
        bits = bits if number is across else bits.T
        for row in range(8):
            for column in range(8):
                step = cells[row, column + 1] - cells[row, column]
                # Pillow rounds each mean to whole levels.
                if abs(step - LEAST_STEP - 0.5) > 1.01:
                    assert bits[row, column] == (step > LEAST_STEP + 0.5)


def means(levels, rows, columns):
    """Mean of each cell, by hand."""
    height, width = levels.shape[0] // rows, levels.shape[1] // columns
    cells = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            cell = levels[row * height : (row + 1) * height, column * width : (column + 1) * width]
            cells[row, column] = cell.mean()
    return cells


hashes = st.lists(st.integers(0, 2**64 - 1), max_size=12)


@given(hashes, hashes, st.data())
@settings(max_examples=60, deadline=None)
def test_near_pairs_are_those_of_brute_force(queries, others, data):
    for _ in range(data.draw(st.integers(0, 8)) if queries else 0):
        bits = data.draw(st.sets(st.integers(0, 63), max_size=10))
        others.append(data.draw(st.sampled_from(queries)) ^ sum(1 << bit for bit in bits))
    found = {
        pair
        for rows, places in near_pairs(np.array(queries, np.uint64), np.array(others, np.uint64))
        for pair in zip(rows.tolist(), places.tolist(), strict=True)
    }
    assert found == {
        (row, place)
        for row, query in enumerate(queries)
        for place, other in enumerate(others)
        if (query ^ other).bit_count() <= MAX_DISTANCE
    }


def test_pairs_are_looked_at_some_at_a_time(monkeypatch):
    monkeypatch.setattr(fingerprints, "MAX_PAIRS", 100)
    same = np.full(70, 0xABCD, np.uint64)
    parts = [len(rows) for rows, _ in near_pairs(same, same)]
    assert max(parts) <= 100 + 70
    assert sum(parts) == 4 * 70 * 70


@given(hashes.filter(bool))
def test_distance_counts_bits(numbers):
    a = np.array(numbers, np.uint64)
    expected = [(x ^ y).bit_count() for x, y in zip(numbers, numbers[::-1], strict=True)]
    assert distance(a, a[::-1]).tolist() == expected


def test_difference_is_one_less_the_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 20, 16, 16, 3), np.uint8)
    expected = [1 - np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(difference(a, b), expected, atol=1e-5)


def test_brightness_and_contrast_make_no_difference():
    a = np.random.default_rng(1).integers(0, 200, (5, 16, 16, 3), np.uint8)
    assert difference(a, a // 2 + 60).max() < 1e-3


def test_pictures_that_show_nothing_are_like_no_other():
    flat = np.full((2, 16, 16, 3), 255, np.uint8)
    flat[1, 0, 0] = 200
    assert flat.std(axis=(1, 2, 3)).max() < LEAST_CONTRAST
    assert np.isinf(difference(flat, flat)).all()


def drawing(seed):
    """Something like an illustration: a soft background and a few shapes."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    image = colours.resize((300, 240), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, wide, high = rng.integers(20, 200, 4)
        box = (x, y, x + wide // 2 + 8, y + high // 2 + 8)
        pen.ellipse(box, fill=tuple(rng.integers(0, 256, 3).tolist()), outline="black", width=4)
    return image


def recompressed(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def cropped(image, share):
    x, y = int(image.width * share), int(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


COPIES = {
    "smaller": lambda image: image.resize((101, 83), Image.Resampling.LANCZOS),
    "larger": lambda image: image.resize((700, 560), Image.Resampling.BICUBIC),
    "recompressed": lambda image: recompressed(image, 25),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "duller": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "cropped": lambda image: cropped(image, 0.01),
    "marked": lambda image: marked(image),
}


def marked(image):
    image = image.copy()
    ImageDraw.Draw(image).text((200, 225), "artist 2026", fill="white")
    return image


def is_alike(a, b):
    (across, down, thumbnail), (across2, down2, thumbnail2) = map(fingerprint, (a, b))
    return (
        (across ^ across2).bit_count() <= MAX_DISTANCE
        and (down ^ down2).bit_count() <= MAX_DISTANCE
        and difference(thumbnail[None], thumbnail2[None])[0] <= MAX_DIFFERENCE
    )


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_alike(change):
    assert sum(is_alike(drawing(seed), COPIES[change](drawing(seed))) for seed in range(20)) >= 19


def test_other_pictures_are_not_alike():
    pictures = [drawing(seed) for seed in range(40)]
    pairs = [(a, b) for a in range(40) for b in range(a)]
    assert not any(is_alike(pictures[a], pictures[b]) for a, b in pairs)


def test_symbols_that_differ_in_a_detail_are_not_alike():
    def face(mouth):
        image = Image.new("RGB", (256, 256), "white")
        pen = ImageDraw.Draw(image)
        pen.ellipse((40, 40, 216, 216), fill="gold", outline="black", width=8)
        for x in (90, 150):
            pen.ellipse((x, 90, x + 18, 112), fill="black")
        mouth(pen)
        return image

    smile = face(lambda pen: pen.arc((80, 110, 176, 186), 20, 160, fill="black", width=10))
    cry = face(lambda pen: pen.ellipse((95, 140, 160, 195), fill="white", outline="black", width=8))
    assert not is_alike(smile, cry)
    assert is_alike(smile, recompressed(smile, 30))
