"""Shards -> augmented batches, in an order that is a pure function of (seed, epoch, step).

Nothing here keeps state between batches: epoch 3, step 17 is the same batch whether the
run came there in one go or after ten restarts.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from e6tag import images, shards
from e6tag.augmentation import Augmentation, augment, is_directional
from e6tag.errors import DataError
from e6tag.images import BadPicture
from e6tag.mixing import mix
from e6tag.repeats import draw_copies, occurrences, picture_factors, steady_length

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""pictures (batch, size, size, 3) of 0..255, labels (batch, tags) of 0 and 1"""


class Batches:
    """The batches of one split, for any epoch and step.

    Pictures that fail to decode are counted in `failures`; a training batch repeats another
    of its examples in their place, validation goes without them.
    """

    def __init__(
        self,
        dataset: shards.Dataset,
        split: str,
        image_size: int,
        batch_size: int,
        *,
        augmentation: Augmentation | None = None,
        repeat_factor: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.dataset, self.image_size, self.batch_size = dataset, image_size, batch_size
        rows = dataset.split(split)
        self.post_ids = rows["post_id"].tolist()
        self.places = list(zip(rows["shard"], rows["offset"], rows["length"], strict=True))
        self.labels = shards.label_matrix(rows["labels"], len(dataset.vocabulary))
        self.augmentation, self.seed = augmentation, seed
        directional = np.array([is_directional(name) for name in dataset.vocabulary.names], bool)
        self.flippable: NDArray[np.bool_] = self.labels[:, directional].sum(axis=1) == 0
        self.failures: dict[int, str] = {}
        self.factors = picture_factors(self.labels, repeat_factor) if repeat_factor else None
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        """Examples of the split."""
        return len(self.post_ids)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass; a last short one is left out, others are in its next pass."""
        length = len(self) if self.factors is None else steady_length(self.factors)
        return max(1, length // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows in the order of this epoch (the last one asked for is remembered)."""
        # Threads may be at the end of one epoch and at the start of the next.
        remembered, rows = self._order
        if remembered != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            taken = len(self) if self.factors is None else draw_copies(self.factors, rng)
            rows = rng.permutation(taken)
            self._order = (epoch, rows)
        return rows

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Rows of the batch that training step `step` takes (steps count over all epochs)."""
        return self.examples_of(step)[0]

    def examples_of(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a training step, and how often each came in the epoch before (0, 1, ...)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order, start = self.order(epoch), position * self.batch_size
        rows = order[start : start + self.batch_size]
        if self.factors is None:
            return rows, np.zeros_like(rows)
        return rows, occurrences(order, start, len(rows))

    def training_batch(self, step: int) -> Batch:
        """The augmented batch of a training step; full even where pictures fail to decode."""
        epoch = step // self.steps_per_epoch
        rows, copies = self.examples_of(step)
        good, pictures = self.readable(
            rows, lambda i: self.augmented(int(rows[i]), epoch, int(copies[i]))
        )
        if not good:
            raise DataError(
                f"none of the {len(rows)} pictures of step {step} can be read "
                f"({next(iter(self.failures.values()))}). Run download.py again."
            )
        # In place of those that cannot be read, others of the batch come again, in order.
        filled = [i % len(good) for i in range(len(rows))]
        batch = np.stack([pictures[i] for i in filled]), self.label_rows([good[i] for i in filled])
        change = self.augmentation or Augmentation()
        return mix(*batch, change.mixup, change.cutmix, [self.seed, step])

    def plain_batch(self, start: int) -> Batch:
        """Examples from `start` on, in stored order and unchanged; unreadable ones left out."""
        rows = np.arange(start, min(start + self.batch_size, len(self)))
        good, pictures = self.readable(
            rows, lambda i: images.read_square(self.stored(int(rows[i])), self.image_size)
        )
        empty = np.zeros((0, self.image_size, self.image_size, 3), np.uint8)
        return np.stack(pictures) if good else empty, self.label_rows(good)

    def readable(
        self, rows: NDArray[np.int64], read: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[list[int], list[NDArray[np.uint8]]]:
        """Rows whose place in `rows` `read` could read, and what it read; notes `failures`."""
        good, pictures = [], []
        for i, row in enumerate(rows.tolist()):
            try:
                pictures.append(read(i))
                good.append(row)
            except (BadPicture, DataError) as problem:
                self.failures[self.post_ids[row]] = str(problem)
        return good, pictures

    def label_rows(self, rows: list[int]) -> NDArray[np.float32]:
        """Labels of these rows, as the model takes them."""
        return self.labels[np.array(rows, np.int64)].astype(np.float32)

    def stored(self, row: int) -> bytes:
        """The stored file of a row."""
        shard, offset, length = self.places[row]
        return shards.read_stored(self.dataset.path, shard, int(offset), int(length))

    def augmented(self, row: int, epoch: int, copy: int = 0) -> NDArray[np.uint8]:
        """One training example; the randomness is a function of (seed, epoch, post, copy)."""
        image = images.decode(self.stored(row))
        if self.augmentation is not None:
            key = [self.seed, epoch, self.post_ids[row], *([copy] if copy else [])]
            rng = np.random.default_rng(key)
            image = augment(image, self.augmentation, bool(self.flippable[row]), rng)
        return images.letterbox(image, self.image_size)

    def training(
        self, first_step: int, last_step: int, workers: int
    ) -> Generator[Batch, None, None]:
        """Batches of the steps [first_step, last_step), decoded ahead by `workers` threads."""
        return ahead(self.training_batch, range(first_step, last_step), workers)

    def plain(self, workers: int) -> Generator[Batch, None, None]:
        """The whole split once, decoded ahead."""
        return ahead(self.plain_batch, range(0, len(self), self.batch_size), workers)


def ahead(
    make: Callable[[int], Batch], arguments: Iterable[int], workers: int
) -> Generator[Batch, None, None]:
    """`make(argument)` for each argument, in order, computed a few ahead by threads."""
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="batches")
    waiting: deque[Future[Batch]] = deque()
    try:
        for argument in arguments:
            waiting.append(pool.submit(make, argument))
            if len(waiting) > workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
