"""A small data folder of drawn shapes, whose tags a network can really learn in seconds."""

import io
import random
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from e6tag.files import write_json
from e6tag.shards import Example, write_manifest, write_shard
from e6tag.tags import Tag, Vocabulary

SHAPES = ("circle", "square", "triangle")
COLOURS = {"red": (210, 30, 30), "green": (30, 160, 50), "blue": (30, 60, 210)}
NAMES = (*SHAPES, *COLOURS, "pair", "facing_left")


def draw(seed: int, side: int = 96) -> tuple[Image.Image, list[str]]:
    """A picture and its tags, by seed: one or two shapes of one colour."""
    rng = random.Random(seed)
    image = Image.new("RGB", (side, rng.choice([side, side * 3 // 4])), "white")
    pen = ImageDraw.Draw(image)
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    count = rng.choice([1, 1, 2])
    for place in range(count):
        size = rng.randint(side // 4, side // 2 - 6)
        x = rng.randint(2, side // 2 - size // 2) if count == 2 else rng.randint(2, side - size - 2)
        x += place * side // 2
        x, y = min(x, side - size - 2), rng.randint(2, image.height - size - 2)
        paint(pen, shape, (x, y, x + size, y + size), COLOURS[colour])
    tags = [shape, colour] + (["pair"] if count == 2 else [])
    return image, tags


def paint(pen: ImageDraw.ImageDraw, shape: str, box: tuple[int, int, int, int], fill) -> None:
    left, top, right, bottom = box
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    else:
        pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)


def encode(image: Image.Image, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return stream.getvalue()


def write_pictures(folder: Path, num: int = 60, sidecars: bool = True) -> None:
    """A folder of pictures with .txt sidecars, as somebody might have."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(num):
        image, tags = draw(seed)
        image.save(folder / f"{seed:03d}.png")
        if sidecars:
            (folder / f"{seed:03d}.txt").write_text(", ".join(tags))


def split_of(index: int) -> str:
    return "val" if index % 10 == 8 else "test" if index % 10 == 9 else "train"


def some_more(seed: int, names: list[str]) -> list[str]:
    """Tags that no picture shows, about 25 of 1000: the r-th has a share of 4 / r (Zipf)."""
    rng = np.random.default_rng(seed)
    shares = np.minimum(0.5, 4.0 / np.arange(1, len(names) + 1))
    return [
        name for name, drawn in zip(names, rng.random(len(names)) < shares, strict=True) if drawn
    ]


def write_dataset(
    folder: Path, num: int = 200, first_seed: int = 0, num_tags: int = len(NAMES)
) -> Path:
    """A finished data folder, written with the functions of the shards module.

    Tags beyond the names above have nothing to do with the pictures.
    """
    more = [f"tag_{i}" for i in range(num_tags - len(NAMES))]
    names = (*NAMES, *more)
    vocabulary = Vocabulary([Tag(i + 1, name, 0, 100) for i, name in enumerate(names)])
    rows = []
    for split in ("train", "val", "test"):
        indexes = [i for i in range(num) if split_of(i) == split]
        examples, kept = [], []
        for index in indexes:
            image, tags = draw(first_seed + index)
            tags += some_more(first_seed + index, more)
            jpeg = encode(image)
            examples.append(Example(index + 1, jpeg, {"tags": tags}))
            kept.append((index, image, tags, jpeg))
        places = write_shard(folder / "shards" / f"{split}-00000.tar", examples)
        for (index, image, tags, _), (offset, length) in zip(kept, places, strict=True):
            rows.append(row(index, split, image, vocabulary.columns(tags), offset, length))
    write_manifest(folder, pd.DataFrame(rows))
    vocabulary.write(folder / "tags.csv")
    write_json(
        folder / "dataset.json",
        {
            "format": 1,
            "site": "folder",
            "num_posts": num,
            "categories": {"0": "general"},
            "fingerprint": f"shapes-{num}-{first_seed}",
            "stored": {"image_size": 96, "jpeg_quality": 92},
            "options": {},
        },
    )
    return folder


def row(index, split, image, labels, offset, length) -> dict[str, object]:
    width, height = image.size
    return {
        "post_id": index + 1, "md5": f"{index:032x}", "ext": "jpg", "rating": "s",
        "width": width, "height": height, "size_bytes": length, "parent_id": 0,
        "group": index + 1, "split": split, "labels": np.array(labels, np.int32), "artists": "",
        "weight": 1.0, "reason": "all", "location": "", "shard": f"{split}-00000.tar",
        "offset": offset, "length": length, "stored_width": width, "stored_height": height,
        "sha256": "0" * 64, "variant": "original", "status": "ok", "error": "",
    }  # fmt: skip
