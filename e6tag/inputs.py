"""Pictures that a user names: files, folders, http(s) addresses, standard input.

One bad picture never ends a run: `Failures` names and counts them.
"""

import ipaddress
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from e6tag import __version__
from e6tag.errors import INPUTS_FAILED, ConfigError, DataError, FetchError
from e6tag.images import list_pictures

log = logging.getLogger(__name__)

USER_AGENT = f"e6tag/{__version__} (tagging pictures that its user named)"
MAX_BYTES = 100 << 20
MAX_SECONDS = 30.0
MAX_REDIRECTS = 5
PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Input:
    """One picture to read."""

    name: str
    """path, address or `-`, as the user will see it"""
    read: Callable[[], bytes]
    """gives the file's content; raises OSError, DataError or FetchError"""
    path: Path | None = None
    """where it lies, if it is a file"""


@dataclass
class Failures:
    """The inputs that could not be used, each said on stderr at once."""

    lines: list[str] = field(default_factory=list)
    """one a failed input: its name and why"""

    def add(self, name: str, problem: Exception | str) -> None:
        """Name an input that failed, and why."""
        reason = explain(problem) if isinstance(problem, OSError) else str(problem)
        line = reason if reason.startswith(name) else f"{name}: {reason}"
        log.error("%s", printable(line))
        self.lines.append(line)

    def exit_code(self, num_inputs: int) -> int:
        """0, or 1 after saying how many failed."""
        if not self.lines:
            return 0
        log.error("%d of %d inputs failed; they are named above.", len(self.lines), num_inputs)
        return INPUTS_FAILED


def explain(problem: OSError) -> str:
    """What the system refused."""
    return problem.strerror or str(problem)


def printable(text: str) -> str:
    """Text for one line of a terminal: control characters and undecodable bytes as \\xNN."""
    kept = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(kept)


def emit(text: str) -> None:
    """Write results to stdout, whatever its encoding can hold."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def file_input(path: Path) -> Input:
    """A file as an input."""
    return Input(str(path), path.read_bytes, path)


def find_inputs(names: Sequence[str], recursive: bool, failures: Failures) -> list[Input]:
    """What the names on the command line stand for, in their order, each file once.

    A file that does not exist is a failed input among others.

    Raises:
        ConfigError: nothing was named, or nothing of it is there.
    """
    if not names:
        raise ConfigError(
            "no picture was named. Example: python test.py picture.png "
            "(or a folder, an http(s) address, or - for standard input)."
        )
    found: dict[str, Input] = {}
    for name in names:
        for item in expand(name, recursive, failures):
            found.setdefault(item.name, item)
    if not found:
        hint = " --recursive looks into folders inside folders."
        hint = "" if recursive or failures.lines else hint
        raise ConfigError(f"there is no picture in {printable(' '.join(names))}.{hint}")
    return list(found.values())


def expand(name: str, recursive: bool, failures: Failures) -> Iterable[Input]:
    """The pictures behind one name of the command line."""
    if name == "-":
        return [Input("-", read_stdin)]
    if name.startswith(("http://", "https://")):
        return [Input(name, lambda: read_url(name))]
    path = Path(name)
    if path.is_dir():
        return map(file_input, list_pictures([path], recursive))
    if not path.exists():
        failures.add(name, "there is no such file or folder.")
        return []
    return [file_input(path)]


def read_stdin() -> bytes:
    """All of standard input.

    Raises:
        DataError: it is a terminal, or too large.
    """
    if sys.stdin.isatty():
        raise DataError("standard input is a terminal: send a picture to it (< picture.png).")
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"larger than {MAX_BYTES >> 20} MB.")
    return content


def read_url(address: str) -> bytes:
    """Fetch a picture, within `MAX_BYTES` and `MAX_SECONDS`.

    Addresses of this machine and of private networks are asked only where the user's own
    words name them (an IP address or localhost), never because a public name or a
    redirect points there.

    Raises:
        FetchError: the network or the site said no, or the bounds were passed.
    """
    import requests  # here, because most pictures are files

    deadline = time.monotonic() + MAX_SECONDS
    try:
        meant = urlsplit(address).hostname
        with requests.Session() as session:
            session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
            for _ in range(MAX_REDIRECTS + 1):
                # Behind a proxy only the proxy knows the addresses of names.
                if not requests.utils.get_environ_proxies(address):
                    check_host(address, meant)
                with session.get(address, stream=True, allow_redirects=False, timeout=10) as reply:
                    if not reply.is_redirect:
                        reply.raise_for_status()
                        return read_body(reply.iter_content(PIECE_BYTES), deadline)
                    address = urljoin(address, reply.headers["location"])
    except (requests.RequestException, ValueError) as problem:
        raise FetchError(f"could not be fetched: {problem}") from None
    raise FetchError(f"could not be fetched: more than {MAX_REDIRECTS} redirects.")


def read_body(pieces: Iterable[bytes], deadline: float) -> bytes:
    """Join the pieces of a reply.

    Raises:
        FetchError: too large, or not finished by the deadline (of the monotonic clock).
    """
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MAX_BYTES:
            raise FetchError(f"could not be fetched: larger than {MAX_BYTES >> 20} MB.")
        if time.monotonic() > deadline:
            raise FetchError(f"could not be fetched: not done after {MAX_SECONDS:.0f} s.")
    return bytes(content)


def check_host(address: str, meant: str | None) -> None:
    """Refuse addresses that the user did not mean.

    Raises:
        FetchError: not http(s), an unknown name, or a private address that `meant` (the
            host of the user's own address) does not name literally.
    """
    parts = urlsplit(address)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise FetchError(f"could not be fetched: {address} is not an http(s) address.")
    if host == meant and (host == "localhost" or is_literal(host)):
        return
    try:
        found = socket.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)
    except OSError as problem:
        raise FetchError(f"could not be fetched: {host}: {explain(problem)}.") from None
    for *_, place in found:
        if not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_global:
            raise FetchError(
                f"not fetched: {host} is at {place[0]}, an address of this machine or of a "
                "private network. Name that address itself if you mean it."
            )


def is_literal(host: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
