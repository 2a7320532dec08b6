"""report.html: how good a run is, in one file that opens offline on a phone or a desk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag import images, page, plots
from e6tag.figures import FIGURES, GROUP_HEADERS, format_value, group_cells, headline_cells
from e6tag.metrics import Calibration
from e6tag.scoring import Judgement

THUMBNAIL_PX = 192
THUMBNAIL_QUALITY = 85
NUM_EXTREMES = 12
"""tags in each of the tables of best and worst"""
NUM_LISTED = 15
"""tags of one kind that are named under a picture"""
HEADLINE_HEADERS = ("figure", "model", "95% interval", "prior only", "times")
GROUPS_CAPTION = "Means over the tags of each group; counted: those with enough pictures"
MARKS = (("found", "✓ found"), ("wrong", "✗ not in its labels"), ("missed", "○ missed"))
"""kind of tag -> mark and words: never colour alone"""


@dataclass(frozen=True)
class Guess:
    """What the model said of one picture, against its labels; most probable tags first."""

    post_id: int
    picture: bytes
    """a small JPEG"""
    found: Sequence[tuple[str, float]]
    """(true tag at or above its threshold, probability)"""
    wrong: Sequence[tuple[str, float]]
    """(tag at or above its threshold that the labels lack, probability)"""
    missed: Sequence[tuple[str, float]]
    """(true tag below its threshold, probability)"""


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    summary: Mapping[str, Any]
    """the content of metrics.json"""
    judgement: Judgement
    calibration: Calibration
    guesses: Sequence[Guess]


def compare(
    names: Sequence[str],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    thresholds: NDArray[Any],
) -> dict[str, list[tuple[str, float]]]:
    """A picture's tags as found, wrong and missed, each list with the most probable first.

    Args:
        names: K tag names.
        labels: (K,) 0 or 1.
        probabilities: (K,) what the model said.
        thresholds: (K,) cut-offs; a tag is predicted at or above its own.
    """
    predicted, true = probabilities >= thresholds, labels.astype(bool)
    masks = {"found": predicted & true, "wrong": predicted & ~true, "missed": ~predicted & true}
    order = np.argsort(-probabilities, kind="stable")
    return {
        kind: [(names[column], float(probabilities[column])) for column in order if mask[column]]
        for kind, mask in masks.items()
    }


def render(evaluation: Evaluation, config: Mapping[str, Any], credits: str) -> str:
    """The whole page.

    Args:
        evaluation: what was measured.
        config: what the model was trained with.
        credits: who made the pictures; may be empty.
    """
    summary = evaluation.summary
    sections = [
        headline(summary),
        plot_section(evaluation),
        extremes_section(evaluation.judgement.per_tag, summary["min_positives"]),
        groups_section("By category", "category", summary["categories"]),
        groups_section("By training pictures of the tag", "training pictures", summary["bands"]),
        gallery_section(evaluation.guesses, summary["split"]),
        about_section(summary, config),
        credits_section(credits),
    ]
    return page.document(f"e6tag: {summary['run']}", sections)


def headline(summary: Mapping[str, Any]) -> str:
    """Title, what was measured, and the figures beside the prior-only predictor's."""
    rows = [
        [page.text(label), f"<b>{model}</b>", *rest]
        for label, model, *rest in headline_cells(summary)
    ]
    notes = [figure.meaning for figure in FIGURES]
    return (
        f"<h1>How good is {page.name(summary['run'])}?</h1>\n<p>{measured_on(summary)}</p>\n"
        + "".join(f'<p class="warning">⚠ {page.text(text)}</p>\n' for text in warnings(summary))
        + "<p><em>Prior only</em> never looks at a picture: it gives each tag the share of "
        "training pictures that have it, always. A model is worth its distance from that.</p>\n"
        + page.table("Headline figures", HEADLINE_HEADERS, rows, notes)
    )


