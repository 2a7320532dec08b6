"""A booru of made-up pictures for benchmarks, each different and made fast; and its server.

Pictures are layers of coloured noise with hard-edged shapes and fine grain on top, so that they
weigh about what drawings and photographs of that size do.
"""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from e6tag.demo.export_tables import Picture, write_tables
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.demo.variants import Size
from e6tag.files import write_bytes

TAGS = [f"tag{number:02}" for number in range(40)]
NGINX = """
daemon off; error_log stderr error; pid {folder}/nginx.pid; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 60; keepalive_requests 100000;
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  types {{ image/jpeg jpg; image/png png; application/gzip gz; }}
  server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} }}
}}
"""


def photo(seed: int, width: int, height: int, grain: float = 3.0) -> Image.Image:
    """A picture with soft colours, edges and grain."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (3, 8, 24, 90):
        small = rng.normal(0, 55 / cells**0.35, (cells, cells, 3)).astype(np.float32)
        channels = [
            Image.fromarray(small[..., c]).resize((width, height), Image.Resampling.BICUBIC)
            for c in range(3)
        ]
        picture += np.stack([np.asarray(channel) for channel in channels], -1)
    image = Image.fromarray(np.clip(picture + 128, 0, 255).astype(np.uint8))
    draw_shapes(ImageDraw.Draw(image), rng, width, height)
    noise = rng.normal(0, grain, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def draw_shapes(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int
) -> None:
    """Outlined ellipses and lines, for edges."""
    for _ in range(30):
        x, y = rng.integers(0, width), rng.integers(0, height)
        reach = int(rng.integers(width // 20 + 1, width // 4 + 2))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        pen.ellipse((x, y, x + reach, y + reach), fill=colour, outline="black", width=3)
        pen.line((x, y, int(rng.integers(0, width)), int(rng.integers(0, height))), "black", 2)


def sample_sized(seed: int) -> tuple[bytes, str, Size]:
    """A JPEG of 850 x 1200 pixels or so, about 150 kB: what e621's samples are like."""
    return encode(photo(seed, 850, 1100 + seed % 200), "jpg", quality=75)


def mixed(seed: int) -> tuple[bytes, str, Size]:
    """By turns JPEG, PNG, small JPEG, PNG with transparency, of sizes from 300 to 1700 pixels."""
    kind = seed % 4
    if kind == 0:
        return sample_sized(seed)
    if kind == 1:
        return encode(photo(seed, 700, 500 + seed % 300, grain=0), "png")
    if kind == 2:
        return encode(photo(seed, 300 + seed % 100, 400), "jpg", quality=85, progressive=True)
    image = photo(seed, 600, 800, grain=0)
    opacity = photo(seed + 1, 600, 800, grain=0).convert("L").point(lambda v: min(255, 2 * v))
    image.putalpha(opacity)
    return encode(image, "png")


def tiny(seed: int) -> tuple[bytes, str, Size]:
    """A picture of 64 to 127 pixels, made in half a millisecond: for runs of very many."""
    rng = np.random.default_rng(seed)
    size = (64 + seed % 64, 64 + seed // 64 % 64)
    cells = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    image = cells.resize(size, Image.Resampling.BILINEAR)
    return encode(image, "jpg", quality=85) if seed % 4 else encode(image, "png", compress_level=1)


MAKERS = {"photos": sample_sized, "mixed": mixed, "tiny": tiny}


def encode(image: Image.Image, ext: str, **options: object) -> tuple[bytes, str, Size]:
    """A file, its extension and its size in pixels."""
    stream = io.BytesIO()
    image.save(stream, "JPEG" if ext == "jpg" else "PNG", **options)  # type: ignore[arg-type]
    return stream.getvalue(), ext, Size(*image.size)


def file_one(job: tuple[str, int, Path]) -> tuple[LocalPost, Picture]:
    """Make a picture and put it where the site has its originals."""
    kind, seed, folder = job
    content, ext, size = MAKERS[kind](seed)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = folder / "data" / md5[:2] / md5[2:4] / f"{md5}.{ext}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    names = [tag for number, tag in enumerate(TAGS) if (seed * 2654435761 >> number) & 3 == 0]
    post = LocalPost(f"{seed:07}", b"", ext, {"general": names or TAGS[:1]}, group=str(seed))
    return post, Picture(md5, ext, size, len(content), None)


def make_booru(kind: str, count: int, folder: Path, processes: int = 2) -> list[str]:
    """Write originals and exports, unless they are there; the paths of the pictures' addresses."""
    listing = folder / "paths.json"
    if not listing.exists():
        with ProcessPoolExecutor(processes) as pool:
            jobs = [(kind, seed, folder) for seed in range(count)]
            filed = list(pool.map(file_one, jobs, chunksize=32))
        write_tables(filed, LocalRelations(), folder / "db_export")
        paths = [f"/data/{p.md5[:2]}/{p.md5[2:4]}/{p.md5}.{p.ext}" for _, p in filed]
        write_bytes(listing, json.dumps(paths).encode())
    return list(json.loads(listing.read_text()))


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A static server in a process of its own: nginx where there is one, else Python's."""
    port = free_port()
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if nginx:
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(user + NGINX.format(folder=folder, root=folder, port=port))
        command = [nginx, "-p", str(folder), "-c", str(config)]
    else:
        command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        command += ["--protocol", "HTTP/1.1", "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int) -> None:
    """Return when somebody listens."""
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server did not start")
