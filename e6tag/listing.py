"""Listing a site's posts through its API: page by page, politely, resumable; then fixed.

The folder `listing` of a data folder holds what was said (`e6tag.sites.listing_files`).  A run
that ends early leaves whole pages; the next one goes on after the oldest post that it finds.
"""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from e6tag import files
from e6tag.errors import ConfigError, DataError, FetchError, RefusedError
from e6tag.fetch import FileFailure, PoliteClient
from e6tag.progress import Progress
from e6tag.sites.api import MAX_PAGE_BYTES, ApiSite, Page
from e6tag.sites.listed import UNKNOWN_RATING, ListedPost
from e6tag.sites.listing_files import (
    LISTING,
    REMEDY,
    page_path,
    read_page,
    write_listing,
    write_page,
)

log = logging.getLogger(__name__)

SEARCH = "search.json"


@dataclass(frozen=True)
class Search:
    """What is asked of a site."""

    site: str
    query: str = ""
    max_posts: int | None = None


@dataclass
class State:
    """How far a listing has come."""

    num_pages: int = 0
    num_posts: int = 0
    before: int | None = None
    """the oldest id so far"""
    num_hidden: int = 0
    num_unrated: int = 0

    def add(self, posts: Iterable[ListedPost]) -> None:
        """Count a page that is written."""
        self.num_pages += 1
        for post in posts:
            self.num_posts += 1
            self.before = post.post_id
            self.num_hidden += not post.location
            self.num_unrated += post.rating == UNKNOWN_RATING


def list_posts(
    client: PoliteClient, site: ApiSite, search: Search, folder: Path, quiet: bool
) -> None:
    """Make `folder` hold a complete listing; one that is complete already is kept.

    Raises:
        ConfigError: the folder holds, or the search would be, another's.
        DataError: the site finds nothing, or answers with what is no page.
        FetchError: it does not answer, or refuses the search.
    """
    check_query(site, search.query)
    state = resumed(folder, search)
    if (folder / LISTING).exists():
        return
    with Progress(
        "posts", search.max_posts or 0, unit="posts", done=state.num_posts, quiet=quiet
    ) as progress:
        while limit := wanted(state, search, site.page_size):
            page = next_page(client, site, search.query, state.before, limit)
            posts = older_posts(page, state.before)[:limit]
            if not posts:
                break
            write_page(page_path(folder, state.num_pages + 1), posts, state.before, page.skipped)
            state.add(posts)
            progress.update(len(posts))
    finish(folder, site, search, state)


def finish(folder: Path, site: ApiSite, search: Search, state: State) -> None:
    """Declare a listing complete and say what is in it.

    Raises:
        DataError: it is empty.
    """
    if not state.num_posts:
        what = f"finds nothing for {search.query!r}" if search.query else "has no posts to list"
        raise DataError(f"{site.base_url} {what}. Check --query, --site and --base-url.")
    write_listing(folder, asdict(search), state.num_pages)
    log.info("listed %d posts, %d of them hidden from us", state.num_posts, state.num_hidden)
    if state.num_unrated and UNKNOWN_RATING in site.ratings:
        log.info(
            "%d have no rating; they count as not safe, and only --ratings %s takes them",
            state.num_unrated, UNKNOWN_RATING,
        )  # fmt: skip


def check_query(site: ApiSite, query: str) -> None:
    """Refuse words that would upset paging by id.

    Raises:
        ConfigError: naming the word.
    """
    for word in query.lower().split():
        if word.lstrip("-~(").startswith(tuple(site.refused_terms)):
            raise ConfigError(
                f"--query: {word!r} cannot be used: posts are listed by id, the newest first."
            )


