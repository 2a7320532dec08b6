"""The boorus of the tests are true to their kinds: gallery-dl, which knows the real ones, agrees.

It lists every post and fetches every picture that is shown, by its own ways of paging.
"""

import json
import subprocess
import sys

import pytest
from api_server import (
    ApiServer,
    danbooru,
    gelbooru_xml,
    make_posts,
    moebooru,
    philomena,
    shimmie2,
    szurubooru,
)

PLAIN = {"sleep-request": 0, "sleep": 0}
KINDS = {
    # basecategory, shape, page address, posts to a page, options
    "danbooru": ("Danbooru", danbooru, "posts?tags=red", 7, {"threshold": 1}),
    "moebooru": ("moebooru", moebooru, "post?tags=red", 100, {}),
    "gelbooru_v02": (
        "gelbooru_v02", gelbooru_xml, "index.php?page=post&s=list&tags=red", 100,
        {"api-key": "0", "user-id": "0"},
    ),
    "philomena": ("philomena", philomena, "search?q=red", 50, {"filter": "1"}),
    "szurubooru": ("szurubooru", szurubooru, "posts/query=red", 100, {}),
    "shimmie2": ("shimmie2", shimmie2, "post/list/red/1", 7, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_gallery_dl_pages_and_fetches_as_from_the_real_ones(kind, tmp_path):
    base, shape, page, most, options = KINDS[kind]
    posts = make_posts(230 if most == 100 else 120)
    with ApiServer(shape, posts, most=most) as server:
        host = server.url.removeprefix("http://")
        instance = {"root": server.url, "pattern": host.replace(".", r"\.")}
        if kind == "shimmie2":
            instance["file_url"] = "{0}/files/{2}.{4}"
        config = {
            "extractor": {**PLAIN, base: {"local": instance, **options}, "local": options},
            "downloader": {"mtime": False},
        }
        settings = tmp_path / "gallery-dl.json"
        settings.write_text(json.dumps(config))
        done = subprocess.run(
            [sys.executable, "-m", "gallery_dl", "--config-ignore", "-c", settings, "-D",
             tmp_path / "files", "-o", "filename={id}.{extension}", f"{server.url}/{page}"],
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        shown = {
            str(post.post_id): post.picture
            for post in posts
            if "red" in post.names and has_address(kind, post)
        }
        num_pages = sum("/files/" not in request.target for request in server.requests)
    assert done.returncode in (0, 4), done.stderr.decode()
    fetched = {path.stem: path.read_bytes() for path in (tmp_path / "files").iterdir()}
    assert fetched == shown
    assert num_pages >= 2


def has_address(kind, post):
    """Whether this kind shows the post, or gallery-dl makes up an address for it."""
    if kind == "shimmie2":
        return True
    if kind in ("moebooru", "philomena"):
        return not (post.hidden or post.deleted)
    if kind == "szurubooru":
        return not (post.hidden or post.deleted or post.pending)
    return not post.hidden
