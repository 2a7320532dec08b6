"""A booru of drawn pictures, and what its exports say some days later."""

import csv
import gzip
import hashlib
import io
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from e6tag.config import DownloadConfig
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations

TAGS = ("round", "square", "red", "blue", "large")


def picture(number: int, side: int = 40) -> bytes:
    """A small PNG; each number has its own."""
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 4), np.uint8)
    stream = io.BytesIO()
    image = Image.fromarray(colours).resize((side + number % 7, side - number % 5))
    image.save(stream, "PNG")
    return stream.getvalue()


def local_post(number: int) -> LocalPost:
    general = [tag for bit, tag in enumerate(TAGS) if (number + 1) >> bit & 1]
    return LocalPost(
        key=f"{number:03}",
        picture=picture(number),
        ext="png",
        tags={"general": general or ["red"], "artist": [f"artist{number % 3}"]},
        group=str(number),
    )


def build(folder: Path, num_posts: int) -> Path:
    """A booru of posts 1 to `num_posts`, each a group of its own."""
    relations = LocalRelations([("ball", "round")], [("red", "warm")])
    build_booru(map(local_post, range(num_posts)), relations, folder)
    return folder


def read_rows(folder: Path, name: str = "posts") -> list[dict[str, str]]:
    with gzip.open(folder / f"db_export/{name}.csv.gz", "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(folder: Path, rows: list[dict[str, str]], name: str = "posts") -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = folder / f"db_export/{name}.csv.gz"
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def changed(folder: Path, copy: Path, changes: Mapping[int, Mapping[str, str] | None]) -> Path:
    """A copy of a booru whose posts have changed, by id; None: the row is not there any more."""
    shutil.copytree(folder, copy)
    rows = [dict(row) for row in read_rows(copy)]
    for row in rows:
        row.update(changes.get(int(row["id"])) or {})
    gone = {post_id for post_id, change in changes.items() if change is None}
    write_rows(copy, [row for row in rows if int(row["id"]) not in gone])
    return copy


def replacement(folder: Path, number: int) -> dict[str, str]:
    """Put a new picture into a booru; what the export says of the post that it is now."""
    content = picture(number)
    md5 = hashlib.md5(content).hexdigest()
    path = folder / "data" / md5[:2] / md5[2:4] / f"{md5}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    width, height = Image.open(io.BytesIO(content)).size
    sizes = {"image_width": str(width), "image_height": str(height)}
    return {"md5": md5, "file_size": str(len(content)), "file_ext": "png", **sizes}


def options(booru, out: Path, **changes) -> DownloadConfig:
    values = {
        "base_url": booru.url,
        "out": out,
        "strategy": "all",
        "requests_per_second": 1000.0,
        "image_size": 64,
        "contact": "tests",
        "quiet": True,
    }
    return DownloadConfig(**values | changes)


def command(out: Path, *more: str) -> list[str]:
    """A run in a process of its own, with the folder's own options."""
    return [sys.executable, "-m", "e6tag", "download", "--out", str(out), "--quiet", *more]


OTHER = {"exports", "fingerprints", "log"}


def contents(out: Path) -> dict[str, bytes]:
    """Every file that a data folder is made of, besides the exports and what can be made anew."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock" and not OTHER.intersection(path.parts)
    }
