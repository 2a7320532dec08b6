"""Held-out pictures that look like training pictures are not used, and nothing else is lost."""

import io
import itertools
import tracemalloc

import numpy as np
import pytest
from changed_booru import contents, options
from PIL import Image, ImageEnhance
from test_fingerprints import drawing

from e6tag import acquisition, lookalikes, shards
from e6tag.demo.booru import Booru
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.splits import split_of

NUM_POSTS = 120
SPLIT = dict(enumerate(split_of(np.arange(NUM_POSTS + 1)).tolist()))


def ids_of(split):
    return [post_id for post_id in range(1, NUM_POSTS + 1) if SPLIT[post_id] == split]


TRAIN, VAL, TEST = ids_of("train"), ids_of("val"), ids_of("test")
COPIES = {
    VAL[0]: (TRAIN[0], lambda image: image.resize((170, 136))),
    VAL[1]: (TRAIN[5], lambda image: ImageEnhance.Brightness(image).enhance(0.85)),
    TEST[0]: (TRAIN[9], lambda image: image.resize((500, 400))),
    TEST[1]: (VAL[2], lambda image: image.crop((2, 2, 299, 239))),
    TRAIN[7]: (TRAIN[6], lambda image: image.resize((150, 120))),
    TEST[3]: (TEST[2], lambda image: image.resize((150, 120))),
}
"""post -> the post it is a copy of, and how it was made"""
ALIKE = {copy: COPIES[copy][0] for copy in (VAL[0], VAL[1], TEST[0], TEST[1])}


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def content(post_id):
    if post_id in COPIES:
        source, change = COPIES[post_id]
        return png(change(drawing(source)))
    flat = Image.new("RGB", (80 + post_id, 90), "white")
    return png(flat if post_id in (TRAIN[20], VAL[3]) else drawing(post_id))


@pytest.fixture(scope="module")
def booru(tmp_path_factory):
    folder = tmp_path_factory.mktemp("booru")
    posts = [
        LocalPost(
            key=f"{post_id:03}",
            picture=content(post_id),
            ext="png",
            tags={"general": ["red", "round"][: 1 + post_id % 2]},
            group=str(post_id),
        )
        for post_id in range(1, NUM_POSTS + 1)
    ]
    build_booru(posts, LocalRelations([], []), folder)
    with Booru(folder, requests_per_second=2000) as booru:
        yield booru


@pytest.fixture(scope="module")
def clean(booru, tmp_path_factory):
    out = tmp_path_factory.mktemp("clean") / "data"
    assert acquisition.download(options(booru, out, image_size=256)) == 0
    return out


def statuses(out):
    rows = shards.open_dataset(out).manifest.set_index("post_id")
    return rows[rows["status"] != "ok"]


def test_held_out_copies_are_marked_with_what_they_look_like(clean):
    marked = statuses(clean)
    assert marked["error"].to_dict() == {copy: f"post {of}" for copy, of in ALIKE.items()}
    assert set(marked["status"]) == {"near_duplicate"}


def test_they_stay_in_their_shard_and_out_of_what_is_used(clean):
    data = shards.open_dataset(clean)
    used = {i for split in ("train", "val", "test") for i in data.split(split)["post_id"]}
    assert used == set(range(1, NUM_POSTS + 1)) - ALIKE.keys()
    for row in statuses(clean).itertuples():
        shards.read_stored(clean, row.shard, row.offset, row.length)


def test_the_summary_counts_them(booru, clean, capsys):
    assert acquisition.download(options(booru, clean, image_size=256)) == 0
    assert f"alike     {len(ALIKE)} held-out pictures" in capsys.readouterr().out


def test_the_option_takes_them_back_and_nothing_is_fetched(booru, clean, tmp_path):
    out = tmp_path / "data"
    acquisition.download(options(booru, out, image_size=256, near_duplicates=False))
    assert len(statuses(out)) == 0
    assert not (out / "fingerprints").exists()
    num_requests = len(booru.log)
    assert acquisition.download(options(booru, out, image_size=256)) == 0
    assert len(booru.log) == num_requests
    assert statuses(out)["error"].equals(statuses(clean)["error"])
    same = contents(out), contents(clean)
    assert same[0]["manifest.parquet"] == same[1]["manifest.parquet"]


