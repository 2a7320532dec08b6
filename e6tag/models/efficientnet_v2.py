"""EfficientNetV2-B0 to B2 (Tan & Le 2021, arXiv:2104.00298), as keras.applications has them."""

import re

NUM_STAGES = 7
"""six of blocks and the last convolution"""


def stage_of(layer: str) -> str:
    """Stage of a layer with weights, by Keras' name: stem_conv, block1a_expand_conv, top_bn."""
    block = re.match(r"block(\d+)", layer)
    if block is not None:
        return f"stage{block[1]}"
    return "head" if layer.startswith("top_") else "stem"
