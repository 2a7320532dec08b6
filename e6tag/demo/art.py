"""Real pictures with the words of people, from ordinary packages: what the demo learns from."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from e6tag.demo import drawing, iconify, kenney, npm_packages, openmoji, tabler
from e6tag.demo.drawing import Drawing
from e6tag.demo.lexicon import Lexicon
from e6tag.demo.local_post import LocalPost, LocalRelations
from e6tag.demo.packages import Package

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Art:
    """The pictures of the demo, described; they are drawn when `posts` is walked."""

    drawings: Sequence[Drawing]
    """in key order"""
    relations: LocalRelations
    credits: str
    """packages, versions, licences and what these want said, as Markdown"""

    @property
    def count(self) -> int:
        """Number of posts."""
        return len(self.drawings)

    @property
    def posts(self) -> Iterator[LocalPost]:
        """All posts in key order, drawn a few ahead by two processes; each use starts anew."""
        return drawing.posts(self.drawings)


def collect(cache: Path, full: bool = False) -> Art:
    """Fetch the packages that are not in the cache yet, and describe every picture.

    Args:
        cache: folder for the packages' files.
        full: add the pictures of npm packages, in several styles.

    Raises:
        FetchError: a package could not be fetched.
        DataError: one is not what it was.
    """
    table = openmoji.fetch_table(cache)
    authors: Mapping[str, str] = {}
    packages: list[Package] = [*openmoji.PACKAGES, kenney.PACKAGE]
    if full:
        more = iconify.fetch_more_words(table, cache)
        table, authors = more.table, more.authors
        packages += npm_packages.PACKAGES
    lexicon = Lexicon(table)
    found = [
        *openmoji.drawings(openmoji.fetch_pictures(cache), table, lexicon, authors),
        *kenney.drawings(kenney.fetch_sprites(cache)),
    ]
    if full:
        found += iconify.drawings(cache, more, lexicon)
        found += tabler.drawings(cache)
    found = sorted(settled(found), key=lambda item: item.key)
    relations = LocalRelations(
        aliases=usable_aliases(lexicon.aliases(), found),
        implications=usable_implications(lexicon.implications(), found),
    )
    return Art(found, relations, credits_of(packages))


def settled(drawings: Sequence[Drawing]) -> Iterator[Drawing]:
    """The same drawings; a tag that some have in another category is no general tag of any."""
    others = {
        name
        for item in drawings
        for category, names in item.tags.items()
        for name in names
        if category != "general"
    }
    for item in drawings:
        general = tuple(name for name in item.tags.get("general", ()) if name not in others)
        yield replace(item, tags={**item.tags, "general": general})


def posts_by_tag(drawings: Iterable[Drawing]) -> Mapping[str, set[str]]:
    """Tag -> keys of the posts that have it."""
    keys: dict[str, set[str]] = defaultdict(set)
    for item in drawings:
        for names in item.tags.values():
            for name in names:
                keys[name].add(item.key)
    return dict(keys)


def usable_aliases(
    stated: Iterable[tuple[str, str]], drawings: Iterable[Drawing]
) -> tuple[tuple[str, str], ...]:
    """Aliases from a name that no post has to a tag that posts have; the first statement wins."""
    used = posts_by_tag(drawings)
    aliases: dict[str, str] = {}
    for other, name in stated:
        if other and not other.isdigit() and other not in used and name in used:
            aliases.setdefault(other, name)
    return tuple(sorted(aliases.items()))


def usable_implications(
    stated: Iterable[tuple[str, str]], drawings: Iterable[Drawing]
) -> tuple[tuple[str, str], ...]:
    """Stated implications that hold in every post, without circles.

    A word can be one emoji's own name and a part of another's (star, star of David), so what
    holds for the first need not hold for the second.
    """
    used = posts_by_tag(drawings)
    kept: dict[str, set[str]] = defaultdict(set)
    for narrow, wide in sorted(set(stated)):
        holds = narrow in used and used[narrow] <= used.get(wide, set())
        if holds and narrow not in reachable(wide, kept):
            kept[narrow].add(wide)
    return tuple((narrow, wide) for narrow in sorted(kept) for wide in sorted(kept[narrow]))


def reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """Everything that `start` implies, with itself."""
    found, open_ends = {start}, [start]
    while open_ends:
        new = edges.get(open_ends.pop(), set()) - found
        found |= new
        open_ends.extend(new)
    return found


def credits_of(packages: Iterable[Package]) -> str:
    """Who made what, and on which terms, as Markdown."""
    lines = [
        "# Credits\n",
        "The pictures and words in this folder come from these packages; each is under its own",
        "licence. Pass these credits on with the pictures.\n",
        "| package | version | licence | |",
        "|---|---|---|---|",
    ]
    lines += [f"| {p.name} | {p.version} | {p.licence} | {p.attribution} |" for p in packages]
    return "\n".join(lines) + "\n"
