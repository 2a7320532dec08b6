"""The part of a download that has no shard yet: finished pictures, and what failed.

incoming/<split>/<post_id>.<variant>.jpg   finished or absent, until their shard is written
incoming/failures.jsonl                    one object per failure; the last one of a post counts
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from e6tag import files, images
from e6tag.errors import DataError
from e6tag.images import BadPicture
from e6tag.obtaining import Failed, Obtained
from e6tag.purged import read_list
from e6tag.shard_work import Post, ShardWork, no_pictures, read_shard
from e6tag.shards import Example, drop_manifest, read_manifest, read_stored, write_shard
from e6tag.tags import Vocabulary


class Incoming:
    """The folder `incoming` of a data folder, and the shards that are made from it."""

    def __init__(self, out: Path, vocabulary: Vocabulary):
        self.out = out
        self.folder = out / "incoming"
        self.failures = self.folder / "failures.jsonl"
        self.names = vocabulary.names

    def find(self, works: Sequence[ShardWork], retry_failed: bool) -> None:
        """See what is there of each shard.

        Args:
            works: all shards of the folder.
            retry_failed: forget permanent failures; transient ones are always forgotten.

        Raises:
            DataError: a shard that is there is damaged, or of another plan.
        """
        known = {} if retry_failed else {f.post_id: f for f in self.read_failures() if f.permanent}
        pictures, purged = self.list_pictures(), read_list(self.out).causes
        for work in works:
            path = self.out / "shards" / work.name
            if path.exists():
                work.stored = read_shard(path, work.table)
            self.find_incoming(work, pictures)
            ids = work.ids.tolist()
            work.purged = {i: purged[i] for i in ids if i in purged}
            present = {*work.stored["post_id"].tolist(), *work.incoming, *work.purged}
            work.failed = {i: known[i] for i in ids if i in known and i not in present}

    def is_complete(self, works: Iterable[ShardWork]) -> bool:
        """Whether an earlier run has done everything, and its manifest can still be read."""
        try:
            read_manifest(self.out)
        except DataError:
            return False
        return not any(work.incoming or work.is_missing.any() for work in works)

    def find_incoming(self, work: ShardWork, pictures: Mapping[int, Sequence[Path]]) -> None:
        """Take over finished pictures of an earlier run; drop what is not needed any more."""
        stored = set(work.stored["post_id"].tolist())
        for post_id in work.ids.tolist():
            for path in pictures.get(post_id, ()):
                if post_id in stored or post_id in work.incoming or not is_whole(path):
                    path.unlink()
                else:
                    work.incoming[post_id] = path

    def list_pictures(self) -> dict[int, list[Path]]:
        """Pictures in the folder by post; what a crash left half-written is removed."""
        found: dict[int, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.glob("*/*")):
            name = path.name.partition(".")[0]
            if path.suffix == ".jpg" and name.isdecimal():
                found[int(name)].append(path)
            else:
                path.unlink()
        return found

    def keep(self, work: ShardWork, obtained: Obtained) -> None:
        """Write a picture, finished or absent.

        It is not synced: after a crash of the machine `is_whole` tells what got lost.
        """
        path = self.folder / work.split / f"{obtained.post_id}.{obtained.variant}.jpg"
        part = path.with_suffix(".part")
        files.make_folder(path.parent)
        try:
            with files.naming(path, part):
                part.write_bytes(obtained.jpeg)
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        work.incoming[obtained.post_id] = path

    def note_failure(self, work: ShardWork, failed: Failed) -> None:
        """Append a failure to the list."""
        files.make_folder(self.folder)
        with (
            files.naming(self.failures),
            self.failures.open("a", encoding="utf-8") as stream,
        ):
            stream.write(json.dumps(asdict(failed), ensure_ascii=False) + "\n")
        work.failed[failed.post_id] = failed

    def read_failures(self) -> Iterator[Failed]:
        """Failures of earlier runs; a line that was cut short is passed over."""
        if not self.failures.exists():
            return
        content = self.failures.read_text(encoding="utf-8", errors="replace")
        # Not splitlines(): what a site says may hold other characters that it takes for ends.
        for line in content.split("\n"):
            try:
                yield Failed(**json.loads(line))
            except (ValueError, TypeError):
                continue
        if content and not content.endswith("\n"):
            with self.failures.open("a", encoding="utf-8") as stream:
                stream.write("\n")

    def finish_shard(self, work: ShardWork) -> None:
        """Write the shard of a work with nothing missing, then drop what it was made from."""
        if work.incoming:
            self.write(work)
        for path in work.incoming.values():
            path.unlink()
        work.incoming = {}

    def remove(self, work: ShardWork, failed: Collection[Failed]) -> None:
        """Take stored pictures out of their shard, as failures of their posts."""
        for failure in failed:
            self.note_failure(work, failure)
        self.write(work)

    def write(self, work: ShardWork) -> None:
        """Write a shard of what is there and has not failed; without any picture there is none."""
        path = self.out / "shards" / work.name
        if len(work.stored):
            # Whatever stops us, a manifest that is there fits the shards.
            drop_manifest(self.out)
        work.stored = work.stored[~np.isin(work.stored["post_id"], [*work.failed])]
        if work.num_present:
            write_shard(path, self.examples(work))
            work.stored = read_shard(path, work.table)
        elif path.exists():
            path.unlink()
            files.sync_folder(path.parent)
            work.stored = no_pictures()

    def examples(self, work: ShardWork) -> Iterator[Example]:
        """The shard's examples in plan order, from the shard as it is and from `incoming`."""
        stored = {int(picture["post_id"]): picture for picture in work.stored}
        for post in work.posts:
            post_id = post["post_id"]
            if post_id in work.incoming:
                path = work.incoming[post_id]
                variant = path.name.split(".")[1]
                yield self.example(post, path.read_bytes(), variant)
            elif post_id in stored:
                at = stored[post_id]
                place = int(at["offset"]), int(at["length"])
                jpeg = read_stored(self.out, work.name, *place)
                yield self.example(post, jpeg, at["variant"].decode())

    def example(self, post: Post, jpeg: bytes, variant: str) -> Example:
        """A stored picture with its info: a pure function of the plan's row and the file."""
        width, height = images.picture_size(jpeg)
        info = {
            **described(post, self.names),
            "variant": variant,
            "stored_width": width,
            "stored_height": height,
            "sha256": hashlib.sha256(jpeg).hexdigest(),
        }
        return Example(int(post["post_id"]), jpeg, info)

    def clear(self, any_failed: bool) -> None:
        """Remove what is empty; the list of failures stays where there are some."""
        if not any_failed:
            self.failures.unlink(missing_ok=True)
        for folder in (*self.folder.glob("*/"), self.folder):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def described(post: Post, names: Sequence[str]) -> dict[str, Any]:
    """What the info of a stored picture has from its row of the plan.

    Args:
        post: the row.
        names: of the columns of its labels.
    """
    columns = [int(column) for column in post["labels"]]
    return {
        **{name: int(post[name]) for name in ("post_id", "group", "width", "height")},
        **{name: str(post[name]) for name in ("md5", "rating", "split", "artists")},
        "labels": columns,
        "tags": [names[column] for column in columns],
    }


def is_whole(path: Path) -> bool:
    """Whether a picture was written to its end."""
    content = path.read_bytes()
    try:
        images.picture_size(content)
    except BadPicture:
        return False
    return content.endswith(b"\xff\xd9")
