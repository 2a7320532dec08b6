"""A picture that a site shows for many posts is none of theirs."""

import io
import shutil

import numpy as np
import pytest
from changed_booru import contents, options
from PIL import Image

from e6tag import acquisition, incoming, placeholders, shards
from e6tag.demo.booru import Booru
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.errors import DataError

NUM_POSTS = 50
PLACED = range(0, 40, 4)
"""numbers of posts whose sample shows what the site has in their place"""
FEW = (1, 2, 3)
"""numbers of posts whose samples are the same, as different uploads of one picture have them"""


def large(number):
    colours = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colours).resize((1000, 900), Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def sample_of(folder, row):
    return folder / "data/sample" / row["md5"][:2] / row["md5"][2:4] / f"{row['md5']}.jpg"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "booru"
    posts = [
        LocalPost(
            key=f"{number:03}",
            picture=large(number),
            ext="png",
            tags={"general": ["red"]},
            group=str(number),
        )
        for number in range(NUM_POSTS)
    ]
    build_booru(posts, LocalRelations([], []), folder)
    return folder


@pytest.fixture(scope="module")
def fetched(whole, tmp_path_factory):
    out = tmp_path_factory.mktemp("fetched") / "data"
    with Booru(whole, requests_per_second=2000) as booru:
        assert acquisition.download(options(booru, out)) == 0
    return out


@pytest.fixture(scope="module")
def placed(whole, fetched, tmp_path_factory):
    """The booru with one sample in the place of some."""
    folder = tmp_path_factory.mktemp("placed") / "booru"
    shutil.copytree(whole, folder)
    rows = shards.read_manifest(fetched).sort_values("post_id").to_dict("records")
    assert {row["variant"] for row in rows} == {"sample"}
    with Image.open(sample_of(folder, rows[0])) as image:
        size = image.size
    for numbers, grey in ((PLACED, 100), (FEW, 200)):
        for number in numbers:
            Image.new("RGB", size, (grey,) * 3).save(sample_of(folder, rows[number]), "JPEG")
    return folder, sorted(rows[number]["post_id"] for number in PLACED)


def run(folder, out, **changes):
    with Booru(folder, requests_per_second=2000) as booru:
        code = acquisition.download(options(booru, out, **changes))
        return code, [r.target for r in booru.log if "/sample/" in r.target]


@pytest.fixture(scope="module")
def clean(placed, tmp_path_factory):
    out = tmp_path_factory.mktemp("clean") / "data"
    assert run(placed[0], out)[0] == 1
    return out


def failed(out):
    rows = shards.open_dataset(out).manifest
    return rows[rows["status"] == "failed"].sort_values("post_id")


def test_what_many_posts_show_is_not_stored(placed, clean):
    rows = failed(clean)
    assert rows["post_id"].tolist() == placed[1] and set(rows["error"]) == {"placeholder"}
    assert (rows["shard"] == "").all()
    stored = {e.post_id for f in (clean / "shards").iterdir() for e in shards.read_shard_index(f)}
    assert not stored & set(placed[1]) and len(stored) == NUM_POSTS - len(PLACED)


def test_a_few_uploads_of_one_picture_are_kept(clean):
    rows = shards.open_dataset(clean).manifest
    counts = rows.loc[rows["status"] == "ok", "sha256"].value_counts()
    assert counts.max() == len(FEW) == placeholders.MOST_POSTS


def test_they_are_not_asked_for_again_but_when_told_to_and_then_not_believed(
    placed, clean, tmp_path
):
    out = shutil.copytree(clean, tmp_path / "data")
    assert run(placed[0], out) == (1, [])
    code, asked = run(placed[0], out, retry_failed=True)
    assert code == 1 and len(asked) == len(PLACED)
    assert contents(out)["manifest.parquet"] == contents(clean)["manifest.parquet"]


def test_the_right_pictures_take_their_place(whole, fetched, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    assert run(whole, out, retry_failed=True)[0] == 0
    assert failed(out).empty
    rows = shards.read_manifest(out).set_index("post_id")["sha256"]
    before = shards.read_manifest(fetched).set_index("post_id")["sha256"]
    assert (rows.sort_index() != before.sort_index()).sum() == len(FEW)


def test_one_that_is_known_is_refused_though_few_show_it(placed, clean, whole, tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    shutil.copy(clean / "placeholders.json", out)
    folder = tmp_path / "booru"
    shutil.copytree(whole, folder)
    rows = shards.read_manifest(clean).set_index("post_id")
    one = rows.loc[placed[1][1]]
    shutil.copy(sample_of(placed[0], one), sample_of(folder, one))
    assert run(folder, out)[0] == 1
    assert failed(out)["post_id"].tolist() == [placed[1][1]]


@pytest.mark.parametrize("connections", [1, 9])
def test_the_order_of_arrival_does_not_matter(placed, clean, tmp_path, connections):
    assert run(placed[0], tmp_path, connections=connections)[0] == 1
    for name in ("manifest.parquet", "placeholders.json", "shards/train-00000.tar"):
        assert (tmp_path / name).read_bytes() == (clean / name).read_bytes()


@pytest.mark.parametrize("moment", ["noted", "written"])
def test_a_run_that_ends_while_they_are_removed_goes_on(
    placed, clean, tmp_path, moment, monkeypatch
):
    class Ended(BaseException):
        pass

    def end(*_):
        raise Ended

    name = {"noted": "write_shard", "written": "read_shard"}[moment]
    write = incoming.Incoming.remove

    def remove(self, work, failures):
        with monkeypatch.context() as patch:
            patch.setattr(incoming, name, end)
            write(self, work, failures)

    with monkeypatch.context() as patch:
        patch.setattr(incoming.Incoming, "remove", remove)
        with pytest.raises(Ended):
            run(placed[0], tmp_path)
    assert not (tmp_path / "manifest.parquet").exists()
    assert run(placed[0], tmp_path) == (1, [])
    for name in ("manifest.parquet", "placeholders.json", "shards/train-00000.tar"):
        assert (tmp_path / name).read_bytes() == (clean / name).read_bytes()


def test_a_shard_of_placeholders_alone_goes(placed, clean, tmp_path):
    out = shutil.copytree(clean, tmp_path / "data")
    rows = shards.read_manifest(out)
    others = rows.loc[(rows["split"] == "val") & (rows["status"] == "ok"), "sha256"]
    hashes = placeholders.read_placeholders(out) | set(others)
    placeholders.write_placeholders(out, hashes)
    assert run(placed[0], out) == (1, [])
    assert not (out / "shards/val-00000.tar").exists()
    assert not len(shards.open_dataset(out).split("val"))


def test_originals_are_believed(whole, tmp_path):
    """Their MD5 is the site's."""
    out = tmp_path / "data"
    assert run(whole, out, variant="original")[0] == 0
    hashes = shards.read_manifest(out)["sha256"]
    placeholders.write_placeholders(out, set(hashes))
    assert run(whole, out, variant="original")[0] == 0


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "sha256": []}', '{"format": 1}'])
def test_a_damaged_list_is_named(placed, clean, tmp_path, text):
    out = shutil.copytree(clean, tmp_path / "data")
    (out / "placeholders.json").write_text(text)
    with pytest.raises(DataError, match=r"placeholders\.json is damaged.*Remove it"):
        run(placed[0], out)
    (out / "placeholders.json").unlink()
