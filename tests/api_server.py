"""Small boorus on loopback that speak as their kinds do: fields, quirks, paging, refusals.

Each kind is a `Shape`: how a search is asked for and how its posts are written down.  The fields
and their types are those of the kind's source or of what its hosts answer; all values are made up.
"""

import base64
import hashlib
import html
import io
import json
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

LOGIN, API_KEY = "somebody", "k3y-ThatNobody+May/See="
HIDDEN, DELETED, MINOR, UNRATED, PENDING, LARGE = 4, 5, 6, 7, 8, (0, 1)
"""places of the posts that are special"""
UNUSED = 5
"""posts that rules leave out"""
SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True)
class MadePost:
    """A picture and what is said of it, in no site's words."""

    post_id: int
    picture: bytes
    ext: str
    size: tuple[int, int]
    tags: Mapping[str, Sequence[str]]
    safe: bool = True
    unrated: bool = False
    hidden: bool = False
    deleted: bool = False
    pending: bool = False
    parent_id: int | None = None

    @property
    def md5(self) -> str:
        return hashlib.md5(self.picture).hexdigest()

    @property
    def names(self) -> list[str]:
        return sorted(name for names in self.tags.values() for name in names)

    @property
    def time(self) -> int:
        return 1_700_000_000 + 60 * self.post_id


def encoded(seed: int, size: tuple[int, int], ext: str) -> bytes:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    kind = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[ext]
    Image.fromarray(colours).resize(size).save(stream, kind)
    return stream.getvalue()


def sample_of(picture: bytes, longest: int = 850) -> tuple[bytes, tuple[int, int]]:
    """A smaller JPEG of a picture, and its size."""
    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
        small.thumbnail((longest, longest))
        stream = io.BytesIO()
        small.save(stream, "JPEG")
        return stream.getvalue(), small.size


def make_posts(num: int = 30) -> list[MadePost]:
    """Posts in order of id, with gaps; the special ones are where the constants say."""
    posts = []
    for place in range(num):
        ext = ("png", "jpg", "webp")[place % 3]
        size = (1200, 900) if place in LARGE else (40 + place % 7, 30 + place % 5)
        general = [SHAPES[place % 3], *(["red"] if place % 2 else ["blue"]), ":3", "say_\"<&>'"]
        tags = {
            "general": [*general, *(["young"] if place == MINOR else [])],
            "artist": [f"artist{place % 3}"],
            "character": ["café_(series)"],
        }
        posts.append(
            MadePost(
                post_id=3 * place + 1,
                picture=encoded(place, size, ext),
                ext=ext,
                size=size,
                tags=tags,
                safe=place != MINOR,
                unrated=place == UNRATED,
                hidden=place == HIDDEN,
                deleted=place == DELETED,
                pending=place == PENDING,
                parent_id=1 if place == 3 else None,
            )
        )
    return posts


@dataclass(frozen=True)
class Request:
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True)
class Answer:
    body: bytes
    kind: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value, ensure_ascii=False).encode(), status=status)


def iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


Shape = Callable[["ApiServer", Request], Answer | None]


