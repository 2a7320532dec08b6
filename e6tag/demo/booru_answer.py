"""What the local booru sends back, before it is put on the wire."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A whole answer but for what its connection adds."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(value, ensure_ascii=False).encode())


def html_answer(
    status: int, title: str, text: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """A page for people; `text` is HTML."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{text}</body></html>\n"
    return Answer(status, page.encode(), "text/html; charset=utf-8", headers or {})


NOT_FOUND = json_answer({"success": False, "reason": "not found"}, 404)
NO_SUCH_FILE = html_answer(404, "404", "Not Found")
FORBIDDEN = html_answer(403, "403", "Forbidden")
BAD_REQUEST = html_answer(400, "400", "Bad Request")
