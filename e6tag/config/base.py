"""What every command has."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What every command has."""

    config: Path | None = None
    """TOML file with values for these options; flags win over it"""
    quiet: bool = False
    """say nothing but results and errors"""
