"""The client of `benchmarks/serve.py`: asks for texts at once and does as little as it can, so that the server is what is measured.

    python benchmarks/serve_client.py HOST PORT PATH KEY STREAMS ROUNDS < BODY

Prints {tokens_per_second, first_token_seconds, client_share} of the best round; the body is JSON. Answers are read as bytes, and looked at only
when all have ended.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

PARTS = 2**16


async def ask(host: str, port: int, request: bytes) -> tuple[float, bytes]:
    """Seconds to the first bytes behind the head and one event, and all that came."""
    reader, writer = await asyncio.open_connection(host, port)
    begin, first, came = time.perf_counter(), 0.0, b""
    writer.write(request)
    while part := await reader.read(PARTS):
        came += part
        if not first and (b'"text"' in part or b'"content":"' in came or b'"content": "' in came):
            first = time.perf_counter() - begin
    writer.close()
    if not came.startswith(b"HTTP/1.1 200"):
        raise SystemExit(came[:2000].decode())
    return first, came


def tokens_of(came: bytes, asked: int) -> int:
    """Tokens of an answer: all that were asked for, unless its usage tells another number, or it ended before."""
    found = re.findall(rb'"completion_tokens": ?(\d+)', came)
    if not found and not re.search(rb'"finish_reason": ?"length"', came):
        raise SystemExit("an answer ended before it had all tokens, and does not say how many it has")
    return int(found[-1]) if found else asked


async def load(
    host: str, port: int, request: bytes, streams: int, rounds: int, asked: int
) -> dict[str, float]:
    """The best of some rounds."""
    best: dict[str, float] = {"tokens_per_second": 0.0}
    for _ in range(rounds):
        begin, busy = time.perf_counter(), time.process_time()
        told = await asyncio.gather(*(ask(host, port, request) for _ in range(streams)))
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        rate = sum(tokens_of(came, asked) for _, came in told) / seconds
        firsts = sorted(first for first, _ in told)
        if rate > best["tokens_per_second"]:
            best = {
                "tokens_per_second": round(rate, 1),
                "first_token_seconds": round(firsts[len(firsts) // 2], 4),
                "client_share": round(busy / seconds, 3),
            }
    return best


def main() -> None:
    host, port, path, key, streams, rounds = sys.argv[1:]
    body = sys.stdin.buffer.read()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    )
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    asked = json.loads(body)["max_tokens"]
    found = asyncio.run(load(host, int(port), head.encode() + body, int(streams), int(rounds), asked))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