def measured_on(summary: Mapping[str, Any]) -> str:
    """Pictures and tags, in words."""
    return (
        f"Measured on {summary['num_pictures']:,} pictures of the {page.name(summary['split'])} "
        f"split of {page.name(summary['data'])}, with {summary['num_tags']:,} tags. "
        f"Means over tags are over the {summary['num_tags_scored']:,} tags with at least "
        f"{summary['min_positives']:,} such pictures; {summary['num_tags_left_out']:,} rarer ones "
        f"are left out. Always saying no is right in {summary['all_negative_accuracy']:.1%} of all "
        "yes/no decisions."
    )


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What makes the figures worth less than they seem."""
    texts = list(summary.get("notes", []))
    if summary["split"] == "train":
        texts.append("The model was trained on these pictures: nothing is said about new ones.")
    if summary["split"] == "val":
        texts.append("Thresholds were fitted on these pictures: F1 and accuracy are flattered.")
    if summary["trained_on_this_data"] is False:
        texts.append("The run was trained on other data, which may hold some of these pictures.")
    if summary["num_failed"]:
        texts.append(f"{summary['num_failed']:,} pictures could not be read and were skipped.")
    return texts


def plot_section(evaluation: Evaluation) -> str:
    """Three plots, or how to get them."""
    if not plots.available():
        return (
            "<h2>Plots</h2>\n<p>The plots need Matplotlib: "
            "<code>pip install matplotlib</code>, then run eval.py again.</p>"
        )
    model, minimum = evaluation.summary["model"], evaluation.summary["min_positives"]
    tags = scored_tags(evaluation.judgement.per_tag, minimum)
    ap, auc = tags["ap"].to_numpy(float), tags["auc"].to_numpy(float)
    scored = f"{len(tags):,} tags"
    drawn = [
        page.plot(
            plots.ap_against_frequency(
                tags["num_train"].to_numpy(np.int64), ap, tags["prior_ap"].to_numpy(float)
            ),
            f"Average precision of {scored} against their training pictures; mean "
            f"{format_value(model['macro_ap'])}.",
            "Each point is a tag. Crosses: what the tag's share alone reaches.",
        ),
        page.plot(
            plots.auc_distribution(auc),
            f"Histogram of the ROC AUC of {scored}; mean {format_value(model['macro_auc'])}.",
            "How many tags have which ROC AUC.",
        ),
        page.plot(
            plots.reliability(evaluation.calibration),
            "Observed share against predicted probability; calibration error "
            f"{format_value(model['ece'])}.",
            "Below the dashed line the model is too sure, above it too timid.",
        ),
    ]
    return '<h2>Plots</h2>\n<div class="plots">\n' + "\n".join(drawn) + "\n</div>"


def scored_tags(per_tag: pd.DataFrame, min_positives: int) -> pd.DataFrame:
    """The tags that count in means over tags."""
    return per_tag[(per_tag["positives"] >= min_positives) & per_tag["auc"].notna()]


def extremes_section(per_tag: pd.DataFrame, min_positives: int) -> str:
    """The tags with the highest and lowest average precision."""
    scored = scored_tags(per_tag, min_positives)
    scored = scored.sort_values("ap", ascending=False, kind="stable")
    if scored.empty:
        return ""
    best = tag_table("Best tags", scored.head(NUM_EXTREMES))
    worst = tag_table("Worst tags", scored.iloc[::-1].head(NUM_EXTREMES))
    return f'<h2>Best and worst tags</h2>\n<div class="pair">\n{best}\n{worst}\n</div>'


def tag_table(caption: str, tags: pd.DataFrame) -> str:
    """One row a tag."""
    rows = [
        [
            page.name(tag["name"]),
            format_value(tag["ap"]),
            format_value(tag["prior_ap"]),
            format_value(tag["auc"]),
            f"{tag['num_train']:,}",
        ]
        for tag in tags.to_dict("records")
    ]
    return page.table(caption, ["tag", "AP", "prior only", "AUC", "trained on"], rows)


def groups_section(title: str, header: str, groups: Sequence[Mapping[str, Any]]) -> str:
    """Means over groups of tags."""
    rows = [[page.name(name), *rest] for name, *rest in map(group_cells, groups)]
    return f"<h2>{title}</h2>\n" + page.table(GROUPS_CAPTION, [header, *GROUP_HEADERS], rows)


def gallery_section(guesses: Sequence[Guess], split: str) -> str:
    """Pictures with what was found, what was wrong and what was missed."""
    if not guesses:
        return ""
    items = "\n".join(f"<li>{guess_card(guess, split)}</li>" for guess in guesses)
    return (
        f"<h2>Pictures of the {page.text(split)} split</h2>\n<p>Chosen at random. A tag is "
        "predicted where its probability reaches its threshold. Labels of a crowd are "
        "incomplete: what is not in them may still be true.</p>\n"
        f'<ul class="gallery">\n{items}\n</ul>'
    )


def guess_card(guess: Guess, split: str) -> str:
    """One picture and its tags."""
    picture = page.image(guess.picture, "image/jpeg", f"{split} picture {guess.post_id}")
    lines = []
    for kind, words in MARKS:
        tags: Sequence[tuple[str, float]] = getattr(guess, kind)
        if tags:
            named = ", ".join(f"{page.name(tag)} {share:.0%}" for tag, share in tags[:NUM_LISTED])
            more = f" and {len(tags) - NUM_LISTED} more" if len(tags) > NUM_LISTED else ""
            lines.append(f'<p><strong class="{kind}">{words}:</strong> {named}{more}</p>')
    return f"{picture}\n<p><small>post {guess.post_id}</small></p>\n" + "\n".join(lines)


def thumbnail(picture: bytes) -> bytes:
    """A stored picture, made small.

    Raises:
        BadPicture: it cannot be decoded.
    """
    return images.store(images.decode(picture), THUMBNAIL_PX, THUMBNAIL_QUALITY)[0]


def about_section(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What was measured, with what, when."""
    facts = {
        "run": summary["run"],
        "model": f"{summary['backbone']}, SHA-256 {summary['model_sha256']}",
        "data": f"{summary['data']}, fingerprint {summary['data_fingerprint']}",
        "measured": summary["created"],
        "versions": f"e6tag {summary['e6tag']}, Python {summary['python']}",
    }
    terms = "\n".join(
        f"<dt>{page.text(term)}</dt><dd>{page.name(value)}</dd>" for term, value in facts.items()
    )
    settings = "\n".join(f"{key} = {value!r}" for key, value in config.items())
    return (
        f"<h2>What was measured</h2>\n<dl>\n{terms}\n</dl>\n<details><summary>Training "
        f"configuration</summary><pre>{page.text(settings)}</pre></details>"
    )


def credits_section(credits: str) -> str:
    """Who made the pictures."""
    if not credits.strip():
        return ""
    return f"<h2>Credits of the pictures</h2>\n<pre>{page.text(credits.strip())}</pre>"
