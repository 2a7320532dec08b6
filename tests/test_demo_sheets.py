"""The sheets to look at: whole pictures, drawn by lot, of what they say they are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_run import NAMES, make_data, make_run

from e6tag.config import EmbedConfig
from e6tag.demo import canvas, sheets
from e6tag.demo.lots import draw_lots
from e6tag.demo.sheets import contact_sheet, held_out_picture, neighbour_sheet
from e6tag.errors import DataError, RunError
from e6tag.images import decode
from e6tag.index import Index
from e6tag.shards import open_dataset, read_manifest, write_manifest
from e6tag.tagger import Tagger
from e6tag.vectors import embed

HOSTILE = ("<b>", "line\nbreak", "😀", "\u05d0\u05d1", "w" * 400, *NAMES[5:])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Run, data with groups of three near-copies, and an index of all of it."""
    base = tmp_path_factory.mktemp("sheets")
    run, data, index = base / "run", base / "data", base / "index"
    make_run(run, data=data)
    make_data(data, 90)
    manifest = read_manifest(data)
    write_manifest(data, manifest.assign(group=(manifest["post_id"] - 101) // 3))
    embed(EmbedConfig(run=run, data=data, out=index, quiet=True))
    return run, data, index


def test_a_contact_sheet_is_a_png_that_the_seed_fixes(folders, tmp_path):
    run, data, _ = folders
    sheet = [tmp_path / f"{number}.png" for number in range(3)]
    for path, seed in zip(sheet, (0, 0, 1), strict=True):
        contact_sheet(run, data, path, num=5, seed=seed)
    assert sheet[0].read_bytes() == sheet[1].read_bytes() != sheet[2].read_bytes()
    with Image.open(sheet[0]) as image:
        assert image.format == "PNG"
        assert image.width == 2 * sheets.MARGIN + sheets.COLUMNS * sheets.CELL_WIDTH
        assert image.height == sheets.HEADER_PX + 2 * sheets.CELL_HEIGHT + sheets.MARGIN
    assert not list(tmp_path.glob("*.part"))


def test_a_contact_sheet_shows_the_test_pictures_that_the_lot_drew(folders, tmp_path):
    run, data, _ = folders
    contact_sheet(run, data, tmp_path / "sheet.png", num=4, seed=3)
    drawn = draw_lots(open_dataset(data), Tagger.open(run), 4, 3)
    assert {picture.row["split"] for picture in drawn} == {"test"}
    assert len({picture.row["post_id"] for picture in drawn}) == 4
    with Image.open(tmp_path / "sheet.png") as image:
        first = image.crop((21, sheets.HEADER_PX + 1, 20 + 191, sheets.HEADER_PX + 191))
    size = (sheets.PICTURE_PX, sheets.PICTURE_PX)
    expected = decode(drawn[0].content).resize(size, Image.Resampling.BICUBIC)
    difference = np.asarray(first, int) - np.asarray(expected, int)[1:191, 1:191]
    assert np.abs(difference[:, :, 0]).mean() < 3


def test_fewer_test_pictures_than_wanted_are_all_shown(folders):
    run, data, _ = folders
    assert len(draw_lots(open_dataset(data), Tagger.open(run), 1000, 0)) == 30


def test_pictures_that_cannot_be_read_are_passed_over(folders, tmp_path):
    run, _, _ = folders
    data = tmp_path / "data"
    make_data(data, 30)
    shard = data / "shards" / "test-00000.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    drawn = draw_lots(open_dataset(data), Tagger.open(run), 1000, 0)
    assert 2 <= len(drawn) < 10
    shard.unlink()
    with pytest.raises(DataError, match="no test picture"):
        contact_sheet(run, data, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_hostile_tag_names_are_drawn_within_the_sheet(tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    make_run(run, names=HOSTILE, data=data, thresholds=False)
    make_data(data, 30, HOSTILE)
    embed(EmbedConfig(run=run, data=data, out=tmp_path / "index", quiet=True))
    contact_sheet(run, data, tmp_path / "sheet.png")
    neighbour_sheet(tmp_path / "index", run, data, tmp_path / "near.png")
    for name in ("sheet.png", "near.png"):
        assert margin_is_blank(tmp_path / name)


def margin_is_blank(path: Path) -> bool:
    """Whether nothing runs out at the right."""
    with Image.open(path) as image:
        right = np.asarray(image.convert("RGB"))[:, -sheets.MARGIN + 2 :]
    return bool((right == 255).all())


def test_neighbours_are_the_nearest_of_other_groups(folders):
    run, data, index_path = folders
    dataset, tagger, index = open_dataset(data), Tagger.open(run), Index.open(index_path)
    posts = sheets.by_post(dataset)
    query = draw_lots(dataset, tagger, 1, 0)[0]
    vector = tagger.predict(query.square[None]).vectors[0]
    near = sheets.strangers_near(index, vector, query.row, posts, 5)
    unit = vector / np.linalg.norm(vector)
    similarities = np.asarray(index.vectors, np.float32) @ unit
    best: dict[int, float] = {}
    for row, similarity in enumerate(similarities):
        group = posts[index.neighbour(row, 0.0).post_id]["group"]
        if group != query.row["group"]:
            best[group] = max(best.get(group, -1.0), float(similarity))
    expected = sorted(best.values(), reverse=True)[:5]
    assert [n.similarity for n in near] == pytest.approx(expected, abs=2e-3)
    groups = [posts[n.post_id]["group"] for n in near]
    assert len(set(groups)) == 5 and query.row["group"] not in groups
    everything = sheets.strangers_near(index, vector, query.row, posts, 1000)
    assert len(everything) == len(best)


def test_a_neighbour_sheet_is_as_wide_as_its_neighbours(folders, tmp_path):
    run, data, index = folders
    neighbour_sheet(index, run, data, tmp_path / "near.png", num_queries=2, k=3)
    with Image.open(tmp_path / "near.png") as image:
        assert image.height == sheets.HEADER_PX + 2 * sheets.NEIGHBOUR_HEIGHT
    assert margin_is_blank(tmp_path / "near.png")


def test_a_missing_index_is_a_run_error(folders, tmp_path):
    run, data, _ = folders
    with pytest.raises(RunError):
        neighbour_sheet(tmp_path / "nothing", run, data, tmp_path / "near.png")


def test_the_held_out_picture_is_a_file_of_the_test_split(folders):
    _, data, _ = folders
    path = held_out_picture(data)
    assert held_out_picture(data) == path
    post = int(path.stem.rpartition("-")[2])
    rows = read_manifest(data).set_index("post_id")
    assert rows.loc[post, "split"] == "test"
    shard = (data / "shards" / rows.loc[post, "shard"]).read_bytes()
    start = int(rows.loc[post, "offset"])
    assert path.read_bytes() == shard[start : start + int(rows.loc[post, "length"])]


tags = st.lists(st.tuples(st.text(), st.floats(0, 1)), max_size=15)


@given(st.fixed_dictionaries({"found": tags, "wrong": tags, "missed": tags}))
@settings(deadline=None)
def test_lines_beside_a_picture_are_filled_and_no_kind_is_crowded_out(told):
    lines = sheets.choose_lines(told)
    assert len(lines) == min(sheets.TAG_LINES, sum(map(len, told.values())))
    for kind, least in sheets.LINES_OF_KIND.items():
        shown = [text for of_kind, text in lines if of_kind == kind]
        assert len(shown) >= min(len(told[kind]), least)
        assert shown == [f"{share:.2f} {name}" for name, share in told[kind][: len(shown)]]


@given(st.text(max_size=80), st.integers(30, 300))
@settings(deadline=None)
def test_a_line_fits_its_width(text, width):
    line = canvas.shortened(text, width)
    assert canvas.font(canvas.TEXT_PX).getlength(line) <= width
    assert "\n" not in line


@given(
    st.lists(st.text("abc_", min_size=1, max_size=20), max_size=12),
    st.integers(120, 300),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_a_paragraph_names_every_word_or_counts_it(words, width, num_lines):
    lines = canvas.wrapped(words, width, num_lines)
    assert len(lines) <= num_lines
    *named, last = lines or [""]
    shown = [word for line in named for word in line.split(", ")]
    if last.startswith("and "):
        shown_or_counted = len(shown) + int(last.split()[1])
    else:
        shown += last.split(", ") if last else []
        shown_or_counted = len(shown)
    assert shown == list(words[: len(shown)])
    assert shown_or_counted == len(words)
