"""audit.html: labels that are likely wrong, with the pictures and their neighbours, in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e6tag import page
from e6tag.figures import text_table
from e6tag.report import credits_section
from e6tag.suspects import KINDS, Kind

TITLES: Mapping[Kind, str] = {"missing": "Likely missing tags", "wrong": "Likely wrong tags"}
MEANINGS: Mapping[Kind, str] = {
    "missing": "The labels lack the tag, model and neighbours say that the picture has it.",
    "wrong": "The labels have the tag, model and neighbours say that the picture lacks it.",
}
SPACES = {
    "vectors": "Neighbours are nearest by the model's vectors of the pictures.",
    "scores": (
        "There are no vectors of the pictures: neighbours are nearest by what the model says of "
        "all tags, so they are no second opinion."
    ),
}
BOUND = (
    "These shares are lower bounds for labels with so many errors: real labels have errors of "
    "their own, which count as misses here. In labels with fewer errors than were planted, fewer "
    "suspects are right. Planted wrong tags fall on tags as often as these are used; other "
    "mistakes may be easier or harder to find. The model learnt from labels that nothing was "
    "planted in."
)
NOT_MEASURED = "There are no scores of val pictures: how right this list is was not measured."
NOTHING = "nothing was listed, or there was nothing to plant."
HEADERS = ("first", "planted errors", "by probability alone", "at random", "at best")


@dataclass(frozen=True)
class Near:
    """A neighbour of a suspect picture."""

    post_id: int
    picture: bytes | None
    """a small JPEG; None where it cannot be read"""
    has_tag: bool


@dataclass(frozen=True)
class Entry:
    """A suspect label, with its picture."""

    rank: int
    post_id: int
    tag: str
    category: str
    probability: float
    confidence: float
    neighbours_with: int
    neighbours: int
    picture: bytes | None
    near: Sequence[Near]
    """some of the neighbours, nearest first"""


def render(facts: Mapping[str, Any], entries: Mapping[Kind, Sequence[Entry]], credits: str) -> str:
    """The whole page.

    Args:
        facts: `audit` of metrics.json, with run, data and created of metrics.json.
        entries: the suspects that are shown, of each kind.
        credits: who made the pictures; may be empty.
    """
    sections = [
        headline(facts),
        *(measured_section(facts, kind) for kind in KINDS),
        *(suspects_section(facts, kind, entries[kind]) for kind in KINDS),
        credits_section(credits),
    ]
    return page.document(f"e6tag: label audit of {facts['data']}", sections)


def headline(facts: Mapping[str, Any]) -> str:
    """Title, what was looked at, and how far it can be believed."""
    notes = "".join(f'<p class="warning">⚠ {page.text(note)}</p>\n' for note in facts["notes"])
    return (
        f"<h1>Which labels of {page.name(facts['data'])} are likely wrong?</h1>\n"
        f"<p>The {page.name(facts['split'])} split, {facts['num_pictures']:,} pictures, as "
        f"{page.name(facts['run'])} sees it; made {page.text(facts['created'])}. "
        f"{page.text(SPACES[facts['neighbours']['space']])} Near-copies of a picture are not its "
        "neighbours. Confidence only orders the list; it is not the share of right ones. "
        f"A suspect is a reason to look, not a verdict.</p>\n{notes}"
    )


def measured_section(facts: Mapping[str, Any], kind: Kind) -> str:
    """How many of the first suspects are right, as far as planted errors say it."""
    planted = facts["planted"]
    if planted is None:
        return f"<p>{NOT_MEASURED}</p>" if kind == KINDS[0] else ""
    rows = [[page.text(cell) for cell in row] for row in cells(planted[kind])]
    caption = f"{TITLES[kind]}: share of planted errors among the first"
    told = f"<p>{page.text(how_planted(planted))} {BOUND}</p>\n"
    title = f"<h2>How right is this?</h2>\n{told}" if kind == KINDS[0] else ""
    return title + (page.table(caption, HEADERS, rows) if rows else f"<p>{kind}: {NOTHING}</p>")


def how_planted(planted: Mapping[str, Any]) -> str:
    """What was planted, in words."""
    times = f", {planted['plantings']} times" if planted["plantings"] > 1 else ""
    return (
        f"In the labels of the val split, {planted['hidden_share']:.0%} of the positives were "
        f"hidden and {planted['wrong_share']:.0%} as many wrong ones added{times} "
        f"({planted['missing']['planted']:,.0f} and {planted['wrong']['planted']:,.0f} errors); "
        "the same audit saw only those labels."
    )


def cells(measured: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the columns `HEADERS`, as plain text."""
    return [
        [
            f"{at['n']:,}",
            f"{at['precision']:.1%}",
            "–" if at["by_probability"] is None else f"{at['by_probability']:.1%}",
            f"{measured['random']:.1%}",
            f"{at['best']:.1%}",
        ]
        for at in measured["at"]
    ]


