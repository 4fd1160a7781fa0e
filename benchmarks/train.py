"""Training speed beside nanoGPT and transformers: layers, width, heads, context, vocabulary and batch are the same for all.

    git clone https://github.com/karpathy/nanoGPT       # the peer; without --nanogpt, transformers alone
    python benchmarks/train.py --nanogpt nanoGPT [--size small | --layers 4 --width 128 --heads 4] [--context 256] [--batch 16]
    python benchmarks/train.py --profile                # where the time of our step goes

A step is forward, backward, clipping and update, on the same made-up tokens. Peers are trained with torch's fused AdamW, and ours once
with AdamW and once with Muon; nanoGPT's block has as many weights as ours. On a CPU all take turns, round by round, so that a busy
machine does not favour one, and the median of each counts; on a GPU they come one after another, since they would not fit side by side,
and peak memory is shown; there ours and nanoGPT's are also compiled. The share of the machine's matrix rate is that of the operations
that `shuyuan.planning` counts for our model: for all, since the others' differ by the gate and by positions.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers

from shuyuan.hardware import detect, measured_rates
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.planning.cost import train_flops_per_token
from shuyuan.progress import Progress
from shuyuan.recipe import Model, Train
from shuyuan.train.backend import Batch
from shuyuan.train.memory import keeping_memory
from shuyuan.train.precision import DTYPES
from shuyuan.train.torch_backend import TorchBackend

Step = Callable[[Batch], object]
Maker = Callable[[], Step]
# Kernels by what they are for; what is in none is "other".
KINDS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "gemm", "cutlass", "xmma", "nvjet"),
    "attention": ("scaled_dot_product", "flash", "fmha"),
    "norms and sums": ("norm", "sum", "reduce"),
    "loss": ("softmax", "nll", "cross_entropy", "scatter"),
}


def ours(config: TransformerConfig, optimizer: str, precision: str, batch: int, compiled: bool) -> Step:
    """A step of the library."""
    train = Train.model_validate(
        {
            "optimizer": optimizer,
            "precision": precision,
            "batch_size": batch,
            "micro_batch": batch,
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "compile": compiled,
        }
    )
    backend = TorchBackend(Transformer(config, seed=1), train, detect())
    return lambda batch: backend.step(batch, 1e-3)


def theirs(model: torch.nn.Module, precision: str, loss_of: Callable[[Any, Any, Any], Any]) -> Step:
    """A step of a peer's model under autocast, with fused AdamW and clipping."""
    device = detect().device
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.95), weight_decay=0.1, fused=True)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        inputs, targets = (torch.from_numpy(part).to(device) for part in (batch.inputs_BT, batch.targets_BT))
        with torch.autocast(device, dtype=DTYPES[precision], enabled=precision != "fp32"):
            loss = loss_of(model, inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def qwen3(config: TransformerConfig, precision: str) -> Step:
    """transformers' model of the same shape."""
    model: Any = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config.to_hub()))

    def loss_of(model: Any, inputs: Any, targets: Any) -> Any:
        logits = model(input_ids=inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return theirs(model, precision, loss_of)


def nanogpt(folder: Path, config: TransformerConfig, precision: str, compiled: bool) -> Step:
    """nanoGPT's model, without biases and dropout, as its own configurations for CPUs have it."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shape = module.GPTConfig(
        block_size=config.context,
        vocab_size=config.vocab_size,
        n_layer=config.layers,
        n_head=config.heads,
        n_embd=config.width,
        dropout=0.0,
        bias=False,
    )
    model: Any = module.GPT(shape)
    if compiled:
        model = torch.compile(model)
    return theirs(model, precision, lambda model, inputs, targets: model(inputs, targets)[1])


def makers(options: argparse.Namespace, config: TransformerConfig) -> dict[str, Maker]:
    """What makes a step of each way, by name."""
    found: dict[str, Maker] = {}
    forms = (False, True) if detect().device == "cuda" else (False,)
    for precision in options.precisions:
        for compiled in forms:
            end = f"{precision}{' compiled' if compiled else ''}"
            for optimizer in ("muon", "adamw"):
                found[f"shuyuan {optimizer} {end}"] = lambda o=optimizer, p=precision, c=compiled: ours(  # type: ignore[misc]
                    config, o, p, options.batch, c
                )
            if options.nanogpt:
                found[f"nanogpt adamw {end}"] = lambda p=precision, c=compiled: nanogpt(  # type: ignore[misc]
                    options.nanogpt, config, p, c
                )
        found[f"transformers adamw {precision}"] = lambda p=precision: qwen3(config, p)  # type: ignore[misc]
    return {name: make for name, make in found.items() if not options.only or options.only in name}


def timed(step: Step, batch: Batch) -> float:
    """Seconds of one step, all of the GPU's work included."""
    begun = time.perf_counter()
    step(batch)
    if detect().device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def in_turns(ways: dict[str, Maker], batch: Batch, rounds: int) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds of each, all in one process."""
    steps = {name: make() for name, make in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            took = timed(step, batch)
            if turn:  # the first turn warms up
                seconds[name].append(took)
    return {name: statistics.median(times) for name, times in seconds.items()}, {}


def one_by_one(ways: dict[str, Maker], batch: Batch, rounds: int) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds and peak bytes of each on a GPU."""
    seconds, peaks = {}, {}
    for name, make in ways.items():
        try:
            step = make()
            for _ in range(3):
                timed(step, batch)
            torch.cuda.reset_peak_memory_stats()
            seconds[name] = statistics.median(timed(step, batch) for _ in range(rounds))
            peaks[name] = torch.cuda.max_memory_allocated()
            print(f"  {name}: {seconds[name] * 1e3:.1f} ms, {peaks[name] / 1e9:.2f} GB", flush=True)
        except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
            print(f"  {name}: failed, {str(error)[:300]}", flush=True)
        step = None  # type: ignore[assignment]
        gc.collect()
        torch.cuda.empty_cache()
    return seconds, peaks


def profile(step: Step, batch: Batch, rounds: int) -> dict[str, float]:
    """Shares of a step's time by kind of kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    cuda = detect().device == "cuda"
    step(batch)
    with profiler(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        for _ in range(rounds):
            step(batch)
    spent = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in found.key_averages():
        took = event.self_device_time_total if cuda else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")
        spent[kind] += took
    whole = sum(spent.values())
    return {kind: took / whole for kind, took in spent.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training speed beside nanoGPT and transformers.")
    parser.add_argument("--size", default="small", choices=["tiny", "small", "medium", "large"])
    parser.add_argument("--layers", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--heads", type=int)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=list(DTYPES))
    parser.add_argument("--nanogpt", type=Path, help="its checkout")
    parser.add_argument("--only", help="ways whose names hold this")
    parser.add_argument("--profile", action="store_true", help="where the time of our step with Muon goes")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    hardware = detect()
    torch.set_num_threads(hardware.cores)
    given = {key: getattr(options, key) for key in ("size", "layers", "width", "heads", "context")}
    shape = Model.model_validate({key: value for key, value in given.items() if value is not None})
    config = TransformerConfig.from_recipe(shape, options.vocab, options.vocab - 1)
    tokens = np.random.default_rng(0).integers(0, options.vocab, (options.batch, options.context + 1))
    batch = Batch(1, tokens[:, :-1].copy(), tokens[:, 1:].copy())
    with keeping_memory():
        if options.profile:
            for precision in options.precisions:
                step = ours(config, "muon", precision, options.batch, False)
                shares = profile(step, batch, options.rounds)
                print(precision, {kind: f"{share:.1%}" for kind, share in shares.items()})
            return
        measure = one_by_one if hardware.device == "cuda" else in_turns
        seconds, peaks = measure(makers(options, config), batch, options.rounds)
    rates = measured_rates(hardware, Progress()).matmul_flops
    flops = train_flops_per_token(config) * options.batch * options.context

    print(
        f"{config.layers} x {config.width}, {config.parameters:,} parameters, vocabulary {options.vocab},",
        end=" ",
    )
    print(f"{options.batch} x {options.context} tokens a step, {hardware.name}, {hardware.cores} cores")
    print(f"{'':34}{'ms a step':>10}{'tokens/s':>10}{'of rate':>9}{'GB':>7}")
    table = {}
    for name, took in seconds.items():
        precision = next(word for word in name.split() if word in DTYPES)
        share = flops / took / rates[precision]
        tokens_a_second = options.batch * options.context / took
        memory = f"{peaks[name] / 1e9:7.2f}" if name in peaks else ""
        print(f"{name:34}{took * 1e3:10.1f}{tokens_a_second:10.0f}{share:9.1%}{memory}")
        table[name] = {"ms": round(took * 1e3, 2), "of_rate": round(share, 3), "peak_bytes": peaks.get(name)}
    for name, took in seconds.items():
        beside = {other: its / took for other, its in seconds.items() if not other.startswith("shuyuan")}
        if name.startswith("shuyuan") and beside:
            print(f"{name:34}", ", ".join(f"{ratio:.2f} times {other}" for other, ratio in beside.items()))
    print(json.dumps({"rates": rates, "flops_a_step": flops, "steps": table}))


if __name__ == "__main__":
    main()
