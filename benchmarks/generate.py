"""Tokens a second of our generation beside transformers' own, on the same exported model.

    python benchmarks/generate.py [--size small] [--tokens 200]

Both sample with a key-value cache from the same weights in float32, one text at a time and sixteen at once. They take
turns, and the best of several rounds counts, so that a busy machine does not favour one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

from shuyuan.data import byte_tokenizer
from shuyuan.inference import Engine
from shuyuan.models import Transformer, TransformerConfig, hub
from shuyuan.recipe import Model
from shuyuan.vault import OpenStore

PROMPT = "The history of the academy begins"


def export(folder: Path, size: str, context: int) -> tuple[Transformer, Any]:
    """A new model of that size, here and as transformers opens it; it knows no end token, so texts are full length."""
    tokenizer = byte_tokenizer()
    shape = Model.model_validate({"size": size, "context": context})
    model = Transformer(TransformerConfig.from_recipe(shape, tokenizer.vocab_size, tokenizer.end_id), seed=1)
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(2))
        model.lm_head.weight[tokenizer.end_id] = 0.0
    with OpenStore(folder) as store, store.folder("model") as out:
        hub.save(out, model, tokenizer.to_json(), "")
    return model, transformers.AutoModelForCausalLM.from_pretrained(folder / "model").eval()


def ours(model: Transformer, count: int, batch: int) -> int:
    engine = Engine(model, byte_tokenizer(), slots=batch)
    texts = engine.generate_all([PROMPT] * batch, max_tokens=count, temperature=1.0, top_k=50)
    assert len(texts) == batch
    return count * batch


def theirs(model: Any, count: int, batch: int) -> int:
    start = torch.tensor([byte_tokenizer().encode(PROMPT)] * batch)
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 50, "eos_token_id": None, "pad_token_id": 0}
    made = model.generate(
        start, attention_mask=torch.ones_like(start), min_new_tokens=count, max_new_tokens=count, **settings
    )
    assert made.shape == (batch, start.shape[1] + count)
    return count * batch


def rates(jobs: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Tokens a second of each job, the best round of several; the jobs take turns."""
    best = dict.fromkeys(jobs, 0.0)
    for name, job in list(jobs.items()) * rounds:
        start = time.perf_counter()
        tokens = job()
        best[name] = max(best[name], tokens / (time.perf_counter() - start))
    return best


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--size", default="small", choices=["tiny", "small", "medium", "large"])
    options.add_argument("--tokens", type=int, default=200)
    options.add_argument("--rounds", type=int, default=4, help="the first one warms up")
    asked = options.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    figures: dict[str, Any] = {
        "benchmark": "generate",
        "size": asked.size,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        model, peer = export(Path(folder), asked.size, context=len(PROMPT) + asked.tokens + 1)
        print(f"{'texts at once':>14} {'shuyuan':>14} {'transformers':>14} {'ratio':>7}")
        for batch in (1, 16):
            jobs = {
                "shuyuan": lambda batch=batch: ours(model, asked.tokens, batch),
                "transformers": lambda batch=batch: theirs(peer, asked.tokens, batch),
            }
            found = rates(jobs, asked.rounds)
            ratio = found["shuyuan"] / found["transformers"]
            print(
                f"{batch:>14} {found['shuyuan']:>8.0f} tok/s {found['transformers']:>8.0f} tok/s {ratio:>7.2f}"
            )
            figures[f"batch_{batch}"] = {name: round(rate, 1) for name, rate in found.items()} | {
                "ratio": round(ratio, 3)
            }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
