"""Runs a reader's code in a subprocess with limits on time, memory, processes and output, and leaves nothing behind.

It stops accidents: endless loops, forgotten children, floods of output. It is the reader's own code, and this is no
security sandbox; the pages say so.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHILD = Path(__file__).parent / "child.py"
START_SECONDS = (
    120.0  # for loading the checker (it may import torch on a busy machine), before the reader's time begins
)
OUTPUT_BYTES = 20_000  # of the reader's printing that are kept
RESULT_BYTES = 1 << 20
PROCESSES = 32
LOOK_EVERY = 0.05  # seconds between looks at the clock and the memory
MARK = "SHUYUAN_PRACTICE"


@dataclass(frozen=True)
class Limits:
    """What the code may use: wall seconds (CPU seconds are limited alike) and resident memory in bytes."""

    seconds: float
    memory_bytes: int


@dataclass
class Outcome:
    """How it ended.

    Attributes:
        code: passed, hint, or the name of what went wrong (a key of `words.WORDS`).
        facts: what fills the gaps of that sentence.
        output: what the code printed, stdout and stderr together, at most `OUTPUT_BYTES`.
        output_cut: whether it printed more.
    """

    code: str
    facts: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    output_cut: bool = False


def run_limited(answer: str, check: Path, functions: list[str], limits: Limits) -> Outcome:
    """Loads `answer` (source text) in a fresh process and has the question's check.py judge its functions.

    Raises:
        OSError: the process cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="shuyuan-practice-", ignore_cleanup_errors=True) as folder:
        watch = _Watch(Path(folder), limits)
        try:
            watch.begin({"answer": answer, "check": str(check), "functions": functions})
            return watch.until_end()
        finally:
            watch.end()


class _Watch:
    """One subprocess while it runs."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self.token = secrets.token_hex(16)
        self.mark = secrets.token_hex(16)
        self.output = bytearray()
        self.output_cut = False
        self.result = bytearray()
        self.ready = False
        self.done: dict[str, Any] | None = None

    def begin(self, job: dict[str, Any]) -> None:
        self.read_end, write_end = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-X", "utf8", str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_clean_environment(self.folder, self.mark),
                pass_fds=(write_end,),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        job |= {"token": self.token, "pipe": write_end, "cpu_seconds": int(self.limits.seconds) + 1}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(json.dumps(job).encode())
        self.deadline = time.monotonic() + START_SECONDS

    def until_end(self) -> Outcome:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as streams:
            for descriptor in (self.read_end, self.process.stdout.fileno()):
                os.set_blocking(descriptor, False)
                streams.register(descriptor, selectors.EVENT_READ)
            while True:
                ended = self.process.poll() is not None  # asked first, so that nothing said is missed
                self._take_what_came(streams, 0 if ended else LOOK_EVERY)
                stopped = self._verdict(ended)
                if stopped is not None:
                    stopped.output = self.output.decode("utf-8", "replace")
                    stopped.output_cut = self.output_cut
                    return stopped

    def end(self) -> None:
        """Kills whatever is left of the process and its children, and waits for it."""
        if hasattr(self, "process"):
            for _ in range(10):  # a child may be born while the list is read
                family = _family(self.process.pid, self.mark)
                if not family:  # then the number of its group may already be another's
                    break
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                for pid in family:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
        if hasattr(self, "read_end"):
            os.close(self.read_end)

    def _verdict(self, ended: bool) -> Outcome | None:
        """How it ended, or None while it goes on."""
        limits = self.limits
        if self.done is not None:
            code = self.done.pop("code")
            return Outcome(code, self._memory_fact() if code == "memory" else self.done)
        if ended:
            status = self.process.returncode
            if status == -signal.SIGXCPU:
                return Outcome("time", {"seconds": limits.seconds})
            return Outcome("ended", {"status": status})
        if time.monotonic() > self.deadline:
            code, seconds = ("time", limits.seconds) if self.ready else ("start", START_SECONDS)
            return Outcome(code, {"seconds": seconds})
        family = _family(self.process.pid, self.mark)
        if len(family) > PROCESSES:
            return Outcome("processes", {"count": PROCESSES})
        if sum(family.values()) > limits.memory_bytes:
            return Outcome("memory", self._memory_fact())
        return None

    def _memory_fact(self) -> dict[str, Any]:
        return {"memory": f"{self.limits.memory_bytes / 1e9:.2g} GB"}

    def _take_what_came(self, streams: selectors.BaseSelector, wait: float) -> None:
        """Reads for `wait` seconds, and until nothing more stands there once the outcome is known.

        Not only until a pipe is empty: it holds 64 kB, and a look at all processes for each would be what takes the time.
        """
        begun = time.monotonic()
        while events := streams.select(0 if self.done else max(0.0, begun + wait - time.monotonic())):
            for key, _ in events:
                try:
                    piece = os.read(key.fd, 1 << 16)
                except BlockingIOError:
                    continue
                if not piece:
                    streams.unregister(key.fd)
                elif key.fd == self.read_end:
                    self._hear(piece)
                else:
                    room = OUTPUT_BYTES - len(self.output)
                    self.output += piece[: max(0, room)]
                    self.output_cut |= len(piece) > room
            if time.monotonic() - begun > LOOK_EVERY:  # a flood must not keep us from the clock
                break

    def _hear(self, piece: bytes) -> None:
        self.result += piece
        *lines, rest = self.result.split(b"\n")
        self.result = bytearray(rest[-RESULT_BYTES:])
        for line in lines:
            token, _, text = bytes(line).partition(b" ")
            if token.decode("ascii", "replace") != self.token or self.done is not None:
                continue
            with suppress(ValueError):
                said = json.loads(text)
                if said.get("code") == "ready":
                    self.ready = True
                    self.deadline = time.monotonic() + self.limits.seconds
                else:
                    self.done = said


def _clean_environment(folder: Path, mark: str) -> dict[str, str]:
    """Nothing of the reader's environment but where programs are: no keys, no proxies, no Python settings."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(folder))
    return kept | threads | places | {"LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", MARK: mark}


def _family(leader: int, mark: str) -> dict[int, int]:
    """The living processes that the code started, with their resident bytes: of its group, or carrying the mark."""
    proc = Path("/proc")
    if not proc.is_dir():  # macOS: children that left the group are not seen
        table = subprocess.run(
            ["ps", "-A", "-o", "pid=,pgid=,rss="], capture_output=True, text=True, check=True
        ).stdout
        rows = [[int(cell) for cell in row.split()] for row in table.splitlines()]
        return {pid: kilobytes * 1024 for pid, group, kilobytes in rows if group == leader}
    wanted = f"{MARK}={mark}".encode()
    family = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z" and (int(group) == leader or wanted in (entry / "environ").read_bytes()):
                    pages = int((entry / "statm").read_text().split()[1])
                    family[int(entry.name)] = pages * os.sysconf("SC_PAGE_SIZE")
    return family