@dataclass
class ApiServer:
    """Inside a `with` block it answers at `url`; page sizes are cut to `most`, as sites do."""

    shape: Shape
    posts: Sequence[MadePost]
    most: int = 10
    needs_account: bool = False
    before: Callable[["ApiServer", Request], Answer | None] = lambda server, request: None
    """what is answered instead of anything else"""
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> "ApiServer":
        self.by_id = {str(post.post_id): post for post in self.posts}
        handler = type("Handler", (Handler,), {"site": self})
        self.server = Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        found = self.before(self, request) or self.file(request)
        return found or self.shape(self, request) or Answer(b"nothing here", "text/html", 404)

    def file(self, request: Request) -> Answer | None:
        """Originals at /files/ID.EXT, samples at /samples/ID.jpg, previews at /previews/ID.jpg."""
        place = request.params.get("q", "") if "image/" in request.target else request.path
        match = re.search(r"(files|samples|previews|image)/(\d+)[^/]*\.\w+$", unquote(place))
        if not match or match[2] not in self.by_id:
            return None
        picture = self.by_id[match[2]].picture
        if match[1] in ("samples", "previews"):
            longest = 850 if match[1] == "samples" else 150
            return Answer(sample_of(picture, longest)[0], "image/jpeg")
        return Answer(picture, f"image/{self.by_id[match[2]].ext}")

    def search(self, words: Sequence[str], before: int | None = None) -> list[MadePost]:
        """Posts with all of the words, newest first."""
        found = [post for post in self.posts if set(words) <= {*post.names, "*"}]
        found = [post for post in found if before is None or post.post_id < before]
        return sorted(found, key=lambda post: -post.post_id)

    def limit(self, request: Request, name: str = "limit") -> int:
        return min(int(request.params[name]), self.most)

    def file_url(self, post: MadePost) -> str:
        return f"{self.url}/files/{post.post_id}.{post.ext}"

    def of(self, kind: str, post: MadePost) -> str:
        return f"{self.url}/{kind}/{post.post_id}.jpg"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Visitors who leave early are nothing to talk of; they have another end to talk from."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    site: ApiServer
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        answer = self.site.answer(Request(self.path, dict(self.headers.items())))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *arguments: object) -> None:
        pass


def split_id(words: Sequence[str], pattern: str) -> tuple[list[str], int | None]:
    """The words of a search without its id term, and the first id that it leaves out."""
    kept, before = [], None
    for word in words:
        if match := re.fullmatch(pattern, word):
            before = int(match[1])
        else:
            kept.append(word)
    return kept, before


def has_basic(request: Request, scheme: str = "Basic") -> bool:
    pair = base64.b64encode(f"{LOGIN}:{API_KEY}".encode()).decode()
    return request.headers.get("Authorization") == f"{scheme} {pair}"


def danbooru(server: ApiServer, request: Request) -> Answer | None:
    if request.path != "/posts.json":
        return None
    if server.needs_account and not has_basic(request):
        return as_json({"success": False, "error": "SessionLoader::AuthenticationFailure"}, 401)
    words = request.params.get("tags", "").split()
    if len(words) > 2 and not has_basic(request):
        message = "You cannot search for more than 2 tags at a time."
        return as_json({"success": False, "error": "TagLimitError", "message": message}, 422)
    page = request.params.get("page") or "1"
    limit = server.limit(request)
    if page.startswith("b"):
        found = server.search(words, int(page[1:]))[:limit]
    elif int(page) > 1000:
        return as_json({"success": False, "error": "PaginationExtension::PaginationError"}, 410)
    else:
        found = server.search(words)[(int(page) - 1) * limit :][:limit]
    return as_json([danbooru_post(server, post) for post in found])


def danbooru_post(server: ApiServer, post: MadePost) -> dict[str, Any]:
    rating = "q" if not post.safe else None if post.unrated else "g"
    fields: dict[str, Any] = {
        "id": post.post_id,
        "created_at": datetime.fromtimestamp(post.time, UTC).isoformat(timespec="milliseconds"),
        "uploader_id": 1,
        "score": -3,
        "source": "",
        "md5": post.md5,
        "rating": rating,
        "image_width": post.size[0],
        "image_height": post.size[1],
        "tag_string": " ".join(post.names),
        "fav_count": 0,
        "file_ext": post.ext,
        "parent_id": post.parent_id,
        "has_children": False,
        "approver_id": None,
        "file_size": len(post.picture),
        "is_pending": post.pending,
        "is_flagged": False,
        "is_deleted": post.deleted,
        "is_banned": post.hidden,
        "bit_flags": 0,
        "has_large": post.size[0] > 850,
        "tag_string_meta": "",
        "tag_string_copyright": "",
        **{f"tag_string_{kind}": " ".join(names) for kind, names in post.tags.items()},
        "file_url": server.file_url(post),
        "large_file_url": server.file_url(post),
        "preview_file_url": server.of("previews", post),
        "media_asset": {"id": post.post_id, "variants": []},
    }
    if post.size[0] > 850:
        fields["large_file_url"] = server.of("samples", post)
        width, height = sample_of(post.picture)[1]
        fields["media_asset"]["variants"] = [
            {"type": "sample", "url": server.of("samples", post), "width": width,
             "height": height, "file_ext": "jpg"},
        ]  # fmt: skip
    if post.hidden:
        for name in ("md5", "file_url", "large_file_url", "preview_file_url", "media_asset"):
            del fields[name]
    return fields


