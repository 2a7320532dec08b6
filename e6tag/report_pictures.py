"""The report's pictures: some at random with all that was said of them, and the surest errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag import images, page

THUMBNAIL_PX = 192
THUMBNAIL_QUALITY = 85
NUM_LISTED = 15
"""tags of one kind that are named under a picture"""
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
class Mistake:
    """One decision that contradicts the labels."""

    post_id: int
    picture: bytes
    """a small JPEG"""
    tag: str
    probability: float
    labels: Sequence[str]
    """all true tags of the picture"""


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


def thumbnail(picture: bytes) -> bytes:
    """A stored picture, made small.

    Raises:
        BadPicture: it cannot be decoded.
    """
    return images.store(images.decode(picture), THUMBNAIL_PX, THUMBNAIL_QUALITY)[0]


def gallery(cards: Sequence[str]) -> str:
    """Cards side by side."""
    items = "\n".join(f"<li>{card}</li>" for card in cards)
    return f'<ul class="gallery">\n{items}\n</ul>'


def gallery_section(guesses: Sequence[Guess], split: str) -> str:
    """Pictures with what was found, what was wrong and what was missed."""
    if not guesses:
        return ""
    return (
        f"<h2>Pictures of the {page.text(split)} split</h2>\n<p>Chosen at random. A tag is "
        "predicted where its probability reaches its threshold. Labels of a crowd are "
        "incomplete: what is not in them may still be true.</p>\n"
        + gallery([guess_card(guess, split) for guess in guesses])
    )


def guess_card(guess: Guess, split: str) -> str:
    """One picture and its tags."""
    lines = []
    for kind, words in MARKS:
        tags: Sequence[tuple[str, float]] = getattr(guess, kind)
        if tags:
            named = [f"{page.name(tag)} {chance(share)}" for tag, share in tags]
            lines.append(f'<p><strong class="{kind}">{words}:</strong> {listed(named)}</p>')
    return picture_of(guess, split) + "\n".join(lines)


def picture_of(shown: Guess | Mistake, split: str) -> str:
    """The picture of a card and whose it is."""
    picture = page.image(shown.picture, "image/jpeg", f"{split} picture {shown.post_id}")
    return f"{picture}\n<p><small>post {shown.post_id}</small></p>\n"


def listed(named: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    more = f" and {len(named) - NUM_LISTED:,} more" if len(named) > NUM_LISTED else ""
    return ", ".join(named[:NUM_LISTED]) + more


def chance(score: float) -> str:
    """A probability in percent, one that is small or close to certain more finely; or a score."""
    if not 0 <= score <= 1:
        return f"{score:.3g}"
    return f"{score:.0%}" if 0.01 <= score <= 0.99 else f"{score:.2%}"


def mistakes_section(alarms: Sequence[Mistake], misses: Sequence[Mistake], split: str) -> str:
    """The surest false alarms and the surest misses."""
    return "\n".join(
        filter(
            None,
            [
                mistakes_gallery(
                    "Surest false alarms",
                    "The labels lack the tag, and it was given the highest probabilities. Look at "
                    "the picture: a tag that is true but was forgotten shows up here as well.",
                    [("wrong", "✗ not in its labels", alarm) for alarm in alarms],
                    split,
                ),
                mistakes_gallery(
                    "Surest misses",
                    "The labels have the tag, and it was given the lowest probabilities. A tag "
                    "that is wrongly in the labels shows up here as well.",
                    [("missed", "○ missed", miss) for miss in misses],
                    split,
                ),
            ],
        )
    )


def mistakes_gallery(
    title: str, words: str, marked: Sequence[tuple[str, str, Mistake]], split: str
) -> str:
    """One kind of mistake; nothing where there are none."""
    if not marked:
        return ""
    cards = [mistake_card(kind, mark, mistake, split) for kind, mark, mistake in marked]
    note = "At most two pictures of a tag."
    return f"<h2>{title}</h2>\n<p>{words} {note}</p>\n{gallery(cards)}"


def mistake_card(kind: str, mark: str, mistake: Mistake, split: str) -> str:
    """One picture, the tag that is wrong, and the true ones."""
    labels = listed([page.name(label) for label in mistake.labels]) or "none of the tags"
    return (
        picture_of(mistake, split)
        + f'<p><strong class="{kind}">{mark}:</strong> {page.name(mistake.tag)} '
        + f"{chance(mistake.probability)}</p>\n<p><strong>labels:</strong> {labels}</p>"
    )