def as_text(facts: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    listed = ", ".join(f"{facts['listed'][kind]:,} likely {kind}" for kind in KINDS)
    planted = facts["planted"]
    lines = [f"\nLabel audit of the {facts['split']} split: {listed} tags.", *facts["notes"]]
    lines.append(SPACES[facts["neighbours"]["space"]])
    if planted is None:
        return "\n".join([*lines, NOT_MEASURED, ""])
    tables = [text_of_kind(planted[kind], kind) for kind in KINDS]
    return "\n".join([*lines, how_planted(planted), BOUND, "", *tables])


def text_of_kind(measured: Mapping[str, Any], kind: Kind) -> str:
    """The figures of a kind as an aligned table."""
    if not measured["at"]:
        return f"{kind}: {NOTHING}\n"
    return text_table([f"{kind}: first", *HEADERS[1:]], cells(measured))


def suspects_section(facts: Mapping[str, Any], kind: Kind, entries: Sequence[Entry]) -> str:
    """The first suspects of a kind, and how many more there are."""
    title, listed = f"<h2>{TITLES[kind]}</h2>\n", facts["listed"][kind]
    if not entries:
        return f"{title}<p>None.</p>"
    more = listed - len(entries)
    rest = f" The first {len(entries):,}; {more:,} more are in audit.csv." if more else ""
    items = "\n".join(f"<li>{card(entry, kind)}</li>" for entry in entries)
    return f'{title}<p>{MEANINGS[kind]}{rest}</p>\n<ul class="gallery">\n{items}\n</ul>'


def card(entry: Entry, kind: Kind) -> str:
    """A picture, the tag, and what speaks against its label."""
    alt = f"post {entry.post_id}, {entry.tag} likely {kind}"
    near = "\n".join(near_item(each, entry.tag) for each in entry.near)
    evidence = (
        f"{entry.neighbours_with} of its {entry.neighbours} nearest pictures have it:"
        if entry.neighbours
        else "no neighbours"
    )
    mark = "missed" if kind == "missing" else "wrong"
    return (
        f"{picture(entry.picture, alt)}\n<p><small>{entry.rank}. post {entry.post_id}</small></p>\n"
        f'<p><strong class="{mark}">{kind}?</strong> {page.name(entry.tag)} '
        f"<small>{page.name(entry.category)}</small></p>\n"
        f"<p>probability {entry.probability:.1%}, confidence {entry.confidence:.3f}</p>\n"
        f"<p>{evidence}</p>\n" + (f'<ul class="near">\n{near}\n</ul>' if near else "")
    )


def near_item(near: Near, tag: str) -> str:
    """A neighbour's picture, and whether it has the tag: never colour alone."""
    alt = f"near post {near.post_id}, {'has' if near.has_tag else 'lacks'} {tag}"
    sign = "✓" if near.has_tag else "✗"
    return f'<li>{picture(near.picture, alt)}<span aria-hidden="true">{sign}</span></li>'


def picture(content: bytes | None, alt: str) -> str:
    """A picture, or the words for it."""
    if content is None:
        return f"<p>{page.text(alt)} (cannot be read)</p>"
    return page.image(content, "image/jpeg", alt)
