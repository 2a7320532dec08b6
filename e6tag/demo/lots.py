"""Test pictures drawn by lot: whoever looks at results must not pick them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.shards import Dataset, read_stored
from e6tag.tagger import Tagger


@dataclass(frozen=True)
class HeldOut:
    """A test picture."""

    row: Mapping[str, Any]
    """of the manifest"""
    content: bytes
    """the stored JPEG"""
    square: NDArray[np.uint8]
    """(S, S, 3), as the model takes it"""


def draw_lots(
    dataset: Dataset, tagger: Tagger, num: int, seed: int, labelled: bool = False
) -> list[HeldOut]:
    """Up to `num` test pictures by lot; those that cannot be read are passed over.

    Args:
        dataset: to draw from.
        tagger: reads the pictures.
        num: how many.
        seed: draws the lots.
        labelled: pass over those without a label, too.

    Raises:
        DataError: there is none.
    """
    drawn: list[HeldOut] = []
    for row in in_lot_order(dataset, seed):
        if labelled and not len(row["labels"]):
            continue
        try:
            content = read_picture(dataset, row)
            drawn.append(HeldOut(row, content, tagger.read(content)))
        except DataError:
            continue
        if len(drawn) == num:
            break
    if not drawn:
        raise DataError(
            f"{dataset.path} has no test picture that can be read. Run download.py again."
        )
    return drawn


def in_lot_order(dataset: Dataset, seed: int) -> Iterator[Mapping[str, Any]]:
    """Test rows of the manifest in an order that the seed draws."""
    rows = dataset.split("test")
    for position in np.random.default_rng(seed).permutation(len(rows)):
        yield rows.iloc[position].to_dict()


def read_picture(dataset: Dataset, row: Mapping[str, Any]) -> bytes:
    """The stored JPEG of a row.

    Raises:
        DataError: its shard is missing or damaged.
    """
    return read_stored(dataset.path, row["shard"], int(row["offset"]), int(row["length"]))