def resumed(folder: Path, search: Search) -> State:
    """Where an earlier run got to; the folder is this search's from now on.

    Raises:
        ConfigError: it holds another search's pages.
        DataError: one of its pages is damaged.
    """
    state, path = State(), folder / SEARCH
    if page_path(folder, 1).exists():
        check_same_search(path, search)
        while page_path(folder, state.num_pages + 1).exists():
            state.add(checked_page(page_path(folder, state.num_pages + 1), state.before))
    else:
        files.write_json(path, asdict(search))
    return state


def check_same_search(path: Path, search: Search) -> None:
    """Refuse to mix two searches.

    Raises:
        ConfigError: naming the first difference.
    """
    before = files.read_json(path, DataError, REMEDY)
    for name, value in asdict(search).items():
        if before.get(name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{path.parent} was begun with {flag} {before.get(name)!r}, not {value!r}. Give "
                "the same options to go on with it, or delete it to list anew."
            )


def checked_page(path: Path, before: int | None) -> list[ListedPost]:
    """The posts of a page that is there.

    Raises:
        DataError: it is damaged, or does not follow the one before it.
    """
    about, posts = read_page(path)
    if about.get("before") != before or not posts:
        raise DataError(f"{path} does not follow the page before it. {REMEDY}")
    return posts


def wanted(state: State, search: Search, page_size: int) -> int:
    """How many posts to ask for; 0 at the end."""
    if search.max_posts is None:
        return page_size
    return min(page_size, search.max_posts - state.num_posts)


def next_page(
    client: PoliteClient, site: ApiSite, query: str, before: int | None, limit: int
) -> Page:
    """A page that has posts, or the empty one that is the end.

    Some sites send an empty page now and then: it is asked for again, unless they say that there
    is nothing.
    """
    page = Page([])
    for _ in range(site.empty_pages):
        page = fetch_page(client, site, site.page_url(query, before, limit))
        if page.posts or page.num_found == 0:
            break
    return page


def fetch_page(client: PoliteClient, site: ApiSite, url: str) -> Page:
    """One page over HTTP.

    Raises:
        FetchError: it cannot be had.
        DataError: it is not a page.
    """
    hidden_in = client.transport.credentials.hidden_in
    try:
        content = client.request(
            url, lambda: site.headers, lambda answer: client.read_body(answer, MAX_PAGE_BYTES)
        )
        # A site that hands the key back, in an address or an error, must not make us write it.
        return site.parse_page(client.transport.credentials.hidden_in_bytes(content))
    except FileFailure as problem:
        raise FetchError(hidden_in(f"{problem} {advice(problem, site)}")) from None
    except RefusedError as problem:
        raise RefusedError(hidden_in(f"{problem} {account_advice(site)}".rstrip())) from None
    except DataError as problem:
        raise DataError(hidden_in(f"{site.base_url}: {problem}")) from None


def advice(problem: FileFailure, site: ApiSite) -> str:
    """What can be done about a page that cannot be had."""
    if problem.reason == "unreachable":
        return "Run the same command again later; it resumes."
    if problem.reason == "gone":
        return (
            f"Check --base-url, and that the site is {site.title}. A 410 may also say that it "
            "shows nothing so far back: ask for fewer posts with --max-posts."
        )
    return f"The site refuses this search: ask for fewer words. {account_advice(site)}".rstrip()


def account_advice(site: ApiSite) -> str:
    """How to show an account, where the site has some."""
    if not site.account_note:
        return ""
    return f"If it asks for an account, set E6TAG_LOGIN and E6TAG_API_KEY: {site.account_note}."


def older_posts(page: Page, before: int | None) -> list[ListedPost]:
    """The posts of a page that are older than those before it, newest first, once each.

    Raises:
        FetchError: all are newer: the site does not page as it should.
    """
    by_id = {post.post_id: post for post in page.posts if before is None or post.post_id < before}
    if page.posts and not by_id:
        raise FetchError(
            f"the site sends the same posts again when asked for those before {before}: its search "
            "does not page by id. Leave words out of --query."
        )
    return [by_id[post_id] for post_id in sorted(by_id, reverse=True)]
