"""A folder of your own pictures: tags in .txt or .json beside each, or in one CSV."""

import hashlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pandas
from PIL import Image

from e6tag.errors import ConfigError, DataError
from e6tag.posts import Candidate, Posts
from e6tag.progress import track
from e6tag.sites.base import TAG_COLUMNS, Collection, PostFile, Variant
from e6tag.sites.sidecars import PictureTags, find_sidecar, read_csv, read_sidecar
from e6tag.tags import Relations

log = logging.getLogger(__name__)

CATEGORIES: Mapping[int, str] = MappingProxyType(
    {
        0: "general",
        1: "artist",
        2: "contributor",
        3: "copyright",
        4: "character",
        5: "species",
        6: "invalid",
        7: "meta",
        8: "lore",
    }
)
RATINGS: Mapping[str, str] = MappingProxyType({"s": "safe", "q": "questionable", "e": "explicit"})
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
FORMATS = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
EXPECTED = (
    "expected a.txt (tags between spaces or commas) or a.json beside each a.png, "
    "or one CSV with the columns path,tags"
)


@dataclass(frozen=True)
class Picture:
    """A file that was found to be a picture, with its tags."""

    path: Path
    md5: str
    ext: str
    """by its contents, whatever its name says"""
    width: int
    height: int
    size_bytes: int
    said: PictureTags

    @property
    def post_id(self) -> int:
        """63 bits of the MD5: the same picture has the same id wherever it lies."""
        return int(self.md5[:16], 16) >> 1


@dataclass(frozen=True)
class Folder:
    """A folder of pictures; implements `e6tag.sites.base.Site`."""

    folder: Path
    name: ClassVar[str] = "folder"
    categories: ClassVar[Mapping[int, str]] = CATEGORIES
    ratings: ClassVar[Mapping[str, str]] = RATINGS
    safe_ratings: ClassVar[frozenset[str]] = frozenset("s")
    extensions: ClassVar[frozenset[str]] = frozenset(ext.removeprefix(".") for ext in EXTENSIONS)
    blacklist: ClassVar[Sequence[str]] = ()
    max_requests_per_second: ClassVar[float] = float("inf")
    rate_note: ClassVar[str] = ""

    @property
    def base_url(self) -> str:
        """The folder's path."""
        return str(self.folder)

    def export_files(self) -> Sequence[str]:
        """None: the pictures themselves are read."""
        return ()

    def read(self, folder: Path) -> Collection:
        """Read the pictures in a folder and the folders inside, with their tags.

        Raises:
            ConfigError: there is no such folder.
            DataError: no pictures, no tags, or a CSV of another layout.
        """
        said, failed = read_tags(folder)
        untagged = set(list_pictures(folder)) - said.keys() - failed.keys()
        skipped = Counter(no_tags=len(untagged))
        pictures: dict[str, Picture] = {}
        quiet = not log.isEnabledFor(logging.INFO)
        for path, tags in track(said.items(), "reading pictures", len(said), quiet=quiet):
            try:
                picture = read_picture(path, tags)
            except DataError as problem:
                failed[path] = str(problem)
                continue
            skipped["duplicate"] += picture.md5 in pictures
            pictures[picture.md5] = merge(pictures.get(picture.md5), picture)
        if not pictures:
            raise DataError(f"{folder}: none of the {len(said)} tagged pictures can be read.")
        return make_collection(list(pictures.values()), dict(+skipped), [*failed.values()])

    def candidates(self, post: PostFile, variant: Variant) -> list[Candidate]:
        """The picture itself; a folder has no other variants."""
        size = post.size_bytes
        return [
            Candidate("original", post.location, post.md5, size, post.width, post.height),
        ]


