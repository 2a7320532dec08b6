"""The local booru's JSON: posts, tags and the list of exports, field by field as e621 has them.

Source: e621ng, app/blueprints/post_legacy_blueprint.rb and db_export_blueprint.rb (2026).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from e6tag.demo.booru_answer import NOT_FOUND, Answer, html_answer, json_answer
from e6tag.demo.booru_index import SITE_TIME, Index, SitePost, SiteTag
from e6tag.demo.booru_query import Refused, int_or_zero, page_of, search, wildcard
from e6tag.demo.export_tables import CATEGORIES
from e6tag.demo.variants import Size, has_preview, has_sample, preview_size, sample_size
from e6tag.files import sha256

EXPORTS = ("pools", "posts", "tag_aliases", "tag_implications", "tags")
ANIMATED_TAGS = frozenset({"animated_gif", "animated_png", "animated_webp"})
UPLOADER_NAME = "e6tag"
TAG_ORDERS: dict[str, Callable[[SiteTag], Any]] = {
    "": lambda tag: -tag.tag_id,
    "date": lambda tag: -tag.tag_id,
    "count": lambda tag: (-tag.post_count, -tag.tag_id),
    "name": attrgetter("name"),
}


class Api:
    """Answers questions about an index, for a site whose address is `base_url`."""

    def __init__(self, index: Index, base_url: str) -> None:
        self.index, self.base_url = index, base_url
        self.exports = [self.export(name) for name in EXPORTS]

    def answer(self, path: str, params: Mapping[str, str]) -> Answer | None:
        """The answer to a question, or None where there is nothing at this path."""
        try:
            if match := re.fullmatch(r"/posts/([0-9]+)\.json", path):
                return self.one_post(self.index.posts.get(int_or_zero(match[1])))
            if path == "/posts.json":
                return self.posts(params)
            if path == "/tags.json":
                return self.tags(params)
            if path == "/db_exports.json":
                return json_answer(self.exports)
        except Refused as refusal:
            value = {"success": False, "message": str(refusal), "code": None}
            return json_answer(value, refusal.status)
        return self.page(path)

    def page(self, path: str) -> Answer | None:
        """The few pages that are for people."""
        if path in ("/db_export", "/db_export/"):
            moved = {"Location": "/db_exports"}
            return html_answer(301, "Moved", "Moved to /db_exports.", moved)
        if path == "/db_exports":
            links = "".join(f'<li><a href="{e["url"]}">{e["file_name"]}</a>' for e in self.exports)
            return html_answer(200, "Database exports", f"<ul>{links}</ul>")
        if path == "/":
            text = f"A local booru with {len(self.index.posts)} posts, for programs to read."
            return html_answer(200, "Local booru", text)
        return None

    def posts(self, params: Mapping[str, str]) -> Answer:
        """A page of a search, or the one post with an md5."""
        if md5 := params.get("md5"):
            return self.one_post(self.index.by_md5.get(md5))
        found = search(self.index, params.get("tags", ""))
        page = page_of(found, int, params.get("limit", ""), params.get("page", ""))
        return json_answer({"posts": [self.post(self.index.posts[number]) for number in page]})

    def one_post(self, post: SitePost | None) -> Answer:
        """A single post."""
        return NOT_FOUND if post is None else json_answer({"post": self.post(post)})

    def tags(self, params: Mapping[str, str]) -> Answer:
        """A page of tags; empty ones only if asked for."""
        order = params.get("search[order]", "")
        if order not in TAG_ORDERS:
            raise Refused(422, f"search[order]={order} is not spoken here")
        fits = wildcard(params.get("search[name_matches]", "*").lower())
        category = params.get("search[category]", "")
        keep_empty = params.get("search[hide_empty]", "yes").lower() in ("no", "false", "0")
        found = [
            tag
            for tag in self.index.tags
            if fits(tag.name)
            and category in ("", str(tag.category))
            and (keep_empty or tag.post_count)
        ]
        found.sort(key=TAG_ORDERS[order])
        id_of = attrgetter("tag_id")
        page = page_of(found, id_of, params.get("limit", ""), params.get("page", ""))
        return json_answer([tag_fields(tag) for tag in page])

    def export(self, name: str) -> dict[str, Any]:
        """What the list of exports says of one."""
        path = self.index.exports / f"{name}.csv.gz"
        status = path.stat()
        updated = datetime.fromtimestamp(status.st_mtime, UTC).astimezone(SITE_TIME)
        return {
            "name": name,
            "file_name": path.name,
            "file_size": status.st_size,
            "checksum": sha256(path),
            "updated_at": updated.isoformat(timespec="milliseconds"),
            "url": f"{self.base_url}/data/db_export/{path.name}",
        }

    def post(self, post: SitePost) -> dict[str, Any]:
        """All fields of a post, in the site's order."""
        children = self.index.children.get(post.post_id, [])
        return {
            "id": post.post_id,
            "created_at": post.created_at,
            "updated_at": post.updated_at,
            "file": self.file_fields(post),
            "preview": self.preview_fields(post),
            "sample": self.sample_fields(post),
            "score": {"up": 0, "down": 0, "total": 0},
            "tags": self.tags_by_category(post),
            "locked_tags": [],
            "change_seq": post.change_seq,
            "flags": flag_fields(post),
            "rating": post.rating,
            "fav_count": 0,
            "sources": post.source.split("\n") if post.source else [],
            "pools": self.index.pools.get(post.post_id, []),
            "relationships": {
                "parent_id": post.parent_id,
                "has_children": bool(children),
                "has_active_children": any(
                    not self.index.posts[child].is_deleted for child in children
                ),
                "children": children,
            },
            "approver_id": None,
            "uploader_id": post.uploader_id,
            "uploader_name": UPLOADER_NAME,
            "description": post.description,
            "comment_count": 0,
            "is_favorited": False,
            "vote": 0,
            "has_notes": False,
            "duration": None,
        }

    def url(self, post: SitePost, ext: str, kind: str = "") -> str | None:
        """Address of a file, or None where an anonymous visitor may not have it."""
        folder = f"{kind}/" if kind else ""
        path = f"{folder}{post.md5[:2]}/{post.md5[2:4]}/{post.md5}.{ext}"
        return f"{self.base_url}/data/{path}" if post.visible else None

    def file_fields(self, post: SitePost) -> dict[str, Any]:
        """The original."""
        return {
            "width": post.size.width,
            "height": post.size.height,
            "ext": post.ext,
            "size": post.size_bytes,
            "md5": post.md5,
            "url": self.url(post, post.ext),
        }

    def preview_fields(self, post: SitePost) -> dict[str, Any]:
        """The preview."""
        size, exists = preview_size(post.size), has_preview(post.size, post.ext)
        return self.variant_fields(post, "preview", size, exists)

    def sample_fields(self, post: SitePost) -> dict[str, Any]:
        """The sample; where there is none, the original's size and no address."""
        animated = bool(post.tags & ANIMATED_TAGS)
        exists = has_sample(post.size, post.ext, animated=animated)
        size = sample_size(post.size) if exists else post.size
        fields = self.variant_fields(post, "sample", size, exists)
        return {"has": exists, **fields, "alternates": {"has": False}}

    def variant_fields(self, post: SitePost, kind: str, size: Size, exists: bool) -> dict[str, Any]:
        """What samples and previews have in common; `alt` is the WebP."""
        return {
            "width": size.width,
            "height": size.height,
            "url": self.url(post, "jpg", kind) if exists else None,
            "alt": self.url(post, "webp", kind) if exists else None,
        }

    def tags_by_category(self, post: SitePost) -> dict[str, list[str]]:
        """Every category, and in it the post's tags by name."""
        sorted_tags: dict[int, list[str]] = {number: [] for number in CATEGORIES.values()}
        for tag in sorted(post.tags):
            sorted_tags[self.index.categories.get(tag, 0)].append(tag)
        return {name: sorted_tags[number] for name, number in CATEGORIES.items()}


def flag_fields(post: SitePost) -> dict[str, bool]:
    """The state of a post."""
    return {
        "pending": post.is_pending,
        "flagged": post.is_flagged,
        "note_locked": False,
        "status_locked": False,
        "rating_locked": False,
        "deleted": post.is_deleted,
    }


def tag_fields(tag: SiteTag) -> dict[str, Any]:
    """All fields of a tag."""
    return {
        "id": tag.tag_id,
        "name": tag.name,
        "post_count": tag.post_count,
        "related_tags": "[]",
        "related_tags_updated_at": tag.updated_at,
        "category": tag.category,
        "is_locked": tag.is_locked,
        "created_at": tag.created_at,
        "updated_at": tag.updated_at,
    }
