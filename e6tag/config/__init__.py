"""Every knob of every job: one frozen dataclass a job, one field a knob.

Flags, TOML keys, `docs/cli.md` and the saved run are made from these fields.
The text under a field is its help.
"""

from e6tag.config.base import JobConfig
from e6tag.config.download import DownloadConfig
from e6tag.config.judging import BenchmarkConfig, EvalConfig
from e6tag.config.learning import TrainConfig
from e6tag.config.ranges import check_ranges
from e6tag.config.using import (
    DemoConfig,
    DoctorConfig,
    EmbedConfig,
    SearchConfig,
    TagConfig,
    TransferConfig,
)

__all__ = [
    "BenchmarkConfig",
    "DemoConfig",
    "DoctorConfig",
    "DownloadConfig",
    "EmbedConfig",
    "EvalConfig",
    "JobConfig",
    "SearchConfig",
    "TagConfig",
    "TrainConfig",
    "TransferConfig",
    "check_ranges",
]
