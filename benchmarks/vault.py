"""How fast a sealed run is read and written, beside raw AES-256-GCM and beside plain files.

Everything is in the page cache, so this measures the processor and not the disk. Times are of the processor, one core.

    python benchmarks/vault.py [MEGABYTES]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shuyuan import vault
from shuyuan.runs import Run
from shuyuan.vault.seal import SEGMENT_BYTES

REPEATS = 5
PORTION = 1 << 20  # bytes read at once, as a model or a shard is read
WINDOW = 2050  # bytes read at a random place, as a training window is


def best_seconds(work: Callable[[], object]) -> float:
    """The fastest of a few, in seconds of processor time."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def raw(size: int) -> float:
    """Bytes a second of AES-256-GCM alone, on one segment that stays in the cache."""
    cipher, nonce = AESGCM(os.urandom(32)), bytes(12)
    sealed, out = cipher.encrypt(nonce, bytes(SEGMENT_BYTES), b""), bytearray(SEGMENT_BYTES)
    count = size // SEGMENT_BYTES

    def work() -> None:
        for _ in range(count):
            cipher.decrypt_into(nonce, sealed, b"", out)

    return count * SEGMENT_BYTES / best_seconds(work)


def reading(store: vault.Store, size: int) -> dict[str, float]:
    """Bytes a second of a file read from start to end, and microseconds for a window at a random place."""
    with store.open("data/x") as file:

        def through() -> None:
            for at in range(0, size, PORTION):
                file.read_at(at, PORTION)

        def whole() -> None:
            file.read_at(0, size)

        places = [int.from_bytes(os.urandom(6), "big") % (size - WINDOW) for _ in range(2000)]

        def windows() -> None:
            for at in places:
                file.read_at(at, WINDOW)

        return {
            "read": size / best_seconds(through),
            "read_whole": size / best_seconds(whole),
            "window_us": best_seconds(windows) / len(places) * 1e6,
        }


def measure(store: vault.Store, content: bytes) -> dict[str, float]:
    figures = {"write": len(content) / best_seconds(lambda: store.write("data/x", content))}
    return figures | reading(store, len(content))


def main() -> None:
    size = int(sys.argv[1] if len(sys.argv) > 1 else 256) << 20
    content = os.urandom(1 << 20) * (size >> 20)
    with tempfile.TemporaryDirectory() as folder:
        key = vault.write_key_file(Path(folder) / "key")
        with vault.open_store(Run(Path(folder) / "sealed"), f"file:{key}", create=True) as store:
            sealed = measure(store, content)
        with vault.open_store(Run(Path(folder) / "open"), None) as store:
            plain = measure(store, content)
    cipher = raw(size)
    print(f"{size >> 20} MiB, one core          sealed        open   AES-256-GCM")
    print(
        f"read, 1 MiB at once    {sealed['read'] / 1e9:7.2f} GB/s{plain['read'] / 1e9:7.2f} GB/s{cipher / 1e9:9.2f} GB/s"
    )
    print(
        f"read, whole            {sealed['read_whole'] / 1e9:7.2f} GB/s{plain['read_whole'] / 1e9:7.2f} GB/s"
    )
    print(f"write                  {sealed['write'] / 1e9:7.2f} GB/s{plain['write'] / 1e9:7.2f} GB/s")
    print(f"window of {WINDOW} bytes   {sealed['window_us']:7.1f} µs  {plain['window_us']:7.1f} µs")
    ratio = plain["read"] / sealed["read"]
    print(f"sealed reading takes {ratio:.2f} times as long as open reading; the bar is 1 GB/s a core")
    print(
        json.dumps(
            {
                "bench": "vault",
                "bytes": size,
                "sealed": sealed,
                "open": plain,
                "raw_aes_gcm": cipher,
                "ratio": ratio,
            }
        )
    )


if __name__ == "__main__":
    main()
