"""What --plan-only says, against the plan on disk; and folders of earlier versions."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_posts import (
    POST_HEADER,
    TAG_HEADER,
    csv_text,
    post_row,
    write_export,
    write_gzip,
)

from e6tag import acquisition
from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError
from e6tag.files import read_json, write_json
from e6tag.plan_report import plan_text
from e6tag.plans import read_plan
from e6tag.splits import SPLITS

NUM_POSTS = 400
NAMES = [f"t{i}" for i in range(8)]


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """An export of 400 posts: 40 questionable, 30 with what the site hides from newcomers."""
    folder = tmp_path_factory.mktemp("exports")
    write_export(folder)
    rng = np.random.default_rng(0)
    rows = []
    for post_id in range(1, NUM_POSTS + 1):
        tags = [name for i, name in enumerate(NAMES) if rng.random() < 0.5 / (i + 1)]
        tags += ["gore"] * (post_id % 13 == 0)
        rating = "q" if post_id % 10 == 5 else "s"
        rows.append(post_row(post_id, tag_string=" ".join(tags), rating=rating))
    write_gzip(folder / "posts.csv.gz", csv_text(POST_HEADER, rows))
    tags = [{"id": str(i), "name": name, "category": "0", "post_count": "9"}
            for i, name in enumerate([*NAMES, "gore"], 1)]  # fmt: skip
    write_gzip(folder / "tags.csv.gz", csv_text(TAG_HEADER, tags))
    return folder


def options(exports, out, **changes):
    values = {"base_url": "http://127.0.0.1:9", "export_dir": exports, "out": out, "quiet": True,
              "plan_only": True, "positives": 30, "val_positives": 4}  # fmt: skip
    return DownloadConfig(**values | changes)


def said(capsys, config):
    assert acquisition.download(config) == 0
    return capsys.readouterr().out


def figures_of(capsys, config):
    return json.loads(said(capsys, replace(config, json=True)))


@pytest.mark.parametrize(
    "changes", [{}, {"strategy": "cover"}, {"strategy": "all"}, {"budget": 40}, {"extra_random": 9}]
)
def test_the_figures_are_those_of_the_plan_on_disk(exports, tmp_path, capsys, changes):
    config = options(exports, tmp_path, **changes)
    figures = figures_of(capsys, config)
    plan = read_plan(tmp_path)
    table = pd.read_parquet(tmp_path / "plan.parquet")
    wanted = {"train": 30, "val": 4, "test": 4}
    assert figures["planned"] == figures["missing"] == len(table)
    assert figures["considered"] == NUM_POSTS
    assert (
        figures["reserve"]
        == len(plan.reserve)
        == (0 if config.strategy == "all" else len(pd.read_parquet(tmp_path / "reserve.parquet")))
    )
    assert figures["rejected"] == {"rating": 40, "blacklisted": 30 - 3}
    assert figures["missing_bytes"] > 0 and figures["tags"] == len(plan.vocabulary)
    assert figures["hours"] == round(len(table) / 3600, 2)
    for split in SPLITS:
        labels = table.loc[table["split"] == split, "labels"].explode().value_counts()
        counts = [int(labels.get(column, 0)) for column in range(len(plan.vocabulary))]
        named = dict(zip(plan.vocabulary.names, counts, strict=True))
        assert {tag: row[split] for tag, row in figures["tag_positives"].items()} == named
        spread = figures["positives"][split]
        assert (spread["fewest"], spread["most"]) == (min(counts), max(counts))
        assert spread["median"] == np.median(counts)
        assert figures["splits"][split] == (table["split"] == split).sum()
        if config.strategy == "all":
            assert spread["wanted"] == 0 and not figures["short"].get(split)
        else:
            few = {tag for tag, count in named.items() if count < wanted[split]}
            assert spread["short"] == len(few) and set(figures["short"].get(split, ())) == few
            for tag, row in figures["short"].get(split, {}).items():
                assert row["wanted"] == wanted[split] and row["reached"] == named[tag]
                assert row["reached"] <= row["available"]


def test_the_bound_is_named_only_where_demands_shaped_the_plan(exports, tmp_path, capsys):
    shaped = figures_of(capsys, options(exports, tmp_path / "cover", strategy="cover"))
    assert 0 < shaped["bound"] <= shaped["planned"]
    assert shaped["ratio"] == round(shaped["planned"] / shaped["bound"], 3)
    more = figures_of(capsys, options(exports, tmp_path / "x", strategy="cover", extra_random=20))
    assert more["planned"] > shaped["planned"]
    assert (more["bound"], more["ratio"]) == (shaped["bound"], shaped["ratio"])
    for changes in ({"strategy": "all"}, {"budget": 30}):
        figures = figures_of(capsys, options(exports, tmp_path / str(changes), **changes))
        assert (figures["bound"], figures["ratio"]) == (None, None)


def test_the_words_are_aligned_and_the_same_each_time(exports, tmp_path, capsys):
    config = options(exports, tmp_path, strategy="cover", positives=150)
    text = said(capsys, config)
    assert text == said(capsys, config)
    figures = figures_of(capsys, config)
    assert text == plan_text(figures)
    lines = text.splitlines()
    assert lines[0] == f"planned   {figures['planned']} posts of 400"
    assert "left out  40 rating" in lines and "left out  27 blacklisted" in lines
    assert f"{figures['ratio']:.3f} times as many" in text
    assert f"reserve   {figures['reserve']} posts, fetched only where planned ones fail" in lines
    rows = [line for line in lines if line.startswith("  ")]
    assert rows[0].split() == ["posts", "fewest", "median", "most", "wanted", "short"]
    assert len({len(row) for row in rows}) == 1
    assert [row.split()[0] for row in rows[1:]] == list(SPLITS)
    assert [row.split()[5] for row in rows[1:]] == ["150", "4", "4"]
    short = figures["short"]["train"]
    rarest = min(short, key=lambda tag: (short[tag]["reached"], tag))
    assert f"short     train: {rarest} {short[rarest]['reached']}/150" in text


def test_no_blacklist_takes_what_the_site_hides(exports, tmp_path, capsys):
    config = options(exports, tmp_path, strategy="all", blacklist=False)
    figures = figures_of(capsys, config)
    assert figures["rejected"] == {"rating": 40}
    assert "gore" in figures["tag_positives"]


CHANGES = [
    ({"split": "stratified"}, "--split hash, not stratified"),
    ({"extra_random": 3}, "--extra-random 0, not 3"),
    ({"blacklist": False}, "--blacklist True, not False"),
    ({"spare": 0.1}, "--spare 0.05, not 0.1"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_what_shapes_a_plan_cannot_change_under_it(exports, tmp_path, capsys, change, words):
    config = options(exports, tmp_path)
    said(capsys, config)
    with pytest.raises(ConfigError, match=words):
        acquisition.download(replace(config, **change))


def test_a_folder_from_before_an_option_has_its_default(exports, tmp_path, capsys):
    config = options(exports, tmp_path)
    before = figures_of(capsys, config)
    info = read_json(tmp_path / "dataset.json", ConfigError, "")
    for name in ("split", "extra_random", "blacklist", "spare"):
        del info["options"][name]
    for name in ("considered", "shortfalls", "bounds"):
        del info[name]
    write_json(tmp_path / "dataset.json", info)
    after = figures_of(capsys, config)
    same = before.keys() - {"considered", "short", "bound", "ratio"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert (after["considered"], after["short"], after["bound"]) == (None, {}, None)
    assert "None" not in said(capsys, config)
    with pytest.raises(ConfigError, match="--split hash, not time"):
        acquisition.download(replace(config, split="time"))
