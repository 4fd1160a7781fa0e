"""The server under load: tokens a second and time to the first token at 1, 8 and 32 streams, beside the bare engine and llama.cpp's server.

    python benchmarks/serve.py RUN [--variant int8] [--tokens 128] [--llama-python PYTHON]

RUN is a trained run whose model continues text. Each stream asks /v1/completions for so many tokens, the likeliest each time, by a
client in a process of its own, which takes its share of the processor like the server. The bare engine computes the same texts
in one process without a server: the difference is what the server, HTTP and the client cost. llama.cpp's server is started from the
interpreter that is given (`pip install 'llama-cpp-python[server]'`), with the same weights in bf16 or q8_0; it answers one stream
after another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import shuyuan
from shuyuan import pipeline
from shuyuan.data import load_tokenizer
from shuyuan.hardware import detect
from shuyuan.models import hub
from shuyuan.models.gguf_file import write_gguf
from shuyuan.runs import variant_folder

STREAMS = (1, 8, 32)
PROMPT = "The history of the academy begins"
SECONDS = 60


def bare(run: Path, variant: str, tokens: int, streams: int) -> float:
    """Tokens a second of the engine alone, with as many slots as the server has."""
    engine = shuyuan.load(run, variant=variant).engine
    engine.reserve()
    best = 0.0
    for _ in range(3):
        begin, made = time.perf_counter(), 0
        for seed in range(streams):
            engine.submit(PROMPT, max_tokens=tokens, temperature=0.0, seed=seed)
        while engine.busy:
            made += len(engine.step())
        best = max(best, made / (time.perf_counter() - begin))
    return best


async def stream(client: httpx.AsyncClient, model: str, tokens: int) -> tuple[float, int]:
    """Seconds to the first piece, and tokens."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "stream": True}
    begin, first, made = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/completions", json=body, timeout=SECONDS) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - begin
                made += bool(json.loads(line[6:])["choices"])
    return first, made


async def load(address: str, key: str, model: str, tokens: int, streams: int) -> dict[str, float]:
    """{tokens_per_second, first_token_seconds} of so many streams at once, the best of three rounds."""
    found: list[dict[str, float]] = []
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits) as client:
        for _ in range(3):
            begin = time.perf_counter()
            told = await asyncio.gather(*(stream(client, model, tokens) for _ in range(streams)))
            seconds = time.perf_counter() - begin
            firsts = sorted(first for first, _ in told)
            rate = streams * tokens / seconds
            found.append(
                {
                    "tokens_per_second": round(rate, 1),
                    "first_token_seconds": round(firsts[len(firsts) // 2], 4),
                }
            )
    return max(found, key=lambda each: each["tokens_per_second"])


@contextmanager
def ours(run: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Our server on a free port; its address and a key."""
    command = [sys.executable, "-m", "shuyuan", "serve", str(run), "--port", "0", "--requests", "100000"]
    command += ["--tokens", "100000000", "--streams", "64"]
    home = os.environ | {"SHUYUAN_HOME": str(folder)}
    add = [sys.executable, "-m", "shuyuan", "users", "add", "bench", "--json"]
    key = json.loads(subprocess.run(add, env=home, capture_output=True, text=True, check=True).stdout)["key"]
    process = subprocess.Popen(command, env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    said = ""
    try:
        while not (address := re.search(r"http://[\d.]+:\d+", said)):
            line = process.stdout.readline()
            if not line:
                raise SystemExit(said)
            said += line
        yield address[0], key
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def llama(python: str, model: Path) -> Iterator[str]:
    """llama.cpp's server; its address."""
    cores = str(detect().cores)
    command = [
        python,
        "-m",
        "llama_cpp.server",
        "--model",
        str(model),
        "--n_threads",
        cores,
        "--port",
        "8123",
        "--n_ctx",
        "256",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = "http://127.0.0.1:8123"
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                httpx.get(f"{address}/v1/models", timeout=2)
                break
            except httpx.HTTPError:
                continue
        yield address
    finally:
        process.kill()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--variant", default="original")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--llama-python")
    options = parser.parse_args()
    figures: dict[str, Any] = {"benchmark": "serve", "variant": options.variant, "tokens": options.tokens}
    for streams in STREAMS:
        figures[f"engine x{streams}"] = round(bare(options.run, options.variant, options.tokens, streams), 1)
    name = options.run.name + ("" if options.variant == "original" else f":{options.variant}")
    with tempfile.TemporaryDirectory() as folder:
        with ours(options.run.resolve(), Path(folder)) as (address, key):
            for streams in STREAMS:
                figures[f"server x{streams}"] = asyncio.run(load(address, key, name, options.tokens, streams))
        if options.llama_python:
            file = Path(folder, "model.gguf")
            with pipeline.look(options.run) as job:
                model = hub.load(job.store, variant_folder("original"))
                kind = "q8_0" if options.variant == "int8" else "bf16"
                write_gguf(file, model, load_tokenizer(job.store), "model", kind)
            with llama(options.llama_python, file) as address:
                for streams in STREAMS:
                    figures[f"llama.cpp {kind} x{streams}"] = asyncio.run(
                        load(address, "none", "model", options.tokens, streams)
                    )
    for label, value in figures.items():
        print(f"{label:24} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
