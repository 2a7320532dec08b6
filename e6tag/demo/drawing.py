"""Pictures that are described now and drawn when asked for, by two processes."""

import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

from PIL import Image

from e6tag.demo.local_post import LocalPost
from e6tag.errors import DataError

USUAL_PX, LARGE_PX = 400, 900
"""of drawn pictures; four fifths of the time goes into compressing their pixels"""
LARGE_PERCENT, JPG_PERCENT, WEBP_PERCENT = 10, 4, 4
NUM_PROCESSES = 2
AHEAD = 64
"""drawings in the hands of the processes at any time"""
JPEG_QUALITY, WEBP_QUALITY = 92, 90


@dataclass(frozen=True)
class Drawing:
    """A `LocalPost` whose picture is not drawn yet."""

    key: str
    tags: Mapping[str, Sequence[str]]
    group: str
    source: str
    content: bytes
    """SVG to draw, or a finished picture"""
    ext: str
    """of the picture to come"""
    side_px: int = 0
    """longest side to draw an SVG at; 0 where the content is the picture"""
    description: str = ""

    def post(self, picture: bytes) -> LocalPost:
        """The post with its picture."""
        return LocalPost(
            key=self.key,
            picture=picture,
            ext=self.ext,
            tags=self.tags,
            group=self.group,
            source=self.source,
            description=self.description,
        )


def percentile(key: str, use: str) -> int:
    """0..99, fixed by the key and what it is used for."""
    return int.from_bytes(hashlib.sha256(f"{use}/{key}".encode()).digest()[:4]) % 100


def drawn_ext(key: str) -> str:
    """Format that the picture of an SVG is served in: mostly png, some jpg and webp."""
    place = percentile(key, "format")
    if place < JPG_PERCENT:
        return "jpg"
    return "webp" if place < JPG_PERCENT + WEBP_PERCENT else "png"


def drawn_side_px(key: str) -> int:
    """Longest side that an SVG is drawn at; a tenth is large enough for the site's samples."""
    return LARGE_PX if percentile(key, "size") < LARGE_PERCENT else USUAL_PX


def format_tags(ext: str) -> set[str]:
    """Meta tags of a picture drawn from an SVG."""
    return {"vector_art"} | ({"transparent_background"} if ext == "png" else set())


def draw(content: bytes, side_px: int, ext: str) -> bytes:
    """Draw an SVG: png keeps its transparency, jpg and webp are put on white.

    Raises:
        ValueError: not an SVG.
    """
    import resvg_py

    text = content.decode("utf-8")
    png = bytes(resvg_py.svg_to_bytes(svg_string=text, width=side_px, skip_system_fonts=True))
    if ext == "png":
        return png
    with Image.open(io.BytesIO(png)) as image:
        flat = Image.new("RGBA", image.size, (255, 255, 255, 255))
        flat.alpha_composite(image.convert("RGBA"))
    stream = io.BytesIO()
    if ext == "jpg":
        flat.convert("RGB").save(stream, "JPEG", quality=JPEG_QUALITY)
    else:
        flat.convert("RGB").save(stream, "WEBP", quality=WEBP_QUALITY)
    return stream.getvalue()


def follow_parent() -> None:
    """End with the process that started this one, however it ends, and not before.

    Ctrl-C reaches every process of a terminal, but only the first one decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def posts(drawings: Iterable[Drawing]) -> Iterator[LocalPost]:
    """Draw in order, a few ahead of the caller.

    Raises:
        DataError: an SVG that cannot be drawn, named by its key.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(NUM_PROCESSES, context, initializer=follow_parent)
    waiting: deque[tuple[Drawing, Future[bytes] | None]] = deque()
    try:
        for drawing in drawings:
            task = (drawing.content, drawing.side_px, drawing.ext)
            waiting.append((drawing, pool.submit(draw, *task) if drawing.side_px else None))
            if len(waiting) > AHEAD:
                yield finished_post(*waiting.popleft())
        while waiting:
            yield finished_post(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def finished_post(drawing: Drawing, picture: Future[bytes] | None) -> LocalPost:
    """The post, once its picture is drawn.

    Raises:
        DataError: it cannot be.
    """
    try:
        return drawing.post(drawing.content if picture is None else picture.result())
    except (ValueError, UnicodeDecodeError) as problem:
        raise DataError(f"post {drawing.key!r}: the SVG cannot be drawn ({problem}).") from None
