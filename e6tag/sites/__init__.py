"""Sources of tagged pictures: one module per kind of site; `open_site` opens one by name."""

from collections.abc import Mapping
from pathlib import Path

from e6tag.errors import ConfigError
from e6tag.sites.base import ExportFile, Site
from e6tag.sites.e621 import E621
from e6tag.sites.folder import Folder

NAMES = ("e621", "folder")


def open_site(
    name: str,
    *,
    base_url: str | None = None,
    folder: Path | None = None,
    index: Mapping[str, ExportFile] | None = None,
) -> Site:
    """The site meant by --site, --base-url and --folder.

    Args:
        index: the export index, where it was read; it shows the host of the pictures.

    Raises:
        ConfigError: an unknown kind, or an option that does not go with it.
    """
    if name == "e621":
        if folder is not None:
            raise ConfigError("--folder goes with --site folder only. Add --site folder.")
        return E621.at(base_url, index)
    if name == "folder":
        if folder is None:
            raise ConfigError("--site folder needs --folder DIR, the folder of your pictures.")
        return Folder(folder)
    raise ConfigError(f"there is no site {name!r}. Known: {', '.join(NAMES)}.")
