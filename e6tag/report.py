"""report.html: how good a run is, in one file that opens offline on a phone or a desk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from e6tag import page, report_plots
from e6tag.figures import FIGURES, GROUP_HEADERS, format_value, group_cells, headline_cells
from e6tag.report_errors import bias_section, confusions_section
from e6tag.report_pictures import Guess, Mistake, gallery_section, mistakes_section
from e6tag.report_plots import Shown
from e6tag.scoring import Judgement

NUM_EXTREMES = 12
"""tags in each of the tables of best and worst"""
HEADLINE_HEADERS = ("figure", "model", "95% interval", "prior only", "times")
GROUPS_CAPTION = "Means over the tags of each group; counted: those with enough pictures"


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    summary: Mapping[str, Any]
    """the content of metrics.json"""
    judgement: Judgement
    shown: Shown
    """what the plots are drawn from"""
    guesses: Sequence[Guess] = field(default=())
    """pictures at random"""
    alarms: Sequence[Mistake] = field(default=())
    """the surest false alarms, surest first"""
    misses: Sequence[Mistake] = field(default=())
    """the surest misses, surest first"""


def render(evaluation: Evaluation, config: Mapping[str, Any], credits: str) -> str:
    """The whole page.

    Args:
        evaluation: what was measured.
        config: what the model was trained with.
        credits: who made the pictures; may be empty.
    """
    summary, per_tag = evaluation.summary, evaluation.judgement.per_tag
    scored = scored_tags(per_tag, summary["min_positives"])
    sections = [
        headline(summary),
        *report_plots.sections(evaluation.shown, summary, scored),
        bias_section(per_tag, summary["num_pictures"]),
        extremes_section(scored),
        groups_section("By category", "category", summary["categories"]),
        groups_section("By training pictures of the tag", "training pictures", summary["bands"]),
        confusions_section(summary.get("confusions") or []),
        mistakes_section(evaluation.alarms, evaluation.misses, summary["split"]),
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


def scored_tags(per_tag: pd.DataFrame, min_positives: int) -> pd.DataFrame:
    """The tags that count in means over tags."""
    return per_tag[(per_tag["positives"] >= min_positives) & per_tag["auc"].notna()]


def extremes_section(scored: pd.DataFrame) -> str:
    """The tags with the highest and lowest average precision, of those that count."""
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
