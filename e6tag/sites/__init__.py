"""Sources of tagged pictures: one module per kind of site; `open_site` opens one by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from e6tag.errors import ConfigError
from e6tag.sites.api import ApiSite
from e6tag.sites.base import ExportFile, Site
from e6tag.sites.danbooru import Danbooru
from e6tag.sites.e621 import E621
from e6tag.sites.e621_api import E621Api
from e6tag.sites.folder import Folder
from e6tag.sites.gelbooru import Gelbooru
from e6tag.sites.moebooru import Moebooru
from e6tag.sites.philomena import Philomena
from e6tag.sites.shimmie2 import Shimmie2
from e6tag.sites.szurubooru import Szurubooru

Way = Literal["auto", "exports", "api"]

API_SITES: Mapping[str, type[ApiSite]] = {
    site.name: site
    for site in (E621Api, Danbooru, Gelbooru, Moebooru, Philomena, Szurubooru, Shimmie2)
}
NAMES = (*API_SITES, "folder")


def open_site(
    name: str,
    *,
    base_url: str | None = None,
    folder: Path | None = None,
    index: Mapping[str, ExportFile] | None = None,
    via: Way = "auto",
) -> Site:
    """The site meant by --site, --base-url, --folder and --via.

    Args:
        index: the export index, where it was read; it shows the host of the pictures.

    Raises:
        ConfigError: an unknown kind, or an option that does not go with it.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no site {name!r}. Known: {', '.join(NAMES)}.")
    if name == "folder":
        return open_folder(folder, via)
    if folder is not None:
        raise ConfigError("--folder goes with --site folder only. Add --site folder.")
    if name == "e621" and via != "api":
        return E621.at(base_url, index)
    if via == "exports":
        raise ConfigError(f"--via exports: --site {name} has no exports. Leave --via out.")
    return API_SITES[name].at(base_url)


def open_folder(folder: Path | None, via: Way) -> Folder:
    """The folder meant by --folder.

    Raises:
        ConfigError: there is none, or a way to it that is none.
    """
    if folder is None:
        raise ConfigError("--site folder needs --folder DIR, the folder of your pictures.")
    if via != "auto":
        raise ConfigError("--via is for boorus. Leave it out with --site folder.")
    return Folder(folder)
