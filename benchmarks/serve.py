"""The server under load: tokens a second and time to the first token at 1, 8 and 32 streams, beside the bare engine, llama.cpp's
server and `transformers serve`.

    python benchmarks/serve.py RUN [--tokens 128] [--llama-python PYTHON] [--transformers]

RUN is a trained run, not sealed, whose model continues text. Each stream asks /v1/completions for so many tokens, streamed and whole; the client
runs in a process of its own, does no more than read, and says its share of a core. The bare engine computes the same texts in one process without a
server: the difference is what the server, HTTP and the client cost. Rounds of engine and server take turns, and the best of each counts.

llama.cpp's server is started from the interpreter that is given (`pip install 'llama-cpp-python[server]'`), with the same weights in bf16;
it answers one stream after another. `transformers serve` gets the run's model folder, with continuous batching and without.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import shuyuan
from shuyuan import pipeline
from shuyuan.data import load_tokenizer
from shuyuan.hardware import detect
from shuyuan.models import hub
from shuyuan.models.gguf_file import write_gguf
from shuyuan.runs import variant_folder

STREAMS = (1, 8, 32)
PROMPT = "The history of the academy begins"
TURNS, ROUNDS = 2, 2
Load = Callable[[int, bool], dict[str, float]]  # streams, whether they are streamed


def bare(run: Path, tokens: int) -> Callable[[int], float]:
    """Of a number of texts at once, the tokens a second of the engine alone, with as many slots as the server has."""
    engine = shuyuan.load(run).engine
    engine.reserve()

    def rate(streams: int) -> float:
        best = 0.0
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            texts = [engine.submit(PROMPT, max_tokens=tokens, temperature=0.0) for _ in range(streams)]
            while engine.busy:
                engine.step()
            made = sum(text.completion_tokens for text in texts)
            best = max(best, made / (time.perf_counter() - begin))
        return round(best, 1)

    return rate


def asking(address: str, key: str, model: str, tokens: int) -> Load:
    """What loads a server, and tells what `serve_client.py` measures."""
    found = urlsplit(address)

    def load(streams: int, streamed: bool) -> dict[str, float]:
        asked: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0}
        asked |= {"stream": streamed}
        client = [sys.executable, str(Path(__file__).with_name("serve_client.py"))]
        client += [str(found.hostname), str(found.port), "/v1/completions", key, str(streams), str(ROUNDS)]
        told = subprocess.run(client, input=json.dumps(asked).encode(), stdout=subprocess.PIPE, check=True)
        measured: dict[str, float] = json.loads(told.stdout)
        return measured

    return load


@contextmanager
def started(command: Sequence[str], address: str, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server, from when it answers."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | environment)
    try:
        for _ in range(240):
            time.sleep(0.5)
            if process.poll() is not None:
                break
            if _answers(f"{address}/v1/models"):
                yield
                return
        raise SystemExit(log.read_text())
    finally:
        process.kill()
        process.wait(30)


def _answers(address: str) -> bool:
    """Whether anybody is there, also one who refuses."""
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def ours(run: Path, folder: Path, streams: int = 64) -> Iterator[tuple[str, str]]:
    """Our server on a free port; its address and a key."""
    command = [sys.executable, "-m", "shuyuan", "serve", str(run), "--port", "0", "--requests", "100000"]
    command += ["--tokens", "100000000", "--streams", str(streams)]
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
def llama(python: str, run: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """llama.cpp's server; its address and the model's name."""
    file = folder / "model.gguf"
    with pipeline.look(run) as job:
        model = hub.load(job.store, variant_folder("original"))
        write_gguf(file, model, load_tokenizer(job.store), "model", "bf16")
    address = "http://127.0.0.1:8123"
    options = {"model": file, "n_threads": detect().cores, "port": 8123, "n_ctx": 256}
    options |= {"interrupt_requests": "false"}  # else whoever comes ends the answer of who was before
    command = [python, "-m", "llama_cpp.server"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with started(command, address, folder / "llama.log", {}):
        yield address, "model"


@contextmanager
def transformers(run: Path, folder: Path, *options: str) -> Iterator[tuple[str, str]]:
    """`transformers serve`; its address and the model's name."""
    address, model = "http://127.0.0.1:8124", str(run / "model")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    command += ["--port", "8124", "--host", "127.0.0.1", "--device", "cpu", *options]
    with started(command, address, folder / "transformers.log", {"HF_HUB_OFFLINE": "1"}):
        yield address, model


def better(first: dict[str, float] | None, second: dict[str, float]) -> dict[str, float]:
    """The faster of two."""
    return max(first or second, second, key=lambda each: each["tokens_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--llama-python")
    parser.add_argument("--transformers", action="store_true")
    options = parser.parse_args()
    run, figures = options.run.resolve(), {"benchmark": "serve", "tokens": options.tokens}
    rate = bare(run, options.tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ours(run, folder) as (address, key):
            load = asking(address, key, run.name, options.tokens)
            for streams in options.streams:
                alone, streamed, whole = 0.0, None, None
                for _ in range(TURNS):
                    alone = max(alone, rate(streams))
                    streamed, whole = (
                        better(streamed, load(streams, True)),
                        better(whole, load(streams, False)),
                    )
                figures[f"engine x{streams}"] = alone
                for label, told in (("streamed", streamed), ("whole", whole)):
                    told["overhead"] = round(1 - told["tokens_per_second"] / alone, 3)
                    figures[f"{label} x{streams}"] = told
        peers: dict[str, Any] = {}
        if options.llama_python:
            peers["llama.cpp bf16"] = llama(options.llama_python, run, folder)
        if options.transformers:
            peers["transformers"] = transformers(run, folder)
            peers["transformers, batched"] = transformers(run, folder, "--continuous-batching")
        for label, server in peers.items():
            with server as (address, model):
                load = asking(address, "none", model, options.tokens)
                for streams in options.streams:
                    figures[f"{label} x{streams}"] = load(streams, True)
    for label, value in figures.items():
        print(f"{label:28} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
