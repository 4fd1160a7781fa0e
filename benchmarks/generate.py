"""Tokens a second of our generation beside transformers' and llama.cpp's, on the same weights.

    python benchmarks/generate.py [--shapes 3M 30M 120M] [--tokens 200] [--llama-python PYTHON]

Models of the Qwen3 layout with made-up weights and a vocabulary of 8,192, one text at a time and sixteen at once, the likeliest token
each time, after the same prompt of 16 tokens. All take turns, and the best of several rounds counts, so that a busy machine does not
favour one of them. llama.cpp runs in the interpreter that is given, where `llama-cpp-python` is installed; its int4 is q4_0.
Ours reads weights as `shuyuan compress` stores them, and samples and decodes text, as a user's request does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

from shuyuan.data import Tokenizer, learn_bpe
from shuyuan.hardware import detect
from shuyuan.inference import Engine
from shuyuan.models import CompiledModel, Transformer, TransformerConfig, hub, pack
from shuyuan.models.eager import prepared
from shuyuan.models.gguf_file import write_gguf
from shuyuan.models.packed import dense
from shuyuan.vault import OpenStore

VOCABULARY, CONTEXT, PROMPT = 8192, 512, list(range(300, 316))
# Layers, width, heads, key-value heads, hidden; 30M is the shape of the figures in the lab notes.
SHAPES = {"3M": (4, 192, 4, 2, 576), "30M": (8, 512, 8, 4, 1536), "120M": (16, 768, 12, 4, 2048)}
LLAMA = """
import sys, time, llama_cpp
path, tokens, batch, prompt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])
if path.endswith("q4_0.gguf"):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = 2
    llama_cpp.llama_model_quantize(path.replace("q4_0", "bf16").encode(), path.encode(), parameters)
model = llama_cpp.Llama(path, n_ctx=512, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)
for line in sys.stdin:
    model.reset()
    begin = time.perf_counter()
    for count, token in enumerate(model.generate(prompt, top_k=1, temp=0.0), 1):
        if count == tokens:
            break
    print(tokens / (time.perf_counter() - begin), flush=True)
"""


def made_up() -> Tokenizer:
    """A tokenizer of the full vocabulary, learned from made-up words."""
    words = random.Random(0)
    text = " ".join("".join(words.choices("abcdefghijklmnop", k=6)) for _ in range(9000))
    tokenizer = learn_bpe([text] * 12, VOCABULARY)
    assert tokenizer.vocab_size == VOCABULARY
    return tokenizer


def shaped(name: str) -> Transformer:
    """A model of that shape; it never says the end token, so that texts are full length."""
    layers, width, heads, kv_heads, hidden = SHAPES[name]
    config = TransformerConfig(
        vocab_size=VOCABULARY, layers=layers, width=width, heads=heads, kv_heads=kv_heads, head_dim=64 if width > 192 else 48,
        hidden=hidden, context=CONTEXT, end_id=0,
    )  # fmt: skip
    model = Transformer(config, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(2))
        model.model.embed_tokens.weight[0] = 0.0
    return model.eval()


def compiled(model: Transformer, kind: str) -> CompiledModel:
    """As it is loaded from a variant: embedding and head have 8 bits at least."""

    def stored() -> Iterator[Any]:
        for name, weight in model.named_parameters():
            array = weight.detach().numpy()
            if kind.startswith("int") and array.ndim == 2:
                bits = max(int(kind[3:]), 8) if "embed" in name else int(kind[3:])
                how, parts = pack(array, bits)
                yield name, how, dense(name, how, parts, "")
            else:
                yield name, None, {"": array}

    return CompiledModel(model.config, stored(), half=kind == "bf16")


def ours(model: Any, tokenizer: Tokenizer, count: int, batch: int) -> Callable[[], float]:
    engine = Engine(model, tokenizer, slots=batch)
    engine.reserve()

    def job() -> float:
        begin = time.perf_counter()
        for _ in range(batch):
            engine.submit(PROMPT, max_tokens=count, temperature=0.0)
        made = 0
        while engine.busy:
            made += len(engine.step())
        assert made == count * batch, made
        return made / (time.perf_counter() - begin)

    return job


def hugging_face(model: Any, count: int, batch: int) -> Callable[[], float]:
    start = torch.tensor([PROMPT] * batch)
    settings = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}

    def job() -> float:
        begin = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                start,
                attention_mask=torch.ones_like(start),
                min_new_tokens=count,
                max_new_tokens=count,
                **settings,
            )
        return count * batch / (time.perf_counter() - begin)  # fmt: skip

    return job


class Llama:
    """llama.cpp in an interpreter of its own, which answers line by line."""

    def __init__(self, python: str, path: Path, count: int) -> None:
        program = LLAMA.replace("THREADS", str(detect().cores))
        command = [python, "-c", program, str(path), str(count), "1", str(PROMPT)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self) -> float:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()


def figures(name: str, options: argparse.Namespace, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Tokens a second of everything, for one shape."""
    model, count = shaped(name), options.tokens
    with OpenStore(folder) as store, store.folder(f"{name}/model") as out:
        hub.save(out, model, tokenizer.to_json(), "")
    jobs: dict[str, Callable[[], float]] = {}
    for batch in (1, 16):
        for kind in ("fp32", "bf16", "int8", "int4"):
            jobs[f"ours {kind} x{batch}"] = ours(compiled(model, kind), tokenizer, count, batch)
    eager = Transformer(model.config, seed=None)
    eager.load_state_dict(model.state_dict())
    jobs["ours bf16 by torch x1"] = ours(prepared(eager, half=True), tokenizer, count, 1)
    for kind in ("float32", "bfloat16"):
        for batch in (1, 16) if kind == "bfloat16" else (1,):
            peer = transformers.AutoModelForCausalLM.from_pretrained(
                folder / name / "model", dtype=kind
            ).eval()
            jobs[f"transformers {kind} x{batch}"] = hugging_face(peer, count, batch)
    llamas = []
    if options.llama_python:
        for kind in ("bf16", "q8_0"):
            write_gguf(folder / f"{name}-{kind}.gguf", model, tokenizer, name, kind)
        for kind in ("bf16", "q8_0", "q4_0"):
            llamas.append(Llama(options.llama_python, folder / f"{name}-{kind}.gguf", count))
            jobs[f"llama.cpp {kind} x1"] = llamas[-1]
    try:
        best = dict.fromkeys(jobs, 0.0)
        for label, job in list(jobs.items()) * options.rounds:
            best[label] = max(best[label], job())
    finally:
        for llama in llamas:
            llama.close()
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"parameters": parameters, **{label: round(rate, 1) for label, rate in best.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4, help="the first one warms up")
    parser.add_argument(
        "--llama-python", help="an interpreter with llama-cpp-python; left out: without llama.cpp"
    )
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = made_up()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.shapes:
            found = figures(name, options, tokenizer, Path(folder))
            for label, rate in found.items():
                print(f"{name:>5} {label:32} {rate:>14,.0f}", flush=True)
            print(json.dumps({"benchmark": "generate", "shape": name, "threads": detect().cores, **found}))


if __name__ == "__main__":
    main()