def moebooru(server: ApiServer, request: Request) -> Answer | None:
    if request.path != "/post.json":
        return None
    account = (request.params.get("login"), request.params.get("password_hash"))
    if server.needs_account and account != (LOGIN, API_KEY):
        return as_json({"success": False, "reason": "access denied"}, 403)
    words, before = split_id(request.params.get("tags", "").split(), r"id:<(\d+)")
    limit, page = server.limit(request), int(request.params.get("page", "1"))
    found = server.search(words, before)[(page - 1) * limit :][:limit]
    posts = [moebooru_post(server, post) for post in found]
    if request.params.get("api_version") != "2":
        return as_json(posts)
    kinds = {name: kind for post in found for kind, names in post.tags.items() for name in names}
    return as_json({"posts": posts, "pool_posts": [], "pools": [], "tags": kinds, "votes": {}})


def moebooru_post(server: ApiServer, post: MadePost) -> dict[str, Any]:
    has_sample = post.size[0] > 850
    sample = server.of("samples", post) if has_sample else server.file_url(post)
    sample_size = sample_of(post.picture)[1] if has_sample else post.size
    fields = {
        "id": post.post_id,
        "tags": " ".join(post.names),
        "created_at": post.time,
        "creator_id": 1,
        "author": "somebody",
        "change": 1,
        "source": "",
        "score": 0,
        "md5": post.md5,
        "file_size": len(post.picture),
        "file_url": server.file_url(post),
        "is_shown_in_index": True,
        "preview_url": server.of("previews", post),
        "preview_width": 150,
        "preview_height": 150,
        "sample_url": sample,
        "sample_width": sample_size[0],
        "sample_height": sample_size[1],
        "sample_file_size": 0,
        "jpeg_url": server.file_url(post),
        "rating": "q" if not post.safe else "?" if post.unrated else "s",
        "has_children": False,
        "parent_id": post.parent_id,
        "status": "deleted" if post.deleted else "pending" if post.pending else "active",
        "width": post.size[0],
        "height": post.size[1],
        "is_held": False,
        "frames_pending_string": "",
        "frames": [],
    }
    if post.deleted or post.hidden:
        for name in ("sample_url", "jpeg_url", "file_url"):
            del fields[name]
    return fields


def gelbooru_search(server: ApiServer, request: Request) -> tuple[list[MadePost], int, int]:
    words = request.params.get("tags", "").split()
    words, before = split_id([word for word in words if word != "sort:id:desc"], r"id:<(\d+)")
    limit = server.limit(request)
    start = int(request.params.get("pid", "0")) * limit
    found = server.search(words, before)
    return found[start:][:limit], len(found), start


