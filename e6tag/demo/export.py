"""Turn local pictures into a booru on disk: e621's exports and its tree of picture files.

    folder/db_export/{posts,tags,tag_aliases,tag_implications,pools}.csv.gz
    folder/data/ab/cd/<md5>.<ext>                      originals
    folder/data/sample/ab/cd/<md5>.jpg and .webp       only of large pictures
    folder/data/preview/ab/cd/<md5>.jpg and .webp

A file is finished or absent, so a build that was interrupted goes on where it stopped.
"""

import hashlib
import io
import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from e6tag.demo import variants
from e6tag.demo.export_tables import Picture, write_tables
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.demo.variants import Size
from e6tag.errors import DataError
from e6tag.files import locked, write_bytes
from e6tag.progress import Progress

log = logging.getLogger(__name__)

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Pillow's name of a format: the site's extension"""
BG_COLOR = "ffffff"
"""what shows through transparent pictures; drawings are made for white paper"""


@dataclass(frozen=True)
class Output:
    """Where things go, and how many threads write them."""

    folder: Path
    num_threads: int = 2


def build_booru(
    posts: Iterable[LocalPost],
    relations: LocalRelations,
    folder: Path,
    *,
    num_posts: int = 0,
    label: str = "building the local booru",
    quiet: bool = False,
) -> int:
    """Write the whole booru and return its number of posts.

    Posts are numbered from 1 in the order of their keys.  Pictures pass through one by one: only
    their descriptions are kept in memory.  Of posts with the very same picture the first by key
    stays, as the site refuses a second upload.

    Args:
        posts: in any order; each is asked for when there is room for it.
        relations: what the sources say of tags; both kinds are applied to the posts' tags.
        folder: made if missing; files in it that are right are left alone.
        num_posts: how many will come, for the progress bar.
        label: what the progress bar says.
        quiet: show no progress.

    Raises:
        DataError: a picture, tag, category, rating or key that a booru cannot hold.
        ConfigError: another process is building in this folder.
    """
    with locked(folder):
        for unfinished in folder.rglob("*.part"):
            unfinished.unlink(missing_ok=True)
        with Progress(label, num_posts, unit="posts", quiet=quiet) as progress:
            filed = file_pictures(posts, Output(folder), progress.update)
        kept = without_copies(filed)
        write_tables(kept, relations, folder / "db_export")
    return len(kept)


def file_pictures(
    posts: Iterable[LocalPost], output: Output, done: Callable[[], None]
) -> list[tuple[LocalPost, Picture]]:
    """Write every picture's files; the posts come back without their bytes."""
    taken: list[LocalPost] = []
    pictures: dict[str, Picture] = {}
    order: list[str] = []
    waiting: deque[Future[Picture]] = deque()

    def finish_one() -> None:
        picture = waiting.popleft().result()
        pictures[picture.md5] = picture
        done()

    started: set[str] = set()
    with ThreadPoolExecutor(output.num_threads) as pool:
        for post in posts:
            md5 = hashlib.md5(post.picture, usedforsecurity=False).hexdigest()
            if md5 not in started:
                started.add(md5)
                waiting.append(pool.submit(file_picture, post, md5, output.folder))
            taken.append(replace(post, picture=b""))
            order.append(md5)
            if len(waiting) > 2 * output.num_threads:
                finish_one()
        while waiting:
            finish_one()
    return [(post, pictures[md5]) for post, md5 in zip(taken, order, strict=True)]


def without_copies(filed: list[tuple[LocalPost, Picture]]) -> list[tuple[LocalPost, Picture]]:
    """In key order, each picture once.

    Raises:
        DataError: two posts have the same key.
    """
    kept: dict[str, tuple[LocalPost, Picture]] = {}
    keys: set[str] = set()
    for post, picture in sorted(filed, key=lambda pair: pair[0].key):
        if post.key in keys:
            raise DataError(f"two posts have the key {post.key!r}: keys must be unique.")
        keys.add(post.key)
        kept.setdefault(picture.md5, (post, picture))
    if len(kept) < len(filed):
        log.info("%d pictures came twice and were taken once", len(filed) - len(kept))
    return list(kept.values())


def file_picture(post: LocalPost, md5: str, folder: Path) -> Picture:
    """Write the original and what the site derives from it.

    Raises:
        DataError: not a picture, or not of the kind its extension says.
    """
    image = open_picture(post)
    original = static_path(folder, md5, post.ext)
    if not (original.exists() and original.read_bytes() == post.picture):
        write_bytes(original, post.picture)
    size = Size(*image.size)
    animated = getattr(image, "is_animated", False)
    bg_color = BG_COLOR if image.has_transparency_data else None
    if variants.has_sample(size, post.ext, animated=animated):
        write_variant("sample", md5, folder, partial(plain, image, post, variants.make_sample))
    if variants.has_preview(size, post.ext):
        write_variant("preview", md5, folder, partial(plain, image, post, variants.make_preview))
    return Picture(md5, post.ext, size, len(post.picture), bg_color)


def open_picture(post: LocalPost) -> Image.Image:
    """Read the header of a post's picture."""
    try:
        image = Image.open(io.BytesIO(post.picture))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as problem:
        raise DataError(f"post {post.key!r}: not a picture ({problem}).") from None
    if EXTENSIONS.get(image.format or "") != post.ext:
        raise DataError(
            f"post {post.key!r}: a {image.format} picture with the extension {post.ext!r}; "
            f"expected one of {', '.join(EXTENSIONS.values())} that says what it is."
        )
    return image


def plain(
    image: Image.Image, post: LocalPost, make: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Decode the picture and make a variant of it."""
    try:
        return make(variants.with_plain_pixels(image))
    except (OSError, SyntaxError) as problem:
        raise DataError(f"post {post.key!r}: the picture is damaged ({problem}).") from None


def write_variant(kind: str, md5: str, folder: Path, make: Callable[[], Image.Image]) -> None:
    """Write both files of a sample or preview, unless they are there.

    What they show depends on the md5 alone, so a file that is there is the right one.
    """
    paths = [static_path(folder, md5, ext, kind) for ext in ("jpg", "webp")]
    if all(path.exists() for path in paths):
        return
    image = make()
    write_bytes(paths[0], variants.jpeg(image, BG_COLOR))
    write_bytes(paths[1], variants.webp(image))


def static_path(folder: Path, md5: str, ext: str, kind: str = "") -> Path:
    """Where a file of a post is; `kind` is empty for originals, or sample or preview."""
    return folder / "data" / kind / md5[:2] / md5[2:4] / f"{md5}.{ext}"
