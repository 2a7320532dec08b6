"""Which part of the recipe helps?  One change at a time, with all labels and with 40 % deleted.

`heads`    losses, label noise, schedule, averaging and start of the tag layer, trained on cached
           vectors (mean of EfficientNet-Lite0's feature map, ImageNet weights) with five seeds.
`pictures` activation, attention, how it is joined, growing pictures: short trainings of the
           half-width ResNet from scratch by train.py, with two seeds.
`finetune` what stands between backbone and tags, and augmentation: all of EfficientNet-Lite0 from
           ImageNet by train.py, with two seeds.

Positives are deleted from the training labels only, each with the same chance; the test labels are
whole.  Scores are macro AP and AUC on the near-duplicate test set of `clock_data.py` over tags with
5 positives or more, and the mean of the AP on unseen concepts and on unseen styles; the spread is
the standard deviation over seeds.

Trainings that are done are kept in WORK/ablation.  All make a fixed number of passes, so that rows
may be made by several processes at a time (`--rows 0 1`, `--rows 2 3`); a last call prints them.

Usage: python benchmarks/ablation.py WORK heads|pictures|finetune [--seeds N] [--passes N]
           [--rows N ...] [--deleted SHARE ...]
       (WORK: what clock_data.py made)
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from equal_clock import figures, predict
from numpy.typing import NDArray

from e6tag import shards
from e6tag.config import TrainConfig
from e6tag.files import write_json
from e6tag.joint import JointLikelihood
from e6tag.learner import Learner
from e6tag.models import build_tagger, summarise, tag_head
from e6tag.objective import Objective
from e6tag.optimizers import make_optimizer, make_schedule

ROOT = Path(__file__).parents[1]
UNSEEN = ("concepts", "styles")
BASE = TrainConfig(loss="bce", batch_size=64, learning_rate=2e-3, heteroscedastic=False)
HEADS: dict[str, dict[str, Any]] = {
    "BCE, prior bias, one-cycle, EMA, no label noise (the base)": {},
    "without prior bias": {"prior_bias": False},
    "without EMA": {"ema": 0.0},
    "constant rate": {"schedule": "constant", "learning_rate": 1e-3},
    "warm-up cosine": {"schedule": "cosine"},
    "focal": {"loss": "focal"},
    "focal, both classes alike": {"loss": "focal", "focal_alpha": -1.0},
    "ASL": {"loss": "asl"},
    "robust": {"loss": "robust"},
    "focal-robust": {"loss": "focal-robust"},
    "Hill": {"loss": "hill"},
    "SPLC": {"loss": "splc"},
    "label noise, marginal": {"heteroscedastic": True},
    "label noise, marginal, no factors": {"heteroscedastic": True, "factors": 0},
    "label noise, joint": {"heteroscedastic": True, "likelihood": "joint"},
    "label noise in the vector": {"heteroscedastic": True, "noise": "vector"},
    "label noise, focal-robust (as described)": {"heteroscedastic": True, "loss": "focal-robust"},
    "rank 32": {"rank": 32},
}
SMALL = [
    "--backbone", "resnet", "--image-size", "64", "--loss", "bce", "--no-heteroscedastic",
    "--learning-rate", "2e-3", "--crop", "0.7", "--no-flip", "--validate-every", "100",
    "--batch-parts", "2", "--pooling", "mean", "--pooled-stages", "0", "--progressive", "1",
]  # fmt: skip
ALL_THREE = ["--pooling", "attention", "--pooled-stages", "5", "--heteroscedastic"]
PICTURES: dict[str, list[str]] = {
    "SiLU, mean of the last map, BCE (the base)": [],
    "ReLU": ["--activation", "relu"],
    "attention beside the mean": ["--pooling", "attention"],
    "attention added to the mean": ["--pooling", "attention", "--join", "sum"],
    "means of the stages before": ["--pooled-stages", "5"],
    "label noise": ["--heteroscedastic"],
    "attention beside, stages before, label noise": ALL_THREE,
    "growing pictures, the same passes": ["--progressive", "0.5"],
    "flips": ["--flip"],
    "crops of half the area": ["--crop", "0.5"],
    "MixUp": ["--mixup", "0.2"],
    "TrivialAugment": ["--trivial-augment"],
    "ML-Decoder": ["--pooling", "ml-decoder"],
    "plain stem": ["--stem", "plain"],
    "channel attention (ECA)": ["--channel-attention", "eca"],
    "constant rate": ["--schedule", "constant", "--learning-rate", "1e-3"],
    "without EMA": ["--ema", "0"],
    "focal-robust": ["--loss", "focal-robust"],
    "label noise, focal-robust (as described)": ["--heteroscedastic", "--loss", "focal-robust"],
    "repeat factors": ["--repeat-factor", "0.01"],
}

PLAIN = [
    "--backbone", "efficientnet-lite0", "--image-size", "64", "--loss", "bce",
    "--no-heteroscedastic", "--pooling", "mean", "--pooled-stages", "0", "--progressive", "1",
    "--learning-rate", "1e-3", "--crop", "0.7", "--validate-every", "100", "--batch-parts", "2",
]  # fmt: skip
FINETUNE: dict[str, list[str]] = {
    "mean of the last map, BCE (the base)": [],
    "attention beside the mean": ["--pooling", "attention"],
    "means of the stages before": ["--pooled-stages", "5"],
    "label noise": ["--heteroscedastic"],
    "all three": ALL_THREE,
    "whole batches, not halves": ["--batch-parts", "1"],
    "growing pictures, the same passes": ["--progressive", "0.5"],
    "growing to twice the size": ["--image-size", "128", "--progressive", "0.5"],
    "smaller crops": ["--crop", "0.35"],
    "MixUp": ["--mixup", "0.2"],
    "TrivialAugment": ["--trivial-augment"],
    "ASL": ["--loss", "asl"],
    "focal-robust": ["--loss", "focal-robust"],
    "without EMA": ["--ema", "0"],
    "a fifth of the rate for the backbone": ["--backbone-rate", "0.2"],
}
TRAININGS = {"pictures": (SMALL, PICTURES, 6), "finetune": (PLAIN, FINETUNE, 12)}
"""part: options of all its rows, the changes of each, passes"""


def delete_positives(labels: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The labels without a share of their positives, the same ones in every training."""
    lost = np.random.default_rng(12345).random(labels.shape) < share
    return np.where(lost, 0, labels).astype(np.uint8)