def gelbooru_fields(server: ApiServer, post: MadePost) -> dict[str, Any]:
    has_sample = post.size[0] > 850
    width, height = sample_of(post.picture)[1] if has_sample else (0, 0)
    moment = datetime.fromtimestamp(post.time, UTC)
    return {
        "id": post.post_id,
        "created_at": moment.strftime("%a %b %d %H:%M:%S +0000 %Y"),
        "score": 0,
        "width": post.size[0],
        "height": post.size[1],
        "md5": post.md5,
        "directory": "ab/cd",
        "image": f"{post.md5}.{post.ext}",
        "rating": "questionable" if not post.safe else "" if post.unrated else "general",
        "source": "",
        "change": post.time,
        "owner": "somebody",
        "creator_id": 1,
        "parent_id": post.parent_id or 0,
        "sample": int(has_sample),
        "preview_height": 150,
        "preview_width": 150,
        "tags": " ".join(html.escape(name) for name in post.names),
        "title": "",
        "has_notes": "false",
        "has_comments": "false",
        "file_url": "" if post.hidden else server.file_url(post),
        "preview_url": server.of("previews", post),
        "sample_url": server.of("samples", post) if has_sample else "",
        "sample_height": height,
        "sample_width": width,
        "status": "deleted" if post.deleted else "pending" if post.pending else "active",
        "post_locked": 0,
        "has_children": "false",
    }


def gelbooru_account(server: ApiServer, request: Request) -> bool:
    account = (request.params.get("user_id"), request.params.get("api_key"))
    return not server.needs_account or account == (LOGIN, API_KEY)


def gelbooru(server: ApiServer, request: Request) -> Answer | None:
    """gelbooru.com: JSON with attributes; a single post is an object; 401 without an account."""
    if request.params.get("page") != "dapi":
        return None
    if not gelbooru_account(server, request):
        return as_json({"success": False}, 401)
    found, count, start = gelbooru_search(server, request)
    posts = [gelbooru_fields(server, post) for post in found]
    answer: dict[str, Any] = {"@attributes": {"limit": 100, "offset": start, "count": count}}
    if posts:
        answer["post"] = posts[0] if len(posts) == 1 else posts
    return as_json(answer)


def rule34(server: ApiServer, request: Request) -> Answer | None:
    """rule34.xxx: a bare list with tag_info, a text instead of an error, nothing for no posts."""
    if request.params.get("page") != "dapi":
        return None
    if not gelbooru_account(server, request):
        return as_json("Missing authentication. Go to api.example/account for more information")
    found, _, _ = gelbooru_search(server, request)
    if not found:
        return Answer(b"")
    words = {"general": "tag", "artist": "artist", "character": "character"}
    posts = []
    for post in found:
        info = [
            {"count": 1, "type": words[kind], "tag": html.escape(name)}
            for kind, names in post.tags.items()
            for name in names
        ]
        fields = gelbooru_fields(server, post) | {"hash": post.md5, "sample": post.size[0] > 850}
        del fields["md5"], fields["created_at"]
        posts.append(fields | {"tag_info": info})
    return as_json(posts)


def gelbooru_xml(server: ApiServer, request: Request) -> Answer | None:
    """0.2 in XML, whatever is asked for: attributes, padded tags."""
    if request.params.get("page") != "dapi":
        return None
    if not gelbooru_account(server, request):
        return Answer(b"<error>Missing authentication.</error>", "text/xml")
    found, count, start = gelbooru_search(server, request)
    items = []
    for post in found:
        fields = gelbooru_fields(server, post)
        fields["tags"] = f" {' '.join(post.names)} "
        if post.hidden:
            del fields["file_url"]
        items.append(f"<post{attributes(fields)}/>")
    text = f'<?xml version="1.0" encoding="UTF-8"?><posts count="{count}" offset="{start}">'
    return Answer(f"{text}{''.join(items)}</posts>".encode(), "text/xml")


def gelbooru_elements(server: ApiServer, request: Request) -> Answer | None:
    """gelbooru.com's XML: an element for each field."""
    if request.params.get("page") != "dapi":
        return None
    found, count, start = gelbooru_search(server, request)
    items = []
    for post in found:
        fields = gelbooru_fields(server, post) | {"tags": " ".join(post.names)}
        inner = "".join(f"<{k}>{html.escape(str(v))}</{k}>" for k, v in fields.items())
        items.append(f"<post>{inner}</post>\n")
    text = f'<?xml version="1.0"?><posts limit="100" offset="{start}" count="{count}">'
    return Answer(f"{text}{''.join(items)}</posts>".encode(), "text/xml")


def attributes(fields: Mapping[str, Any]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in fields.items())


