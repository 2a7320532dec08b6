"""MobileNetV3 small and large (Howard et al. 2019, arXiv:1905.02244), as keras.applications has
them; a stage ends where the channels change."""

import re
from collections.abc import Sequence

SMALL_BLOCKS = (1, 2, 3, 2, 3)
LARGE_BLOCKS = (1, 2, 3, 4, 2, 3)
"""blocks in each stage; the last convolution comes after them"""


def stage_of(layer: str, blocks: Sequence[int]) -> str:
    """Stage of a layer with weights, by Keras' name: conv, expanded_conv_3_project, conv_1_bn."""
    block = re.match(r"expanded_conv_(?:(\d+)_)?", layer)
    if block is None:
        return "head" if layer.startswith("conv_1") else "stem"
    number, stage = int(block[1] or 0), 0
    while number >= 0:
        number -= blocks[stage]
        stage += 1
    return f"stage{stage}"
