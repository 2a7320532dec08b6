"""A frozen benchmark: which posts, which tags, by which rules, as a small text that people share.

The text is TOML.  Pictures and labels are not in it: whoever has the same posts (from a public
export, by the command that it names) can check that theirs are the same and gets figures that
can be compared.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError, DataError
from e6tag.shards import Dataset

FORMAT = 1
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
MARK_CHARACTERS = 4
"""hexadecimal digits of a post's own checksum: enough to count those that changed"""
MAX_FILE_BYTES = 256 << 20
LINE_CHARACTERS = 96
METRICS = "e6tag eval: macro AP is the headline; AUC, AP and P@k exact, ties shared"


@dataclass(frozen=True)
class Frozen:
    """A benchmark's definition."""

    name: str
    site: str
    split: str
    min_positives: int
    """tags with fewer stay out of means over tags"""
    rule: str
    """how the split was made"""
    command: str
    """what made the data"""
    exports: Mapping[str, str]
    """SHA-256 of what the data was planned from"""
    vocabulary: Sequence[str]
    posts: Sequence[int]
    """ascending"""
    marks: str
    """`MARK_CHARACTERS` for each post"""
    checksum: str
    """SHA-256 over the lines of all posts: id, MD5, tags"""


def freeze(dataset: Dataset, split: str, name: str, min_positives: int) -> Frozen:
    """The definition of a split of a data folder: one post of each group of near-copies.

    Groups of the training pictures are not in it, whatever their split says.

    Raises:
        DataError: nothing is left.
    """
    rows = dataset.split(split)
    trained = dataset.manifest.loc[dataset.manifest["split"] == "train", "group"]
    rows = rows[~rows["group"].isin(set(trained))].sort_values("post_id")
    rows = rows.drop_duplicates("group").reset_index(drop=True)
    if rows.empty:
        raise DataError(f"{dataset.path} has no picture of the {split} split to make it of.")
    lines = post_lines(rows, dataset.vocabulary.names)
    options = dataset.info.get("options") or {}
    return Frozen(
        name=name,
        site=str(dataset.info.get("site", "")),
        split=split,
        min_positives=min_positives,
        rule=f"--split {options.get('split', 'hash')}, one post of each group of near-copies",
        command=download_command(options),
        exports={str(k): str(v) for k, v in (dataset.info.get("export") or {}).items()},
        vocabulary=dataset.vocabulary.names,
        posts=rows["post_id"].tolist(),
        marks="".join(map(mark, lines)),
        checksum=digest(lines),
    )


