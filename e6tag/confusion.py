"""Precision, recall and F1 from counts of right and wrong yes/no decisions.

Counts come from our own predictions, or from a table that somebody published: CSV with the
columns tag, tp, fp, fn, tn (in any order), or text in the layout of JoyTag's full-metrics.txt.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e6tag.errors import DataError
from e6tag.tag_rankings import Labels, over_rows

Floats = NDArray[np.float64]

COUNTS = ("tp", "fp", "fn", "tn")
COLUMNS = ("tag", *COUNTS)
MAX_BYTES = 1 << 28
TAG_LINE = re.compile(r"Tag: (?P<tag>\S+)(?: \(\d+\))?(?: \(cnt: \d+\))?")
COUNT = re.compile(r"\b(TP|FP|FN|TN): (\d+)(?:, |$)")
MAX_COUNT = 2**53


class Decisions(NamedTuple):
    """Right guesses, guesses and positives of each tag, (K,) each."""

    hits: NDArray[np.int64]
    guessed: NDArray[np.int64]
    positives: NDArray[np.int64]


def decide(labels: Labels, scores: NDArray[Any], thresholds: NDArray[Any]) -> Decisions:
    """Counts of the decisions that thresholds make.

    Args:
        labels: (n, K).
        scores: (n, K).
        thresholds: (K,); a tag is predicted at or above its own.
    """
    totals = np.zeros((3, scores.shape[1]), np.int64)

    def count(truth: NDArray[np.bool_], block: NDArray[Any]) -> NDArray[np.int64]:
        predicted = block >= thresholds
        kinds = (truth & predicted, predicted, truth)
        return np.stack([np.count_nonzero(kind, axis=0) for kind in kinds])

    for counts in over_rows(count, labels, scores):
        totals += counts
    return Decisions(*totals)


def ratios(hits: Any, guessed: Any, positives: Any) -> dict[str, Floats]:
    """precision, recall and f1 of counts of right guesses, guesses and positives.

    Nothing guessed where there was something to find is precision 0; nan where there was nothing
    to find, and nothing guessed either.  So F1 = 2 hits / (guessed + positives) throughout.
    """
    hits, guessed, positives = (np.asarray(counts, float) for counts in (hits, guessed, positives))
    none_guessed = np.where(positives > 0, 0.0, np.nan)
    return {
        "precision": np.divide(hits, guessed, out=none_guessed, where=guessed > 0),
        "recall": share(hits, positives),
        "f1": share(2.0 * hits, guessed + positives),
    }


def share(part: Any, whole: Any) -> Floats:
    """Part of a whole; nan of nothing."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


class Figures(NamedTuple):
    """What a table of counts comes to."""

    per_tag: pd.DataFrame
    """tag, tp, fp, fn, tn, precision, recall, f1"""
    summary: dict[str, float]
    """micro_ and macro_ precision, recall and f1, accuracy, num_tags, num_undefined"""


def table(names: Sequence[str], tp: Any, fp: Any, fn: Any, tn: Any) -> pd.DataFrame:
    """One row a tag, as `figures` takes them."""
    return pd.DataFrame(dict(zip(COLUMNS, (list(names), tp, fp, fn, tn), strict=True)))


def figures(counts: pd.DataFrame, zero_division: float = 0.0) -> Figures:
    """Precision, recall and F1 of each tag, and micro and macro over the tags.

    Macro is the mean of the tags' figures; micro is that of all decisions together.

    Args:
        counts: one row a tag: tag, tp, fp, fn, tn.
        zero_division: what a share of nothing counts, as in scikit-learn: precision of a tag
            that is never predicted, recall of a tag that is never there, F1 of a tag that is
            neither.  nan leaves them out of the means.  Published tables mean 0 (JoyTag adds 1e-8
            below the line, which comes to that).
    """
    tp, fp, fn, tn = (counts[name].to_numpy(float) for name in COUNTS)
    of_tags = shares(tp, fp, fn)
    undefined = np.isnan(list(of_tags.values())).any(axis=0)
    of_tags = {name: np.where(np.isnan(v), zero_division, v) for name, v in of_tags.items()}
    micro = shares(tp.sum(), fp.sum(), fn.sum())
    accuracy = share(tp.sum() + tn.sum(), tp.sum() + fp.sum() + fn.sum() + tn.sum())
    summary = {
        **{f"micro_{n}": float(np.nan_to_num(v, nan=zero_division)) for n, v in micro.items()},
        **{f"macro_{name}": mean(values) for name, values in of_tags.items()},
        "accuracy": float(accuracy),
        "num_tags": len(counts),
        "num_undefined": int(undefined.sum()),
    }
    return Figures(counts.assign(**of_tags), summary)


