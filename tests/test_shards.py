"""Shards against the tarfile module and the `tar` program; tables against damage."""

import hashlib
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from e6tag import images, shards, tables
from e6tag.errors import DataError
from e6tag.files import write_json
from e6tag.tags import Tag, Vocabulary


def example(post_id, size=32):
    noise = np.random.default_rng(post_id).integers(0, 255, (size, size, 3), np.uint8)
    jpeg, _ = images.store(Image.fromarray(noise), 320, 92)
    return shards.Example(
        post_id, jpeg, {"post_id": post_id, "tags": ["<3", "café"], "b": 1, "a": 2}
    )


def count_open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def manifest_row(post_id, **values):
    row = {field.name: 0 for field in tables.MANIFEST_SCHEMA}
    texts = ("md5", "ext", "rating", "artists", "reason", "location", "shard", "sha256", "error")
    row |= dict.fromkeys((*texts, "variant"), "")
    return row | {"post_id": post_id, "split": "train", "labels": [0], "status": "ok"} | values


def write_dataset(path, rows, num_tags=2):
    shards.write_manifest(path, pd.DataFrame(rows))
    Vocabulary([Tag(i, f"tag{i}", 0, 9) for i in range(num_tags)]).write(path / "tags.csv")
    write_json(path / "dataset.json", {"format": 1, "num_posts": len(rows)})


def test_the_tar_program_reads_shards_in_order(tmp_path):
    path = tmp_path / "train-00000.tar"
    written = [example(i) for i in (7, 3, 2**40)]
    shards.write_shard(path, written)
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [
        f"{e.post_id}.{suffix}" for e in written for suffix in ("jpg", "json")
    ]
    subprocess.run(["tar", "xf", path, "-C", tmp_path], check=True)
    assert (tmp_path / "3.jpg").read_bytes() == written[1].jpeg
    assert json.loads((tmp_path / "3.json").read_text()) == written[1].info


def test_places_are_where_the_tarfile_module_finds_the_pictures(tmp_path):
    path = tmp_path / "shards" / "val-00000.tar"
    written = [example(i, size) for i, size in ((1, 8), (2, 64), (3, 33))]
    places = shards.write_shard(path, written)
    with tarfile.open(path) as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".jpg")]
    assert places == [(m.offset_data, m.size) for m in members]
    for place, one in zip(places, written, strict=True):
        assert shards.read_stored(tmp_path, path.name, *place) == one.jpeg
    index = list(shards.read_shard_index(path))
    assert [(i.post_id, (i.offset, i.length), i.info) for i in index] == [
        (e.post_id, place, e.info) for e, place in zip(written, places, strict=True)
    ]


@settings(deadline=None)
@given(st.integers(0, 3), st.integers(0, 511), st.integers(1, 255))
def test_a_damaged_header_is_never_misread(tmp_path_factory, member, place, change):
    path = tmp_path_factory.mktemp("shards") / "val-00000.tar"
    places = shards.write_shard(path, [example(1, 8), example(2, 9)])
    whole = list(shards.read_shard_index(path))
    with tarfile.open(path) as tar:
        starts = [one.offset for one in tar]
    content = bytearray(path.read_bytes())
    content[starts[member] + place] ^= change
    path.write_bytes(content)
    try:
        found = list(shards.read_shard_index(path))
    except DataError as problem:
        assert str(path) in str(problem)
    else:
        assert found == whole and [(one.offset, one.length) for one in found] == places


def test_the_same_examples_give_the_same_bytes(tmp_path):
    def write(name, umask):
        before = os.umask(umask)
        try:
            shards.write_shard(tmp_path / name, [example(1), example(2)])
        finally:
            os.umask(before)
        return (tmp_path / name).read_bytes()

    first, second = write("a.tar", 0o022), write("b.tar", 0o077)
    assert first == second
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}