def philomena(server: ApiServer, request: Request) -> Answer | None:
    if request.path != "/api/v1/json/search/images":
        return None
    if server.needs_account and request.params.get("key") != API_KEY:
        return as_json({"error": "401"}, 401)
    query = re.sub(r"[()]", "", request.params["q"]) if request.params["q"] != "*" else ""
    terms = [term.strip() for term in query.split(",") if term.strip()]
    words, before = split_id(terms, r"id\.lt:(\d+)")
    limit, page = server.limit(request, "per_page"), int(request.params.get("page", "1"))
    found = server.search([word.replace(" ", "_") for word in words], before)
    chosen = found[(page - 1) * limit :][:limit]
    images = [philomena_post(server, post) for post in chosen]
    return as_json({"images": images, "interactions": [], "total": len(found)})


def philomena_post(server: ApiServer, post: MadePost) -> dict[str, Any]:
    times = {name: iso(post.time) for name in ("created_at", "updated_at", "first_seen_at")}
    if post.hidden or post.deleted:
        return {
            "id": post.post_id,
            **times,
            "duplicate_of": 1 if post.hidden else None,
            "deletion_reason": "Rule #0" if post.deleted else None,
            "hidden_from_users": True,
        }
    rating = [] if post.unrated else ["safe" if post.safe else "explicit"]
    names = [f"artist:{name}" if name.startswith("artist") else name for name in post.names]
    sha512 = hashlib.sha512(post.picture).hexdigest()
    full = f"{server.url}/files/{post.post_id}.{post.ext}"
    large = server.of("samples", post) if post.size[0] > 850 else full
    return {
        "id": post.post_id,
        **times,
        "width": post.size[0],
        "height": post.size[1],
        "mime_type": f"image/{post.ext}",
        "size": len(post.picture),
        "orig_size": len(post.picture),
        "duration": 0.04,
        "animated": False,
        "format": post.ext,
        "aspect_ratio": post.size[0] / post.size[1],
        "name": "picture.png",
        "sha512_hash": sha512,
        "orig_sha512_hash": "0" * 128,
        "tags": [name.replace("_", " ") for name in names] + rating,
        "tag_ids": [1] * (len(names) + len(rating)),
        "uploader": None,
        "score": 0,
        "description": "",
        "source_url": "",
        "view_url": f"{server.url}/files/{post.post_id}__red.{post.ext}",
        "representations": {
            "full": full,
            "large": large,
            "medium": large,
            "small": server.of("previews", post),
            "thumb": server.of("previews", post),
        },
        "thumbnails_generated": True,
        "processed": not post.pending,
        "deletion_reason": None,
        "duplicate_of": None,
        "hidden_from_users": False,
        "spoilered": False,
    }


def szurubooru(server: ApiServer, request: Request) -> Answer | None:
    if request.path != "/api/posts/":
        return None
    if request.headers.get("Accept") != "application/json":
        return Answer(b"<html>the page for people</html>", "text/html")
    if server.needs_account and not has_basic(request):
        error = {"name": "AuthError", "title": "Authentication error"}
        return as_json({**error, "description": "Insufficient privileges."}, 403)
    if int(request.params["limit"]) > 100:
        return as_json({"name": "InvalidParameterError", "title": "Bad", "description": "no"}, 400)
    words, last = split_id(request.params.get("query", "").split(), r"id:\.\.(\d+)")
    found = server.search(words, None if last is None else last + 1)
    start, limit = int(request.params.get("offset", "0")), server.limit(request)
    posts = [szurubooru_post(post) for post in found[start:][:limit]]
    return as_json(
        {"query": " ".join(words), "offset": start, "limit": limit, "total": len(found),
         "results": posts}
    )  # fmt: skip


