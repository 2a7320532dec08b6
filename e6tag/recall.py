"""A data folder by its name alone: the options that it was begun with need not be given again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e6tag import files
from e6tag.config import DownloadConfig
from e6tag.errors import ConfigError, DataError
from e6tag.plans import REMEDY, check_same_options


def recalled(config: DownloadConfig) -> DownloadConfig:
    """The options, and for those that were not given what the folder was begun with.

    Raises:
        ConfigError: there is no data folder, or an option was given that it does not have.
        DataError: its dataset.json is damaged.
    """
    path = config.out / "dataset.json"
    if not path.exists():
        raise ConfigError(f"{config.out} has no dataset.json. Name a data folder with --out.")
    info = files.read_json(path, DataError, REMEDY)
    options = info.get("options")
    if not isinstance(options, dict):
        raise DataError(f"{path} is damaged, or from another version of e6tag. {REMEDY}")
    if config.tag_list is None:
        # The vocabulary is there already; the list that it came from need not be.
        options = {**options, "tag_list": None}
        info = {**info, "options": options}
    config = dataclasses.replace(config, **not_given(config, options))
    check_same_options(config.out, info, config)
    if config.base_url is None and config.site != "folder":
        config = dataclasses.replace(config, base_url=info.get("base_url"))
    return config


def not_given(config: DownloadConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the folder for the options that have their defaults here."""
    return {
        field.name: restored(field.name, options[field.name])
        for field in dataclasses.fields(config)
        if field.name in options and getattr(config, field.name) == field.default
    }


def restored(name: str, value: Any) -> Any:
    """An option's value as the command line gives it, from what JSON holds of it."""
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if name == "folder" and value is not None else value
