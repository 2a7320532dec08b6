"""Tables of posts small enough to write down."""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from e6tag.posts import Posts

COLUMNS: dict[str, tuple[str, Any]] = {
    "md5": ("S32", None),
    "ext": ("O", "png"),
    "rating": ("S1", b"s"),
    "width": ("i4", 500),
    "height": ("i4", 400),
    "size_bytes": ("i8", 1000),
    "parent_id": ("i8", 0),
    "created_at": ("datetime64[s]", np.datetime64("2020-01-01T00:00:00")),
    "is_deleted": ("?", False),
    "is_pending": ("?", False),
    "is_flagged": ("?", False),
    "is_hidden": ("?", False),
}


def md5_of(post_id: int) -> bytes:
    return hashlib.md5(str(post_id).encode()).hexdigest().encode()


def tiny_posts(rows: Sequence[dict[str, Any]]) -> Posts:
    """Posts from dicts with `id` (or 1, 2, ...), `tags` (a text), and any other column."""
    ids = [row.get("id", number) for number, row in enumerate(rows, 1)]
    tags = [row.get("tags", "").split() for row in rows]
    names = sorted({name for names in tags for name in names})
    columns = {}
    for name, (kind, default) in COLUMNS.items():
        values = [
            row.get(name, md5_of(i) if name == "md5" else default)
            for i, row in zip(ids, rows, strict=True)
        ]
        columns[name] = np.array(values, kind)
    return Posts(
        post_id=np.array(ids, np.int64),
        tag_offsets=np.concatenate([[0], np.cumsum([len(n) for n in tags])]).astype(np.int64),
        tag_indices=np.array([names.index(n) for found in tags for n in found], np.int32),
        tag_names=names,
        **columns,
    )


def tag_frame(tags: dict[str, tuple[int, int]]) -> pandas.DataFrame:
    """A site's table of tags from name -> (category, count)."""
    rows = [(i, name, *facts) for i, (name, facts) in enumerate(tags.items(), 1)]
    return pandas.DataFrame(rows, columns=["tag_id", "name", "category", "count"])


POST_HEADER = (
    "id,uploader_id,created_at,md5,source,rating,image_width,image_height,tag_string,locked_tags,"
    "fav_count,file_ext,parent_id,change_seq,approver_id,file_size,comment_count,description,"
    "duration,updated_at,is_deleted,is_pending,is_flagged,score,up_score,down_score,"
    "is_rating_locked,is_status_locked,is_note_locked,bg_color,last_noted_at,last_commented_at"
)
TAG_HEADER = "id,name,category,post_count,created_at,updated_at,is_locked"
ALIAS_HEADER = "id,antecedent_name,consequent_name,created_at,status,reason"
POOL_HEADER = "id,name,created_at,updated_at,creator_id,description,is_active,category,post_ids"


def post_row(post_id: int = 1, **fields: object) -> dict[str, str]:
    """A row of posts.csv as the site writes it."""
    row = dict.fromkeys(POST_HEADER.split(","), "")
    row |= dict.fromkeys(("is_deleted", "is_pending", "is_flagged"), "f")
    row |= {
        "id": str(post_id),
        "created_at": "2007-02-10 03:12:04.5",
        "md5": md5_of(post_id).decode(),
        "rating": "s",
        "image_width": "900",
        "image_height": "600",
        "tag_string": "solo wolf",
        "file_ext": "png",
        "file_size": "12345",
        "score": "-3",
    }
    return row | {name: str(value) for name, value in fields.items()}


def csv_text(header: str, rows: Sequence[dict[str, str]]) -> str:
    """A table as PostgreSQL's COPY writes it: quotes only where needed (a lone CR needs them)."""
    names = header.split(",")
    lines = [",".join(csv_field(row.get(name, "")) for name in names) for row in rows]
    return "".join(line + "\n" for line in [header, *lines])


def csv_field(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if set(value) & set('",\r\n') else value


def write_gzip(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def write_export(folder: Path, posts: Sequence[dict[str, str]] = (post_row(),)) -> Path:
    """An export folder with two tags, an alias, an implication and a pool."""
    folder.mkdir(exist_ok=True)
    tags = [
        {"id": "1", "name": "solo", "category": "0", "post_count": "900"},
        {"id": "2", "name": "wolf", "category": "5", "post_count": "800"},
        {"id": "3", "name": "canine", "category": "5", "post_count": "850"},
    ]
    aliases = [
        {"antecedent_name": "wolves", "consequent_name": "wolf", "status": "active"},
        {"antecedent_name": "solo", "consequent_name": "alone", "status": "deleted"},
    ]
    implications = [{"antecedent_name": "wolf", "consequent_name": "canine", "status": "queued"}]
    pools = [
        {"id": "1", "category": "series", "post_ids": "{1,2,3}"},
        {"id": "2", "category": "collection", "post_ids": "{4,5}"},
        {"id": "3", "category": "series", "post_ids": "{}"},
    ]
    write_gzip(folder / "posts.csv.gz", csv_text(POST_HEADER, posts))
    write_gzip(folder / "tags.csv.gz", csv_text(TAG_HEADER, tags))
    write_gzip(folder / "tag_aliases.csv.gz", csv_text(ALIAS_HEADER, aliases))
    write_gzip(folder / "tag_implications.csv.gz", csv_text(ALIAS_HEADER, implications))
    write_gzip(folder / "pools.csv.gz", csv_text(POOL_HEADER, pools))
    return folder
