"""What a visitor proves to be allowed with: sent to the site itself, and written nowhere."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

from e6tag.errors import ConfigError

LOGIN, API_KEY = "E6TAG_LOGIN", "E6TAG_API_KEY"
HIDDEN = "***"
LEAST_KEY_LENGTH = 4
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Account:
    """A name on a site and the key that belongs to it."""

    login: str = field(repr=False)
    """empty where only a key is needed"""
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Credentials:
    """What requests to one site carry besides, and no text may show."""

    base_url: str
    api_key: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)

    def fits(self, url: str) -> bool:
        """Whether an address is of the very origin: scheme, host and port."""
        return origin(url) == origin(self.base_url)

    def added_to(self, url: str) -> str:
        """The address with the parameters."""
        if not self.params:
            return url
        return url + ("&" if urlsplit(url).query else "?") + urlencode(self.params)

    def taken_from(self, url: str) -> str:
        """The address without the parameters, should a site hand them back."""
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        kept = [pair for pair in pairs if pair[0] not in self.params]
        if len(kept) < len(pairs):
            url = urlunsplit(parts._replace(query=urlencode(kept)))
        return self.hidden_in(url)

    def hidden_in(self, text: str) -> str:
        """A text without what must not be seen, whichever way it is written there."""
        return self.hidden_in_bytes(text.encode("utf-8", "replace")).decode()

    def hidden_in_bytes(self, content: bytes) -> bytes:
        """The same for what a site sends."""
        for secret in self.secrets:
            content = content.replace(secret.encode(), HIDDEN.encode())
        return content

    @property
    def secrets(self) -> list[str]:
        """Texts that must not be seen, longest first."""
        words = [self.api_key, *(value.rpartition(" ")[2] for value in self.headers.values())]
        written = {
            form for word in words for form in (word, quote(word, safe=""), quote_plus(word))
        }
        return sorted(written - {""}, key=lambda form: (-len(form), form))


NOBODY = Credentials("", "")
"""nothing is shown"""


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def account_from_environment(environment: Mapping[str, str] = os.environ) -> Account | None:
    """The account that `E6TAG_LOGIN` and `E6TAG_API_KEY` name; None where no key is given.

    Raises:
        ConfigError: a name without a key, or a text that cannot be one.
    """
    login, api_key = (environment.get(name, "").strip() for name in (LOGIN, API_KEY))
    for name, value in ((LOGIN, login), (API_KEY, api_key)):
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"{name} must be printable ASCII.")
    if login and not api_key:
        raise ConfigError(f"{LOGIN} is set but {API_KEY} is not. Set both, or neither.")
    if api_key and len(api_key) < LEAST_KEY_LENGTH:
        raise ConfigError(f"{API_KEY} is too short to be a key.")
    return Account(login, api_key) if api_key else None


def basic(account: Account, scheme: str = "Basic") -> dict[str, str]:
    """The Authorization header of RFC 7617, or of a scheme that encodes alike."""
    pair = base64.b64encode(f"{account.login}:{account.api_key}".encode()).decode()
    return {"Authorization": f"{scheme} {pair}"}
