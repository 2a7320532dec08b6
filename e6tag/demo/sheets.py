"""Pictures to look at: what a run says of held-out pictures, and what it finds near them.

Pictures are drawn by lot, never picked; each sheet says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.demo.canvas import COLOURS, KINDS, LINE_PX, QUIET, TITLE_PX, Canvas, Kind
from e6tag.demo.lots import HeldOut, draw_lots, in_lot_order, read_picture
from e6tag.errors import DataError
from e6tag.files import write_bytes
from e6tag.index import Index, Neighbour, neighbours
from e6tag.report_pictures import compare
from e6tag.shards import Dataset, label_matrix, open_dataset
from e6tag.subjects import matching_columns
from e6tag.tagger import Tagger

MARGIN = 20
HEADER_PX = 92
PICTURE_PX = 192
COLUMNS = 3
CELL_WIDTH, CELL_HEIGHT = 440, PICTURE_PX + 24
TAG_LINES = 9
"""tags beside a picture"""
LINES_OF_KIND: Mapping[Kind, int] = {"found": 5, "wrong": 2, "missed": 2}
"""how many of them each kind may always have"""
NEIGHBOUR_PX = 150
NEIGHBOUR_LINES = 5
QUERY_LINES = 3
"""of tags below a query"""
NEIGHBOUR_HEIGHT = PICTURE_PX + (QUERY_LINES + 1) * LINE_PX + 28
DEFAULT_THRESHOLD = 0.5
"""where a run has no thresholds.csv"""


def contact_sheet(
    run_path: Path, data_path: Path, out_png: Path, num: int = 24, seed: int = 0
) -> None:
    """Draw held-out pictures with their true and predicted tags.

    Args:
        run_path: run folder.
        data_path: data folder; pictures of its test split are shown.
        out_png: file to write.
        num: pictures, at most.
        seed: draws the lots.

    Raises:
        RunError: the run is missing or broken.
        DataError: the data is missing or damaged, has other tags, or no test pictures.
    """
    tagger, dataset = Tagger.open(run_path), open_dataset(data_path)
    columns = matching_columns(tagger.run, dataset)
    pictures = draw_lots(dataset, tagger, num, seed)
    labels = label_matrix([p.row["labels"] for p in pictures], len(columns))[:, columns]
    probabilities = tagger.predict(np.stack([p.square for p in pictures])).probabilities
    thresholds = np.array(tagger.run.thresholds() or [DEFAULT_THRESHOLD] * len(columns))
    num_rows = -(-len(pictures) // COLUMNS)
    height = HEADER_PX + num_rows * CELL_HEIGHT + MARGIN
    canvas = Canvas.blank(2 * MARGIN + COLUMNS * CELL_WIDTH, height)
    draw_title(
        canvas,
        f"{run_path}: what it says of pictures it has not seen",
        f"{len(pictures)} of {len(dataset.split('test')):,} test pictures, drawn by lot (seed "
        f"{seed}), not picked. Numbers are probabilities; predicted: at its threshold or above.",
    )
    canvas.legend(MARGIN, HEADER_PX - 30)
    for position, picture in enumerate(pictures):
        tags = compare(
            tagger.run.vocabulary.names, labels[position], probabilities[position], thresholds
        )
        column, line = position % COLUMNS, position // COLUMNS
        place = (MARGIN + column * CELL_WIDTH, HEADER_PX + line * CELL_HEIGHT)
        draw_cell(canvas, place, picture, tags)
    canvas.save(out_png)


def draw_title(canvas: Canvas, title: str, caption: str) -> None:
    """Two lines at the top of a sheet."""
    width = canvas.image.width - 2 * MARGIN
    canvas.text(MARGIN, 10, title, width, size_px=TITLE_PX)
    canvas.text(MARGIN, 40, caption, width, QUIET)


def draw_cell(
    canvas: Canvas,
    place: tuple[int, int],
    picture: HeldOut,
    tags: Mapping[str, Sequence[tuple[str, float]]],
) -> None:
    """A picture with its tags to the right of it."""
    x, y = place
    canvas.picture(x, y, picture.content, PICTURE_PX)
    x, width = x + PICTURE_PX + 12, CELL_WIDTH - PICTURE_PX - 30
    canvas.text(x, y - 2, f"post {picture.row['post_id']}", width, QUIET)
    lines = choose_lines(tags)
    if not lines:
        canvas.text(x, y - 2 + LINE_PX, "no labels, nothing predicted", width, QUIET)
    for number, (kind, text) in enumerate(lines, 1):
        canvas.tag(x, y - 2 + number * LINE_PX, kind, text, width)
    hidden = sum(map(len, tags.values())) - len(lines)
    if hidden:
        canvas.text(x, y - 2 + (TAG_LINES + 1) * LINE_PX, f"and {hidden} more", width, QUIET)


def choose_lines(tags: Mapping[str, Sequence[tuple[str, float]]]) -> list[tuple[Kind, str]]:
    """At most `TAG_LINES` tags, each kind with its share of them, most probable first."""
    numbers = {kind: min(len(tags[kind]), LINES_OF_KIND[kind]) for kind in KINDS}
    for kind in KINDS:
        spare = TAG_LINES - sum(numbers.values())
        numbers[kind] = min(len(tags[kind]), numbers[kind] + spare)
    return [
        (kind, f"{share:.2f} {name}")
        for kind in KINDS
        for name, share in tags[kind][: numbers[kind]]
    ]


def neighbour_sheet(
    index_path: Path,
    run_path: Path,
    data_path: Path,
    out_png: Path,
    num_queries: int = 3,
    k: int = 8,
    seed: int = 0,
) -> None:
    """Draw test pictures with their nearest neighbours in an index of the same data.

    The query itself and its near-copies (posts of its group) are left out, and of each other
    group the nearest post is shown.

    Args:
        index_path: index folder that embed.py made of the data.
        run_path: run folder that made the index.
        data_path: data folder.
        out_png: file to write.
        num_queries: test pictures to look up.
        k: neighbours of each.
        seed: draws the lots.

    Raises:
        RunError: run or index is missing or broken.
        DataError: the data is missing or damaged, or has no test pictures.
    """
    tagger, dataset, index = Tagger.open(run_path), open_dataset(data_path), Index.open(index_path)
    queries = draw_lots(dataset, tagger, num_queries, seed, labelled=True)
    vectors = tagger.predict(np.stack([query.square for query in queries])).vectors
    width = 2 * MARGIN + PICTURE_PX + 24 + k * (NEIGHBOUR_PX + 12)
    canvas = Canvas.blank(width, HEADER_PX + len(queries) * NEIGHBOUR_HEIGHT)
    draw_title(
        canvas,
        f"{run_path}: test pictures and what is nearest to them",
        f"Left: {len(queries)} test pictures with labels, drawn by lot (seed {seed}), not picked. "
        f"Right: their nearest of {len(index):,} pictures by cosine, one of each group of "
        "near-copies, none of the query's own; below each the tags it shares with the query.",
    )
    posts = by_post(dataset)
    for number, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
        found = strangers_near(index, vector, query.row, posts, k)
        place = (MARGIN, HEADER_PX - 12 + number * NEIGHBOUR_HEIGHT)
        draw_query(canvas, place, dataset, query, [(near, posts[near.post_id]) for near in found])
    canvas.save(out_png)


def by_post(dataset: Dataset) -> dict[int, Mapping[str, Any]]:
    """Rows of the manifest whose picture is there, by post_id."""
    rows = dataset.manifest[dataset.manifest["status"] == "ok"]
    return {int(row["post_id"]): {str(k): v for k, v in row.items()} for _, row in rows.iterrows()}


def strangers_near(
    index: Index,
    vector: NDArray[np.float32],
    row: Mapping[str, Any],
    posts: Mapping[int, Mapping[str, Any]],
    k: int,
) -> list[Neighbour]:
    """The nearest posts of the k nearest groups but a row's own; fewer where there are no more.

    Args:
        index: to search.
        vector: (D,) the query.
        row: of the query in the manifest.
        posts: manifest rows by post_id.
        k: how many.
    """
    wanted = 4 * k
    while True:
        nearest: dict[int, Neighbour] = {}
        for near in neighbours(index, vector[None], wanted)[0]:
            group = posts[near.post_id]["group"] if near.post_id in posts else row["group"]
            if group != row["group"]:
                nearest.setdefault(group, near)
        if len(nearest) >= k or wanted >= len(index):
            return list(nearest.values())[:k]
        wanted *= 4


def draw_query(
    canvas: Canvas,
    place: tuple[int, int],
    dataset: Dataset,
    query: HeldOut,
    found: Sequence[tuple[Neighbour, Mapping[str, Any]]],
) -> None:
    """A query on the left, its neighbours to the right."""
    x, y = place
    names, own = dataset.vocabulary.names, set(query.row["labels"])
    canvas.picture(x, y, query.content, PICTURE_PX)
    below = y + PICTURE_PX + 4
    canvas.text(x, below, f"post {query.row['post_id']}", PICTURE_PX)
    tags = [names[column] for column in sorted(own)] or ["no labels"]
    canvas.paragraph(x, below + LINE_PX, tags, PICTURE_PX, QUERY_LINES, QUIET)
    x += PICTURE_PX + 24
    for near, row in found:
        shared = [names[column] for column in sorted(own & set(row["labels"]))]
        canvas.picture(x, y, read_picture(dataset, row), NEIGHBOUR_PX)
        below = y + NEIGHBOUR_PX + 4
        canvas.text(x, below, f"similarity {near.similarity:.2f}", NEIGHBOUR_PX, QUIET)
        words = shared or ["no tag in common"]
        colour = COLOURS["found" if shared else "missed"]
        canvas.paragraph(x, below + LINE_PX, words, NEIGHBOUR_PX, NEIGHBOUR_LINES - 1, colour)
        x += NEIGHBOUR_PX + 12


def held_out_picture(data_path: Path, seed: int = 0) -> Path:
    """Write one test picture, drawn by lot, as a file of its own to try things with.

    Returns:
        Its path, beside the shards.

    Raises:
        DataError: the data is missing or damaged, or has no test pictures.
    """
    dataset = open_dataset(data_path)
    for row in in_lot_order(dataset, seed):
        path = data_path / f"held-out-{row['post_id']}.jpg"
        write_bytes(path, read_picture(dataset, row))
        return path
    raise DataError(f"{data_path} has no test pictures. Run download.py again.")
