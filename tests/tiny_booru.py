"""A local booru of small pictures, for tests of whole downloads."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from e6tag.config import DownloadConfig
from e6tag.demo.export import build_booru
from e6tag.demo.local_post import LocalPost, LocalRelations

TAGS = ("round", "square", "red", "blue", "large")


def picture(number: int, size: tuple[int, int] = (40, 30)) -> bytes:
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colours).resize(size).save(stream, "PNG")
    return stream.getvalue()


def tiny_booru(folder: Path, num_posts: int, num_large: int = 0) -> Path:
    """A booru in `folder`; its first `num_large` posts have samples."""
    posts = [
        LocalPost(
            key=f"{number:04}",
            picture=picture(number, (1000, 900) if number < num_large else (40, 30 + number % 9)),
            ext="png",
            tags={"general": [TAGS[number % 5], TAGS[(number // 5) % 5]]},
            group=str(number),
        )
        for number in range(num_posts)
    ]
    build_booru(posts, LocalRelations(), folder, quiet=True)
    return folder


def download_config(url: str, out: Path, **changes: object) -> DownloadConfig:
    """Everything of it."""
    values: dict[str, object] = {
        "base_url": url,
        "out": out,
        "strategy": "all",
        "requests_per_second": 1e6,
        "image_size": 64,
        "contact": "tests",
        "quiet": True,
    }
    return DownloadConfig(**values | changes)  # type: ignore[arg-type]


def results(out: Path) -> dict[str, bytes]:
    """What two downloads of the same must have the same of."""
    names = ("manifest.parquet", "plan.parquet", "tags.csv")
    paths = [*sorted((out / "shards").iterdir()), *(out / name for name in names)]
    return {path.name: path.read_bytes() for path in paths}
