"""e621's search language and paging, as far as the local booru speaks it.

Words must all be there; `-word` must not; of all `~word` at least one; `*` stands for any
letters.  A part of the language that is not spoken here is refused, never misread.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from e6tag.demo.booru_index import Index, SitePost

MAX_TAGS = 40
MAX_VALUES = 320
MAX_PER_PAGE = 320
POSTS_PER_PAGE = 75
MAX_NUMBERED_PAGE = 750
MAX_ID = 2**31 - 1
NUMBER = re.compile(r"[0-9]{1,18}")

NOT_SPOKEN_WORDS = """
    user user_id approver fav favoritedby favcount score date age change source description
    width height ratio mpixels filesize duration pool ordpool set order_set md5hash note comment
    commenter noter tagcount gentags arttags chartags copytags spectags delreason deletedby
    hassource hasdescription ischild isparent inpool locked limit randseed
"""
NOT_SPOKEN = frozenset(NOT_SPOKEN_WORDS.split())
"""words before a colon that mean something on e621 but not here"""
STATUSES: dict[str, Callable[[SitePost], bool]] = {
    "any": lambda post: True,
    "all": lambda post: True,
    "active": lambda post: not (post.is_deleted or post.is_pending or post.is_flagged),
    "deleted": attrgetter("is_deleted"),
    "pending": attrgetter("is_pending"),
    "flagged": attrgetter("is_flagged"),
    "modqueue": lambda post: post.is_pending or post.is_flagged,
}
ORDERS = {"id": False, "id_asc": False, "id_desc": True}
"""order: value -> newest first"""
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}


class Refused(Exception):
    """A question that the site answers with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Search:
    """What a query asks for."""

    all_of: Sequence[str]
    none_of: Sequence[str]
    any_of: Sequence[str]
    newest_first: bool

    @property
    def names_a_status(self) -> bool:
        """Whether deleted posts are left to the query to show or hide."""
        return any(word.startswith("status:") for word in (*self.all_of, *self.none_of))


def parse(query: str) -> Search:
    """Take a query apart.

    Raises:
        Refused: more than 40 words, or an order that is not spoken here.
    """
    words = query.lower().split()
    if len(words) > MAX_TAGS:
        raise Refused(422, f"You cannot search for more than {MAX_TAGS} tags at a time")
    orders = [word.removeprefix("order:") for word in words if word.startswith("order:")]
    for order in orders:
        if order not in ORDERS:
            raise Refused(422, f"order:{order} is not spoken here; only {', '.join(ORDERS)} are")
    words = [word for word in words if not word.startswith("order:")]
    marked = [word for word in words if word[0] in "-~" and len(word) > 1]
    return Search(
        all_of=[word for word in words if word not in marked],
        none_of=[word[1:] for word in marked if word[0] == "-"],
        any_of=[word[1:] for word in marked if word[0] == "~"],
        newest_first=ORDERS[orders[-1]] if orders else True,
    )


def search(index: Index, query: str) -> list[int]:
    """Ids of the posts that a query finds, in its order.

    Raises:
        Refused: the query is too long, or not spoken here.
    """
    wanted = parse(query)
    found = set(index.posts)
    for word in wanted.all_of:
        found &= having(index, word)
    for word in wanted.none_of:
        found -= having(index, word)
    if wanted.any_of:
        found &= set().union(*(having(index, word) for word in wanted.any_of))
    if not wanted.names_a_status:
        found = {post_id for post_id in found if not index.posts[post_id].is_deleted}
    return sorted(found, reverse=wanted.newest_first)


def having(index: Index, word: str) -> set[int]:
    """Ids of the posts that one word is true of."""
    name, colon, value = word.partition(":")
    if colon and name in METATAGS:
        return METATAGS[name](index, value)
    if colon and name in NOT_SPOKEN:
        raise Refused(422, f"{name}: is not spoken here")
    if "*" in word:
        fits = wildcard(word)
        return set().union(*(posts for tag, posts in index.tagged.items() if fits(tag)))
    return index.tagged.get(index.resolved(word), set())


def wildcard(pattern: str) -> Callable[[str], bool]:
    """A test for names in which `*` stands for any letters, also none."""
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    return lambda name: expression.fullmatch(name) is not None


def values_of(text: str) -> list[str]:
    """The values of a comma-separated list."""
    values = text.split(",")
    if len(values) > MAX_VALUES:
        raise Refused(422, f"You cannot search for more than {MAX_VALUES} values at a time")
    return values


