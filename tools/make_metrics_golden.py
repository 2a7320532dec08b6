"""Make tests/golden/metrics.json: what torchmetrics computes for made-up labels and scores.

Run by hand, in an environment of its own (PyTorch is no dependency of e6tag):

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 torchmetrics==1.9.0 numpy
    torchenv/bin/python tools/make_metrics_golden.py tests/golden/metrics.json

Inputs: 40 pictures and 6 tags by a formula (`problem`), and variants with ties, constants, tags
that all or no pictures have.  Curves are exact (no binned thresholds); all in float64.
"""

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

NUM_PICTURES, NUM_TAGS, CUT = 40, 6, 0.4
PREVALENCES = np.array([0.5, 0.3, 0.2, 0.15, 0.1, 0.1])
VARIANTS = ("plain", "ties", "constant", "one_class", "few_pictures", "full_pictures")


def pseudo_random(shift: float) -> np.ndarray:
    """Numbers in [0, 1) that any language computes alike, (40, 6)."""
    i, j = np.ogrid[1 : NUM_PICTURES + 1, 1 : NUM_TAGS + 1]
    return np.mod(np.sin(i * 12.9898 + j * 78.233 + shift) * 43758.5453, 1.0)


def problem(variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores; `tests/test_metrics_golden.py` makes the same."""
    truth = (pseudo_random(1) < PREVALENCES).astype(np.int64)
    scores = np.clip(0.55 * pseudo_random(0) + 0.45 * truth * pseudo_random(2), 0, 1)
    if variant == "ties":
        scores = np.round(scores, 1)
    if variant == "constant":
        scores = np.full_like(scores, 0.5)
    if variant == "one_class":
        truth[:, 1], truth[:, 4] = 1, 0
    if variant == "few_pictures":
        truth, scores = truth[:3], scores[:3]
    if variant == "full_pictures":
        truth[:10], truth[10:20] = 1, 0
    return truth, scores


def rates(kind: Any, average: str | None, tensors: Any) -> Any:
    """Precision, recall or F1 at the cut."""
    metric = kind(num_labels=NUM_TAGS, threshold=CUT, average=average)
    return metric(*tensors).tolist()


def measure(truth: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """All figures that torchmetrics has."""
    import torch  # type: ignore[import-not-found]
    from torchmetrics import classification as tm  # type: ignore[import-not-found]

    tensors = torch.tensor(scores, dtype=torch.float64), torch.tensor(truth)
    ranking = {"auc": tm.MultilabelAUROC, "ap": tm.MultilabelAveragePrecision}
    decisions = {
        "precision": tm.MultilabelPrecision,
        "recall": tm.MultilabelRecall,
        "f1": tm.MultilabelF1Score,
        "accuracy": tm.MultilabelAccuracy,
    }
    figures: dict[str, Any] = {}
    for average in ("micro", "macro", None):
        name = average or "per_tag"
        for key, kind in ranking.items():
            figures[f"{key}_{name}"] = kind(num_labels=NUM_TAGS, average=average)(*tensors).tolist()
        for key, kind in decisions.items():
            figures[f"{key}_{name}"] = rates(kind, average, tensors)
    flat = tensors[0].ravel(), tensors[1].ravel()
    figures |= {
        "lrap": tm.MultilabelRankingAveragePrecision(num_labels=NUM_TAGS)(*tensors).item(),
        "coverage_error": tm.MultilabelCoverageError(num_labels=NUM_TAGS)(*tensors).item(),
        "ece_15": tm.BinaryCalibrationError(n_bins=15, norm="l1")(*flat).item(),
    }
    return figures


def without_nan(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def main(path: Path) -> None:
    """Write the figures of all variants."""
    import torch

    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    golden = {}
    for variant in VARIANTS:
        figures = measure(*problem(variant))
        golden[variant] = {key: without_nan(value) for key, value in figures.items()}
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