def list_pictures(folder: Path) -> list[Path]:
    """Pictures by extension, in folders inside too, sorted; hidden files are left out.

    Raises:
        ConfigError: there is no such folder.
        DataError: there are no pictures in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}. Name the folder of your pictures.")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise DataError(f"{folder} holds no pictures ({', '.join(sorted(EXTENSIONS))}).")
    return sorted(found)


def read_tags(folder: Path) -> tuple[dict[Path, PictureTags], dict[Path, str]]:
    """Tags of each picture that has some, and what is wrong with those that failed.

    Raises:
        ConfigError: there is no such folder.
        DataError: no tags at all, two CSVs, or a CSV of another layout.
    """
    pictures = list_pictures(folder)
    tables = sorted(folder.glob("*.csv"))
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise DataError(f"{folder} has {len(tables)} CSVs ({names}); keep one, with path,tags.")
    said, failed = read_listed(tables[0]) if tables else read_sidecars(pictures)
    if not said and not failed:
        raise DataError(f"no picture in {folder} has tags: {EXPECTED}.")
    return said, failed


def read_listed(table: Path) -> tuple[dict[Path, PictureTags], dict[Path, str]]:
    """Pictures of a CSV, and those of its pictures that do not exist."""
    listed = read_csv(table)
    missing = {
        path: f"{path} is named in {table.name} but missing."
        for path in listed
        if not path.is_file()
    }
    return {path: listed[path] for path in sorted(listed.keys() - missing.keys())}, missing


def read_sidecars(pictures: Iterable[Path]) -> tuple[dict[Path, PictureTags], dict[Path, str]]:
    """Pictures with a sidecar, and the sidecars that cannot be read."""
    said: dict[Path, PictureTags] = {}
    failed: dict[Path, str] = {}
    for picture in pictures:
        sidecar = find_sidecar(picture)
        if sidecar is None:
            continue
        try:
            said[picture] = checked(read_sidecar(sidecar), sidecar)
        except DataError as problem:
            failed[picture] = str(problem)
    return said, failed


def checked(said: PictureTags, sidecar: Path) -> PictureTags:
    """Refuse categories that nothing is known of."""
    unknown = set(said.tags.values()) - set(CATEGORIES.values())
    if unknown:
        raise DataError(
            f"{sidecar} has the category {min(unknown)!r}, "
            f"expected one of {', '.join(CATEGORIES.values())}."
        )
    return said


def read_picture(path: Path, said: PictureTags) -> Picture:
    """Hash a file and read its header; the pixels are decoded later, when it is stored.

    Raises:
        DataError: it is not a picture that can be read.
    """
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            md5 = hashlib.file_digest(stream, "md5").hexdigest()
            size_bytes = stream.tell()
            with Image.open(stream) as image:
                (width, height), kind = image.size, image.format
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path} has too many pixels.") from None
    except (OSError, ValueError):
        raise DataError(f"{path} cannot be read as a picture.") from None
    ext = FORMATS.get(kind or "", (kind or "").lower())
    return Picture(path.absolute(), md5, ext, width, height, size_bytes, said)


def merge(first: Picture | None, second: Picture) -> Picture:
    """One picture for two files of equal bytes: all tags of both, the less safe rating."""
    if first is None:
        return second
    ratings = list(RATINGS)
    rating = max(first.said.rating, second.said.rating, key=ratings.index)
    return replace(first, said=PictureTags({**second.said.tags, **first.said.tags}, rating))


def make_collection(
    pictures: list[Picture], skipped: Mapping[str, int], failed: Sequence[str]
) -> Collection:
    """Pictures as posts, with the table of their tags.

    Raises:
        DataError: two pictures share an id.
    """
    pictures.sort(key=lambda picture: picture.post_id)
    tags = tag_table(pictures)
    codes = {name: code for code, name in enumerate(tags["name"])}
    indices = [codes[name] for picture in pictures for name in sorted(picture.said.tags)]
    offsets = np.concatenate([[0], np.cumsum([len(p.said.tags) for p in pictures])])
    posts = make_posts(pictures, offsets.astype(np.int64), np.array(indices, np.int32), list(codes))
    if len(np.unique(posts.post_id)) < len(posts):
        raise DataError("two pictures have MD5s that begin alike; remove one of them.")
    checksums = {"pictures": fingerprint(pictures)}
    return Collection(posts, tags, Relations(), (), checksums, skipped, failed)


def make_posts(
    pictures: Sequence[Picture],
    offsets: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]",
    indices: "np.ndarray[tuple[int, ...], np.dtype[np.int32]]",
    tag_names: list[str],
) -> Posts:
    """The pictures' columns; nothing in a folder is deleted, pending or flagged."""
    none = np.zeros(len(pictures), bool)
    return Posts(
        post_id=np.array([picture.post_id for picture in pictures], np.int64),
        md5=np.array([picture.md5.encode() for picture in pictures], "S32"),
        ext=np.array([picture.ext for picture in pictures], object),
        rating=np.array([picture.said.rating.encode() for picture in pictures], "S1"),
        width=np.array([picture.width for picture in pictures], np.int32),
        height=np.array([picture.height for picture in pictures], np.int32),
        size_bytes=np.array([picture.size_bytes for picture in pictures], np.int64),
        parent_id=np.zeros(len(pictures), np.int64),
        created_at=np.full(len(pictures), np.datetime64("NaT"), "datetime64[s]"),
        is_deleted=none,
        is_pending=none,
        is_flagged=none,
        tag_offsets=offsets,
        tag_indices=indices,
        tag_names=tag_names,
        location=[str(picture.path) for picture in pictures],
    )


def tag_table(pictures: Iterable[Picture]) -> pandas.DataFrame:
    """Every tag with the category it has most often, numbered from 1 in order of name."""
    uses = Counter(item for picture in pictures for item in picture.said.tags.items())
    numbers = {name: number for number, name in CATEGORIES.items()}
    counts: Counter[str] = Counter()
    category: dict[str, int] = {}
    for (name, category_name), count in sorted(uses.items(), key=lambda use: (-use[1], use[0])):
        counts[name] += count
        category.setdefault(name, numbers[category_name])
    names = sorted(counts)
    rows = [(i, name, category[name], counts[name]) for i, name in enumerate(names, 1)]
    return pandas.DataFrame(rows, columns=TAG_COLUMNS)


def fingerprint(pictures: Iterable[Picture]) -> str:
    """SHA-256 of what the pictures are and what is said of them, wherever they lie."""
    digest = hashlib.sha256()
    for picture in pictures:
        line = [picture.md5, picture.said.rating, *sorted(picture.said.tags)]
        digest.update(("\t".join(line) + "\n").encode())
    return digest.hexdigest()