def szurubooru_post(post: MadePost) -> dict[str, Any]:
    """Posts with odd ids are from before there was an MD5."""
    has_url = not (post.hidden or post.deleted or post.pending)
    words = {"general": "default", "artist": "01_artist", "character": "character"}
    return {
        "id": post.post_id,
        "version": 1,
        "creationTime": iso(post.time),
        "lastEditTime": None,
        "safety": "unsafe" if not post.safe else None if post.unrated else "safe",
        "source": None,
        "type": "image",
        "mimeType": f"image/{post.ext}",
        "checksum": hashlib.sha1(post.picture).hexdigest(),
        "checksumMD5": None if post.post_id % 2 else post.md5,
        "fileSize": len(post.picture),
        "canvasWidth": post.size[0],
        "canvasHeight": post.size[1],
        "contentUrl": f"files/{post.post_id}.{post.ext}" if has_url else None,
        "thumbnailUrl": f"previews/{post.post_id}.jpg",
        "flags": [],
        "tags": [
            {"names": [name, f"{name}_too"], "category": words[kind], "usages": 7}
            for kind, names in post.tags.items()
            for name in names
        ],
        "relations": [{"id": post.parent_id, "thumbnailUrl": ""}] if post.parent_id else [],
        "user": {"name": "somebody", "avatarUrl": ""},
        "score": 0,
        "notes": [],
        "comments": [],
        "pools": [],
    }


def shimmie2(server: ApiServer, request: Request, item: str = "tag") -> Answer | None:
    """XML for programs, and the pages for people that gallery-dl reads."""
    if page := re.fullmatch(r"/post/list/([^/]+)/(\d+)", request.path):
        return shimmie2_page(server, unquote(page[1]).split(), int(page[2]))
    if request.params.get("q") != "api/danbooru/find_posts":
        return None
    words, before = split_id(request.params.get("tags", "").split(), r"id<(\d+)")
    found = server.search(words, before)
    limit = min(server.limit(request), 100)
    start = (int(request.params.get("page", "1")) - 1) * limit
    items = [
        f"<{item}{attributes(shimmie2_fields(post))}></{item}>" for post in found[start:][:limit]
    ]
    text = f'<posts count="{len(found)}" offset="{start}">{"".join(items)}</posts>'
    return Answer(text.encode(), "application/xml")


def shimmie2_fields(post: MadePost) -> dict[str, Any]:
    has_url = not (post.hidden or post.deleted or post.pending or post.unrated)
    return {
        "id": post.post_id,
        "md5": post.md5,
        "file_name": f"picture.{post.ext}",
        "file_url": f"/index.php?q=image/{post.post_id}.{post.ext}" if has_url else "",
        "height": post.size[1],
        "width": post.size[0],
        "preview_url": f"/index.php?q=thumb/{post.post_id}.jpg",
        "preview_height": 144,
        "preview_width": 192,
        "rating": "?",
        "date": datetime.fromtimestamp(post.time, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "is_warehoused": "",
        "tags": " ".join(post.names),
        "source": "",
        "score": 0,
        "author": "somebody",
    }


def shimmie2_page(server: ApiServer, words: Sequence[str], number: int) -> Answer:
    found = server.search([word for word in words if word != "*"])
    shown = found[(number - 1) * server.most :][: server.most]
    links = []
    for post in shown:
        title = f"{' '.join(post.names)} // {post.size[0]}x{post.size[1]} // 1KB"
        links.append(
            f"<a href='/post/view/{post.post_id}' data-mime='image/{post.ext}' "
            f"data-post-id='{post.post_id}' title='{html.escape(title)}'>"
            f"<img src='/_thumbs/{post.md5}/thumb.jpg'></a>"
        )
    more = (
        f"<a href='/post/list/*/{number + 1}'>Next</a>" if len(found) > number * server.most else ""
    )
    head = "<html><head><link rel='stylesheet' href='/x.css'></head><body>"
    return Answer(f"{head}{''.join(links)}{more}</body></html>".encode(), "text/html")


def shimmie2_posts(server: ApiServer, request: Request) -> Answer | None:
    """Old versions: elements are called <post>."""
    return shimmie2(server, request, "post")