def cached_vectors(work: Path) -> dict[str, NDArray[np.float32]]:
    """(N, 1280) of each split: computed once, without augmentation."""
    path = work / "lite0.npz"
    if not path.exists():
        options = TrainConfig(backbone="efficientnet-lite0", pooling="mean")
        network = build_tagger(options, np.full(2, 0.5))
        pooled = keras.Model(network.input, network.get_layer("pooling").output)
        found = {}
        for split in ("train", "val", "test"):
            pictures = np.load(work / f"arrays/{split}_pictures.npy", mmap_mode="r")
            parts = [pooled.predict_on_batch(p) for p in batches_of(pictures, 128)]
            found[split] = np.concatenate(parts)
        np.savez(path, **found)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def batches_of(pictures: NDArray[np.uint8], size: int) -> list[NDArray[np.float32]]:
    """The pictures in order, a batch at a time."""
    starts = range(0, len(pictures), size)
    return [pictures[start : start + size].astype(np.float32) for start in starts]


def head_learner(
    change: dict[str, Any], labels: NDArray[np.uint8], width: int, steps: int, seed: int
) -> Learner:
    """The head of a tagger over vectors, with its objective and optimiser."""
    options = replace(BASE, **{k: v for k, v in change.items() if k != "prior_bias"})
    keras.utils.set_random_seed(seed)
    shares = (labels.sum(axis=0) + 0.5) / (len(labels) + 1.0)
    if not change.get("prior_bias", True):
        shares = np.full_like(shares, 0.5)
    pooled = keras.Input((width,))
    vector = summarise(pooled, options.vector_size)
    logits, scale = tag_head(vector, options, np.log(shares) - np.log1p(-shares))
    probabilities = keras.layers.Activation("sigmoid")(logits)
    outputs = {"logits": logits, "probabilities": probabilities, "vector": vector, "scale": scale}
    objective = Objective(
        options.loss, len(shares), options.focal_alpha, options.focal_gamma,
        splc_start=steps // 5,
    )  # fmt: skip
    joint = JointLikelihood(options.factor_samples, seed) if options.likelihood == "joint" else None
    learner = Learner(keras.Model(pooled, outputs), objective, joint)
    schedule = make_schedule(options.schedule, options.learning_rate, steps, options.warmup)
    optimizer = make_optimizer(
        "adamw", schedule, weight_decay=options.weight_decay, clip_norm=options.clip_norm,
        ema=options.ema,
    )  # fmt: skip
    learner.compile(optimizer=optimizer, jit_compile=False)
    return learner


def train_head(
    change: dict[str, Any], vectors: dict[str, Any], labels: NDArray[np.uint8], seed: int,
    passes: int,
) -> NDArray[np.float32]:  # fmt: skip
    """Scores of the test vectors."""
    inputs, size = vectors["train"], BASE.batch_size
    per_pass = len(inputs) // size
    learner = head_learner(change, labels, inputs.shape[1], passes * per_pass, seed)
    learner.network(np.zeros((1, inputs.shape[1]), np.float32))
    learner.objective.build((None, labels.shape[1]))
    learner.optimizer.build(learner.trainable_variables)
    rng, known = np.random.default_rng(seed), labels.astype(np.float32)
    for _ in range(passes):
        order = rng.permutation(len(inputs))
        for i in range(per_pass):
            rows = order[i * size : (i + 1) * size]
            learner.step(inputs[rows], known[rows])
    with learner.averaged():
        return np.concatenate(
            [learner.predict_pictures(part) for part in batches_of(vectors["test"], 512)]
        )


