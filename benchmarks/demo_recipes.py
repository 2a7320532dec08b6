"""Which recipe gives a newcomer the better model in the demo's time?

Trains the demo's recipe and its rivals one after the other on the same data folder, stops each
when its learning rate has run its whole cycle, and prints validation figures beside the
seconds that training took.  The test split is not looked at.

Usage: python benchmarks/demo_recipes.py [DATA] [SEEDS]     (default data/demo 1; an hour)
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRATCH = ["--backbone", "resnet", "--learning-rate", "2e-3", "--crop", "0.8"]
RECIPES = {
    "EfficientNet-Lite0 with ImageNet weights, summed BCE (the demo)": [],
    "the same, focal-robust": ["--loss", "focal-robust"],
    "the same, 10 epochs": ["--epochs", "10"],
    "ResNet-18, half width, from scratch, focal-robust": [*SCRATCH, "--loss", "focal-robust"],
    "the same, summed BCE": SCRATCH,
}


def measure(data: str, options: list[str], seed: int, folder: Path) -> dict[str, float]:
    """The last line of metrics.jsonl of one training."""
    run = folder / "run"
    command = [sys.executable, "train.py", "--config", "configs/demo.toml", "--quiet"]
    command += ["--data", data, "--run", str(run), "--seed", str(seed), *options]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def main() -> None:
    """One row a recipe and seed."""
    data = str(Path(sys.argv[1] if len(sys.argv) > 1 else "data/demo").resolve())
    seeds = range(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print("| recipe | seed | seconds | val macro AP | prior only | val macro AUC |")
    print("|---|---|---|---|---|---|")
    for name, options in RECIPES.items():
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(data, options, seed, Path(folder))
            print(
                f"| {name} | {seed} | {found['seconds']:.0f} | {found['macro_ap']:.3f} "
                f"| {found['prior_macro_ap']:.3f} | {found['macro_auc']:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
