"""Lists of posts in XML, as Danbooru once sent and others still do, from hosts nobody vouches for.

Nothing is expanded or looked up: a document type, where entities would be declared, is refused.
"""

from typing import Any
from xml.parsers import expat

from e6tag.errors import DataError, RefusedError
from e6tag.sites.fields import whole

DEEPEST = 8
MAX_TEXT_LENGTH = 1 << 20


class Rows:
    """Collects the root's attributes, and a row for each element right under the root.

    A row is the element's attributes, and the text of each element right inside it.
    """

    def __init__(self) -> None:
        self.root = ""
        self.root_text = ""
        self.root_fields: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.path: list[str] = []

    def start(self, name: str, fields: dict[str, str]) -> None:
        """An element begins."""
        self.path.append(name)
        if len(self.path) > DEEPEST:
            raise DataError("the site's XML is nested too deeply to be a list of posts.")
        if len(self.path) == 1:
            self.root, self.root_fields = name, dict(fields)
        elif len(self.path) == 2:
            self.rows.append(dict(fields))

    def end(self, name: str) -> None:
        """It ends."""
        self.path.pop()

    def text(self, piece: str) -> None:
        """Text inside an element; it may come in pieces."""
        if len(self.path) == 1:
            self.root_text = (self.root_text + piece)[:MAX_TEXT_LENGTH]
        elif len(self.path) == 3:
            row = self.rows[-1]
            row[self.path[2]] = (row.get(self.path[2], "") + piece)[:MAX_TEXT_LENGTH]


def read_xml(content: bytes) -> Rows:
    """Parse a list of posts.

    Raises:
        DataError: it is not XML, has a document type, or is nested too deeply.
    """
    found, parser = Rows(), expat.ParserCreate()
    parser.StartElementHandler = found.start
    parser.EndElementHandler = found.end
    parser.CharacterDataHandler = found.text
    # Entities are declared in a document type: without one there is nothing to expand.
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as problem:
        start = content[:60].decode("utf-8", "replace").split("\n")[0]
        raise DataError(
            f"the site's answer is not XML ({problem}; it begins with {start!r}). "
            "Check --site and --base-url."
        ) from None
    return found


def refuse(*_: object) -> None:
    """A list of posts needs no document type; those who send one mean harm."""
    raise DataError("the site's XML has a document type, which a list of posts has no use for.")


def xml_posts(content: bytes) -> tuple[list[Any], int | None]:
    """The posts of an answer in XML, and the count that it states.

    Raises:
        RefusedError: it is an error.
        DataError: it is neither.
    """
    found = read_xml(content)
    if found.root == "posts":
        count = found.root_fields.get("count")
        return list(found.rows), None if count is None else whole(count)
    reason = found.root_fields.get("reason") or found.root_text
    if found.root in ("error", "response"):
        raise refusal(reason)
    raise DataError(f"the site's answer is XML of <{found.root[:40]}>, expected <posts>.")


def refusal(reason: str) -> RefusedError:
    """What the site says against a search, shortened."""
    return RefusedError(f"the site refuses this search: {' '.join(reason.split())[:200]!r}.")
