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

from e6tag import page, plots, report, report_errors, report_pictures, report_plots, scoring
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


LEVELS = [
    {"level": 0, "pairs": 600, "brier": 0.1, "expected": 0.11},
    {"level": 1, "pairs": 600, "brier": 0.2, "expected": 0.11},
]
CONFUSED = {
    "predicted": HOSTILE[0], "actual": HOSTILE[1], "category": HOSTILE[0], "parent": HOSTILE[2],
    "pictures": 12, "instead": 7, "share": 0.25,
}  # fmt: skip


def drawn(seed: int, num: int, num_tags: int) -> scoring.Scored:
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, num_tags)) < 0.3).astype(np.uint8)
    scores = 1 / (1 + np.exp(-(2.0 * labels - 1.5 + rng.normal(size=(num, num_tags)))))
    return scoring.Scored(pd.DataFrame(index=range(num)), labels, scores.astype(np.float32))


def summary_of(judgement: scoring.Judgement, num_tags: int) -> dict:
    return {
        "run": HOSTILE[1], "data": HOSTILE[2], "split": "test", "created": "2000-01-01",
        "backbone": HOSTILE[0], "model_sha256": "0" * 64, "data_fingerprint": HOSTILE[0],
        "e6tag": "0", "python": "3", "num_failed": 2, "trained_on_this_data": False,
        "num_pictures": 300, "num_tags": num_tags, "num_tags_scored": num_tags,
        "num_tags_left_out": 0, "min_positives": 10, "all_negative_accuracy": 0.7,
        "model": judgement.model, "prior": judgement.prior,
        "ratio": scoring.ratios(judgement.model, judgement.prior),
        "categories": scoring.by_category(judgement.per_tag, 10),
        "bands": scoring.by_frequency(judgement.per_tag, 10),
        "calibration": {"fitted_on": "val", "before": {"ece": 0.123}},
        "spread": LEVELS, "spread_ratio": [2.0, 1.5, 2.7], "confusions": [CONFUSED],
    }  # fmt: skip


def judged(num_tags: int, val: scoring.Scored | None, held: scoring.Scored) -> scoring.Judgement:
    tags = pd.DataFrame(
        {
            "name": HOSTILE[:num_tags],
            "category": HOSTILE[0],
            "num_train": np.random.default_rng(0).integers(1, 5000, num_tags),
        }
    )
    cuts = np.full(num_tags, np.nan)
    if val is not None:
        cuts = best_f1_thresholds(val.labels, val.probabilities)
    return scoring.judge(tags, 10_000, val, held, cuts, 10)


@pytest.fixture(scope="module")
def evaluation() -> report.Evaluation:
    num_tags = len(HOSTILE)
    held, raw = drawn(1, 300, num_tags), drawn(2, 300, num_tags)
    judgement = judged(num_tags, drawn(0, 200, num_tags), held)
    small = report_pictures.thumbnail(jpeg())
    guesses = []
    for position in range(3):
        compared = report_pictures.compare(
            HOSTILE, held.labels[position], held.probabilities[position], judgement.thresholds
        )
        guesses.append(report_pictures.Guess(position, small, **compared))
    mistakes = [report_pictures.Mistake(7, small, name, 0.5, HOSTILE) for name in HOSTILE[:2]]
    shown = report_plots.prepare(raw, held, judgement.shares, 10)
    summary = summary_of(judgement, num_tags)
    return report.Evaluation(summary, judgement, shown, guesses, mistakes, mistakes[:1])


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
    addresses = [a["src"] for a in Page(html).named("img") if a["src"].startswith("data:image/svg")]
    assert len(addresses) == 7
    for address in addresses:
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
    assert len(parsed.named("img")) == 7 + 6
    assert all(len(attributes["alt"]) > 5 for attributes in parsed.named("img"))
    assert {attributes.get("scope") for attributes in parsed.named("th")} == {"col", "row"}
    assert len(parsed.named("caption")) == len(parsed.named("table")) == 7
    assert len(parsed.named("h1")) == 1


def test_each_figure_stands_beside_the_prior_row_with_its_meaning(html, evaluation):
    words = " ".join(Page(html).words)
    for figure in FIGURES:
        assert figure.label in words and figure.meaning in words
        for row in ("model", "prior"):
            assert f"{evaluation.summary[row][figure.key]:.3f}" in words


def test_a_tag_is_marked_by_words_not_by_colour_alone(html, evaluation):
    words = "".join(Page(html).words)
    for kind, mark in report_pictures.MARKS:
        if any(getattr(guess, kind) for guess in evaluation.guesses):
            assert mark in words


def test_warnings_are_said(html):
    words = "".join(Page(html).words)
    assert "trained on other data" in words and "2 pictures could not be read" in words


