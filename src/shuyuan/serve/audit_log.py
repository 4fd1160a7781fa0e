"""Who asked which model when, and what became of it: sealed lines in a chain, with a signed head.

The files are journals of the vault (`vault/journal.py`), numbered from 1. A line is a list of entries: all that were waiting when it
was written. The first entry of a file holds the head of the file before. The signed head (`vault/head.py`) says which file is the
newest and how far it goes, so that nothing can be taken away from the end either.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import filelock

from ..errors import ServeError, VaultError
from ..vault import Problem, disk, write_key_file
from ..vault.head import Head, Signer, first_head
from ..vault.journal import SealedLog
from ..vault.keys import read_secret
from ..vault.seal import HEADER_BYTES, DataKey, Header, Role

FOLDER = "audit"
KEY_FILE = "audit.key"
HEAD_FILE = "audit.head"
ROTATE_BYTES = 16 * 2**20
RECENT = 1000  # entries that are shown to who may read them
_NAME = "audit"
_log = logging.getLogger(__name__)


@dataclass
class _File:
    """The newest file of the log, read to its end."""

    number: int
    log: SealedLog
    head: Head


class AuditLog:
    """The log of a server, which is its only writer.

    Args:
        state: the server's folder.
        key: where the log's key is (env:NAME, file:PATH, …); None: a file in that folder, made if need be. Who has the folder and
            the key can write another history; a key that lies elsewhere keeps them apart.

    Attributes:
        recent: the last entries.

    Raises:
        ServeError: another server writes there.
        VaultError: the log is not as it was left.
    """

    def __init__(self, state: Path, key: str | None = None) -> None:
        self._folder = state / FOLDER
        with disk.writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = filelock.FileLock(state / ".audit.lock", blocking=False)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise ServeError(
                "serve.state-in-use",
                "Another server uses this state.",
                where=str(state),
                mend="Stop it, or name another folder with --state.",
            ) from None
        try:
            self._secret = _secret(state, key, create=True)
            self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
            self._file = self._open()
        except BaseException:
            self._lock.release()
            raise
        self._waiting: queue.SimpleQueue[tuple[dict[str, Any], asyncio.Future[None] | None] | None] = (
            queue.SimpleQueue()
        )
        self.failed = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def add(self, entry: dict[str, Any]) -> None:
        """Writes an entry soon; times are added here."""
        self._waiting.put(({"time": round(time.time(), 3), **entry}, None))

    def check(self) -> None:
        """Refuses to go on once an entry could not be written: nothing is answered that is not noted.

        Raises:
            ServeError: it could not.
        """
        if self.failed:
            raise _unwritten()

    async def settled(self) -> None:
        """Returns when all that was added until now is on disk.

        Raises:
            ServeError: it cannot be written.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(({}, done))
        await done

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._waiting.put(None)
        self._thread.join()
        self._lock.release()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            there = [each for each in batch if each is not None]
            entries = [entry for entry, _ in there if entry]
            if entries:
                self._try(partial(self._write, entries))
            for _, done in there:
                if done is not None:
                    done.get_loop().call_soon_threadsafe(_settle, done, self.failed)
            if entries and not self.failed:  # nobody waits for the head: it may be one line behind
                self._try(partial(self._sign, self._file))
            if None in batch:
                return

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            _log.error("the audit log cannot be written: %s", type(error).__name__)
            self.failed = True

    def _write(self, entries: list[dict[str, Any]]) -> None:
        if self._file.log.path.stat().st_size > ROTATE_BYTES:
            self._file = self._begin(self._file.number + 1, self._file.head.digest.hex())
        line = self._file.log.append(json.dumps(entries).encode())
        self._file.head = self._file.head.after(line)
        self.recent.extend(entries)

    def _sign(self, file: _File) -> None:
        Signer(_key(self._secret, file.number)).write(self._folder / HEAD_FILE, file.head)

    def _open(self) -> _File:
        numbers = _numbers(self._folder)
        signed = _signed(self._folder, self._secret, numbers)
        if not numbers:
            return self._begin(1, "")
        number = numbers[-1]
        path = self._folder / _file_name(number)
        if signed is not None and signed[0] < number and path.stat().st_size < HEADER_BYTES:
            path.unlink()  # a crash while it was made
            return self._begin(number, signed[1].digest.hex())
        log = _opened(path, self._secret, number)
        head = first_head(_header_of(path))
        for content, line in log.lines():
            head = head.after(line)
            self.recent.extend(json.loads(content))
        _hold_against(path, number, head, signed)
        file = _File(number, log, head)
        self._sign(file)
        return file

    def _begin(self, number: int, before: str) -> _File:
        key = _key(self._secret, number)
        header = Header(Role.JOURNAL, key.run, number, 1)
        log = SealedLog(self._folder / _file_name(number), key, header, _NAME)
        log.create(
            json.dumps([{"event": "log.begin", "time": round(time.time(), 3), "before": before}]).encode()
        )
        # The line is read again as it lies on disk, since the head is taken over that.
        ((_, line),) = log.lines()
        file = _File(number, log, first_head(header.pack()).after(line))
        self._sign(file)
        return file


