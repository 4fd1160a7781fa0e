"""What happens beside the steps, on one other thread: the next batch is read, and lines are logged.

Neither changes the result: batches are a pure function of the step, and the log only listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from ..vault import Journal
from .backend import Batch


class Background:
    """One worker thread; use as a context manager.

    Args:
        sample: the batch of a step.
        steps: the last step, beyond which nothing is read ahead.
        journal: where events go.

    Attributes:
        waited_seconds: how long steps had to wait for their batches.
    """

    def __init__(self, sample: Callable[[int], Batch], steps: int, journal: Journal) -> None:
        self._sample = sample
        self._steps = steps
        self._journal = journal
        self._worker = ThreadPoolExecutor(1, "train")
        self._next: tuple[int, Future[Batch]] | None = None
        self._lines: list[Future[None]] = []
        self.waited_seconds = 0.0

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(wait=True)
        if error is None:
            self.flush()

    def batch(self, step: int) -> Batch:
        """The batch of a step, read ahead if it was the next one; the one after it is then begun."""
        begun = time.perf_counter()
        ready = self._next
        self._next = None
        batch = ready[1].result() if ready and ready[0] == step else self._sample(step)
        self.waited_seconds += time.perf_counter() - begun
        if step < self._steps:
            self._next = (step + 1, self._worker.submit(self._sample, step + 1))
        return batch

    def log(self, event: str, **figures: Any) -> None:
        """Adds a line to the log soon; `flush` waits for it. Each line is synced to disk, which a step need not wait for."""
        entry = {"event": event, "time": round(time.time(), 3), **figures}
        self._lines.append(self._worker.submit(self._journal.append, entry))

    def flush(self) -> None:
        """Waits until every line is on disk; raises what went wrong in writing them."""
        lines, self._lines = self._lines, []
        for line in lines:
            line.result()