def head_scores(options: argparse.Namespace, row: str, share: float, seed: int) -> Any:
    """Scores of one training of a head."""
    labels = delete_positives(np.load(options.work / "arrays/train_labels.npy"), share)
    return train_head(HEADS[row], cached_vectors(options.work), labels, seed, options.passes)


def with_deleted(data: Path, share: float) -> Path:
    """A copy of the data folder whose training labels lack a share of the positives."""
    if not share:
        return data
    out = data.with_name(f"data-{share:g}")
    if not out.exists():
        # Others may want it at the same time: it appears whole or not at all.
        part = data.with_name(f"data-{share:g}-{os.getpid()}")
        shutil.copytree(data, part)
        dataset = shards.open_dataset(part)
        manifest = dataset.manifest.copy()
        train = (manifest["split"] == "train").to_numpy()
        matrix = shards.label_matrix(manifest["labels"], len(dataset.vocabulary))
        matrix[train] = delete_positives(matrix[train], share)
        manifest["labels"] = [np.flatnonzero(row) for row in matrix]
        shards.write_manifest(part, manifest)
        info = dataset.info | {"fingerprint": f"{dataset.info['fingerprint']}-{share:g}"}
        write_json(part / "dataset.json", info)
        with contextlib.suppress(OSError):
            part.rename(out)
        shutil.rmtree(part, ignore_errors=True)
    return out


def picture_scores(options: argparse.Namespace, row: str, share: float, seed: int) -> Any:
    """Scores of one short training by train.py."""
    shared, rows, _ = TRAININGS[options.part]
    run = options.work / f"ablation-run-{options.part}-{list(rows).index(row)}"
    shutil.rmtree(run, ignore_errors=True)
    command = [
        sys.executable, "train.py", "--quiet", "--seed", str(seed), "--run", str(run),
        "--data", str(with_deleted(options.work / "data", share)),
        "--epochs", str(options.passes), *shared, *rows[row],
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    scores = predict(run / "model.onnx", options.work / "arrays")
    shutil.rmtree(run)
    return scores


def measure(options: argparse.Namespace, row: str, share: float, seed: int) -> dict[str, Any]:
    """Figures and seconds of one training, from their file where they were made before."""
    kind = options.part
    name = f"{kind}-{rows_of(kind).index(row)}-{share:g}-{seed}-{options.passes}.json"
    path = options.work / "ablation" / name
    if not path.exists():
        began = time.monotonic()
        scores = (head_scores if kind == "heads" else picture_scores)(options, row, share, seed)
        path.parent.mkdir(exist_ok=True)
        seconds = {"seconds": time.monotonic() - began}
        write_json(path, {"row": row, "sets": figures(options.work, scores)} | seconds)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rows_of(part: str) -> list[str]:
    """Names of the rows of a part of the table."""
    return list(HEADS if part == "heads" else TRAININGS[part][1])


def cells(found: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds of AP, mean of AUC; AP of what is unseen."""
    known = [item["sets"]["near-duplicates"] for item in found]
    ap, auc = ([one[kind] for one in known] for kind in ("ap", "auc"))
    unseen = [np.mean([item["sets"][name]["ap"] for name in UNSEEN]) for item in found]
    return f"{deviating(ap)} | {np.mean(auc):.3f} | {deviating(unseen)}"


def deviating(values: Sequence[Any]) -> str:
    """Mean, with the standard deviation where there are several."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def main() -> None:
    """One line a change."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("part", choices=["heads", *TRAININGS])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--rows", type=int, nargs="+", help="some of them, by number from 0")
    parser.add_argument("--deleted", type=float, nargs="+", default=[0.0, 0.4], help="shares")
    options = parser.parse_args()
    options.work = options.work.resolve()
    heads = options.part == "heads"
    options.seeds = options.seeds or (5 if heads else 2)
    options.passes = options.passes or (15 if heads else TRAININGS[options.part][2])
    columns = " | ".join(f"AP, {share:.0%} deleted | AUC | AP, unseen" for share in options.deleted)
    print(f"| | {columns} | s a training |\n|{'---|' * (2 + 3 * len(options.deleted))}")
    rows = rows_of(options.part)
    for row in [rows[i] for i in options.rows or range(len(rows))]:
        found = [
            [measure(options, row, share, seed) for seed in range(options.seeds)]
            for share in options.deleted
        ]
        seconds = np.mean([item["seconds"] for items in found for item in items])
        print(f"| {row} | {' | '.join(map(cells, found))} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
