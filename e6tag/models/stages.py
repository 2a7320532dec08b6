"""Stages of a backbone, told by the names of its layers: `stem_...`, `stage3_...`, `head_...`."""

import math
import re

STAGE_NAME = re.compile(r"(stem|stage\d+|head)(_|$)")


def stage_number(name: str) -> float:
    """Stage of a backbone's layer: the stem counts as part of the first, `head` comes last."""
    stage = name.split("_")[0]
    if stage == "stem":
        return 1
    return math.inf if stage == "head" else int(stage.removeprefix("stage"))
