"""The data of the equal-clock benchmark: a training set and three test sets, from a local booru.

    WORK/all       what download.py makes of the booru: every post, 96 px
    WORK/data      a data folder with the benchmark's own splits
    WORK/arrays    the same pictures and labels, decoded, for rivals that read arrays

Three sets of pictures are kept from training, so that one training is tested three times:

    near-duplicates  groups of near-copies that have no picture in training, of known styles
    concepts         things that are in training in no style (all pictures of a code point)
    styles           whole artists that are not in training, of concepts that are

Usage: python benchmarks/clock_data.py BOORU WORK [--pictures N]
       (BOORU is the folder `booru` that `e6tag demo --full --build-only` made)
"""

import argparse
import csv
import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from e6tag import images, shards
from e6tag.demo.booru import Booru
from e6tag.files import read_json, write_json
from e6tag.shards import Dataset, Example
from e6tag.tags import Vocabulary

ROOT = Path(__file__).parents[1]
PICTURE_PX = 96
HELD_STYLES = ("openmoji", "twemoji")
STYLES = frozenset(HELD_STYLES) | {
    "kenney", "emojione", "emojione_v1", "fluent_emoji_3d", "fluent_emoji_flat", "noto", "noto_v1",
    "tabler",
}  # fmt: skip
CONCEPT_SHARE, VAL_SHARE, TEST_SHARE = 0.12, 0.08, 0.12
MOST_TEST = 1500
"""pictures of each test set"""
MIN_TRAIN, MIN_TEST = 30, 5
"""positives of a tag among the training and the near-duplicate test pictures"""
SETS = ("near-duplicates", "concepts", "styles")


