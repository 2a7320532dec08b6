"""A few threads that work through a stream of jobs; the caller's thread takes the results."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from e6tag.errors import E6TagError
from e6tag.pace import Stopped

Job = TypeVar("Job")
Result = TypeVar("Result")

JOBS_AHEAD = 4
"""Jobs handed out for each thread, so that none waits and memory stays small."""


class Ended:
    """What a thread leaves when it is done, in whatever way."""

    def __init__(self, problem: Exception | None = None):
        self.problem = problem


class Workers(Generic[Job, Result]):
    """Threads that die with the program: Ctrl-C need not wait for a slow answer."""

    def __init__(self, work: Callable[[Job], Result], num_threads: int):
        self.work = work
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.num_threads = num_threads

    def map(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Results in the order in which they are ready.

        Raises:
            E6TagError, OSError: as `work` raised it.
            RuntimeError: a thread ended otherwise (its traceback is on stderr).
        """
        for _ in range(self.num_threads):
            threading.Thread(target=self.run, daemon=True).start()
        waiting = iter(jobs)
        under_way = sum(self.hand_out(waiting) for _ in range(JOBS_AHEAD * self.num_threads))
        try:
            while under_way:
                result = self.results.get()
                if isinstance(result, Ended):
                    raise result.problem or RuntimeError("a fetching thread ended early")
                yield result
                under_way += self.hand_out(waiting) - 1
        finally:
            for _ in range(self.num_threads):
                self.jobs.put(None)

    def hand_out(self, waiting: Iterator[Job]) -> int:
        """Queue the next job; 0 where there is none left, else 1."""
        job = next(waiting, None)
        if job is not None:
            self.jobs.put(job)
        return int(job is not None)

    def run(self) -> None:
        """Work until there is nothing left, or something goes wrong."""
        ended = Ended()
        try:
            while (job := self.jobs.get()) is not None:
                self.results.put(self.work(job))
        except Stopped:
            pass
        except (E6TagError, OSError) as problem:
            ended = Ended(problem)
        finally:
            self.results.put(ended)
