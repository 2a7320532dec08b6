"""The report's tables of errors: tags taken for their siblings, and tags said too often."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from e6tag import page
from e6tag.figures import format_ratio, format_value

NUM_BIASED = 12
CONFUSIONS_CAPTION = "Pictures where a tag is predicted wrongly, and a sibling of it is true"
CONFUSION_HEADERS = ("predicted", "pictures", "missed", "share")
BIAS_CAPTION = "Tags whose mean probability is furthest from their share of the pictures"
BIAS_HEADERS = ("tag", "said", "true", "times", "Brier")


def confusions_section(confusions: Sequence[Mapping[str, Any]]) -> str:
    """Which tags are taken for which; nothing where none are."""
    if not confusions:
        return ""
    rows = [
        [
            f"{page.name(pair['predicted'])}<small>should be <b>{page.name(pair['actual'])}</b> "
            f"({family(pair)})</small>",
            f"{pair['pictures']:,}",
            f"{pair['instead']:,}",
            f"{pair['share']:.1%}",
        ]
        for pair in confusions
    ]
    return (
        "<h2>Which tags are taken for which</h2>\n<p>Siblings are tags of one category, or under "
        "one parent tag, that seldom share a picture. <em>Pictures</em> have the tag that it "
        "should be, lack the predicted one, and yet it was predicted; <em>missed</em>: in so many "
        "of them the right tag was not predicted either. <em>Share</em>: of all pictures "
        "with the right tag.</p>\n" + page.table(CONFUSIONS_CAPTION, CONFUSION_HEADERS, rows)
    )


def family(pair: Mapping[str, Any]) -> str:
    """What makes two tags siblings."""
    if pair["parent"] is not None:
        return f"under {page.name(pair['parent'])}"
    return f"both {page.name(pair['category'])}"


def bias_section(per_tag: pd.DataFrame, num_pictures: int) -> str:
    """The tags that are said too often or too seldom; nothing of scores that are no probabilities.

    Args:
        per_tag: the content of per_tag.csv; `bias` is mean probability / share.
        num_pictures: of the measured split.
    """
    share = per_tag["positives"] / max(num_pictures, 1)
    predicted = per_tag["bias"] * share
    gap = (predicted - share).abs()
    table = per_tag.assign(share=share, predicted=predicted, gap=gap)[np.isfinite(gap)]
    table = table.sort_values("gap", ascending=False, kind="stable").head(NUM_BIASED)
    if table.empty:
        return ""
    rows = [
        [
            page.name(tag["name"]),
            f"{tag['predicted']:.1%}",
            f"{tag['share']:.1%}",
            format_ratio(tag["bias"]),
            format_value(tag["brier"]),
        ]
        for tag in table.to_dict("records")
    ]
    return (
        "<h2>Tags that are said too often or too seldom</h2>\n<p>Over many pictures, a tag's "
        "probabilities should add up to the pictures that have it. <em>Said</em>: its mean "
        "probability; <em>true</em>: its share of the pictures; <em>times</em>: above 1 it is said "
        "too often, below 1 too seldom; of a tag with few pictures, chance alone moves it. "
        "<em>Brier</em>: mean squared error. Tags that no picture has are left out.</p>\n"
        + page.table(BIAS_CAPTION, BIAS_HEADERS, rows)
    )
