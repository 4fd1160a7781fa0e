"""What bf16 pays, and tokens a second beside transformers' Qwen3ForCausalLM of the same shape.

    python benchmarks/train.py [--size small] [--context 256] [--batch 16] [--vocab 4096] [--rounds 5]

All four train on the same made-up tokens in this process: ours and transformers', in float32 and in bfloat16. They take
turns, round by round, so that a busy machine does not favour one of them; the median of each counts. A step is forward,
backward, clipping and update; transformers' model is trained with fused AdamW, as most people train it, and ours once
with the same and once with Muon. A shape that transformers cannot build is not skipped: the script fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers

from shuyuan.hardware import detect
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.recipe import Model, Train
from shuyuan.train.backend import Batch
from shuyuan.train.precision import DTYPES
from shuyuan.train.torch_backend import TorchBackend

Step = Callable[[Batch], object]


def ours(config: TransformerConfig, optimizer: str, precision: str, micro_batch: int) -> Step:
    """A step of the library."""
    train = Train.model_validate(
        {
            "optimizer": optimizer,
            "precision": precision,
            "batch_size": micro_batch,
            "micro_batch": micro_batch,
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
        }
    )
    backend = TorchBackend(Transformer(config, seed=1), train, detect())
    return lambda batch: backend.step(batch, 1e-3)


def theirs(config: TransformerConfig, precision: str) -> Step:
    """A step of transformers' model under autocast, with AdamW and clipping."""
    table = config.to_hub()
    model: Any = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**table)).to(detect().device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.95), weight_decay=0.1, fused=True)
    device = detect().device

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        inputs, targets = (torch.from_numpy(part).to(device) for part in (batch.inputs_BT, batch.targets_BT))
        with torch.autocast(device, dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = model(input_ids=inputs, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description="Training speed: bf16 beside fp32, and beside transformers.")
    parser.add_argument("--size", default="small", choices=["tiny", "small", "medium", "large"])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(detect().cores)
    shape = Model.model_validate({"size": options.size, "context": options.context})
    config = TransformerConfig.from_recipe(shape, options.vocab, options.vocab - 1)
    tokens = np.random.default_rng(0).integers(0, options.vocab, (options.batch, options.context + 1))
    batch = Batch(1, tokens[:, :-1].copy(), tokens[:, 1:].copy())
    steps: dict[str, Step] = {}
    for precision in ("fp32", "bf16"):
        steps[f"shuyuan muon {precision}"] = ours(config, "muon", precision, options.batch)
        steps[f"shuyuan adamw {precision}"] = ours(config, "adamw", precision, options.batch)
        steps[f"transformers adamw {precision}"] = theirs(config, precision)

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step(batch)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(times) for name, times in seconds.items()}

    print(
        f"{config.layers} x {config.width}, {config.parameters:,} parameters, vocabulary {options.vocab}, ",
        end="",
    )
    print(f"{options.batch} x {options.context} tokens a step, {detect().name}, {detect().cores} cores")
    print(f"{'':26}{'ms a step':>10}{'tokens/s':>10}")
    for name, time_ in median.items():
        print(f"{name:26}{time_ * 1e3:10.0f}{options.batch * options.context / time_:10.0f}")
    ratios = {
        "bf16_speedup_muon": median["shuyuan muon fp32"] / median["shuyuan muon bf16"],
        "bf16_speedup_adamw": median["shuyuan adamw fp32"] / median["shuyuan adamw bf16"],
        "beside_transformers_fp32": median["transformers adamw fp32"] / median["shuyuan adamw fp32"],
        "beside_transformers_bf16": median["transformers adamw bf16"] / median["shuyuan adamw bf16"],
        "muon_over_adamw_bf16": median["shuyuan muon bf16"] / median["shuyuan adamw bf16"],
    }
    for name, ratio in ratios.items():
        print(f"{name:26}{ratio:10.2f}")
    milliseconds = {name: round(time_ * 1e3, 1) for name, time_ in median.items()}
    print(json.dumps({"step_ms": milliseconds, **{name: round(ratio, 3) for name, ratio in ratios.items()}}))


if __name__ == "__main__":
    main()