def is_state(path: Path) -> bool:
    """Whether a folder is the state of a server.

    Args:
        path: any.
    """
    return (path / FOLDER).is_dir() or (path / "server.sqlite3").is_file()


def verify(state: Path, key: str | None = None, expect: str | None = None) -> dict[str, Any]:
    """Checks every line of the log.

    Args:
        state: the server's folder.
        key: where the log's key is, if not in that folder.
        expect: a head noted earlier, which the log must have gone through.

    Returns:
        What `shuyuan verify` prints: {ok, problems, epsilon_recomputed, head}.
    """
    problems: list[Problem] = []
    heads: list[str] = []
    try:
        heads += [digest for digest, _ in _replayed(state / FOLDER, _secret(state, key, create=False))]
    except VaultError as error:
        problems.append(Problem(Path(error.where or FOLDER).name, error.what))
    if not heads and not problems:
        problems.append(Problem(FOLDER, "there is no log"))
    if expect is not None and expect.strip().lower() not in heads:
        what = "the expected head is not in its history: it is an older state, or another log"
        problems.append(Problem(FOLDER, what))
    return {
        "ok": not problems,
        "problems": [{"file": each.file, "what": each.what} for each in problems],
        "epsilon_recomputed": None,
        "head": heads[-1] if heads else None,
    }


def entries_of(state: Path, key: str | None = None) -> Iterator[dict[str, Any]]:
    """Every entry, the oldest first, read while they are asked for.

    Args:
        state: the server's folder.
        key: where the log's key is, if not in that folder.

    Raises:
        ServeError: there is no log.
        VaultError: it is not as it was written, or there is no key; of an end that is gone this is said behind the last entry.
    """
    if not _numbers(state / FOLDER):
        raise ServeError(
            "serve.no-audit-log",
            "There is no audit log here.",
            where=str(state),
            mend="Name the folder that the server was started with: --state FOLDER.",
        )
    for _, entries in _replayed(state / FOLDER, _secret(state, key, create=False)):
        yield from entries


