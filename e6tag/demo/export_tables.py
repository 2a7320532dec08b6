"""The tables of a booru's export, with the columns e621 has had since June 2026.

Source: e621ng, db/exports/*.sql.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from e6tag.demo.copy_csv import Value, write_csv_gz
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.demo.variants import Size
from e6tag.errors import DataError

CATEGORIES = {
    "general": 0,
    "artist": 1,
    "contributor": 2,
    "copyright": 3,
    "character": 4,
    "species": 5,
    "invalid": 6,
    "meta": 7,
    "lore": 8,
}
RATINGS = ("s", "q", "e")

COLUMN_NAMES = {
    "posts": """id uploader_id created_at md5 source rating image_width image_height tag_string
        locked_tags fav_count file_ext parent_id change_seq approver_id file_size comment_count
        description duration updated_at is_deleted is_pending is_flagged score up_score down_score
        is_rating_locked is_status_locked is_note_locked bg_color last_noted_at
        last_commented_at""",
    "tags": "id name category post_count created_at updated_at is_locked",
    "tag_aliases": """id antecedent_name consequent_name created_at status forum_post_id
        forum_topic_id reason updated_at creator_id approver_id post_count down_votes meh_votes
        up_votes""",
    "tag_implications": """id antecedent_name consequent_name created_at status forum_post_id
        forum_topic_id reason updated_at creator_id approver_id descendant_names down_votes
        meh_votes up_votes""",
    "pools": """id name created_at updated_at creator_id description is_active category
        post_ids""",
}
COLUMNS = {name: columns.split() for name, columns in COLUMN_NAMES.items()}
"""Columns of each export, in order."""

FIRST_DAY = datetime(2020, 1, 1)
BETWEEN_POSTS = timedelta(minutes=37)
UPLOADER_ID = 1


@dataclass(frozen=True)
class Picture:
    """What the export says of a post's original file."""

    md5: str
    ext: str
    size: Size
    size_bytes: int
    bg_color: str | None
    """what shows through it; None where nothing is transparent"""


def write_tables(
    filed: Sequence[tuple[LocalPost, Picture]], relations: LocalRelations, folder: Path
) -> None:
    """Write the five exports of posts that come in the order of their ids, from 1.

    Raises:
        DataError: a tag, category, rating or alias that a booru cannot hold.
    """
    rules = TagRules(relations)
    tags = [rules.applied(post) for post, _ in filed]
    categories = settled_categories(tags)
    counts = Counter(tag for tags_of_post in tags for tag in tags_of_post)
    tables: dict[str, Iterable[Mapping[str, Value]]] = {
        "posts": post_rows(filed, tags),
        "tags": tag_rows(rules.all_names() | counts.keys(), categories, counts),
        "tag_aliases": alias_rows(relations.aliases, counts),
        "tag_implications": implication_rows(relations.implications, rules),
        "pools": (),
    }
    for name, rows in tables.items():
        write_csv_gz(folder / f"{name}.csv.gz", COLUMNS[name], rows)


class TagRules:
    """Aliases and implications, applied as the site does when a post is saved."""

    def __init__(self, relations: LocalRelations) -> None:
        self.aliases = dict(relations.aliases)
        self.implications: dict[str, set[str]] = {}
        for antecedent, consequent in relations.implications:
            self.implications.setdefault(antecedent, set()).add(consequent)

    def all_names(self) -> set[str]:
        """Every tag that a relation speaks of."""
        implied = {name for names in self.implications.values() for name in names}
        return {*self.aliases, *self.aliases.values(), *self.implications, *implied}

    def resolved(self, tag: str) -> str:
        """What a tag is an alias of, or itself.

        Raises:
            DataError: the aliases go in a circle.
        """
        seen = {tag}
        while tag in self.aliases:
            tag = self.aliases[tag]
            if tag in seen:
                raise DataError(f"the aliases of {tag!r} go in a circle.")
            seen.add(tag)
        return tag

    def implied(self, tag: str) -> set[str]:
        """Every tag that comes with this one, without itself."""
        found: set[str] = set()
        open_ends = [tag]
        while open_ends:
            new = self.implications.get(open_ends.pop(), set()) - found
            found |= new
            open_ends.extend(new)
        return found - {tag}

    def applied(self, post: LocalPost) -> dict[str, int | None]:
        """The post's tags and their categories (None where an implication brought it).

        Raises:
            DataError: a category or tag that cannot be.
        """
        check(post)
        tags: dict[str, int | None] = {}
        for category, names in post.tags.items():
            for name in names:
                tags.setdefault(self.resolved(name), CATEGORIES[category])
        for name in list(tags):
            for consequent in self.implied(name):
                tags.setdefault(self.resolved(consequent), None)
        return tags


