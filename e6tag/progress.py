"""Progress on stderr: a bar with rate and ETA on a terminal, a line a minute otherwise."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 60.0
WITHOUT_ESTIMATE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"


class Progress:
    """Counts work done and shows it; also a context manager.

    It tells how long the rest takes at the present rate, unless `estimates` is off: then `notes`
    may, of work whose parts are known to differ.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str = "",
        done: int = 0,
        quiet: bool = False,
        estimates: bool = True,
    ):
        self.estimates = estimates
        self.label, self.total, self.unit = label, total, unit
        self.first, self.done = done, done
        self.notes = ""
        self.start = self.last_line = time.monotonic()
        self.quiet = quiet
        self.bar = (
            tqdm(
                total=total or None,
                initial=done,
                desc=label,
                unit=unit or "it",
                dynamic_ncols=True,
                bar_format=None if estimates else WITHOUT_ESTIMATE,
            )
            if sys.stderr.isatty() and not quiet
            else None
        )

    def update(self, count: int = 1, notes: str = "") -> None:
        """Add `count` to the work done; `notes` replaces the text at the end of the line."""
        self.done += count
        self.notes = notes or self.notes
        if self.bar is not None:
            if notes:
                self.bar.set_postfix_str(notes, refresh=False)
            self.bar.update(count)
        elif not self.quiet and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.print_line()

    def print_line(self) -> None:
        """One line with what is done, the rate and the time left, where an end is known."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        rate = (self.done - self.first) / seconds
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        left_text = f"{left:.0f} s left" if left != float("inf") else "no rate yet"
        of_total = f"/{self.total}" if self.total else ""
        notes = f", {self.notes}" if self.notes else ""
        sys.stderr.write(
            f"{self.label}: {self.done}{of_total} {self.unit}, {rate:.3g}/s"
            f"{f', {left_text}' if self.total and self.estimates else ''}{notes}\n"
        )
        sys.stderr.flush()

    def close(self) -> None:
        """Finish the bar."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def track(items: Iterable[Item], label: str, total: int, *, quiet: bool = False) -> Iterator[Item]:
    """Yield the items, counting them."""
    with Progress(label, total, quiet=quiet) as progress:
        for item in items:
            yield item
            progress.update()
