"""What a flood of one key does to others: the median latency of eight keys with one request after another, without and beside a ninth that
has 32 at once.

    python benchmarks/serve_share.py RUN

RUN is a trained run whose model continues text. The turns without and with the flood alternate; the first of each is thrown away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from serve import ours
from serve_client import ask
from shuyuan.serve import Keys, open_state

USERS, FLOOD, SECONDS, TURNS = 8, 32, 3.0, 3


def request(port: int, key: str, model: str, prompt: str, tokens: int) -> bytes:
    """The bytes of a request."""
    body = json.dumps({"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {key}\r\n"
    head += "Connection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def again_and_again(port: int, sent: bytes, until: float, latencies: list[float]) -> None:
    """Asks, one request after another."""
    while time.perf_counter() < until:
        begin = time.perf_counter()
        await ask("127.0.0.1", port, sent)
        latencies.append(time.perf_counter() - begin)


async def turn(port: int, users: list[bytes], flood: list[bytes]) -> float:
    """The users' median latency."""
    until, latencies, ignored = time.perf_counter() + SECONDS, [], []
    asked = [again_and_again(port, sent, until, latencies) for sent in users]
    await asyncio.gather(*asked, *(again_and_again(port, sent, until, ignored) for sent in flood))
    return median(latencies)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run.resolve()
    with tempfile.TemporaryDirectory() as folder, ours(run, Path(folder), streams=4) as (address, _):
        port = int(address.rpartition(":")[2])
        keys = Keys(open_state(Path(folder, "server")))
        made = [keys.add(f"user-{number}", "user")[1] for number in range(USERS + 1)]
        users = [request(port, key, run.name, f"User {n} asks", 48) for n, key in enumerate(made[:USERS])]
        flood = [request(port, made[-1], run.name, f"{n} floods " * 8, 48) for n in range(FLOOD)]
        told: dict[str, list[float]] = {"alone": [], "beside": []}
        for _ in range(TURNS):
            told["alone"].append(asyncio.run(turn(port, users, [])))
            told["beside"].append(asyncio.run(turn(port, users, flood)))
    alone, beside = (median(told[name][1:]) for name in ("alone", "beside"))
    figures = {"benchmark": "serve_share", "alone_seconds": alone, "beside_seconds": beside}
    print(json.dumps({**figures, "slowed": beside / alone - 1}))


if __name__ == "__main__":
    main()