def _replayed(folder: Path, secret: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(head, entries) of every line, which are held against the signed head at the end. A server may be at work meanwhile."""
    numbers, signed = _listed(folder, secret)
    before, number, head, path = "", 0, None, folder
    for expected, number in enumerate(numbers, 1):
        path = folder / _file_name(expected)
        if number != expected:
            raise _broken(path, "the file is gone")
        head = first_head(_header_of(path))
        for content, line in _opened(path, secret, number).lines():
            entries = json.loads(content)
            if head.count == 0 and entries[0].get("before") != before:
                raise _broken(path, "it does not follow the file before it")
            head = head.after(line)
            yield head.digest.hex(), entries
        before = head.digest.hex()
    if head is not None and not _signed_since(folder, secret, number, head, signed):
        _hold_against(path, number, head, signed)


def _listed(folder: Path, secret: bytes) -> tuple[list[int], tuple[int, Head] | None]:
    """The numbers of the files, and what the signed head says; looked at again where a server changed one of them in between."""
    path = folder / HEAD_FILE
    while True:
        numbers, content = _numbers(folder), path.read_bytes() if path.exists() else None
        try:
            return numbers, _signed(folder, secret, numbers)
        except VaultError:
            if (_numbers(folder), path.read_bytes() if path.exists() else None) == (numbers, content):
                raise


def _signed_since(
    folder: Path, secret: bytes, number: int, head: Head, before: tuple[int, Head] | None
) -> bool:
    """Whether a server has signed what was read, or more, since the signed head was looked at `before`."""
    _, now = _listed(folder, secret)
    if now is None or now == before:
        return False
    if before is not None and (before[0], before[1].count) > (number, head.count):
        return False  # what was signed before was not there to be read
    if now[0] == number and now[1].count == head.count:
        return now[1] == head
    return now[0] > number or (now[0] == number and now[1].count >= head.count - 1)


def _signed(folder: Path, secret: bytes, numbers: list[int]) -> tuple[int, Head] | None:
    """Which file the signed head speaks of, and what it says; None if there is no head.

    Raises:
        VaultError: it speaks of none that there is.
    """
    newest = numbers[-1] if numbers else 1
    path = folder / HEAD_FILE
    for number in (newest, newest - 1):
        with suppress(VaultError):
            head = Signer(_key(secret, number)).read(path)
            if head is not None and not numbers:
                break
            return None if head is None else (number, head)
    raise _broken(
        path, "it signs none of the files that there are: the newest are gone, or the key is another"
    )


def _hold_against(path: Path, number: int, head: Head, signed: tuple[int, Head] | None) -> None:
    """Compares what was read with what was signed. A crash leaves one line more than was signed, or a file with one line.

    Raises:
        VaultError: they differ by more.
    """
    before = (number - 1, Head(head.count, b"")) if signed is None else signed
    if before[0] == number - 1 and head.count <= 1 and (signed is not None or number == 1):
        return
    if before[0] != number or signed is None:
        raise _broken(path, "its signed head is gone or older")
    if head.count < before[1].count:
        raise _broken(path, f"{before[1].count - head.count} lines at its end are gone")
    if head.count > before[1].count + 1 or (head.count == before[1].count and head != before[1]):
        raise _broken(path, "its signed head is older, or of another log")


def _broken(path: Path, what: str) -> VaultError:
    return VaultError(
        "serve.audit-broken",
        f"The audit log is not as it was left: {what}.",
        where=str(path),
        mend="Look at it with `shuyuan verify`, and restore it from a copy or move it away.",
    )


def _secret(state: Path, key: str | None, *, create: bool) -> bytes:
    """The 32 bytes that seal and sign."""
    own = state / KEY_FILE
    if key is None and create and not own.exists():
        if _numbers(state / FOLDER):
            raise VaultError(
                "serve.no-audit-key",
                "The key of the audit log is gone.",
                where=str(own),
                mend="Restore it, name it with --audit-key, or move the log away to begin another.",
            )
        write_key_file(own)
    secret = read_secret(key or f"file:{own}")
    return secret.value if secret.kind == "key" else hashlib.sha256(secret.value).digest()


def _key(secret: bytes, number: int) -> DataKey:
    return DataKey(hashlib.sha256(b"shuyuan/1/audit\0" + secret).digest()[:16], number, secret)


def _opened(path: Path, secret: bytes, number: int) -> SealedLog:
    key = _key(secret, number)
    header = Header.unpack(_header_of(path))
    if header is None or (header.role, header.run, header.epoch) != (Role.JOURNAL, key.run, number):
        raise VaultError(
            "serve.other-audit-log",
            "It does not begin as a file of this log does, or its key is another.",
            where=str(path),
            mend="Name the right key with --audit-key, or restore it from a copy.",
        )
    return SealedLog(path, key, header, _NAME)


def _header_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def _file_name(number: int) -> str:
    return f"audit-{number:05d}.log"


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _numbers(folder: Path) -> list[int]:
    return sorted(_number(path) for path in folder.glob("audit-[0-9]*.log"))


def _settle(done: asyncio.Future[None], failed: bool) -> None:
    if not done.done():
        if failed:
            done.set_exception(_unwritten())
        else:
            done.set_result(None)


def _unwritten() -> ServeError:
    return ServeError(
        "serve.no-audit",
        "The audit log cannot be written, and nothing is answered that does not stand in it.",
        status=500,
        mend="Whoever runs the server can see why; it is to be started again then.",
    )
