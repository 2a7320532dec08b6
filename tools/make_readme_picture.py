"""Draw docs/demo.png, the README's picture, from a run that `eval.py` has measured.

Usage: python tools/make_readme_picture.py [RUN]      (default runs/demo)
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

PAGE = Path(__file__).parents[1] / "docs" / "demo.png"
MIN_POSITIVES = 10
OURS, PRIOR = "#0b5394", "#b45f06"


def main() -> None:
    """One bar a tag: its average precision, and what knowing its share alone would give."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    table = pd.read_csv(run / "eval" / "per_tag.csv")
    table = table[table["positives"] >= MIN_POSITIVES].sort_values("ap").tail(40)
    figure, axes = plt.subplots(figsize=(8, 0.2 * len(table) + 1.2), layout="constrained")
    axes.barh(table["name"], table["ap"], color=OURS, height=0.7, label="e6tag")
    axes.scatter(
        table["prior_ap"], table["name"], color=PRIOR, marker="|", s=70, label="knowing its share"
    )
    axes.set(xlim=(0, 1), xlabel="average precision on held-out pictures")
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(PAGE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
