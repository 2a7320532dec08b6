"""Learning curves as TensorBoard reads them: `tensorboard --logdir RUN/tensorboard`.

An event file is a TFRecord file of `Event` messages.  `tf.summary` can only append, so what a
killed run had written after its last checkpoint would stay, and the resumed run would draw it a
second time; here a resumed run first writes anew what lies before its step.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from e6tag.files import make_folder, naming

PATTERN = "events.out.tfevents.*.e6tag"
"""Names of ours; TensorBoard reads every file with `tfevents` in its name, in their order."""
VERSION = "brain.Event:2"
"""what the first record of every event file says"""
PART = "unfinished.part"


class EventFiles:
    """The curves of a run while it writes them.

    Args:
        folder: of the event files.
        step: of the checkpoint that the run goes on from; points after it are dropped.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int):
        make_folder(folder)
        old = sorted(folder.glob(PATTERN))
        self.path, part = folder / new_name(old), folder / PART
        with self.refusals():
            self.writer = tf.io.TFRecordWriter(str(part))
            self.writer.write(event(0, file_version=VERSION).SerializeToString())
            # Whatever else is there is an older one, which a kill kept from being removed.
            for record in kept_records(old[-1], step) if old else ():
                self.writer.write(record)
            self.writer.flush()
            # A file with such a name is whole; the writer goes on with it.
            part.replace(self.path)
        for path in old:
            path.unlink()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each named curve, at a training step."""
        points = [tf.compat.v1.Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        record = event(step, summary=tf.compat.v1.Summary(value=points)).SerializeToString()
        with self.refusals():
            self.writer.write(record)

    def flush(self) -> None:
        """Give what was added to the system: due before a checkpoint says that it was."""
        with self.refusals():
            self.writer.flush()

    def close(self) -> None:
        """Finish the file."""
        with self.refusals():
            self.writer.close()

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """TensorFlow's errors of files as the system's, with the file's name."""
        with naming(self.path):
            try:
                yield
            except tf.errors.OpError as problem:
                raise OSError(number_of(problem.message), problem.message) from None


def new_name(old: list[Path]) -> str:
    """A name after those of the old files, in the order of names."""
    last = max((int(path.name.split(".")[3]) for path in old), default=0)
    return f"events.out.tfevents.{max(int(time.time()), last + 1):010d}.e6tag"


def event(step: int, **what: Any) -> Any:
    """A message of now."""
    return tf.compat.v1.Event(wall_time=time.time(), step=step, **what)


def kept_records(path: Path, last_step: int) -> Iterator[bytes]:
    """Records of the points up to `last_step`, as they are; a file may end within a record."""
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            message = tf.compat.v1.Event.FromString(record)
            if message.step <= last_step and message.HasField("summary"):
                yield record


def number_of(message: str) -> int:
    """The system's error number in TensorFlow's words; EIO where there is none that is known."""
    known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
    return next((n for n in known if os.strerror(n) in message), errno.EIO)
