"""Options of the commands that judge a model: eval, benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from e6tag.config.base import JobConfig


@dataclass(frozen=True, kw_only=True)
class EvalConfig(JobConfig):
    """Measure a run on held-out pictures, beside a predictor that only knows the tags' shares.

    Example: python eval.py --run runs/demo
    """

    run: Path | None = None
    """run folder (default: runs/default, else the demo's)"""
    data: Path | None = None
    """folder that download.py wrote (default: the one the run was trained on)"""
    predictions: Path | None = None
    """judge these scores instead of a run: .parquet, .csv or .npz, one row a post, one column a
    tag; labels come from --data"""
    onnx: Path | None = None
    """judge this ONNX model instead of a run; its tags are in --tags"""
    tags: Path | None = None
    """with --onnx: CSV of its tags, such as selected_tags.csv"""
    layout: Literal["e6tag", "wd"] = "wd"
    """with --onnx: how it takes pictures; wd: BGR 0..255 on a white square; e6tag: as our runs"""
    compare: tuple[Path, ...] = ()
    """two runs, or files of scores: how the second differs from the first, with paired intervals"""
    counts: Path | None = None
    """what do published counts come to? a table of right and wrong decisions instead of a run: CSV
    with tag,tp,fp,fn,tn, or text as in JoyTag's full-metrics.txt; no data is needed"""
    zero_division: Literal["0", "1", "skip"] = "0"
    """with --counts: what a share of nothing counts, such as the precision of a tag that is never
    predicted; 0: as in most published tables; skip: left out of the means"""
    out: Path | None = None
    """folder for the figures and the report (default: eval/ in the run; with --counts none)"""
    split: Literal["test", "val", "train"] = "test"
    """pictures to measure on; thresholds are always fitted on val"""
    min_positives: int = 10
    """tags with fewer positives in the split are left out of macro figures (and counted)"""
    thresholds: Literal["per-tag", "per-category", "global"] = "per-tag"
    """what shares one threshold; fitted on val"""
    threshold_rule: Literal["f1", "balanced"] = "f1"
    """f1: best F1, rare tags drawn to the common one; balanced: precision = recall"""
    target_precision: float | None = None
    """promise this precision with 95% confidence instead; tags that cannot keep it are withheld"""
    calibrate: bool = True
    """fit calibration on val, store it with the run and report calibrated probabilities"""
    audit: bool = False
    """also list labels that are likely missing or wrong, in audit.csv and audit.html; how right
    that list is is measured on errors planted in val"""
    bootstrap: int = 1000
    """resamples of the pictures for the 95% intervals; 0 for none"""
    threads: int = 0
    """threads of the model; 0 for all cores"""
    json: bool = False
    """print the metrics as JSON on stdout"""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(JobConfig):
    """Freeze a benchmark as a small text file, or measure a model on one.

    Example: e6tag benchmark make frozen.txt; e6tag benchmark run frozen.txt --run runs/demo
    """

    action: Positional[Literal["make", "run"]]
    """make: write the definition from a data folder; run: check the data and measure a model"""
    file: Positional[Path]
    """the definition: ids, vocabulary and rules, as text"""
    data: Path | None = None
    """folder that download.py wrote (default: data, else the demo's)"""
    run: Path | None = None
    """with run: the model to measure (default: runs/default, else the demo's)"""
    predictions: Path | None = None
    """with run: scores to measure instead of a run"""
    split: Literal["test", "val"] = "test"
    """with make: the pictures that the benchmark is on"""
    name: str = "benchmark"
    """with make: what it is called"""
    json: bool = False
    """print the figures as JSON on stdout"""
