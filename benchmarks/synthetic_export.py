"""A made-up export of e621's size and habits: the same bytes for the same number of posts.

32 columns as COPY writes them (quoted newlines, doubled quotes, empty strings beside NULLs), on
average 37 tags a post out of 600,000 names with Zipf frequencies, aliases, implications and pools
(a few of them in loops or without a target).
"""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NUM_NAMES = 600_000
NUM_ALIASES, NUM_IMPLICATIONS, NUM_POOLS = 60_000, 30_000, 30_000
CHUNK_POSTS = 50_000
DRAW_TABLE = 1 << 24
GZIP_LEVEL = 1
RATINGS, RATING_SHARES = ("s", "q", "e"), (0.25, 0.15, 0.6)
EXTENSIONS, EXTENSION_SHARES = ("png", "jpg", "gif", "webm", "webp"), (0.55, 0.37, 0.04, 0.03, 0.01)
CATEGORIES = (0, 1, 3, 4, 5, 6, 7, 8)
HEAD_SHARES = (0.72, 0.02, 0.05, 0.05, 0.08, 0.0, 0.07, 0.01)
TAIL_SHARES = (0.15, 0.43, 0.04, 0.34, 0.02, 0.01, 0.005, 0.005)
HEAD_RANKS = 20_000
TELLING = {"comic": 40, "animated": 60, "young": 90, "conditional_dnp": 150, "avoid_posting": 5000}
"""names that rules look for, and their ranks by frequency"""
SYLLABLES = ("ba", "ri", "to", "mu", "ke", "sha", "lon", "fe", "gra", "wi", "ot", "cy", "zu", "pel",
             "nor", "ith", "dra", "mo", "qui", "en")  # fmt: skip
WORDS = (
    "said,",
    '"look"',
    "at",
    "the",
    "→",
    "狼",
    "and",
    "his\nlong",
    "tail;",
    "drawn",
    "by",
    "héłène",
)
HEADER = (
    "id,uploader_id,created_at,md5,source,rating,image_width,image_height,tag_string,locked_tags,"
    "fav_count,file_ext,parent_id,change_seq,approver_id,file_size,comment_count,description,"
    "duration,updated_at,is_deleted,is_pending,is_flagged,score,up_score,down_score,"
    "is_rating_locked,is_status_locked,is_note_locked,bg_color,last_noted_at,last_commented_at\n"
)
FIRST_POST_US = 1_171_000_000_000_000
BETWEEN_POSTS_US = 90_000_000


