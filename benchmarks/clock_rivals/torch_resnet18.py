"""Rival (c): plain torch ResNet-18 at half width from scratch, BCE, AdamW, one-cycle.

Usage: python benchmarks/clock_rivals/torch_resnet18.py ARRAYS OUT.npz --minutes M --seed S
"""

import common
import torch
import torch_training
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

IMAGENET = torch_training.Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def network(tags: int) -> ResNet:
    """timm's ResNet-18 with 32, 64, 128 and 256 channels, logits of `tags` tags."""
    model = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=tags, channels=(32, 64, 128, 256))
    # Its plain stem has 64 channels whatever it is asked for; half of them train a third quicker.
    model.conv1 = nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(32)
    model.layer1[0] = BasicBlock(32, 32)
    model.init_weights()
    return model


def main() -> None:
    """Train for the given minutes, score the test set."""
    parser = common.parser(__doc__)
    torch_training.add_options(parser, rate=3e-3, decay=0.05, crop=0.35, prior_bias=False)
    options = parser.parse_args()
    torch.set_num_threads(torch_training.THREADS)
    torch.manual_seed(options.seed)
    truth = common.labels(options.arrays, "train")
    model = network(truth.shape[1])
    if options.prior_bias:
        torch_training.set_prior_bias(model.fc, truth)
    torch_training.run(model, IMAGENET, options, "timm ResNet-18, half width")


if __name__ == "__main__":
    main()