def test_no_picture_is_decoded_twice(booru, clean, tmp_path, monkeypatch):
    decoded = []
    decode = lookalikes.images.decode_fitted

    def counted(jpeg, *arguments, **options):
        decoded.append(jpeg)
        return decode(jpeg, *arguments, **options)

    monkeypatch.setattr(lookalikes.images, "decode_fitted", counted)
    assert acquisition.download(options(booru, clean, image_size=256)) == 0
    assert not decoded
    (clean / "fingerprints/val-00000.npy").write_bytes(b"\x93NUMPY broken")
    assert acquisition.download(options(booru, clean, image_size=256)) == 0
    assert len(decoded) == len(VAL)
    # A shard that changed by a picture costs one.
    path = clean / "fingerprints/test-00000.npy"
    np.save(path, np.load(path)[1:])
    assert acquisition.download(options(booru, clean, image_size=256)) == 0
    assert len(decoded) == len(VAL) + 1
    assert statuses(clean)["error"].to_dict() == {c: f"post {of}" for c, of in ALIKE.items()}


def test_fingerprints_of_shards_that_went_go_too(booru, clean):
    stray = clean / "fingerprints/train-00077.npy"
    stray.write_bytes((clean / "fingerprints/train-00000.npy").read_bytes())
    assert acquisition.download(options(booru, clean, image_size=256)) == 0
    assert not stray.exists()


def test_the_most_similar_post_is_named_and_of_equals_the_first(tmp_path):
    numbers = [drawing(number) for number in range(3)]
    pictures = [numbers[0], numbers[0].resize((90, 72)), numbers[0], numbers[1], numbers[2]]
    prints = np.zeros(5, lookalikes.FINGERPRINT)
    for row, image in enumerate(pictures):
        prints[row] = (50 - row, b"", *lookalikes.fingerprint(image))
    np.save(tmp_path / "a.npy", prints[:2])
    np.save(tmp_path / "b.npy", prints[2:])
    found = lookalikes.Prints(
        prints["post_id"], np.array(["train"] * 5), prints["across"], prints["down"],
        [tmp_path / "a.npy", tmp_path / "b.npy"], np.array([0, 2]),
    )  # fmt: skip
    assert (found.thumbnails(np.array([4, 0, 2])) == prints["thumbnail"][[4, 0, 2]]).all()
    others = np.array([3, 1, 2, 0, 4])
    assert lookalikes.most_alike(found, np.array([0]), others[others != 0]) == {50: 48}
    assert lookalikes.most_alike(found, np.array([1]), np.array([0, 2])) == {49: 48}
    assert lookalikes.most_alike(found, np.array([3]), np.array([0, 1, 2, 4])) == {}


def test_many_pictures_of_the_same_hash_take_little_memory(tmp_path):
    """Drawings that leave most of the sheet white often have one hash: all pairs are candidates."""
    num, num_queries = 300, 100
    prints = np.zeros(num, lookalikes.FINGERPRINT)
    prints["post_id"] = np.arange(num)
    prints["thumbnail"] = np.random.default_rng(0).integers(0, 256, (num, 16, 16, 3), np.uint8)
    prints["thumbnail"][7] = prints["thumbnail"][250]
    np.save(tmp_path / "a.npy", prints)
    found = lookalikes.Prints(
        prints["post_id"], np.array(["train"] * num), prints["across"], prints["down"],
        [tmp_path / "a.npy"], np.array([0]),
    )  # fmt: skip
    tracemalloc.start()
    try:
        alike = lookalikes.most_alike(found, np.arange(num_queries), np.arange(num_queries, num))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert alike == {7: 250}
    # 20,000 pairs at once would take 200 MB, a million of them 11 GB.
    assert peak < 100e6


def test_a_damaged_file_of_fingerprints_is_one_that_is_not_there(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(3, lookalikes.FINGERPRINT))
    whole = path.read_bytes()
    for at, byte in itertools.product(range(150), (0, 0x27, 0x39, 0x50, 0x7B)):
        path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        assert len(lookalikes.read_kept(path)) in (0, 3)
    for content in (b"", b"PK\x03\x04" + bytes(50), b"\x93NUMPY", b"\x80\x04.", whole[:-1]):
        path.write_bytes(content)
        assert len(lookalikes.read_kept(path)) == 0


def test_a_folder_without_held_out_pictures_is_fine(tmp_path):
    assert lookalikes.find_lookalikes(tmp_path, [], quiet=True) == {}
