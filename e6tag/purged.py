"""Posts that a data folder must not have any more: their list, and what makes it come true.

purged.json                  which posts, each with its cause; whether they are all removed
manifest.withdrawn.parquet   the manifest while shards are rewritten: one that is in its place
                             always fits the shards that are there

The list is written first, then each shard that had one of the posts, finished or absent, then
the manifest; last the list says that it is done.  Whatever stops that, the next run goes on.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from e6tag import files
from e6tag.errors import DataError
from e6tag.shards import (
    Example,
    StoredExample,
    read_shard_index,
    read_stored,
    write_manifest,
    write_shard,
)
from e6tag.tables import MANIFEST_SCHEMA, read_table

FORMAT = 1
REMEDY = (
    "Bring back a copy of it; or remove it and run download.py --purge at once, which finds what "
    "today's exports say."
)


@dataclass(frozen=True)
class PurgeList:
    """Contents of purged.json."""

    causes: Mapping[int, str] = field(default_factory=dict)
    """post id -> one short word to count by"""
    is_done: bool = True
    """whether all of them are out of the shards"""


def read_list(out: Path) -> PurgeList:
    """The list of a data folder; empty where nothing was ever removed.

    Raises:
        DataError: it is damaged, or of another version.
    """
    path = out / "purged.json"
    if not path.exists():
        return PurgeList()
    content = files.read_json(path, DataError, REMEDY)
    posts, is_done = content.get("posts"), content.get("done")
    try:
        if content.get("format") != FORMAT or not isinstance(is_done, bool):
            raise ValueError("no list of this version's")
        return PurgeList({int(i): str(cause) for i, cause in dict(posts or {}).items()}, is_done)
    except (TypeError, ValueError) as problem:
        raise DataError(f"{path} is damaged ({problem}). {REMEDY}") from None


def write_list(out: Path, listed: PurgeList) -> None:
    """Write purged.json, finished or absent, in order of post id."""
    posts = {str(post_id): listed.causes[post_id] for post_id in sorted(listed.causes)}
    content = {"format": FORMAT, "done": listed.is_done, "posts": posts}
    files.write_json(out / "purged.json", content)


def finish_purge(out: Path) -> None:
    """Remove what the list names, unless that was done; the manifest, if there is one, follows.

    Raises:
        DataError: a shard or the manifest is damaged.
    """
    listed = read_list(out)
    if listed.is_done:
        return
    withdraw_manifest(out)
    for path in sorted((out / "shards").glob("*.tar")):
        purge_shard(path, listed.causes)
    forget(out, listed.causes)
    restore_manifest(out, listed.causes)
    write_list(out, PurgeList(listed.causes))


def withdraw_manifest(out: Path) -> None:
    """Move the manifest out of the way, durably, before a shard that it describes changes."""
    path = out / "manifest.parquet"
    if path.exists():
        path.replace(withdrawn_path(out))
        files.sync_folder(out)


def withdrawn_path(out: Path) -> Path:
    """Where a manifest is that does not fit the shards at the moment."""
    return out / "manifest.withdrawn.parquet"


def purge_shard(path: Path, purged: Collection[int]) -> None:
    """Rewrite a shard without some posts; one that has none of them is left as it is."""
    stored = list(read_shard_index(path))
    kept = [example for example in stored if example.post_id not in purged]
    if len(kept) < len(stored):
        replace_shard(path, kept)


def replace_shard(path: Path, kept: Collection[StoredExample]) -> None:
    """Rewrite a shard with these of its examples alone; without any there is no shard.

    Its pictures' fingerprints go: a download makes those of the pictures that stay.
    """
    (path.parent.parent / "fingerprints" / f"{path.stem}.npy").unlink(missing_ok=True)
    if kept:
        write_shard(path, read_examples(path, kept))
    else:
        path.unlink()
        files.sync_folder(path.parent)


def read_examples(path: Path, stored: Collection[StoredExample]) -> Iterator[Example]:
    """Examples of a shard as they are written anew."""
    for example in stored:
        jpeg = read_stored(path.parent.parent, path.name, example.offset, example.length)
        yield Example(example.post_id, jpeg, example.info)


def forget(out: Path, post_ids: Collection[int]) -> None:
    """Remove what waits in incoming/ of some posts: pictures and noted failures."""
    names = {str(post_id) for post_id in post_ids}
    for path in (out / "incoming").glob("*/*"):
        if path.name.partition(".")[0] in names:
            path.unlink()
    failures = out / "incoming" / "failures.jsonl"
    if failures.exists():
        # Not splitlines(): see `Incoming.read_failures`.
        lines = failures.read_text(encoding="utf-8", errors="replace").split("\n")
        kept = [line for line in lines if post_id_of(line) not in post_ids]
        if len(kept) < len(lines):
            files.write_text(failures, "\n".join(kept))


def post_id_of(line: str) -> int | None:
    """The post that a line of the list of failures is about; None where it was cut short."""
    try:
        return int(json.loads(line)["post_id"])
    except (ValueError, TypeError, KeyError):
        return None


def restore_manifest(out: Path, purged: Mapping[int, str]) -> None:
    """Bring the withdrawn manifest up to date and put it back.

    It stays away where a picture that it has is neither in a shard nor purged: that folder is
    not complete, and a download will make the manifest anew.
    """
    path = withdrawn_path(out)
    if not path.exists():
        return
    manifest = refitted(read_table(path, MANIFEST_SCHEMA), find_places(out), purged)
    if not ((manifest["status"] == "ok") & (manifest["shard"] == "")).any():
        write_manifest(out, manifest)
    path.unlink()


def find_places(out: Path) -> pd.DataFrame:
    """shard, offset, length of each stored picture, indexed by post id."""
    rows = [
        (example.post_id, path.name, example.offset, example.length)
        for path in sorted((out / "shards").glob("*.tar"))
        for example in read_shard_index(path)
    ]
    columns = ["post_id", "shard", "offset", "length"]
    return pd.DataFrame(rows, columns=columns).set_index("post_id")


def refitted(
    manifest: pd.DataFrame, places: pd.DataFrame, purged: Mapping[int, str]
) -> pd.DataFrame:
    """A manifest with the places of the pictures as they are now, and the purged posts marked."""
    found = places.reindex(manifest["post_id"])
    changed = manifest.assign(
        shard=found["shard"].fillna("").to_numpy(),
        offset=found["offset"].fillna(0).astype("int64").to_numpy(),
        length=found["length"].fillna(0).astype("int64").to_numpy(),
    )
    is_purged = changed["post_id"].isin(list(purged))
    changed.loc[is_purged, "status"] = "purged"
    changed.loc[is_purged, "error"] = changed.loc[is_purged, "post_id"].map(purged)
    changed.loc[is_purged, ["stored_width", "stored_height"]] = 0
    changed.loc[is_purged, ["sha256", "variant"]] = ""
    return changed
