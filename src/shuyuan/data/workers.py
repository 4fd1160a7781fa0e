"""Processes beside this one that share the work on the contents of records: what comes out is the same for any number of them.

This process alone reads the source, knows the vault's key, and writes. A worker is told by a pipe what to do and with which contents,
answers by another, and ends when they close, so that it cannot outlive this process however that ends. It opens no file of the run,
finds no key in its arguments or environment, and knows no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, TypeVar, cast

from .. import errors
from ..errors import MachineError, ShuyuanError
from ..hardware import detect
from .wire import receive, send
from .work import Answer, Work

Tag = TypeVar("Tag")

MOST = 8  # one process reads for all of them, and more would wait for it
ALONE_CHARS = 4_000_000  # are done here before workers are started, which takes each of them half a second; docs/lab-notes.md
_AHEAD = 2  # batches that wait for each worker

# Isolated, so that no file of the current folder and no variable of the environment can take a module's place.
_COMMAND = "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); from shuyuan.data.worker import serve; serve()"
# The cores are shared out by processes already, so a worker has one thread. No other variable is handed down: one may hold a key.
_ONE_THREAD = dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_HANDED_DOWN = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
)


class Workers:
    """Some processes, started once it pays; use as a context manager, whose end ends them.

    Args:
        count: how many; 1: all is done in this process; None: one for each core, at most MOST.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count
        self._alone_chars = 0
        self._processes: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.end()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def map(
        self, work: Work[Answer], batches: Iterable[tuple[Tag, list[str]]]
    ) -> Iterator[tuple[Tag, Answer]]:
        """What comes of each batch, in order; a few batches ahead of those that were asked for are read.

        Args:
            work: what to do.
            batches: (anything, contents of some records).

        Yields:
            (the same, what comes of these contents).

        Raises:
            ShuyuanError: as the work raises it in this process.
            MachineError: a worker has ended.
        """
        ahead: deque[tuple[Tag, Future[Answer]]] = deque()
        for tag, contents in batches:
            ahead.append((tag, self._begun(work, contents)))
            while ahead and len(ahead) > _AHEAD * len(self._processes):
                yield ahead[0][0], ahead.popleft()[1].result()
        while ahead:
            yield ahead[0][0], ahead.popleft()[1].result()

    def _begun(self, work: Work[Answer], contents: list[str]) -> Future[Answer]:
        if work.pays and self._alone_chars >= ALONE_CHARS and self._start():
            assert self._threads is not None
            return self._threads.submit(self._asked, work, contents)
        done: Future[Answer] = Future()
        done.set_result(work(contents))
        if work.pays:
            self._alone_chars += sum(map(len, contents))
        return done

    def _start(self) -> bool:
        """Whether there are workers, which are started the first time."""
        if self._count is None:
            self._count = min(detect().cores, MOST)
        if self._count == 1 or not sys.executable:
            return False
        while len(self._processes) < self._count:
            self._processes.append(_Process())
            self._idle.put(self._processes[-1])
        self._threads = self._threads or ThreadPoolExecutor(self._count, "prepare")
        return True

    def _asked(self, work: Work[Answer], contents: list[str]) -> Answer:
        process = self._idle.get()
        try:
            return process.ask(work, contents)
        finally:
            self._idle.put(process)


class _Process:
    """One worker."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _HANDED_DOWN if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what goes wrong is told by the pipe, in words that quote no record
            env=environment | _ONE_THREAD,
        )
        self._to, self._from = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        self._work: Work[Any] | None = None

    def ask(self, work: Work[Answer], contents: list[str]) -> Answer:
        """What the worker makes of some contents."""
        try:
            if self._work is None:
                self._to.write(json.dumps(sys.path).encode() + b"\n")
            if self._work is not work:
                send(self._to, {"work": type(work).__name__, "settings": work.settings()})
                self._work = work
            send(self._to, {"contents": contents})
            answer = receive(self._from)
        except (EOFError, OSError, ValueError):
            raise MachineError(
                "machine.worker-lost",
                "A process that helps with preparation has ended before its work was done.",
                mend="The likeliest reason is that the memory is full: close other programs and run again; what was whole is still whole.",
            ) from None
        if "error" in answer:
            raise _rebuilt(answer["error"])
        return cast("Answer", work.answer(**answer))

    def end(self) -> None:
        """Ends the worker at once: it holds nothing that could be lost."""
        self._process.kill()
        self._process.wait()
        for stream in (self._to, self._from):
            with suppress(OSError):
                stream.close()


def _rebuilt(told: dict[str, Any]) -> BaseException:
    if told["kind"] == MemoryError.__name__:
        return MemoryError()
    kind: type[ShuyuanError] = getattr(errors, told["kind"])
    return kind(told["code"], told["what"], where=told["where"], mend=told["mend"])
