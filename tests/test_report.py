"""The report as a browser and a reader meet it: parsed, with names that mean harm."""

import base64
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from e6tag import page, report, scoring
from e6tag.figures import FIGURES, as_text, text_table
from e6tag.images import BadPicture
from e6tag.metrics import best_f1_thresholds

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://example.com/x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "😀_(emoji)",
    "\u202eright_to_left",
    "\u05d0\u05d1\u05d2",
    "&amp;",
    "</style></main></html>",
    "a" * 300,
    "solo",
)
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Elements with their attributes, and the text, of a page that must be well nested."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def jpeg(side: int = 300) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side // 2), (200, 30, 30)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def evaluation() -> report.Evaluation:
    rng = np.random.default_rng(0)
    num_tags = len(HOSTILE)

    def drawn(num: int) -> scoring.Scored:
        labels = (rng.random((num, num_tags)) < 0.3).astype(np.uint8)
        noise = rng.normal(size=(num, num_tags))
        scores = 1 / (1 + np.exp(-(2.0 * labels - 1.5 + noise)))
        return scoring.Scored(pd.DataFrame(index=range(num)), labels, scores.astype(np.float32))

    val, held = drawn(200), drawn(300)
    tags = pd.DataFrame(
        {"name": HOSTILE, "category": HOSTILE[0], "num_train": rng.integers(1, 5000, num_tags)}
    )
    cuts = best_f1_thresholds(val.labels, val.probabilities)
    judgement = scoring.judge(tags, 10_000, val, held, cuts, 10)
    guesses = []
    for position in range(3):
        compared = report.compare(
            HOSTILE, held.labels[position], held.probabilities[position], judgement.thresholds
        )
        guesses.append(report.Guess(position, report.thumbnail(jpeg()), **compared))
    summary = {
        "run": HOSTILE[1], "data": HOSTILE[2], "split": "test", "created": "2000-01-01",
        "backbone": HOSTILE[0], "model_sha256": "0" * 64, "data_fingerprint": HOSTILE[0],
        "e6tag": "0", "python": "3", "num_failed": 2, "trained_on_this_data": False,
        "num_pictures": 300, "num_tags": num_tags, "num_tags_scored": num_tags,
        "num_tags_left_out": 0, "min_positives": 10, "all_negative_accuracy": 0.7,
        "model": judgement.model, "prior": judgement.prior,
        "ratio": scoring.ratios(judgement.model, judgement.prior),
        "categories": scoring.by_category(judgement.per_tag, 10),
        "bands": scoring.by_frequency(judgement.per_tag, 10),
    }  # fmt: skip
    return report.Evaluation(summary, judgement, held.calibration(), guesses)


@pytest.fixture(scope="module")
def html(evaluation) -> str:
    return report.render(evaluation, {"seed": 0, HOSTILE[0]: HOSTILE[1]}, HOSTILE[0])


def test_nothing_is_loaded_from_outside_and_nothing_runs(html):
    parsed = Page(html)
    for attributes in (attributes for _, attributes in parsed.elements):
        assert "href" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
    assert not parsed.named("script", "link", "iframe", "object", "embed", "form")
    policies = [a["content"] for a in parsed.named("meta") if "http-equiv" in a]
    assert policies and policies[0].startswith("default-src 'none'")
    assert "url(" not in page.STYLE and "@import" not in page.STYLE


def test_plots_load_nothing_either(html):
    plots = [a["src"] for a in Page(html).named("img") if a["src"].startswith("data:image/svg")]
    assert len(plots) == 3
    for address in plots:
        svg = base64.b64decode(address.partition(",")[2]).decode()
        assert "<script" not in svg
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))


def test_names_of_strangers_are_shown_as_they_are_and_apart(html):
    parsed = Page(html)
    words = "\n".join(parsed.words)
    for name in HOSTILE:
        assert name in words
        assert f"<bdi>{page.text(name)}</bdi>" in html


def test_pictures_have_words_and_tables_have_headers(html):
    parsed = Page(html)
    assert parsed.named("html")[0]["lang"] == "en"
    assert any(a.get("name") == "viewport" for a in parsed.named("meta"))
    assert len(parsed.named("img")) == 6
    assert all(len(attributes["alt"]) > 5 for attributes in parsed.named("img"))
    assert {attributes.get("scope") for attributes in parsed.named("th")} == {"col", "row"}
    assert len(parsed.named("caption")) == len(parsed.named("table")) == 5
    assert len(parsed.named("h1")) == 1


def test_each_figure_stands_beside_the_prior_row_with_its_meaning(html, evaluation):
    words = " ".join(Page(html).words)
    for figure in FIGURES:
        assert figure.label in words and figure.meaning in words
        for row in ("model", "prior"):
            assert f"{evaluation.summary[row][figure.key]:.3f}" in words


def test_a_tag_is_marked_by_words_not_by_colour_alone(html, evaluation):
    words = "".join(Page(html).words)
    for kind, mark in report.MARKS:
        if any(getattr(guess, kind) for guess in evaluation.guesses):
            assert mark in words


def test_warnings_are_said(html):
    words = "".join(Page(html).words)
    assert "trained on other data" in words and "2 pictures could not be read" in words


def test_without_matplotlib_the_report_says_how_to_get_plots(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    parsed = Page(report.render(evaluation, {}, ""))
    assert "pip install matplotlib" in "".join(parsed.words)
    assert len(parsed.named("img")) == 3


def test_the_same_evaluation_gives_the_same_page(evaluation, html):
    again = report.render(evaluation, {"seed": 0, HOSTILE[0]: HOSTILE[1]}, HOSTILE[0])
    assert again == html


@settings(deadline=None)
@given(
    labels=st.lists(st.booleans(), min_size=4, max_size=4),
    probabilities=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    thresholds=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_tag_is_found_wrong_missed_or_none_of_them(labels, probabilities, thresholds):
    names = ["a", "b", "c", "d"]
    told = report.compare(names, *map(np.array, (labels, probabilities, thresholds)))
    for column, name in enumerate(names):
        predicted = probabilities[column] >= thresholds[column]
        kinds = {(True, True): "found", (False, True): "wrong", (True, False): "missed"}
        expected = kinds.get((labels[column], predicted))
        found = [kind for kind, tags in told.items() if name in [tag for tag, _ in tags]]
        assert found == ([expected] if expected else [])
    for tags in told.values():
        assert [share for _, share in tags] == sorted((s for _, s in tags), reverse=True)


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
def test_any_text_stays_text(value):
    html = page.document("title", [f"<p>{page.name(value)}</p>"])
    html.encode("utf-8")
    shown = "".join(Page(html).words)
    clean = value.encode("utf-8", "replace").decode("utf-8")
    assert clean.replace("\r", "\n") in shown.replace("\r", "\n")


def test_a_thumbnail_is_a_small_jpeg_of_the_same_aspect():
    with Image.open(io.BytesIO(report.thumbnail(jpeg(400)))) as image:
        assert (image.format, image.size) == ("JPEG", (192, 96))
    with pytest.raises(BadPicture):
        report.thumbnail(b"\xff\xd8 nothing \xff\xd9")


def test_columns_of_a_text_table_line_up():
    lines = text_table(["", "model"], [["a", "0.1"], ["longer", "12.5"]]).splitlines()
    assert lines == ["        model", "a         0.1", "longer   12.5"]


def test_the_text_says_what_was_measured(evaluation):
    text = as_text(evaluation.summary)
    assert "300 pictures" in text and "fewer than 10" in text