def post_lines(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """What a post is, as a line: id, MD5, its tags in alphabetical order."""
    lines = []
    for post_id, md5, labels in zip(rows["post_id"], rows["md5"], rows["labels"], strict=True):
        tags = " ".join(sorted(names[column] for column in labels))
        lines.append(f"{post_id} {md5} {tags}\n")
    return lines


def mark(line: str) -> str:
    """A few digits of a line's SHA-256."""
    return hashlib.sha256(line.encode()).hexdigest()[:MARK_CHARACTERS]


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of all lines."""
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def download_command(options: Mapping[str, Any]) -> str:
    """The command that made a data folder: its options as far as they are not the default."""
    words = ["python download.py"]
    for field in fields(DownloadConfig):
        value = options.get(field.name)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if field.name in options and value != default and value is not None:
            flag = f"--{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(flag if value else f"--no-{flag[2:]}")
            else:
                words += [flag, *(map(str, value) if isinstance(value, list) else [str(value)])]
    return " ".join(words)


def as_text(frozen: Frozen) -> str:
    """The file."""
    values = {
        "format": FORMAT,
        "name": frozen.name,
        "site": frozen.site,
        "split": frozen.split,
        "min_positives": frozen.min_positives,
        "rule": frozen.rule,
        "metrics": METRICS,
        "command": frozen.command,
        "num_posts": len(frozen.posts),
        "num_tags": len(frozen.vocabulary),
        "checksum": frozen.checksum,
    }
    head = "".join(f"{key} = {quoted(value)}\n" for key, value in values.items())
    exports = "".join(f"{quoted(k)} = {quoted(v)}\n" for k, v in sorted(frozen.exports.items()))
    vocabulary = "".join(f"  {quoted(tag)},\n" for tag in frozen.vocabulary)
    return (
        "# A benchmark for taggers of a booru. Get the data with `command`, then\n"
        "# e6tag benchmark run THIS_FILE --data DATA --run RUN   (or --predictions SCORES)\n"
        "# posts: differences between ascending ids, in base 36. marks: 4 digits a post.\n"
        f"{head}vocabulary = [\n{vocabulary}]\n"
        f'posts = """\n{folded(encode(frozen.posts))}\n"""\n'
        f'marks = """\n{folded(frozen.marks)}\n"""\n\n[exports]\n{exports}'
    )


def quoted(value: Any) -> str:
    """A value as TOML; JSON's way to write texts and numbers is one of TOML's."""
    text = json.dumps(value, ensure_ascii=False)
    # What JSON lets stand and TOML does not.
    return text.replace("\x7f", "\\u007f")


def folded(text: str) -> str:
    """In lines, cut at spaces where there are some."""
    if " " not in text:
        return "\n".join(
            text[i : i + LINE_CHARACTERS] for i in range(0, len(text), LINE_CHARACTERS)
        )
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + len(word) >= LINE_CHARACTERS:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def encode(posts: Sequence[int]) -> str:
    """Differences between ascending ids, in base 36."""
    return " ".join(map(base36, np.diff(np.array([0, *posts], np.int64)).tolist()))


def base36(number: int) -> str:
    """A whole number that is not negative."""
    digits = ""
    while True:
        number, rest = divmod(number, 36)
        digits = DIGITS[rest] + digits
        if not number:
            return digits


def decode(text: str) -> list[int]:
    """Ids from their differences.

    Raises:
        ValueError: not digits, or ids that do not ascend.
    """
    gaps = [int(word, 36) for word in text.split()]
    if any(gap < 1 for gap in gaps[1:]) or any(gap < 0 for gap in gaps):
        raise ValueError("the posts do not ascend")
    return np.cumsum(np.array(gaps, np.int64)).tolist()


def read(path: Path) -> Frozen:
    """Read a definition.

    Raises:
        ConfigError: there is no such file.
        DataError: it is no definition, or parts of it do not fit each other.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 20} MB")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return parse(values)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}. Make one: e6tag benchmark make.") from None
    except (KeyError, TypeError, ValueError, OverflowError) as problem:
        raise DataError(
            f"{path} is no benchmark, or damaged ({problem}). Fetch it again, or make one with "
            "e6tag benchmark make."
        ) from None


def parse(values: Mapping[str, Any]) -> Frozen:
    """A definition from TOML's values.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']!r}, expected {FORMAT}")
    posts, marks = decode(values["posts"]), re.sub(r"\s", "", values["marks"])
    vocabulary = [str(tag) for tag in values["vocabulary"]]
    sizes = (len(posts), len(marks), len(vocabulary), len(set(vocabulary)))
    num_posts, num_tags = int(values["num_posts"]), int(values["num_tags"])
    if sizes != (num_posts, num_posts * MARK_CHARACTERS, num_tags, num_tags) or not num_posts:
        raise ValueError("posts, marks and vocabulary are not as many as it says")
    texts = {key: str(values[key]) for key in ("name", "site", "split", "rule", "command")}
    return Frozen(
        **texts,
        min_positives=int(values["min_positives"]),
        exports={str(k): str(v) for k, v in dict(values.get("exports", {})).items()},
        vocabulary=vocabulary,
        posts=posts,
        marks=marks,
        checksum=str(values["checksum"]),
    )


def num_changed(frozen: Frozen, rows: pd.DataFrame, names: Sequence[str]) -> int:
    """How many posts have another picture or other tags (of the vocabulary) than when frozen.

    Args:
        frozen: the definition.
        rows: its posts, ascending, from a data folder's manifest.
        names: that folder's vocabulary.
    """
    known = set(frozen.vocabulary)
    kept = [[column for column in row if names[column] in known] for row in rows["labels"]]
    lines = post_lines(rows.assign(labels=pd.Series(kept, index=rows.index)), names)
    if digest(lines) == frozen.checksum:
        return 0
    size = MARK_CHARACTERS
    then = [frozen.marks[i : i + size] for i in range(0, len(frozen.marks), size)]
    return max(1, sum(a != mark(line) for a, line in zip(then, lines, strict=True)))