def shares(tp: Any, fp: Any, fn: Any) -> dict[str, Floats]:
    """precision, recall and f1; nan of nothing."""
    return {
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
    }


def mean(values: Floats) -> float:
    """Mean without nans; nan of nothing."""
    kept = values[~np.isnan(values)]
    return float(np.mean(kept)) if len(kept) else float("nan")


def read_table(path: Path) -> pd.DataFrame:
    """The counts of a published table: one row a tag, in the file's order.

    Raises:
        DataError: the file is missing, in neither layout, or a row is bad; names its line.
    """
    text = read_text(path)
    is_text = is_blocks(text)
    rows: list[dict[str, str | int]] = []
    lines: dict[str, int] = {}
    for line, row in text_rows(path, text) if is_text else csv_rows(path, text):
        name = row["tag"]
        if name in lines:
            raise DataError(f"{path}, line {line}: {name!r} is on line {lines[name]} already.")
        lines[name] = line
        rows.append({"tag": name} | {key: whole(path, line, key, row[key]) for key in COUNTS})
    if not rows:
        raise DataError(f"{path} has no rows. Expected tags with their tp, fp, fn and tn.")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_text(path: Path) -> str:
    """A whole file.

    Raises:
        DataError: missing, too large or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MB. Is it the right file?")
        return content.decode("utf-8-sig")
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text (byte {problem.start}).") from None


def is_blocks(text: str) -> bool:
    """Whether it is text in blocks; a header, such as totals, may stand before the first."""
    first = text.lstrip().partition("\n")[0].lower()
    is_csv = all(name in first.split(",") for name in COUNTS)
    return not is_csv and re.search(r"^\s*Tag:", text, re.MULTILINE) is not None


def csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(line, row) of a CSV; columns are known by their names, `name` is another one for tag."""
    lines = csv.reader(text.splitlines())
    header = [cell.strip().lower() for cell in next(cells(path, lines), [])]
    header = ["tag" if cell == "name" and "tag" not in header else cell for cell in header]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {missing[0]!r}. Expected the columns {', '.join(COLUMNS)}."
        )
    for row in cells(path, lines):
        if row and len(row) != len(header):
            raise DataError(
                f"{path}, line {lines.line_num}: {len(row)} values for {len(header)} columns."
            )
        if row:
            yield lines.line_num, dict(zip(header, row, strict=True))


def cells(path: Path, lines: Any) -> Iterator[list[str]]:
    """Rows of a csv.reader.

    Raises:
        DataError: a row is no CSV, such as one of a binary file.
    """
    try:
        yield from lines
    except csv.Error as problem:
        raise DataError(f"{path}, line {lines.line_num}: {problem}. Is it a CSV?") from None


def text_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(line, row) of text in blocks, from "Tag: NAME (number) (cnt: number)" to "TP: 1, TN: 2".

    What stands before the first block is a header; later counts must belong to a tag.
    """
    row: dict[str, str] = {}
    is_header = True
    for line, content in enumerate(text.splitlines(), start=1):
        content = content.strip()
        if content.startswith("Tag:"):
            refuse_unfinished(path, line, row)
            found = TAG_LINE.fullmatch(content)
            if not found:
                raise DataError(f"{path}, line {line}: {content!r} is not 'Tag: NAME (number)'.")
            row, is_header = {"tag": found["tag"]}, False
        elif content.startswith(("TP:", "FP:", "FN:", "TN:")) and not is_header:
            if not row:
                raise DataError(f"{path}, line {line}: counts of no tag. Expected 'Tag:' before.")
            row |= {key.lower(): value for key, value in COUNT.findall(content)}
            if all(key in row for key in COLUMNS):
                yield line, row
                row = {}
    refuse_unfinished(path, len(text.splitlines()), row)


def refuse_unfinished(path: Path, line: int, row: Mapping[str, str]) -> None:
    """A block must be whole.

    Raises:
        DataError: it is not.
    """
    missing = [key.upper() for key in COUNTS if key not in row] if row else []
    if missing:
        raise DataError(f"{path}, before line {line}: {row.get('tag')!r} has no {missing[0]}.")


def whole(path: Path, line: int, key: str, text: str) -> int:
    """A count.

    Raises:
        DataError: it is not a whole number.
    """
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 17 and int(text) <= MAX_COUNT):
        raise DataError(f"{path}, line {line}: {key} is {text!r}, expected a whole number from 0.")
    return int(text)