def download(booru: Path, out: Path) -> None:
    """All posts of the booru, by download.py."""
    if (out / "manifest.parquet").exists():
        return
    with Booru(booru, port=0, requests_per_second=2000.0) as server:
        command = [
            sys.executable, "download.py", "--base-url", server.url, "--out", str(out),
            "--contact", "benchmark on this machine", "--strategy", "all", "--num-tags", "1024",
            "--min-count", "24", "--min-groups", "6", "--requests-per-second", "1000",
            "--image-size", str(PICTURE_PX), "--no-near-duplicates",
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def share(text: str, use: str) -> float:
    """A number in [0, 1) that only the text and its use decide."""
    digest = hashlib.sha256(f"{use}/{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def describe(booru: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """The posts with their `style` and `concept`, as the booru's own table says."""
    with gzip.open(booru / "db_export/posts.csv.gz", "rt", encoding="utf-8") as stream:
        rows = {int(row["id"]): row for row in csv.DictReader(stream)}
    styles = [next(iter(STYLES & set(rows[i]["tag_string"].split()))) for i in manifest["post_id"]]
    concepts = [rows[i]["description"].removeprefix("concept:") for i in manifest["post_id"]]
    return manifest.assign(style=styles, concept=concepts)


def place(row: pd.Series) -> str:
    """train, val, or the test set of a post."""
    if share(row["concept"], "concept") < CONCEPT_SHARE:
        return "" if row["style"] in HELD_STYLES else "concepts"
    if row["style"] in HELD_STYLES:
        return "styles"
    value = share(str(row["group"]), "group")
    if value < VAL_SHARE:
        return "val"
    return "near-duplicates" if value < VAL_SHARE + TEST_SHARE else "train"


def choose(posts: pd.DataFrame, num_train: int) -> pd.DataFrame:
    """The posts of the benchmark with their `place`, each set cut to size by whole groups."""
    posts = posts[posts["status"] == "ok"]
    posts = posts.assign(place=[place(row) for _, row in posts.iterrows()])
    order = [share(str(group), "order") for group in posts["group"]]
    posts = posts.assign(order=order).sort_values(["order", "post_id"], kind="stable")
    limits = {"train": num_train, "val": MOST_TEST} | dict.fromkeys(SETS, MOST_TEST)
    kept = [posts[posts["place"] == name].head(limit) for name, limit in limits.items()]
    return pd.concat(kept).reset_index(drop=True)


def choose_tags(posts: pd.DataFrame, num_tags: int) -> np.ndarray:
    """Columns of the tags that are frequent enough in training and in the first test set."""

    def count(name: str) -> np.ndarray:
        rows = posts.loc[posts["place"] == name, "labels"]
        return shards.label_matrix(rows, num_tags).sum(axis=0, dtype=int)

    return np.flatnonzero((count("train") >= MIN_TRAIN) & (count(SETS[0]) >= MIN_TEST))


def write_data(dataset: Dataset, posts: pd.DataFrame, columns: np.ndarray, out: Path) -> None:
    """A data folder as download.py would have made it, with the benchmark's splits and tags."""
    number = {int(column): i for i, column in enumerate(columns)}
    labels = [[number[c] for c in row if c in number] for row in posts["labels"]]
    splits = posts["place"].where(posts["place"].isin(["train", "val"]), "test")
    made = posts.assign(labels=labels, split=splits)
    kept = []
    for split in ("train", "val", "test"):
        rows = made[made["split"] == split]
        for start in range(0, len(rows), shards.EXAMPLES_PER_SHARD):
            part = rows.iloc[start : start + shards.EXAMPLES_PER_SHARD]
            kept.append(write_part(dataset, part, split, start, out))
    manifest = pd.concat(kept).reset_index(drop=True)
    chosen = [dataset.vocabulary.tags[column] for column in columns]
    Vocabulary(chosen).write(out / "tags.csv")
    info = read_json(dataset.path / "dataset.json", RuntimeError, "")
    # download.py's checksum of its own tags.csv is of other tags.
    info.pop("tags_sha256", None)
    fingerprint = hashlib.sha256(pd.util.hash_pandas_object(manifest["post_id"]).values.tobytes())
    info |= {"num_posts": len(manifest), "fingerprint": fingerprint.hexdigest()}
    shards.write_manifest(out, manifest)
    manifest[["post_id", "place"]].to_csv(out / "places.csv", index=False)
    write_json(out / "dataset.json", info)


def write_part(
    dataset: Dataset, rows: pd.DataFrame, split: str, start: int, out: Path
) -> pd.DataFrame:
    """One shard; its rows with their new places."""
    name = f"{split}-{start // shards.EXAMPLES_PER_SHARD:05d}.tar"
    examples = [
        Example(
            int(row["post_id"]),
            shards.read_stored(dataset.path, row["shard"], int(row["offset"]), int(row["length"])),
            {"post_id": int(row["post_id"])},
        )
        for _, row in rows.iterrows()
    ]
    places = shards.write_shard(out / "shards" / name, examples)
    return rows.assign(
        shard=name, offset=[offset for offset, _ in places], length=[size for _, size in places]
    )


def write_arrays(data: Path, out: Path) -> None:
    """Decoded pictures (N, 96, 96, 3) and labels (N, K), uint8, of each split."""
    dataset = shards.open_dataset(data)
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        rows = dataset.split(split)
        where = zip(rows["shard"], rows["offset"], rows["length"], strict=True)
        stored = (shards.read_stored(data, s, int(o), int(n)) for s, o, n in where)
        pictures = np.stack([images.read_square(content, PICTURE_PX) for content in stored])
        np.save(out / f"{split}_pictures.npy", pictures)
        labels = shards.label_matrix(rows["labels"], len(dataset.vocabulary))
        np.save(out / f"{split}_labels.npy", labels)
        np.save(out / f"{split}_post_id.npy", rows["post_id"].to_numpy())
    (out / "tags.txt").write_text("\n".join(dataset.vocabulary.names) + "\n", encoding="utf-8")


def prepare(booru: Path, work: Path, num_train: int) -> None:
    """Make WORK/data and WORK/arrays, unless they are there."""
    if (work / "arrays/tags.txt").exists():
        return
    download(booru, work / "all")
    dataset = shards.open_dataset(work / "all")
    posts = choose(describe(booru, dataset.manifest), num_train)
    columns = choose_tags(posts, len(dataset.vocabulary))
    write_data(dataset, posts, columns, work / "data")
    write_arrays(work / "data", work / "arrays")
    print(posts["place"].value_counts().to_dict(), len(columns), "tags", file=sys.stderr)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("booru", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--pictures", type=int, default=5500, help="training pictures")
    options = parser.parse_args()
    prepare(options.booru, options.work, options.pictures)


if __name__ == "__main__":
    main()
