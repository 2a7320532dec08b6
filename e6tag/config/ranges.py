"""What numbers may be: checked when the flags are read, before anything slow begins."""

import dataclasses
from typing import Any

from e6tag.config.base import JobConfig
from e6tag.config.learning import TrainConfig
from e6tag.errors import ConfigError

TINY, HUGE = 1e-12, 1e38
SEEDS = (0, 2**32 - 1)

RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 4096),
    "filters": (1, 65_536),
    "max_stride": (0, 4096),
    "freeze": (0, 100),
    "image_size": (16, 4096),
    "progressive": (0.1, 1),
    "vector_size": (0, 65_536),
    "pooled_stages": (0, 100),
    "heads": (0, 1024),
    "key_size": (1, 4096),
    "queries": (1, 4096),
    "rank": (0, 65_536),
    "factors": (0, 4096),
    "temperature": (TINY, HUGE),
    "factor_samples": (1, 65_536),
    "focal_alpha": (-HUGE, 1),
    "focal_gamma": (0, HUGE),
    "asl_gamma_positive": (0, HUGE),
    "asl_gamma_negative": (0, HUGE),
    "asl_margin": (0, 0.999),
    "splc_epochs": (0, 1_000_000),
    "splc_threshold": (0.001, 0.999),
    "learning_rate": (TINY, HUGE),
    "backbone_rate": (0, HUGE),
    "weight_decay": (0, HUGE),
    "warmup": (0, 1),
    "div_factor": (1, HUGE),
    "final_div_factor": (1, HUGE),
    "momentum": (0, 0.999999),
    "ema": (0, 0.9999999),
    "clip_norm": (0, HUGE),
    "batch_size": (1, 65_536),
    "batch_parts": (1, 1024),
    "accumulate": (1, 65_536),
    "epochs": (1, 1_000_000),
    "minutes": (0, 1_000_000),
    "validate_every": (1, 1_000_000),
    "patience": (0, 1_000_000),
    "memory_gb": (0, HUGE),
    "crop": (0.01, 1),
    "colour_jitter": (0, 10),
    "mixup": (0, 1000),
    "cutmix": (0, 1000),
    "repeat_factor": (0, 1),
    "workers": (0, 1024),
    "devices": (0, 64),
    "checkpoint_seconds": (0, HUGE),
    "depth": (1, 1000),
}
"""Least and largest value of the numbers of `TrainConfig`; nan is in no range."""
NOT_EMPTY = ("depth", "splits", "categories")


def check_ranges(options: JobConfig) -> None:
    """Refuse numbers that no command could use, and lists that must not be empty.

    Raises:
        ConfigError: naming the option, what was expected and what came.
    """
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        if field.name in NOT_EMPTY and not value:
            raise ConfigError(f"{flag} needs at least one value.")
        if field.name == "seed":
            check_range(flag, value, SEEDS)
        elif field.name in RANGES and isinstance(options, TrainConfig):
            for number in value if isinstance(value, tuple) else (value,):
                check_range(flag, number, RANGES[field.name])


def check_range(flag: str, value: Any, allowed: tuple[float, float]) -> None:
    """Refuse a number outside of a range; None stands for what the command chooses.

    Raises:
        ConfigError: it is outside.
    """
    least, most = allowed
    if value is not None and not least <= value <= most:
        raise ConfigError(f"{flag} must be from {least:.10g} to {most:.10g}. Received: {value}.")
