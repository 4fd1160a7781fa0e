"""Compiles forward.c for this processor, once, and loads it.

The compiler is the machine's own. What it makes is kept in the user's cache folder under a name that says source, compiler, flags
and processor; it holds no weights and nothing of any record.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ... import hardware
from ...errors import reason

SOURCE = Path(__file__).with_name("forward.c")
# Warnings of vectors that are passed between files do not concern one file.
FLAGS = (
    "-std=gnu11", "-O3", "-march=native", "-fopenmp", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-shared", "-fPIC",
)  # fmt: skip
COMPILERS = ("gcc", "cc", "clang")
SECONDS = 120


class NotCompiledError(Exception):
    """The kernels cannot be had here; the text says why."""


@cache
def library() -> ctypes.CDLL:
    """The compiled forward pass.

    Raises:
        NotCompiledError: there is no compiler, or what it makes does not load.
    """
    folder = hardware.cache_folder() / "compiled"
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise NotCompiledError("there is no C compiler (gcc or clang)")
    target = folder / f"forward-{_key(compiler)}.so"
    if not _is_ours(target):
        _compile(compiler, target)
    try:
        with _short_waits():
            return ctypes.CDLL(str(target))
    except OSError as error:
        raise NotCompiledError(f"what {compiler} made does not load ({str(error)[:200]})") from None


@contextmanager
def _short_waits() -> Iterator[None]:
    """Threads wait busily for each other, since steps are short; but not for long, or on a busy machine each would wait in vain
    for one that is not running. libgomp reads it when it is loaded."""
    name = "GOMP_SPINCOUNT"
    if name in os.environ:
        yield
        return
    os.environ[name] = "10000"
    try:
        yield
    finally:
        del os.environ[name]


def _key(compiler: str) -> str:
    facts = hardware.detect()
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    parts = (
        SOURCE.read_text(),
        compiler,
        version.stdout,
        *FLAGS,
        platform.machine(),
        facts.name,
        *facts.features,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _is_ours(target: Path) -> bool:
    """Whether the file is there, and nobody else could have put it there: it will run in this process."""
    if not target.is_file() or target.is_symlink():
        return False
    return all(
        found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for found in (target.stat(), target.parent.stat())
    )


def _compile(compiler: str, target: Path) -> None:
    """Writes beside and renames, so that two processes at once do no harm."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.chmod(0o700)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder, "forward.so")
            command = [compiler, *FLAGS, "-o", str(made), str(SOURCE), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            if done.returncode:
                raise NotCompiledError(f"{compiler} fails: {done.stderr.strip()[:300]}")
            made.chmod(0o700)
            made.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotCompiledError(
            f"nothing can be compiled into {target.parent} ({reason(error)[:200]})"
        ) from None
