"""Building blocks of an HTML page that needs no network: escaped text, tables, inlined pictures."""

import base64
import html
from collections.abc import Iterable, Sequence
from itertools import zip_longest

STYLE = """
:root { color-scheme: light dark; --text: #16191d; --quiet: #4b5563; --page: #ffffff;
  --card: #f3f5f8; --line: #d3d8df; --found: #0a55a0; --wrong: #9c3d00; --missed: #565e6b; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8eaed; --quiet: #b3bac4; --page: #14171a; --card: #20252b; --line: #3b434d;
    --found: #7fbcff; --wrong: #ffb07a; --missed: #b3bac4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; }
bdi { overflow-wrap: anywhere; }
small { display: block; color: var(--quiet); font-weight: normal; font-size: .85rem; }
.warning { border-left: .3rem solid var(--wrong); padding: .3rem .8rem; background: var(--card); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  text-align: right; font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; min-width: 8rem; max-width: 34rem; padding-left: 0; }
thead th { background: var(--card); }
thead th:first-child { padding-left: .4rem; }
th bdi { display: inline-block; max-width: 17rem; overflow-wrap: break-word; }
tr.explained > * { border-bottom: 0; padding-bottom: 0; }
tr.note td { text-align: left; color: var(--quiet); font-size: .9rem; padding: 0 0 .5rem; }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.pair { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; max-width: 36rem; }
figcaption { color: var(--quiet); font-size: .9rem; }
img { max-width: 100%; height: auto; }
.plot { width: 100%; background: #ffffff; border: 1px solid var(--line); border-radius: .4rem;
  padding: .3rem; }
.gallery { display: grid; gap: 1rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.gallery > li { background: var(--card); border-radius: .4rem; padding: .7rem; }
.gallery img { display: block; margin: 0 auto .5rem; background: #ffffff; border-radius: .3rem;
  width: 12rem; height: 12rem; object-fit: contain; }
.near { display: flex; flex-wrap: wrap; gap: .25rem; padding: 0; margin: .3rem 0 0;
  list-style: none; text-align: center; font-size: .85rem; }
.gallery .near img { width: 2.5rem; height: 2.5rem; margin: 0 auto; }
.gallery p { margin: .2rem 0; font-size: .9rem; }
.found { color: var(--found); } .wrong { color: var(--wrong); } .missed { color: var(--missed); }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card);
  padding: .8rem; border-radius: .4rem; font-size: .85rem; }
@media (max-width: 34rem) { th, td { padding: .4rem .2rem; } table { font-size: .82rem; }
  th:first-child { min-width: 5rem; } }
@media print { .scroll { overflow: visible; } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""the browser refuses scripts and every address outside the file"""


def document(title: str, sections: Iterable[str]) -> str:
    """A page of these sections; empty ones are left out."""
    body = "\n".join(filter(None, sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def text(value: object) -> str:
    """Any text as HTML that stays text; what UTF-8 cannot say becomes a question mark."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def name(value: object) -> str:
    """A name from strangers: it stays text, and cannot turn the text around it right-to-left."""
    return f"<bdi>{text(value)}</bdi>"


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    notes: Sequence[str] = (),
) -> str:
    """A table that scrolls by itself on a narrow screen.

    Args:
        caption: what it shows.
        headers: one text a column.
        rows: cells that are HTML already; the first cell of a row is the row's header.
        notes: a text below each row; may be left out.
    """
    head = "".join(f'<th scope="col">{text(header)}</th>' for header in headers)
    body = "\n".join(table_row(*pair) for pair in zip_longest(rows, notes, fillvalue=""))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">\n'
        f"<table>\n<caption>{text(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        f"{body}\n</tbody>\n</table>\n</div>"
    )


def table_row(cells: Sequence[str], note: str) -> str:
    """One row, its first cell its header, and the note below it if there is one."""
    inside = f'<th scope="row">{cells[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in cells[1:])
    if not note:
        return f"<tr>{inside}</tr>"
    below = f'<tr class="note"><td colspan="{len(cells)}">{text(note)}</td></tr>'
    return f'<tr class="explained">{inside}</tr>\n{below}'


def image(content: bytes, media_type: str, alt: str, css_class: str = "") -> str:
    """A picture inside the page, with the words for those who do not see it."""
    encoded = base64.b64encode(content).decode("ascii")
    style = f' class="{css_class}"' if css_class else ""
    return f'<img{style} src="data:{media_type};base64,{encoded}" alt="{text(alt)}">'


def plot(svg: str, alt: str, caption: str) -> str:
    """A plot with its words."""
    picture = image(svg.encode("utf-8"), "image/svg+xml", alt, "plot")
    return f"<figure>{picture}<figcaption>{text(caption)}</figcaption></figure>"
