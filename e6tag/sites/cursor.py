"""Danbooru's way of listing posts, which its descendants have too."""

from typing import Any

from e6tag.credentials import Account, Credentials, basic
from e6tag.sites.api import ApiSite, listed, read_json


class CursorSite(ApiSite):
    """A site with /posts.json whose pages begin after an id."""

    def page_url(self, query: str, before: int | None, limit: int) -> str:
        """`b<ID>`: posts before that one, the newest first."""
        page = {} if before is None else {"page": f"b{before}"}
        return self.url("/posts.json", tags=query, limit=limit, **page)

    def rows(self, content: bytes) -> tuple[list[Any], int | None]:
        """A bare list; {"posts": [...]} of e621's v1."""
        return listed(read_json(content), "posts"), None

    def credentials(self, account: Account) -> Credentials:
        """HTTP Basic with the API key."""
        return Credentials(self.base_url, account.api_key, basic(account))
