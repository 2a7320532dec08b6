"""Pictures of every odd kind, against pixel values worked out by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from e6tag import images
from e6tag.errors import ConfigError, RunError


def save(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width=64, height=48):
    """Smooth, with every channel different and no symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 127 / (width + height)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def png(width, height, depth, color_type, rows, *chunks):
    """A PNG file written by hand, so that no encoder decides what it means."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    middle = b"".join(chunk(*extra) for extra in chunks)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + middle
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def pixels(content):
    return np.asarray(images.decode(content)).tolist()


def reason(content, **options):
    with pytest.raises(images.BadPicture) as caught:
        images.decode(content, **options)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF"])
def test_lossless_formats_give_exactly_their_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = gradient()
    assert np.array_equal(np.asarray(images.decode(save(picture, kind, **options))), picture)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_lossy_formats_stay_close_to_their_pixels(kind):
    picture = gradient()
    decoded = np.asarray(images.decode(save(picture, kind, quality=95))).astype(int)
    assert np.abs(decoded - np.asarray(picture)).mean() < 3


def test_grey_of_16_bits_is_scaled_not_cut_off():
    values = [0, 128, 257, 32768, 65535]
    content = png(5, 1, 16, 0, [struct.pack(">5H", *values)])
    assert pixels(content) == [[[round(v / 257)] * 3 for v in values]]


def test_transparent_grey_of_16_bits_is_white():
    content = png(2, 1, 16, 0, [struct.pack(">2H", 0, 300)], (b"tRNS", struct.pack(">H", 300)))
    assert pixels(content) == [[[0, 0, 0], [255, 255, 255]]]


def test_colour_hidden_under_full_transparency_does_not_show():
    content = png(3, 1, 8, 6, [bytes([255, 0, 0, 0, 255, 0, 0, 255, 0, 0, 0, 51])])
    assert pixels(content) == [[[255, 255, 255], [255, 0, 0], [204, 204, 204]]]


def test_grey_with_alpha_is_blended_over_white():
    content = png(2, 1, 8, 4, [bytes([0, 0, 100, 255])])
    assert pixels(content) == [[[255, 255, 255], [100, 100, 100]]]


def test_transparent_palette_entries_are_white():
    palette = (b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))
    content = png(3, 1, 8, 3, [bytes([0, 1, 2])], palette, (b"tRNS", bytes([255, 0])))
    assert pixels(content) == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_the_transparent_colour_of_an_rgb_file_is_white():
    key = (b"tRNS", struct.pack(">3H", 1, 2, 3))
    content = png(2, 1, 8, 2, [bytes([1, 2, 3, 1, 2, 4])], key)
    assert pixels(content) == [[[255, 255, 255], [1, 2, 4]]]


def test_one_bit_pictures_are_black_and_white():
    assert pixels(png(8, 1, 1, 0, [bytes([0b10110001])])) == [
        [[255 * int(bit)] * 3 for bit in "10110001"]
    ]


def test_interlaced_and_plain_files_agree():
    picture = Image.effect_noise((33, 17), 90).convert("RGB")
    progressive = save(picture, "JPEG", progressive=True, quality=90)
    assert pixels(progressive) == pixels(save(picture, "JPEG", quality=90))


def test_cmyk_jpegs_have_the_right_colours():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    middle = np.asarray(images.decode(save(inks, "JPEG", quality=95)))[8, 8].astype(int)
    assert np.abs(middle - [255, 0, 0]).max() <= 4


def test_ycck_jpegs_have_the_right_colours():
    # Inks of pure red: no cyan, full magenta and yellow, no black.  Adobe's YCCK keeps them as the
    # YCC of the colour (0, 255, 255), by the JFIF formula, and black as its complement.
    y, cb, cr = round(0.886 * 255 - 0.185 * 255), round(128 + 0.1687 * 255), 0
    # Pillow stores complements of what it is given for CMYK.
    stored = (255 - y, 255 - cb, 255 - cr, 0)
    content = save(Image.new("CMYK", (16, 16), stored), "JPEG", quality=100)
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    ycck = content[:transform] + b"\x02" + content[transform + 1 :]
    middle = np.asarray(images.decode(ycck))[8, 8].astype(int)
    assert np.abs(middle - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_shows_the_same_picture(orientation):
    upright = gradient(64, 48)
    turns = Image.Transpose
    # How a camera that was held that way would have stored the picture.
    stored = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        content = save(
            upright.transpose(stored) if stored is not None else upright, kind, exif=exif
        )
        assert np.array_equal(np.asarray(images.decode(content)), upright), kind


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_is_ignored():
    picture = gradient()
    for block in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b""):
        assert images.decode(save(picture, "JPEG", exif=block)).size == picture.size


def test_colour_profiles_are_applied():
    # LittleCMS itself is not in doubt: a profile with swapped primaries must swap the channels.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    content = save(Image.new("RGB", (4, 4), (200, 100, 0)), "PNG", icc_profile=bytes(profile))
    assert np.abs(np.asarray(images.decode(content))[0, 0].astype(int) - [0, 100, 200]).max() <= 2


def test_an_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = gradient()
    decoded = np.asarray(images.decode(save(picture, "PNG", icc_profile=profile))).astype(int)
    assert np.abs(decoded - np.asarray(picture)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_broken_and_unfitting_profiles_are_ignored(mode):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = gradient().convert(mode)
    for profile in (b"not a profile", lab):
        plain = images.decode(save(picture, "PNG"))
        assert np.array_equal(images.decode(save(picture, "PNG", icc_profile=profile)), plain)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_show_their_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = save(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert pixels(content)[0][0] == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
def test_truncated_files_are_refused(kind, share):
    content = save(Image.effect_noise((96, 80), 90).convert("RGB"), kind)
    assert reason(content[: int(len(content) * share)]) in ("truncated", "damaged", "not_an_image")


def test_a_jpeg_without_its_end_is_refused():
    content = save(gradient(), "JPEG")
    assert reason(content[:-2]) == "truncated"


def test_damaged_checksums_are_refused():
    content = bytearray(save(gradient(), "PNG"))
    content[content.index(b"IDAT") + 20] ^= 0xFF
    assert reason(bytes(content)) in ("damaged", "truncated")


def test_bytes_after_the_end_do_not_matter():
    content = save(gradient(), "JPEG")
    assert pixels(content + b"trailing junk" * 50) == pixels(content)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<html><body>Not found</body></html>", "web page"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'<?xml version="1.0"?><svg/>', "SVG"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(60), "video"),
        (b"\x1aE\xdf\xa3" + bytes(60), "WebM"),
        (b"CWS\x0a" + bytes(60), "Flash"),
        (b'{"success": false}', "JSON"),
        (b"hello", "something else"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "something else"),
    ],
)
def test_what_is_no_picture_is_named(content, what):
    with pytest.raises(images.BadPicture, match=what) as caught:
        images.decode(content)
    assert caught.value.reason == "not_an_image"


def test_the_smallest_picture_is_one_pixel():
    assert pixels(save(Image.new("RGB", (1, 1), "red"), "PNG")) == [[[255, 0, 0]]]
    assert reason(png(0, 0, 8, 2, [])) in ("damaged", "truncated", "not_an_image")
    assert reason(png(5, 0, 8, 2, [])) in ("damaged", "truncated", "not_an_image")


def test_an_empty_file_is_named():
    assert reason(b"") == "empty"


def test_bombs_are_refused_by_their_header():
    # 24 kB that would take 588 MB; the second would only be refused while decoding.
    content = png(14_000, 14_000, 1, 0, [bytes(1750)] * 14_000)
    assert len(content) < 50_000
    assert reason(content) == "too_large"
    assert reason(png(10_000, 9_999, 1, 0, [])) == "too_large"
    assert reason(save(gradient(100, 100), "PNG"), max_pixels=9_999) == "too_large"
    assert images.decode(save(gradient(100, 100), "PNG"), max_pixels=10_000).size == (100, 100)


def test_floating_point_pixels_are_refused():
    content = save(Image.new("F", (4, 4), 0.5), "TIFF")
    assert reason(content) == "unsupported"


def test_the_header_alone_gives_the_size():
    assert images.picture_size(png(300, 200, 8, 2, [])) == (300, 200)


def test_extreme_shapes_keep_at_least_one_pixel():
    content = save(Image.new("RGB", (30_000, 1), "red"), "PNG")
    _, size = images.store(images.decode(content), 320, 92)
    assert size == (320, 1)
    square = images.read_square(content, 8)
    assert square[3].tolist() == [[255, 0, 0]] * 8
    assert (np.delete(square, 3, 0) == 255).all()


def test_stored_pictures_shrink_but_never_grow():
    jpeg, size = images.store(gradient(640, 480), 320, 92)
    assert size == (320, 240) == images.decode(jpeg).size
    small, size = images.store(gradient(64, 48), 320, 92)
    assert size == (64, 48) == images.decode(small).size
    assert images.store(gradient(640, 480), 320, 92)[0] == jpeg


def test_storing_costs_hardly_any_quality():
    picture = gradient(200, 160)
    jpeg, _ = images.store(picture, 320, 92)
    difference = np.asarray(images.decode(jpeg)).astype(float) - np.asarray(picture)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 38


def test_resizing_is_antialiased_bicubic():
    # A checkerboard of single pixels must become grey, not a pattern; a flat area stays flat.
    board = np.indices((256, 256)).sum(0) % 2 * 255
    square = images.letterbox(Image.fromarray(board.astype(np.uint8)).convert("RGB"), 32)
    assert np.abs(square.astype(int) - 127).max() <= 2
    upwards = images.letterbox(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGB"), 4)

    # Catmull-Rom-like with a = -0.5 at +-0.25 pixels, edges renormalised over the pixels there are:
    def w(t):
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2

    expected = [255 * w(abs(1.5 - x)) / (w(abs(0.5 - x)) + w(abs(1.5 - x))) for x in (0.25, 0.75)]
    got = upwards[1, :2, 0].astype(float)
    assert np.abs(got - np.clip(np.round(expected), 0, 255)).max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70))
def test_letterboxes_are_centred_on_white(width, height, size):
    square = images.letterbox(Image.new("RGB", (width, height), "black"), size)
    assert square.shape == (size, size, 3) and square.dtype == np.uint8
    ink = (square == 0).all(-1)
    rows, columns = ink.any(1), ink.any(0)
    assert max(rows.sum(), columns.sum()) == size
    assert ink.sum() == rows.sum() * columns.sum()
    for side in (rows, columns):
        before, after = side.argmax(), side[::-1].argmax()
        assert after - before in (0, 1)
    assert (square[~ink] == 255).all()


def test_paths_and_bytes_give_the_same_square(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(save(gradient(), "PNG"))
    square = images.read_square(path, 32)
    assert np.array_equal(square, images.read_square(path.read_bytes(), 32))
    assert np.array_equal(square, images.letterbox(images.decode(path.read_bytes()), 32))
    path.write_bytes(b"<html>")
    with pytest.raises(images.BadPicture, match=r"a\.png: not a picture but a web page"):
        images.read_square(path, 32)
    with pytest.raises(FileNotFoundError):
        images.read_square(tmp_path / "missing.png", 32)


def drawing(width, height):
    """Large areas, hard edges and grain, as pictures have them."""
    image = gradient(width, height)
    pen = ImageDraw.Draw(image)
    for i in range(9):
        x, y = width * i // 9, height * (i * 5 % 9) // 9
        pen.ellipse((x, y, x + width // 5, y + height // 4), fill=(25 * i, 250 - 20 * i, 90))
        pen.line((x, 0, width - x, height), "black", max(2, width // 200))
    grain = np.random.default_rng(0).normal(0, 2, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def decibels(one, other):
    """PSNR of two arrays of pixels."""
    return 10 * np.log10(255**2 / (np.square(np.asarray(one, float) - other).mean() + 1e-9))


ODD_SIZES = [(850, 1275), (851, 1275), (1275, 851), (2607, 1009), (333, 2999)]


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_shrinking_in_two_steps_is_close_to_bicubic_alone(kind, size):
    content = save(drawing(*size), kind, **({"quality": 90} if kind == "JPEG" else {}))
    with Image.open(io.BytesIO(content)) as image:
        full = image.convert("RGB")
    scale = 320 / max(size)
    small = tuple(max(1, round(side * scale)) for side in size)
    bicubic = np.asarray(full.resize(small, Image.Resampling.BICUBIC), float)
    found = np.asarray(images.decode_fitted(content, 320))
    assert found.shape == bicubic.shape
    assert decibels(found, bicubic) > 37 and np.abs(found - bicubic).mean() < 1.5
    # Nothing is moved: whole factors need not divide the size.
    shifts = [decibels(np.roll(found, step, axis), bicubic) for step in (-1, 1) for axis in (0, 1)]
    assert max(shifts) < decibels(found, bicubic) - 6


@pytest.mark.parametrize("size", [*ODD_SIZES, (700, 500), (321, 100), (64, 48)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_is_stored_and_what_is_tagged_are_the_same_pixels(kind, size):
    content = save(drawing(*size), kind)
    kept = images.decode_fitted(content, 320, enlarge=False)
    assert max(kept.size) == min(320, max(size))
    assert np.array_equal(images.letterbox(kept, 320), images.read_square(content, 320))
    # Storing changes nothing but what JPEG does.
    jpeg, stored_size = images.store(kept, 320, 92)
    assert stored_size == kept.size
    expected = io.BytesIO()
    kept.save(expected, "JPEG", quality=92)
    assert jpeg == expected.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_jpegs_are_the_same_picture_when_decoded_small(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = save(drawing(1001, 751), "JPEG", quality=95, exif=exif)
    exact = np.asarray(images.letterbox(images.decode(content), 100), float)
    assert decibels(images.read_square(content, 100), exact) > 36


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_kinds_of_jpeg_are_decoded_small_too(mode):
    content = save(drawing(1000, 750).convert(mode), "JPEG", quality=95)
    exact = np.asarray(images.letterbox(images.decode(content), 100), float)
    assert decibels(images.read_square(content, 100), exact) > 36


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
@pytest.mark.parametrize("longest_side", [600, 320, 100, 20])
def test_truncated_jpegs_are_refused_when_decoded_small(longest_side, options):
    content = save(drawing(1200, 900), "JPEG", quality=85, **options)
    for length in (len(content) // 3, len(content) * 9 // 10, len(content) - 50, len(content) - 3):
        with pytest.raises(images.BadPicture) as caught:
            images.decode_fitted(content[:length], longest_side)
        assert caught.value.reason in ("truncated", "damaged")
    # Without its last two bytes nothing of the picture is missing: it may be taken, then whole.
    try:
        found = images.decode_fitted(content[:-2], longest_side)
    except images.BadPicture as problem:
        assert problem.reason == "truncated"
    else:
        assert np.array_equal(found, images.decode_fitted(content, longest_side))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_give_a_picture_or_a_reason(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"]))
    content = bytearray(save(gradient(24, 20), kind))
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert images.decode(bytes(content), max_pixels=1_000_000).mode == "RGB"
    except images.BadPicture as problem:
        assert problem.reason in {
            "empty", "not_an_image", "too_large", "truncated", "damaged", "unsupported"
        }  # fmt: skip


def test_preprocessing_is_compared_when_a_model_is_opened():
    path = Path("runs/x/run.json")
    stated = images.PREPROCESSING(96)
    images.check_preprocessing(stated, path)
    for change in ({"resample": "nearest"}, {"background": [0, 0, 0]}, {"letterbox": False}):
        with pytest.raises(RunError, match=r"runs/x/run\.json.*" + next(iter(change))):
            images.check_preprocessing(stated | change, path)
    with pytest.raises(RunError, match="image_size"):
        images.check_preprocessing({}, path)


def test_pictures_are_listed_sorted_and_once(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "sub/c.webp", "odd.dat"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def names(paths, recursive):
        return [str(p.relative_to(tmp_path)) for p in images.list_pictures(paths, recursive)]

    assert names([tmp_path], False) == ["a.jpg", "b.PNG"]
    assert names([tmp_path, tmp_path / "a.jpg"], True) == ["a.jpg", "b.PNG", "sub/c.webp"]
    assert names([tmp_path / "odd.dat"], False) == ["odd.dat"]
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        images.list_pictures([tmp_path / "nowhere"], False)