def test_a_failed_shard_leaves_nothing(tmp_path):
    def broken():
        yield example(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_shard(tmp_path / "a.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_bad_places_are_refused_naming_the_shard(tmp_path):
    path = tmp_path / "shards" / "train-00000.tar"
    ((offset, length),) = shards.write_shard(path, [example(1)])
    size = path.stat().st_size
    for place, words in [
        ((offset, size), "ends before"),
        ((offset + 1, length), "no JPEG"),
        ((offset, length - 1), "no JPEG"),
        ((size + 5, 10), "ends before"),
        ((-1, 10), "cannot be"),
        ((0, 0), "cannot be"),
        ((0, 1 << 40), "cannot be"),
    ]:
        with pytest.raises(DataError, match=f"train-00000.*{words}.*download"):
            shards.read_stored(tmp_path, path.name, *place)
    with pytest.raises(DataError, match=r"test-00000\.tar is missing"):
        shards.read_stored(tmp_path, "test-00000.tar", offset, length)


def test_a_replaced_shard_is_read_anew(tmp_path):
    path = tmp_path / "shards" / "train-00000.tar"
    for post_id in range(1, 6):
        one = example(post_id)
        ((offset, length),) = shards.write_shard(path, [one])
        assert shards.read_stored(tmp_path, path.name, offset, length) == one.jpeg


def test_many_threads_read_many_shards_without_leaking_files(tmp_path):
    shards.open_shard.cache_clear()
    open_before = count_open_files()
    written = {}
    for number in range(70):  # more than stay open
        name = f"train-{number:05d}.tar"
        one = example(number, 8)
        (place,) = shards.write_shard(tmp_path / "shards" / name, [one])
        written[name] = (place, one.jpeg)
    wrong = []

    def read(seed):
        for index in np.random.default_rng(seed).integers(0, 70, 300):
            name = f"train-{index:05d}.tar"
            place, jpeg = written[name]
            if shards.read_stored(tmp_path, name, *place) != jpeg:
                wrong.append(name)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert count_open_files() - open_before <= 65
    shards.open_shard.cache_clear()
    assert count_open_files() <= open_before


@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign"])
def test_damaged_shards_are_named(tmp_path, damage):
    path = tmp_path / "a.tar"
    shards.write_shard(path, [example(1), example(2)])
    content = path.read_bytes()
    if damage == "foreign":
        with tarfile.open(path, "w") as tar:
            tar.add(__file__, "README")
    else:
        path.write_bytes(content[:3000] if damage == "cut" else b"x" * 2048)
    with pytest.raises(DataError, match=r"a\.tar is damaged"):
        list(shards.read_shard_index(path))


def test_a_manifest_comes_back_as_it_was(tmp_path):
    rows = [manifest_row(2**40, labels=[1, 0], weight=2.5), manifest_row(3, labels=[], split="val")]
    shards.write_manifest(tmp_path, pd.DataFrame(rows))
    back = shards.read_manifest(tmp_path)
    assert list(back.columns) == tables.MANIFEST_SCHEMA.names
    assert back["post_id"].tolist() == [2**40, 3]
    assert [list(labels) for labels in back["labels"]] == [[1, 0], []]
    first = (tmp_path / "manifest.parquet").read_bytes()
    shards.write_manifest(tmp_path, back)
    assert (tmp_path / "manifest.parquet").read_bytes() == first


def test_missing_and_damaged_manifests_are_named(tmp_path):
    with pytest.raises(DataError, match=r"manifest\.parquet is missing.*download"):
        shards.read_manifest(tmp_path)
    shards.write_manifest(tmp_path, pd.DataFrame([manifest_row(1)]))
    path = tmp_path / "manifest.parquet"
    content = path.read_bytes()
    for damaged in (b"", b"junk", content[:-20], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"manifest\.parquet is damaged"):
            shards.read_manifest(tmp_path)
    pd.DataFrame({"post_id": [1]}).to_parquet(path)
    with pytest.raises(DataError, match="damaged"):
        shards.read_manifest(tmp_path)


def test_a_dataset_gives_the_rows_of_a_split_that_have_a_picture(tmp_path):
    rows = [
        manifest_row(1),
        manifest_row(2, split="val", labels=[1]),
        manifest_row(3, status="failed", error="gone"),
        manifest_row(4),
    ]
    write_dataset(tmp_path, rows)
    dataset = shards.open_dataset(tmp_path)
    assert dataset.split("train")["post_id"].tolist() == [1, 4]
    assert dataset.split("train").index.tolist() == [0, 1]
    assert dataset.split("val")["post_id"].tolist() == [2]
    assert len(dataset.split("test")) == 0
    assert len(dataset.vocabulary) == 2


def test_parts_of_a_dataset_that_do_not_fit_are_refused(tmp_path):
    write_dataset(tmp_path, [manifest_row(1, labels=[2])], num_tags=2)
    with pytest.raises(DataError, match=r"column 2, tags\.csv has 2"):
        shards.open_dataset(tmp_path)
    write_dataset(tmp_path, [manifest_row(1)])
    write_json(tmp_path / "dataset.json", {"format": 1, "num_posts": 5})
    with pytest.raises(DataError, match=r"1 posts, dataset\.json says 5"):
        shards.open_dataset(tmp_path)
    write_json(tmp_path / "dataset.json", {"format": 2, "num_posts": 1})
    with pytest.raises(DataError, match="format 2"):
        shards.open_dataset(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"dataset\.json is missing"):
        shards.open_dataset(tmp_path)


@given(st.lists(st.sets(st.integers(0, 11)), max_size=9))
def test_label_matrices_have_a_one_for_each_label(rows):
    matrix = shards.label_matrix([sorted(row) for row in rows], 12)
    assert matrix.shape == (len(rows), 12) and matrix.dtype == np.uint8
    assert [set(np.flatnonzero(line)) for line in matrix] == rows


def test_the_demo_data_is_the_default_until_there_is_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(shards.default_data(None)) == "data"
    write_dataset(tmp_path / "data/demo", [manifest_row(1)])
    assert str(shards.default_data(None)) == "data/demo"
    write_dataset(tmp_path / "data", [manifest_row(1)])
    assert str(shards.default_data(None)) == "data"
    assert shards.default_data(tmp_path) == tmp_path


def test_a_shard_does_not_depend_on_anything_but_its_examples(tmp_path):
    # Golden: another tarfile implementation or JSON layout would break resuming across versions.
    one = shards.Example(5, b"\xff\xd8 picture \xff\xd9", {"b": [1, 2], "a": "é"})
    shards.write_shard(tmp_path / "a.tar", [one])
    content = (tmp_path / "a.tar").read_bytes()
    assert len(content) == 10240
    assert hashlib.sha256(content).hexdigest() == (
        "8653a0f49da0eb48754609f3925df5f70100ae052ce11878841041862ff722d5"
    )
