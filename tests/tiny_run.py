"""A valid run folder with a tiny real ONNX model, and pictures that it tells apart.

The model: average-pool to 8 x 8 x 3, a fixed random linear map to a 32-d vector, a linear
map to the tags and a sigmoid.  `TinyModel` computes the same in NumPy.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from e6tag import __version__
from e6tag.files import sha256, write_json
from e6tag.images import PREPROCESSING, letterbox
from e6tag.runs import write_thresholds
from e6tag.shards import Example, write_manifest, write_shard
from e6tag.tags import Tag, Vocabulary

IMAGE_SIZE = 32
VECTOR_SIZE = 32
GRID = 8
NAMES = ("wolf", "fox", "blue_eyes", "^_^", "a_(b)", "solo", "outside", "tail", "red_fur", "night")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 30),
    "purple": (150, 30, 170),
    "grey": (120, 120, 120),
}


@dataclass(frozen=True)
class TinyModel:
    """The weights of the model, and its arithmetic in NumPy."""

    stem: NDArray[np.float32]
    head: NDArray[np.float32]
    bias: NDArray[np.float32]
    image_size: int = IMAGE_SIZE

    @classmethod
    def make(
        cls, num_tags: int = len(NAMES), seed: int = 0, image_size: int = IMAGE_SIZE
    ) -> "TinyModel":
        rng = np.random.default_rng(seed)
        stem = rng.normal(0, (GRID * GRID) ** -0.5, (GRID * GRID * 3, VECTOR_SIZE))
        head = rng.normal(0, 1.0, (VECTOR_SIZE, num_tags))
        bias = rng.normal(-0.5, 0.3, num_tags)
        return cls(
            stem.astype(np.float32), head.astype(np.float32), bias.astype(np.float32), image_size
        )

    def vectors(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """(N, S, S, 3) to (N, D)."""
        step = self.image_size // GRID
        cells = pictures.astype(np.float32).reshape(-1, GRID, step, GRID, step, 3)
        pooled = cells.mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(len(pictures), -1)
        vectors: NDArray[np.float32] = (pooled / 127.5 - 1.0) @ self.stem
        return vectors

    def probabilities(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """(N, S, S, 3) to (N, K)."""
        odds: NDArray[np.float32] = np.exp(self.vectors(pictures) @ self.head + self.bias)
        return odds / (1.0 + odds)

    def onnx(self) -> onnx.ModelProto:
        """The same as an ONNX model with the outputs of a run's."""
        step, size, num_tags = self.image_size // GRID, self.image_size, len(self.bias)
        constants = {
            "stem": self.stem,
            "head": self.head,
            "bias": self.bias,
            "half": np.float32(127.5),
            "one": np.float32(1.0),
            "zero": np.float32(0.0),
            "sd": np.full(num_tags, 0.5, np.float32),
            "flat": np.array([0, -1], np.int64),
        }
        nodes = [
            helper.make_node("Transpose", ["pictures"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "AveragePool", ["planes"], ["pooled"], kernel_shape=[step] * 2, strides=[step] * 2
            ),
            helper.make_node("Reshape", ["pooled", "flat"], ["cells"]),
            helper.make_node("Div", ["cells", "half"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "one"], ["centred"]),
            helper.make_node("MatMul", ["centred", "stem"], ["vector"]),
            helper.make_node("MatMul", ["vector", "head"], ["mapped"]),
            helper.make_node("Add", ["mapped", "bias"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
            helper.make_node("Mul", ["logits", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "sd"], ["uncertainty"]),
        ]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "tiny",
            [value("pictures", TensorProto.FLOAT, ["N", size, size, 3])],
            [
                value("probabilities", TensorProto.FLOAT, ["N", num_tags]),
                value("vector", TensorProto.FLOAT, ["N", VECTOR_SIZE]),
                value("uncertainty", TensorProto.FLOAT, ["N", num_tags]),
            ],
            [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
        )
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def make_run(
    path: Path,
    *,
    names: tuple[str, ...] = NAMES,
    seed: int = 0,
    thresholds: bool = True,
    data: Path | None = None,
) -> TinyModel:
    """Write a run folder; the model that it holds is handed back."""
    model = TinyModel.make(len(names), seed)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(model.onnx().SerializeToString())
    vocabulary(names).write(path / "tags.csv")
    if thresholds:
        cuts = np.linspace(0.2, 0.8, len(names)).tolist()
        write_thresholds(path / "thresholds.csv", names, cuts)
    num_parameters = model.stem.size + model.head.size + model.bias.size
    write_json(
        path / "run.json",
        {
            "format": 1,
            "e6tag": __version__,
            "created": "2000-01-01T00:00:00+00:00",
            "config": {"seed": seed},
            "data": {
                "path": str(data or "data"),
                "fingerprint": "0" * 64,
                "num_train": 0,
                "num_val": 0,
                "num_test": 0,
            },
            "preprocessing": PREPROCESSING(IMAGE_SIZE),
            "categories": {"0": "general"},
            "model": {
                "backbone": "tiny",
                "num_tags": len(names),
                "vector_size": VECTOR_SIZE,
                "num_parameters": num_parameters,
                "sha256": sha256(path / "model.onnx"),
                "bytes": (path / "model.onnx").stat().st_size,
            },
            "metrics": {},
        },
    )
    return model


def vocabulary(names: tuple[str, ...] = NAMES) -> Vocabulary:
    """Tags of these names."""
    return Vocabulary([Tag(10 + i, name, 0, 1000 - i) for i, name in enumerate(names)])


def picture(colour: str | tuple[int, int, int], seed: int = 0, size: int = 48) -> Image.Image:
    """A noisy picture of one colour with a darker block; the seed places it."""
    rng = np.random.default_rng(seed)
    base = np.array(COLOURS[colour] if isinstance(colour, str) else colour)
    pixels = base + rng.normal(0, 12, (size, size, 3))
    top, left = rng.integers(0, size // 2, 2)
    pixels[top : top + size // 3, left : left + size // 3] *= 0.5
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def make_pictures(folder: Path, per_colour: int = 1, colours: tuple[str, ...] = ()) -> list[Path]:
    """Write `red-0.png`, ...; the paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, colour in enumerate(colours or tuple(COLOURS)):
        for i in range(per_colour):
            path = folder / f"{colour}-{i}.png"
            picture(colour, 1000 * number + i).save(path)
            paths.append(path)
    return sorted(paths)


def square(path: Path, size: int = IMAGE_SIZE) -> NDArray[np.uint8]:
    """A picture of `make_pictures` as the model takes it."""
    with Image.open(path) as image:
        return letterbox(image.convert("RGB"), size)


def make_data(path: Path, num_posts: int = 24, names: tuple[str, ...] = NAMES) -> None:
    """Write a data folder of posts 101, 102, ... with shards of the splits and a manifest."""
    colours = list(COLOURS)
    rows: list[dict[str, Any]] = []
    for split, offset in (("train", 0), ("val", 1), ("test", 2)):
        examples = []
        for i in range(offset, num_posts, 3):
            buffer = io.BytesIO()
            picture(colours[i % len(colours)], i).save(buffer, "JPEG", quality=92)
            examples.append(Example(101 + i, buffer.getvalue(), {"post_id": 101 + i}))
            rows.append(manifest_row(101 + i, split, [i % len(names)]))
        places = write_shard(path / "shards" / f"{split}-00000.tar", examples)
        for row, (start, length) in zip(rows[-len(places) :], places, strict=True):
            row |= {"offset": start, "length": length}
    write_manifest(path, pd.DataFrame(rows))
    vocabulary(names).write(path / "tags.csv")
    write_json(
        path / "dataset.json",
        {
            "format": 1,
            "site": "folder",
            "base_url": "",
            "options": {},
            "export": {},
            "categories": {"0": "general"},
            "stored": {"image_size": 48, "jpeg_quality": 92},
            "num_posts": len(rows),
            "fingerprint": "1" * 64,
        },
    )


def manifest_row(post_id: int, split: str, labels: list[int]) -> dict[str, Any]:
    """A row of manifest.parquet whose picture is there."""
    return {
        "post_id": post_id,
        "md5": f"{post_id:032x}",
        "ext": "jpg",
        "rating": "s",
        "width": 48,
        "height": 48,
        "size_bytes": 1000,
        "parent_id": 0,
        "group": post_id,
        "split": split,
        "labels": labels,
        "artists": "",
        "weight": 1.0,
        "reason": "all",
        "location": "",
        "shard": f"{split}-00000.tar",
        "stored_width": 48,
        "stored_height": 48,
        "sha256": "",
        "variant": "original",
        "status": "ok",
        "error": "",
    }


def rewrite_model(run: Path, content: bytes) -> None:
    """Put other bytes in model.onnx, and make run.json vouch for them."""
    (run / "model.onnx").write_bytes(content)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["model"] |= {"sha256": sha256(run / "model.onnx"), "bytes": len(content)}
    write_json(run / "run.json", info)