def check(post: LocalPost) -> None:
    """Refuse what a booru cannot hold."""
    if post.rating not in RATINGS:
        raise DataError(f"post {post.key!r}: rating {post.rating!r}, expected one of s, q, e.")
    for category, names in post.tags.items():
        if category not in CATEGORIES:
            raise DataError(
                f"post {post.key!r}: tag category {category!r}, "
                f"expected one of {', '.join(CATEGORIES)}."
            )
        for name in names:
            if not name or name != name.lower() or name.split() != [name]:
                raise DataError(
                    f"post {post.key!r}: tag {name!r}, expected lower case without spaces."
                )


def settled_categories(tags: Iterable[Mapping[str, int | None]]) -> dict[str, int]:
    """One category for each tag: the one most posts give it, the lowest number in a tie."""
    votes: dict[str, Counter[int]] = {}
    for tags_of_post in tags:
        for name, category in tags_of_post.items():
            ballot = votes.setdefault(name, Counter())
            if category is not None:
                ballot[category] += 1
    return {
        name: min(ballot, key=lambda category: (-ballot[category], category), default=0)
        for name, ballot in votes.items()
    }


def created_at(number: int, md5: str = "0") -> datetime:
    """When the post, tag or relation of this number was made: the same in every build."""
    return FIRST_DAY + number * BETWEEN_POSTS + timedelta(microseconds=int(md5[:4], 16))


def post_rows(
    filed: Sequence[tuple[LocalPost, Picture]], tags: Sequence[Mapping[str, int | None]]
) -> Iterator[Mapping[str, Value]]:
    """Rows of posts.csv; the first post of a group is the parent of its others."""
    parents: dict[str, int] = {}
    untouched: dict[str, Value] = dict.fromkeys(COLUMNS["posts"])
    untouched |= dict.fromkeys(["is_deleted", "is_pending", "is_flagged"], False)
    untouched |= dict.fromkeys(["is_rating_locked", "is_status_locked", "is_note_locked"], False)
    untouched |= dict.fromkeys(["fav_count", "score", "up_score", "down_score", "comment_count"], 0)
    for post_id, ((post, picture), names) in enumerate(zip(filed, tags, strict=True), 1):
        parent_id = parents.setdefault(post.group, post_id)
        made = created_at(post_id, picture.md5)
        yield untouched | {
            "id": post_id,
            "uploader_id": UPLOADER_ID,
            "created_at": made,
            "md5": picture.md5,
            "source": post.source,
            "rating": post.rating,
            "image_width": picture.size.width,
            "image_height": picture.size.height,
            "tag_string": " ".join(sorted(names)),
            "file_ext": picture.ext,
            "parent_id": None if parent_id == post_id else parent_id,
            "change_seq": post_id,
            "file_size": picture.size_bytes,
            "description": post.description,
            "updated_at": made + timedelta(days=1),
            "bg_color": picture.bg_color,
        }


def tag_rows(
    names: Iterable[str], categories: Mapping[str, int], counts: Mapping[str, int]
) -> Iterator[Mapping[str, Value]]:
    """Rows of tags.csv, by name; tags that only relations speak of have no posts."""
    for tag_id, name in enumerate(sorted(names), 1):
        yield {
            "id": tag_id,
            "name": name,
            "category": categories.get(name, 0),
            "post_count": counts.get(name, 0),
            "created_at": created_at(tag_id),
            "updated_at": created_at(tag_id),
            "is_locked": False,
        }


def relation_row(relation_id: int, antecedent: str, consequent: str) -> dict[str, Value]:
    """What aliases and implications have in common."""
    return {
        "id": relation_id,
        "antecedent_name": antecedent,
        "consequent_name": consequent,
        "created_at": created_at(relation_id),
        "status": "active",
        "forum_post_id": None,
        "forum_topic_id": None,
        "reason": "",
        "updated_at": created_at(relation_id),
        "creator_id": UPLOADER_ID,
        "approver_id": None,
        "down_votes": 0,
        "meh_votes": 0,
        "up_votes": 0,
    }


def alias_rows(
    aliases: Sequence[tuple[str, str]], counts: Mapping[str, int]
) -> Iterator[Mapping[str, Value]]:
    """Rows of tag_aliases.csv, by antecedent."""
    for number, (antecedent, consequent) in enumerate(sorted(set(aliases)), 1):
        row = relation_row(number, antecedent, consequent)
        yield row | {"post_count": counts.get(consequent, 0)}


def implication_rows(
    implications: Sequence[tuple[str, str]], rules: TagRules
) -> Iterator[Mapping[str, Value]]:
    """Rows of tag_implications.csv, by antecedent."""
    for number, (antecedent, consequent) in enumerate(sorted(set(implications)), 1):
        row = relation_row(number, antecedent, consequent)
        descendants = sorted({consequent} | rules.implied(consequent))
        yield row | {"descendant_names": descendants}
