"""What privacy costs: the plain step, the private one, and Opacus' two ways, on the same model and tokens.

    pip install --no-deps opacus opt_einsum     # the peer; without it, only our own are measured
    python benchmarks/private_step.py [--rounds 5] [--context 256] [--vocab 4096] [--only "plain fp32" …]

A step is a logical batch of `--batch` sequences in physical ones of `--micro-batch`, with AdamW, and in the private ones
clipping of each sequence and noise. All take turns, round by round, in one process; the median counts. The private step is
measured with a head of its own as well as with the tied one, since Opacus' ghost clipping cannot tie; Opacus gets
nn.RMSNorm in place of ours, for which it has a rule. Peak memory is that of a process that does one of them alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from shuyuan.hardware import detect
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.models.transformer import RMSNorm
from shuyuan.privacy import Mechanism
from shuyuan.recipe import Model, Train
from shuyuan.train.backend import Batch
from shuyuan.train.memory import forget_peak, peak_memory
from shuyuan.train.precision import DTYPES
from shuyuan.train.private import PrivateBackend
from shuyuan.train.torch_backend import TorchBackend

Step = Callable[[Batch], object]
NOISE = 1.0


def settings(options: argparse.Namespace, precision: str) -> Train:
    return Train.model_validate(
        {
            "optimizer": "adamw",
            "precision": precision,
            "batch_size": options.batch,
            "micro_batch": options.micro_batch,
            "learning_rate": 1e-3,
        }
    )


def plain(config: TransformerConfig, options: argparse.Namespace, precision: str) -> Step:
    backend = TorchBackend(Transformer(config, seed=1), settings(options, precision), detect())
    return lambda batch: backend.step(batch, 1e-3)


def private(config: TransformerConfig, options: argparse.Namespace, precision: str) -> Step:
    mechanism = Mechanism(options.batch, options.batch, 10**6, NOISE, 1.0, options.clipping, 1e-5)
    backend = PrivateBackend(
        Transformer(config, seed=1), settings(options, precision), detect(), mechanism, bytes(32)
    )
    return lambda batch: backend.step(batch, 1e-3)


def opacus(config: TransformerConfig, options: argparse.Namespace, precision: str, ghost: bool) -> Step:
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    model = with_torch_norms(Transformer(replace(config, tied=False), seed=1))
    adamw = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.95), weight_decay=0.1, fused=True)
    common: dict[str, Any] = {
        "noise_multiplier": NOISE, "max_grad_norm": 1.0, "expected_batch_size": options.batch, "loss_reduction": "mean",
    }  # fmt: skip
    criterion = nn.CrossEntropyLoss(reduction="mean")
    if ghost:
        wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, loss_reduction="mean")
        optimizer = DPOptimizerFastGradientClipping(adamw, **common)
        criterion = DPLossFastGradientClipping(wrapped, optimizer, criterion, "mean")
    else:
        wrapped = GradSampleModule(model, loss_reduction="mean")
        optimizer = DPOptimizer(adamw, **common)

    def step(batch: Batch) -> None:
        rows = range(0, len(batch.inputs_BT), options.micro_batch)
        for first in rows:
            part = slice(first, first + options.micro_batch)
            inputs, targets = (
                torch.from_numpy(batch.inputs_BT[part]),
                torch.from_numpy(batch.targets_BT[part]),
            )
            optimizer.signal_skip_step(first != rows[-1])
            with torch.autocast("cpu", dtype=DTYPES[precision], enabled=precision != "fp32"):
                logits = wrapped(inputs).float()
                loss = (
                    criterion(logits.flatten(0, 1), targets.flatten(), shape=logits.shape)
                    if ghost
                    else criterion(logits.flatten(0, 1), targets.flatten())
                )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def with_torch_norms(model: nn.Module) -> nn.Module:
    """Opacus has a rule for nn.RMSNorm, and would go its slow general way for ours."""
    for name, module in list(model.named_modules()):
        if isinstance(module, RMSNorm):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.RMSNorm(len(module.weight), eps=module.eps))
    return model


def all_steps(options: argparse.Namespace) -> dict[str, Callable[[], Step]]:
    shape = Model.model_validate({"size": options.size, "context": options.context})
    tied = TransformerConfig.from_recipe(shape, options.vocab, options.vocab - 1)
    untied = replace(tied, tied=False)
    steps: dict[str, Callable[[], Step]] = {}
    for precision in ("fp32", "bf16"):
        steps[f"plain {precision}"] = lambda p=precision: plain(tied, options, p)  # type: ignore[misc]
        steps[f"private {precision}"] = lambda p=precision: private(tied, options, p)  # type: ignore[misc]
        if has_opacus():
            steps[f"private untied {precision}"] = lambda p=precision: private(untied, options, p)  # type: ignore[misc]
            steps[f"opacus hooks {precision}"] = lambda p=precision: opacus(untied, options, p, False)  # type: ignore[misc]
            steps[f"opacus ghost {precision}"] = lambda p=precision: opacus(untied, options, p, True)  # type: ignore[misc]
    return {name: step for name, step in steps.items() if not options.only or name in options.only}


def has_opacus() -> bool:
    try:
        import opacus  # noqa: F401
    except ImportError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="small", choices=["tiny", "small", "medium", "large"])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clipping", default="joint", choices=["joint", "per-layer"])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(detect().cores)
    tokens = np.random.default_rng(0).integers(0, options.vocab, (options.batch, options.context + 1))
    batch = Batch(1, tokens[:, :-1].copy(), tokens[:, 1:].copy(), np.arange(options.batch))
    if options.peak:
        step = all_steps(options)[options.peak]()
        forget_peak()
        step(batch)
        step(batch)
        print(peak_memory())
        return
    steps = {name: make() for name, make in all_steps(options).items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step(batch)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begun)
    report(options, seconds)


def report(options: argparse.Namespace, seconds: dict[str, list[float]]) -> None:
    print(f"{'':26}{'ms a step':>10}{'of plain':>10}{'peak MB':>10}{'of plain':>10}")
    found: dict[str, dict[str, float]] = {}
    for name, times in seconds.items():
        base = f"plain {name.split()[-1]}"
        found[name] = {"ms": statistics.median(times) * 1e3}
        if base in seconds:  # paired, round by round: a slow minute hits both
            ratios = [ours / theirs for ours, theirs in zip(times, seconds[base], strict=True)]
            found[name]["time_ratio"] = statistics.median(ratios)
        if not options.no_memory:
            peak = subprocess.run(
                [sys.executable, *sys.argv, "--peak", name], stdout=subprocess.PIPE, text=True, check=True
            )
            found[name]["peak_mb"] = int(peak.stdout.split()[-1]) / 1e6
            if base in found:
                found[name]["memory_ratio"] = found[name]["peak_mb"] / found[base]["peak_mb"]
        print(
            f"{name:26}{found[name]['ms']:10.0f}{found[name].get('time_ratio', float('nan')):10.3f}"
            f"{found[name].get('peak_mb', float('nan')):10.0f}{found[name].get('memory_ratio', float('nan')):10.3f}",
            flush=True,
        )
    print(
        json.dumps(
            {name: {key: round(value, 3) for key, value in row.items()} for name, row in found.items()}
        )
    )


if __name__ == "__main__":
    main()
