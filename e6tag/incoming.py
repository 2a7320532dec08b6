"""The part of a download that has no shard yet: finished pictures, and what failed.

incoming/<split>/<post_id>.<variant>.jpg   finished or absent, until their shard is written
incoming/failures.jsonl                    one object per failure; the last one of a post counts
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from e6tag import images
from e6tag.errors import DataError
from e6tag.images import BadPicture
from e6tag.obtaining import Failed, Obtained
from e6tag.shards import (
    EXAMPLES_PER_SHARD,
    Example,
    StoredExample,
    read_manifest,
    read_shard_index,
    read_stored,
    write_shard,
)
from e6tag.tags import Vocabulary

KEPT = {"stored_width", "stored_height", "sha256", "variant"}
Post = Mapping[str, Any]
"""a row of the plan"""


@dataclass
class ShardWork:
    """One shard: the posts it is planned to hold, and how far it has come."""

    name: str
    split: str
    posts: Sequence[Post]
    stored: dict[int, StoredExample] = field(default_factory=dict)
    """in the shard as it is on disk"""
    incoming: dict[int, Path] = field(default_factory=dict)
    """finished pictures that are not in it yet"""
    failed: dict[int, Failed] = field(default_factory=dict)

    @property
    def missing(self) -> list[Post]:
        """Posts that nothing is known of yet, in plan order."""
        known = self.stored.keys() | self.incoming.keys() | self.failed.keys()
        return [post for post in self.posts if post["post_id"] not in known]

    @property
    def num_present(self) -> int:
        """Pictures that are there."""
        return len(self.stored) + len(self.incoming)


class Incoming:
    """The folder `incoming` of a data folder, and the shards that are made from it."""

    def __init__(self, out: Path, vocabulary: Vocabulary):
        self.out = out
        self.folder = out / "incoming"
        self.failures = self.folder / "failures.jsonl"
        self.names = vocabulary.names

    def works(self, plan: pd.DataFrame, retry_failed: bool) -> list[ShardWork]:
        """Every planned shard with what is there of it.

        Args:
            plan: the planned posts.
            retry_failed: forget permanent failures; transient ones are always forgotten.

        Raises:
            DataError: a shard that is there is damaged, or of another plan.
        """
        known = {} if retry_failed else {f.post_id: f for f in self.read_failures() if f.permanent}
        works, pictures = plan_shards(plan), self.list_pictures()
        for work in works:
            path = self.out / "shards" / work.name
            if path.exists():
                work.stored = read_stored_examples(path, work.posts)
            self.find_incoming(work, pictures)
            present = work.stored.keys() | work.incoming.keys()
            ids = [post["post_id"] for post in work.posts]
            work.failed = {i: known[i] for i in ids if i in known and i not in present}
        return works

    def is_complete(self, works: Iterable[ShardWork]) -> bool:
        """Whether an earlier run has done everything, and its manifest can still be read."""
        try:
            read_manifest(self.out)
        except DataError:
            return False
        return not any(work.missing or work.incoming for work in works)

    def find_incoming(self, work: ShardWork, pictures: Mapping[int, Sequence[Path]]) -> None:
        """Take over finished pictures of an earlier run; drop what is not needed any more."""
        for post in work.posts:
            post_id = post["post_id"]
            for path in pictures.get(post_id, ()):
                if post_id in work.stored or post_id in work.incoming or not is_whole(path):
                    path.unlink()
                else:
                    work.incoming[post_id] = path

    def list_pictures(self) -> dict[int, list[Path]]:
        """Pictures in the folder by post; what a crash left half-written is removed."""
        found: dict[int, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.glob("*/*")):
            if path.suffix == ".jpg":
                found[int(path.name.partition(".")[0])].append(path)
            else:
                path.unlink()
        return found

    def keep(self, work: ShardWork, obtained: Obtained) -> None:
        """Write a picture, finished or absent.

        It is not synced: after a crash of the machine `is_whole` tells what got lost.
        """
        path = self.folder / work.split / f"{obtained.post_id}.{obtained.variant}.jpg"
        part = path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(obtained.jpeg)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        work.incoming[obtained.post_id] = path

    def note_failure(self, work: ShardWork, failed: Failed) -> None:
        """Append a failure to the list."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.failures.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(failed), ensure_ascii=False) + "\n")
        work.failed[failed.post_id] = failed

    def read_failures(self) -> Iterator[Failed]:
        """Failures of earlier runs; a line that was cut short is passed over."""
        if not self.failures.exists():
            return
        content = self.failures.read_text(encoding="utf-8", errors="replace")
        for line in content.splitlines():
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
            write_shard(self.out / "shards" / work.name, self.examples(work))
            work.stored = read_stored_examples(self.out / "shards" / work.name, work.posts)
        for path in work.incoming.values():
            path.unlink()
        work.incoming = {}

    def examples(self, work: ShardWork) -> Iterator[Example]:
        """The shard's examples in plan order, from the shard as it is and from `incoming`."""
        for post in work.posts:
            post_id = post["post_id"]
            if post_id in work.incoming:
                path = work.incoming[post_id]
                variant = path.name.split(".")[1]
                yield self.example(post, path.read_bytes(), variant)
            elif post_id in work.stored:
                at = work.stored[post_id]
                jpeg = read_stored(self.out, work.name, at.offset, at.length)
                yield self.example(post, jpeg, at.info["variant"])

    def example(self, post: Post, jpeg: bytes, variant: str) -> Example:
        """A stored picture with its info: a pure function of the plan's row and the file."""
        width, height = images.picture_size(jpeg)
        columns = [int(column) for column in post["labels"]]
        info = {
            **{name: int(post[name]) for name in ("post_id", "group", "width", "height")},
            **{name: str(post[name]) for name in ("md5", "rating", "split", "artists")},
            "labels": columns,
            "tags": [self.names[column] for column in columns],
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


def plan_shards(plan: pd.DataFrame) -> list[ShardWork]:
    """Cut each split into shards, in plan order."""
    works = []
    for split, rows in plan.groupby("split", sort=False):
        posts: list[Any] = rows.to_dict("records")
        for number, start in enumerate(range(0, len(posts), EXAMPLES_PER_SHARD)):
            name = f"{split}-{number:05d}.tar"
            works.append(ShardWork(name, str(split), posts[start : start + EXAMPLES_PER_SHARD]))
    return works


def read_stored_examples(path: Path, posts: Iterable[Post]) -> dict[int, StoredExample]:
    """What a shard holds, by post.

    Raises:
        DataError: it is damaged, or holds other posts than planned, or in another order.
    """
    found = {example.post_id: example for example in read_shard_index(path)}
    planned = [post for post in posts if post["post_id"] in found]
    stated = [(example.post_id, example.info.get("md5")) for example in found.values()]
    complete = all(example.info.keys() >= KEPT for example in found.values())
    if not complete or stated != [(post["post_id"], post["md5"]) for post in planned]:
        raise DataError(
            f"{path} is not of this plan. Move it away and run the same command again, "
            "or name another folder with --out."
        )
    return {post_id: without_labels(example) for post_id, example in found.items()}


def without_labels(example: StoredExample) -> StoredExample:
    """What the manifest needs of an example, so that memory does not grow with all its tags."""
    return replace(example, info={name: example.info[name] for name in KEPT})


def is_whole(path: Path) -> bool:
    """Whether a picture was written to its end."""
    content = path.read_bytes()
    try:
        images.picture_size(content)
    except BadPicture:
        return False
    return content.endswith(b"\xff\xd9")