def with_id(index: Index, value: str) -> set[int]:
    """Ids of `id:5`, `id:1,2,3`, `id:1..5`, `id:>=5`."""
    if match := re.fullmatch(r"(>=|<=|>|<)([0-9]{1,18})", value):
        compare, bound = COMPARISONS[match[1]], int(match[2])
        return {post_id for post_id in index.posts if compare(post_id, bound)}
    if match := re.fullmatch(r"([0-9]{0,18})\.\.([0-9]{0,18})", value):
        first, last = int(match[1] or 0), int(match[2] or MAX_ID)
        return {post_id for post_id in index.posts if first <= post_id <= last}
    return {int_or_zero(text) for text in values_of(value)} & index.posts.keys()


def with_md5(index: Index, value: str) -> set[int]:
    """Ids of the posts with one of these hashes."""
    known = (index.by_md5.get(md5) for md5 in values_of(value))
    return {post.post_id for post in known if post is not None}


def with_rating(index: Index, value: str) -> set[int]:
    """Ids of the posts with a rating; its first letter is enough."""
    return {post.post_id for post in index.posts.values() if post.rating == value[:1]}


def with_status(index: Index, value: str) -> set[int]:
    """Ids of the posts in a state."""
    if value not in STATUSES:
        raise Refused(422, f"status:{value} is not spoken here; only {', '.join(STATUSES)} are")
    fits = STATUSES[value]
    return {post.post_id for post in index.posts.values() if fits(post)}


def with_parent(index: Index, value: str) -> set[int]:
    """Ids of a post's children, or of all (`any`) or no (`none`) children."""
    children = {post.post_id for post in index.posts.values() if post.parent_id is not None}
    if value == "none":
        return set(index.posts) - children
    return children if value == "any" else set(index.children.get(int_or_zero(value), ()))


def with_type(index: Index, value: str) -> set[int]:
    """Ids of the posts with a file extension."""
    return {post.post_id for post in index.posts.values() if post.ext == value}


def int_or_zero(text: str) -> int:
    """A number of digits; 0, which is no id, for anything else."""
    return int(text) if NUMBER.fullmatch(text) else 0


METATAGS: dict[str, Callable[[Index, str], set[int]]] = {
    "id": with_id,
    "md5": with_md5,
    "rating": with_rating,
    "status": with_status,
    "parent": with_parent,
    "type": with_type,
}


Item = TypeVar("Item")


def page_of(
    items: Sequence[Item], id_of: Callable[[Item], int], limit: str, page: str
) -> list[Item]:
    """One page: numbered, or the newest before an id (`b5`), or the next after one (`a5`).

    A page by id ignores the order of the items and is newest first; `a5` holds the lowest ids
    above 5, so its first item is the next cursor.

    Raises:
        Refused: a limit or page that the site refuses, with its status 410.
    """
    per_page = parse_limit(limit)
    if match := re.fullmatch(r"([ab])([0-9]{1,18})", page):
        if int(match[2]) > MAX_ID:
            raise Refused(410, "Page parameter is out of valid range.")
        return cursor_page(items, id_of, per_page, (match[1], int(match[2])))
    first = (parse_page(page, per_page) - 1) * per_page
    return list(items[first : first + per_page])


def cursor_page(
    items: Iterable[Item], id_of: Callable[[Item], int], per_page: int, cursor: tuple[str, int]
) -> list[Item]:
    """The page before or after an id."""
    side, bound = cursor
    newest_first = sorted(items, key=id_of, reverse=True)
    if side == "b":
        return [item for item in newest_first if id_of(item) < bound][:per_page]
    after = [item for item in newest_first if id_of(item) > bound]
    return after[max(0, len(after) - per_page) :]


def parse_limit(limit: str) -> int:
    """Posts on a page."""
    if not limit:
        return POSTS_PER_PAGE
    if not NUMBER.fullmatch(limit):
        raise Refused(410, "Invalid limit.")
    if int(limit) > MAX_PER_PAGE:
        raise Refused(410, f"Limit must be between 0 and {MAX_PER_PAGE}.")
    return int(limit)


def parse_page(page: str, per_page: int) -> int:
    """Number of a page, from 1."""
    if not page:
        return 1
    if not NUMBER.fullmatch(page) or int(page) < 1:
        raise Refused(410, "Invalid page number.")
    last = MAX_NUMBERED_PAGE if per_page else 1
    if int(page) > last:
        raise Refused(410, f"You cannot go beyond page {last}. Please narrow your search terms.")
    return int(page)