def write_export(folder: Path, num_posts: int) -> None:
    """Write the five tables of `num_posts` posts (whole chunks of them)."""
    folder.mkdir(parents=True, exist_ok=True)
    names, rank = tag_names()
    counts = np.zeros(len(names), np.int64)
    with gzip.open(folder / "posts.csv.gz", "wb", compresslevel=GZIP_LEVEL) as stream:
        stream.write(HEADER.encode())
        last_id = 0
        for text, tag_counts, chunk_last_id in chunks(num_posts // CHUNK_POSTS, names, rank):
            stream.write(text)
            counts += tag_counts
            last_id = chunk_last_id
    rng = np.random.default_rng(4)
    by_rank = np.argsort(rank)
    write_table(folder, "tags", tag_rows(rng, names, rank, counts))
    write_table(folder, "tag_aliases", alias_rows(rng, names, by_rank))
    write_table(folder, "tag_implications", implication_rows(rng, names, by_rank))
    write_table(folder, "pools", pool_rows(rng, last_id, NUM_POOLS * num_posts // 6_400_000))


def write_table(folder: Path, name: str, rows: Iterable[Sequence[object]]) -> None:
    """A small table, header row first."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), GZIP_LEVEL))


# Tags and what is said of them


def tag_names() -> tuple[list[str], np.ndarray]:
    """All names, sorted, and the rank of each by frequency."""
    names = {*TELLING, *map(syllables, range(NUM_NAMES - len(TELLING)))}
    ordered = sorted(names)
    rank = np.random.default_rng(1).permutation(len(ordered))
    for name, wanted in TELLING.items():
        here, there = ordered.index(name), int(np.flatnonzero(rank == wanted)[0])
        rank[here], rank[there] = rank[there], rank[here]
    return ordered, rank


def syllables(number: int) -> str:
    """A name for a number: its digits, spelt."""
    parts, left = [], number
    while left or len(parts) < 2:
        left, digit = divmod(left, len(SYLLABLES))
        parts.append(SYLLABLES[digit])
    parts.insert(len(parts) // 2, "_" if number % 3 else "")
    return "".join(parts) + ("_(artist)" if number % 17 == 0 else "")


def tag_rows(rng: np.random.Generator, names: list[str], rank: np.ndarray, counts: np.ndarray):
    """tags.csv: mostly general tags at the head, artists and characters in the tail."""
    head = rng.choice(CATEGORIES, len(names), p=HEAD_SHARES)
    tail = rng.choice(CATEGORIES, len(names), p=TAIL_SHARES)
    category = np.where(rank < HEAD_RANKS, head, tail).tolist()
    yield ("id", "name", "category", "post_count", "created_at", "updated_at", "is_locked")
    for number, row in enumerate(zip(names, category, counts.tolist(), strict=True), 1):
        yield (number, *row, "2010-01-02 03:04:05.6", "2020-01-02 03:04:05", "f")


def alias_rows(
    rng: np.random.Generator, names: list[str], by_rank: np.ndarray
) -> Iterator[tuple[str, ...]]:
    """tag_aliases.csv: of names that no post has; some pending, one loop, one without a target."""
    yield ("id", "antecedent_name", "consequent_name", "created_at", "status", "reason")
    targets = by_rank[rng.integers(0, 50_000, NUM_ALIASES)].tolist()
    pairs = [(f"old_{names[code]}_{i}", names[code]) for i, code in enumerate(targets)]
    pairs += [("loop_a", "loop_b"), ("loop_b", "loop_a"), ("old_nowhere", "gone")]
    for number, pair in enumerate(pairs, 1):
        status = "pending" if number % 20 == 0 else "active"
        yield (str(number), *pair, "2012-01-01 00:00:00", status, "see\nthe forum")


def implication_rows(
    rng: np.random.Generator, names: list[str], by_rank: np.ndarray
) -> Iterator[tuple[str, ...]]:
    """tag_implications.csv: of rarer by commoner tags; one loop, one without a target."""
    yield ("id", "antecedent_name", "consequent_name", "created_at", "status", "reason")
    rarer = rng.integers(200, 100_000, NUM_IMPLICATIONS)
    commoner = (rarer * rng.random(NUM_IMPLICATIONS) ** 2).astype(np.int64)
    ends = zip(by_rank[rarer].tolist(), by_rank[commoner].tolist(), strict=True)
    # "young" is implied by nothing here, or a share of posts that nobody knows would be out.
    pairs = [(names[a], names[b]) for a, b in ends if names[b] not in TELLING]
    pairs += [("loop_c", "loop_d"), ("loop_d", "loop_c"), (names[0], "gone")]
    for number, pair in enumerate(pairs, 1):
        yield (str(number), *pair, "2012-01-01 00:00:00", "active", "")


def pool_rows(rng: np.random.Generator, last_id: int, num_pools: int) -> Iterator[tuple[str, ...]]:
    """pools.csv: series of up to 40 posts that lie near each other."""
    yield ("id", "name", "created_at", "category", "post_ids")
    for number in range(1, num_pools + 1):
        first = int(rng.integers(1, last_id))
        ids = first + np.cumsum(rng.integers(1, 30, int(rng.integers(2, 40))))
        kind = "series" if number % 4 else "collection"
        yield (str(number), f"Pool {number}", "", kind, "{" + ",".join(map(str, ids)) + "}")


# Posts


def chunks(num_chunks: int, names: list[str], rank: np.ndarray):
    """CSV of CHUNK_POSTS posts, how many of them have each tag, and the last id, for each chunk."""
    texts, table, name_array = descriptions(), draw_table(rank), pa.array(names)
    last_id = 0
    for number in range(num_chunks):
        rng = np.random.default_rng([3, number])
        ids = last_id + np.cumsum(rng.choice([1, 1, 1, 1, 2, 5], CHUNK_POSTS))
        last_id = int(ids[-1])
        tags, counts = tag_strings(rng, name_array, table)
        yield csv_lines(post_columns(rng, ids, tags, texts)), counts, last_id


def draw_table(rank: np.ndarray) -> np.ndarray:
    """Codes to draw from evenly: each as often as a tag of its rank is (Zipf-Mandelbrot)."""
    weight = (rank + 4.0) ** -1.1
    edges = np.cumsum(weight / weight.sum())
    places = (np.arange(DRAW_TABLE) + 0.5) / DRAW_TABLE
    return np.minimum(np.searchsorted(edges, places), len(rank) - 1).astype(np.int32)


def tag_strings(
    rng: np.random.Generator, names: pa.Array, table: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    """A text of sorted, distinct tags for each post, and how many posts have each tag."""
    sizes = np.clip(rng.lognormal(3.59, 0.5, CHUNK_POSTS), 4, 600).astype(np.int64)
    rows = np.repeat(np.arange(CHUNK_POSTS), sizes)
    keys = rows * len(names) + table[rng.integers(0, len(table), len(rows))]
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    rows, codes = np.divmod(keys, len(names))
    offsets = np.append(0, np.cumsum(np.bincount(rows, minlength=CHUNK_POSTS)))
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.take(pa.array(codes)))
    return pc.binary_join(lists, " "), np.bincount(codes, minlength=len(names))


def post_columns(
    rng: np.random.Generator, ids: np.ndarray, tags: pa.Array, texts: pa.Array
) -> list[pa.Array]:
    """The fields of a chunk, in the header's order."""
    created = FIRST_POST_US + ids * BETWEEN_POSTS_US + rng.integers(0, 10**6, CHUNK_POSTS)
    noted = rng.random(CHUNK_POSTS) < 0.1
    return [
        pa.array(ids).cast(pa.string()), integers(rng, 1, 10**6), times(created), hexadecimal(rng),
        sources(rng, ids), chosen(rng, RATINGS, RATING_SHARES), integers(rng, 300, 4000),
        integers(rng, 300, 4000), tags, chosen(rng, [None, '""'], [0.5, 0.5]),
        integers(rng, 0, 2000), chosen(rng, EXTENSIONS, EXTENSION_SHARES), parents(rng, ids),
        integers(rng, 1, 10**8), integers(rng, 1, 10**6, 0.7), integers(rng, 10**4, 10**7),
        integers(rng, 0, 50), texts.take(pa.array(rng.integers(0, len(texts), CHUNK_POSTS))),
        chosen(rng, [None, "3.50", "61.07"], [0.97, 0.02, 0.01]), times(created + 10**12),
        *(flags(rng, share) for share in (0.07, 0.002, 0.001)), integers(rng, -50, 1500),
        integers(rng, 0, 1600), integers(rng, -90, 1), *(flags(rng, 0.02) for _ in range(3)),
        chosen(rng, [None, "ffffff"], [0.95, 0.05]), times(created, noted), times(created, noted),
    ]  # fmt: skip


def csv_lines(columns: Sequence[pa.Array]) -> memoryview:
    """The columns as bytes of CSV."""
    lines = pc.binary_join_element_wise(*columns, ",", null_handling="replace")
    joined = pc.binary_join_element_wise(lines, "\n", "")
    _, offsets, content = joined.buffers()
    return memoryview(content)[: np.frombuffer(offsets, np.int32)[len(joined)]]


def chosen(
    rng: np.random.Generator, values: Sequence[str | None], shares: Sequence[float]
) -> pa.Array:
    """One of the values for each post."""
    return pa.array(values, pa.string()).take(
        pa.array(rng.choice(len(values), CHUNK_POSTS, p=shares))
    )


def flags(rng: np.random.Generator, share: float) -> pa.Array:
    """t and f, the share of them t."""
    return chosen(rng, ("t", "f"), (share, 1 - share))


def integers(rng: np.random.Generator, low: int, high: int, known: float = 1.0) -> pa.Array:
    """Whole numbers as texts, the share `known` of them, else NULL."""
    values = rng.integers(low, high, CHUNK_POSTS)
    return pa.array(values, mask=rng.random(CHUNK_POSTS) >= known).cast(pa.string())


def parents(rng: np.random.Generator, ids: np.ndarray) -> pa.Array:
    """An earlier post for one in seven."""
    values = np.maximum(ids - rng.integers(1, 40, CHUNK_POSTS), 1)
    return pa.array(values, mask=rng.random(CHUNK_POSTS) > 0.15).cast(pa.string())


def times(microseconds: np.ndarray, known: np.ndarray | bool = True) -> pa.Array:
    """Times as COPY writes them."""
    hidden = ~np.broadcast_to(known, microseconds.shape)
    texts = pa.array(microseconds, pa.timestamp("us"), mask=hidden).cast(pa.string())
    # Six decimals, as many as they need.
    return pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")


def hexadecimal(rng: np.random.Generator) -> pa.Array:
    """A made-up MD5 for each post."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    content = digits[rng.integers(0, 16, CHUNK_POSTS * 32, np.uint8)].tobytes()
    offsets = np.arange(0, CHUNK_POSTS * 32 + 1, 32, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), CHUNK_POSTS, buffers)


def sources(rng: np.random.Generator, ids: np.ndarray) -> pa.Array:
    """Addresses: none, one, or two in a quoted field with a newline."""
    texts = pa.array(ids).cast(pa.string())
    one = pc.binary_join_element_wise("https://art.example.org/view/", texts, "")
    two = pc.binary_join_element_wise('"', one, "\nhttps://img.example.org/of,", texts, '"', "")
    kind = pa.array(rng.choice(3, CHUNK_POSTS, p=(0.2, 0.5, 0.3)))
    return pc.choose(kind, pa.array(['""'] * CHUNK_POSTS), one, two)


def descriptions() -> pa.Array:
    """Quoted texts to choose from: half are empty, most are short, one is 50,000 long."""
    rng = np.random.default_rng(2)
    texts = ['""'] * 2000
    for _ in range(2000):
        words = " ".join(rng.choice(WORDS, 2 + int(rng.lognormal(3.4, 1.0))))
        texts.append('"' + words.replace('"', '""') + '"')
    return pa.array([*texts, '"' + "a,\n" * 16_666 + '"'])
