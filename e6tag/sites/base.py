"""What a source of tagged pictures must offer; sites read files and compute, they do no HTTP.

A job uses a site in this order:

1. `export_files()` names the tables it needs; the job brings them into one folder
   (`e621.export_index_url`, `e621.parse_export_index` say from where).  Empty: nothing to bring.
2. `read(folder)` makes them one `Collection`.
3. `candidates(post, variant)` lists the files that may show a planned post, best first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas
from numpy.typing import NDArray

from e6tag.posts import Candidate, Posts
from e6tag.tags import Relations

Variant = Literal["sample", "preview", "original"]

TAG_COLUMNS = ["tag_id", "name", "category", "count"]


@dataclass(frozen=True)
class ExportFile:
    """One row of a site's export index."""

    name: str
    """posts, tags, tag_aliases, ..."""
    url: str
    file_name: str
    """how the file is called in an export folder: posts.csv.gz"""
    sha256: str | None = None
    """of the compressed file; None where the site gives none"""
    size_bytes: int | None = None


@dataclass(frozen=True)
class Collection:
    """Everything a site says about its posts."""

    posts: Posts
    tags: pandas.DataFrame
    """tag_id int64, name str, category int64, count int64; one row per tag, names unique"""
    relations: Relations
    pools: Sequence[NDArray[np.int64]] = ()
    """post ids that belong together (comics, sequences), one array a pool"""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """sha256 of each file that was read, by its name in the export folder"""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """rows that were left out while reading, counted by reason"""
    failed: Sequence[str] = ()
    """inputs that could not be used, each named with its cause (a job then exits 1)"""
    problems: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """names in aliases and implications that lead nowhere or in a circle, by kind
    (`e6tag.tags.problems_of`)"""


@dataclass(frozen=True)
class PostFile:
    """What a site must know of a post to say where its files are."""

    post_id: int
    md5: str
    """of the original, 32 lower-case hexadecimal digits"""
    ext: str
    """of the original, without a dot"""
    width: int
    height: int
    size_bytes: int
    location: str = ""
    """local path, for sites that are folders"""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "PostFile":
        """From a row of plan.parquet or manifest.parquet, as a mapping."""
        numbers = {key: int(row[key]) for key in ("post_id", "width", "height", "size_bytes")}
        texts = {key: str(row[key]) for key in ("md5", "ext", "location")}
        return cls(**numbers, **texts)  # type: ignore[arg-type]


class Site(Protocol):
    """A kind of source at an address; `e6tag.sites.open_site` makes one."""

    @property
    def name(self) -> str:
        """The value of --site."""

    @property
    def base_url(self) -> str:
        """Address without a final slash; a folder's path for sites that are folders."""

    @property
    def categories(self) -> Mapping[int, str]:
        """Tag categories, by the site's own numbers."""

    @property
    def ratings(self) -> Mapping[str, str]:
        """One letter -> word, safest first."""

    @property
    def safe_ratings(self) -> frozenset[str]:
        """The letters that mean safe for everybody."""

    @property
    def extensions(self) -> frozenset[str]:
        """Endings of originals that are pictures to learn from, without a dot."""

    @property
    def blacklist(self) -> Sequence[str]:
        """What the site hides from newcomers, an entry a line (`e6tag.eligibility.matches`)."""

    @property
    def rate_note(self) -> str:
        """One sentence on the pace that the site asks for; empty where nothing is fetched."""

    @property
    def max_requests_per_second(self) -> float:
        """The site's hard limit; infinite where nothing is fetched."""

    def export_files(self) -> Sequence[str]:
        """Names of the tables that `read` needs, as the export index calls them."""

    def read(self, folder: Path) -> Collection:
        """Read the tables in `folder` (for sites that are folders: the pictures in it).

        Raises:
            DataError: a table is missing or damaged; names the file and the line.
        """

    def candidates(self, post: PostFile, variant: Variant) -> list[Candidate]:
        """Files that may show the post, in the order to try; the original is always the last."""