def test_without_matplotlib_the_report_says_how_to_get_plots(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    parsed = Page(report.render(evaluation, {}, ""))
    assert "pip install matplotlib" in "".join(parsed.words)
    assert len(parsed.named("img")) == 6


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
    told = report_pictures.compare(names, *map(np.array, (labels, probabilities, thresholds)))
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
    with Image.open(io.BytesIO(report_pictures.thumbnail(jpeg(400)))) as image:
        assert (image.format, image.size) == ("JPEG", (192, 96))
    with pytest.raises(BadPicture):
        report_pictures.thumbnail(b"\xff\xd8 nothing \xff\xd9")


def test_columns_of_a_text_table_line_up():
    lines = text_table(["", "model"], [["a", "0.1"], ["longer", "12.5"]]).splitlines()
    assert lines == ["        model", "a         0.1", "longer   12.5"]


def test_the_text_says_what_was_measured(evaluation):
    text = as_text(evaluation.summary)
    assert "300 pictures" in text and "fewer than 10" in text


def test_plots_say_in_words_what_they_show(html, evaluation):
    drawn_plots = [a for a in Page(html).named("img") if a.get("class") == "plot"]
    model, prior = evaluation.summary["model"], evaluation.summary["prior"]
    told = [a["alt"] for a in drawn_plots]
    assert len(told) == len(Page(html).named("figcaption"))
    assert all(re.search(r"\d\.\d\d", words) for words in told)
    for figure in ("micro_ap", "micro_auc"):
        for values in (model, prior):
            assert any(f"{values[figure]:.3f}" in words for words in told)
    assert sum("before calibration 0.123" in words for words in told) == 2
    assert any("measured 0.2000, expected 0.1100" in words for words in told)
    assert "nan" not in " ".join(told)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (None, "too few errors"),
        ([1.02, 0.9, 1.2], "says little"),
        ([1.05, 1.01, 1.1], "says little"),
        ([1.5, 1.2, 1.9], "it errs more, so the doubt tells"),
        ([0.7, 0.6, 0.8], "errs less, not more"),
    ],
)
def test_doubt_is_judged_by_its_interval(ratio, said):
    assert said in report_plots.spread_words(ratio)
    if ratio:
        assert f"{ratio[1]:.2f} to {ratio[2]:.2f}" in report_plots.spread_words(ratio)


def test_one_tag_without_cut_offs_calibration_spread_or_errors():
    held = drawn(3, 50, 1)
    judgement = judged(1, None, held)
    bare = summary_of(judgement, 1) | {
        "calibration": None, "spread": [], "spread_ratio": None, "confusions": [],
    }  # fmt: skip
    shown = report_plots.prepare(held, held, judgement.shares, 10)
    parsed = Page(report.render(report.Evaluation(bare, judgement, shown), {}, ""))
    assert len(parsed.named("img")) == 6
    words = "".join(parsed.words)
    assert "doubt" not in words and "Surest" not in words and "taken for" not in words
    assert "nan" not in words


@pytest.mark.parametrize("labels", ["none", "all", "no probabilities"])
def test_what_cannot_be_drawn_is_left_out(labels):
    held = drawn(4, 50, 3)
    truth = {"none": held.labels * 0, "all": held.labels * 0 + 1}.get(labels, held.labels)
    scores = held.probabilities * (10 if labels == "no probabilities" else 1)
    odd = scoring.Scored(held.rows, truth, scores)
    judgement = judged(3, None, odd)
    shown = report_plots.prepare(odd, odd, judgement.shares, 10)
    assert (shown.curves is None) == (labels != "no probabilities")
    assert (shown.after is None) == (labels == "no probabilities")
    summary = summary_of(judgement, 3) | {"calibration": None, "spread": []}
    parsed = Page(report.render(report.Evaluation(summary, judgement, shown), {}, ""))
    assert len(parsed.named("img")) == 4
    assert "nan" not in "".join(parsed.words)
    said_too_often = "too often" in "".join(parsed.words)
    assert said_too_often == (labels == "all")


def test_tags_with_the_largest_bias_come_first():
    held = drawn(5, 300, len(HOSTILE))
    table = judged(len(HOSTILE), None, held).per_tag
    gaps = np.abs(held.probabilities.astype(float).mean(axis=0) - held.labels.mean(axis=0))
    html = report_errors.bias_section(table, 300)
    shown = re.findall(r"<th scope=\"row\"><bdi>(.*?)</bdi>", html)
    expected = [page.text(HOSTILE[k]) for k in np.argsort(-gaps)[: report_errors.NUM_BIASED]]
    assert shown == expected
    first = int(np.argmax(gaps))
    assert f"<td>{held.probabilities[:, first].astype(float).mean():.1%}</td>" in html
    assert f"<td>{held.labels[:, first].mean():.1%}</td>" in html


def test_a_plot_of_very_many_tags_stays_small():
    rng = np.random.default_rng(0)
    num = 30_000
    svg = plots.ap_against_frequency(rng.integers(1, 9999, num), rng.random(num), rng.random(num))
    assert len(svg) < 600_000


def test_small_probabilities_are_told_finely():
    told = [report_pictures.chance(value) for value in (0.0003, 0.5, 0.9999, 3.25, -1.0)]
    assert told == ["0.03%", "50%", "99.99%", "3.25", "-1"]
