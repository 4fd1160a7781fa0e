"""What private training reaches in a fixed time: ours and Opacus, the same model, records, ε and seconds, in turns.

    pip install --no-deps opacus opt_einsum     # the peer, in an environment of the benchmark's own
    python benchmarks/private_utility.py [--epsilon 3 8] [--seconds 120] [--seeds 1] [--quick]

The model is 4 x 128 with a context of 128 bytes; a record, and the unit, is a paragraph of the text of Python's standard
library, or of `--text FILE`. Each side is first timed, Opacus in both of its modes, of which the faster one then counts.
The steps that fit into the seconds follow from that, and the noise from the steps, by each side's own accountant (PLD here,
PRV there): whoever is faster makes more steps, each with a little more noise. Batches are drawn by coins on both sides, with
the same expected size; optimizer, first weights, learning rate and its course over the steps are the same. After each tenth
of its steps a side rests while the other one catches up, and is evaluated, off the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import _opacus
from shuyuan.data.sources import Wanted, open_source
from shuyuan.hardware import detect
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.privacy import accountant, make_private

START = 256  # the token before the first byte
NOTHING = -100
SHORTEST = 64  # bytes of a paragraph that counts as a record
MARKS = 10  # evaluations
WARMUP = 0.1  # share of the steps over which the learning rate rises; then it falls in a line


class Data(NamedTuple):
    """Records as rows of bytes, the targets one byte ahead; `NOTHING` where a record has ended."""

    inputs_NT: Tensor
    targets_NT: Tensor


# Makes all steps, and stops after each one. Arguments: model, records, steps, noise multiplier, options.
Side = Callable[[Transformer, Data, int, float, argparse.Namespace], Iterator[None]]


def ours(
    model: Transformer, data: Data, steps: int, noise: float, options: argparse.Namespace
) -> Iterator[None]:
    optimizer = adamw(model)
    private = make_private(
        model,
        optimizer,
        units=len(data.inputs_NT),
        expected_batch=options.batch,
        steps=steps,
        noise_multiplier=noise,
    )
    for step, batch in enumerate(private.batches(options.micro_batch), 1):
        set_rate(optimizer, step, steps, options.rate)
        for rows in batch:
            targets = data.targets_NT[rows]
            losses = model.losses(data.inputs_NT[rows], targets)
            private.backward(losses.sum(1) / (targets >= 0).sum(1).clamp(min=1))
        private.step()
        yield
    private.close()


def opacus(
    mode: str, model: Transformer, data: Data, steps: int, noise: float, options: argparse.Namespace
) -> Iterator[None]:
    """As Opacus' documentation writes the loop, with its memory manager for physical batches."""
    from opacus import PrivacyEngine
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    numbers = TensorDataset(torch.arange(len(data.inputs_NT)))
    made = PrivacyEngine(accountant="prv").make_private(
        module=model.train(),
        optimizer=adamw(model),
        criterion=torch.nn.CrossEntropyLoss(),
        data_loader=DataLoader(numbers, batch_size=options.batch),
        noise_multiplier=noise,
        max_grad_norm=1.0,
        grad_sample_mode=mode,
    )
    module, optimizer, criterion, loader = (
        made if mode == "ghost" else (*made[:2], torch.nn.CrossEntropyLoss(), made[2])
    )
    step = 0
    while True:
        with BatchMemoryManager(
            data_loader=loader, max_physical_batch_size=options.micro_batch, optimizer=optimizer
        ) as parts:
            for (rows,) in parts:
                set_rate(optimizer, step + 1, steps, options.rate)
                optimizer.zero_grad()
                _opacus.loss_of(criterion, module(data.inputs_NT[rows]), data.targets_NT[rows]).backward()
                optimizer.step()
                if optimizer._is_last_step_skipped:
                    continue
                step += 1
                yield
                if step == steps:
                    return


def adamw(model: Transformer) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), 0.0, (0.9, 0.95), weight_decay=0.0, fused=True)


def set_rate(optimizer: Any, step: int, steps: int, peak: float) -> None:
    warm = math.ceil(WARMUP * steps)
    factor = step / (warm + 1) if step <= warm else (steps + 1 - step) / (steps - warm)
    for group in optimizer.param_groups:
        group["lr"] = peak * factor


# ---- records and models ----------------------------------------------------------------------------------------------


def records(options: argparse.Namespace) -> tuple[Data, Data]:
    """Training and validation; of the training a multiple of the batch, so that both sides have the same sampling rate."""
    texts = (
        [options.text.read_text(encoding="utf-8")]
        if options.text
        else (
            str(row.values["text"])
            for row in open_source("stdlib", Wanted("text", ("text",))).rows(Counter())
        )
    )
    paragraphs = {part.encode() for text in texts for part in re.split(r"\n\s*\n", text)}
    kept = sorted(part for part in paragraphs if len(part) >= SHORTEST)
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()
    validation = min(options.validation, len(kept) // 10)
    count = min(len(kept) - validation, options.records) // options.batch * options.batch
    first, second = order[:validation], order[validation : validation + count]
    return tuple(as_rows([kept[number] for number in part], options.context) for part in (second, first))  # type: ignore[return-value]


def as_rows(texts: list[bytes], context: int) -> Data:
    inputs_NT = torch.zeros(len(texts), context, dtype=torch.int64)
    targets_NT = torch.full((len(texts), context), NOTHING)
    for row, text in enumerate(texts):
        found = torch.tensor([START, *text[:context]])
        inputs_NT[row, : len(found) - 1], targets_NT[row, : len(found) - 1] = found[:-1], found[1:]
    return Data(inputs_NT, targets_NT)


def new_model(side: str, options: argparse.Namespace, seed: int) -> Transformer:
    """With a head of its own, which Opacus' ghost mode needs."""
    layers, width = options.shape
    config = TransformerConfig(
        START + 1, layers, width, width // 32, width // 64, 32, 3 * width, options.context, tied=False
    )
    model = Transformer(config, seed=seed)
    if side.startswith("opacus"):
        _opacus.with_torch_norms(model)
    return model.to(detect().device)


@torch.no_grad()
def evaluate(model: Transformer, data: Data) -> float:
    """Nats a byte of the validation records."""
    model.eval()
    total = sum(
        float(model.losses(inputs, targets).sum())
        for inputs, targets in zip(data.inputs_NT.split(256), data.targets_NT.split(256), strict=True)
    )
    model.train()
    return total / int((data.targets_NT >= 0).sum())


# ---- time, steps and noise -------------------------------------------------------------------------------------------


def step_seconds(sides: dict[str, Side], data: Data, options: argparse.Namespace) -> dict[str, float]:
    """Of each side: the median of a few steps, made in turns."""
    turns = 2 + options.timed
    running = {
        name: side(new_model(name, options, 0), data, turns, 1.0, options) for name, side in sides.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns - 1):
        for name, steps in running.items():
            begun = time.perf_counter()
            next(steps)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in seconds.items()}


def noise_for(side: str, epsilon: float, steps: int, units: int, options: argparse.Namespace) -> float:
    delta, rate = accountant.default_delta(units), options.batch / units
    if side == "shuyuan":
        return accountant.noise_multiplier_for(epsilon, rate, steps, delta)
    from opacus.accountants.utils import get_noise_multiplier

    return float(
        get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant="prv"
        )
    )


def race(
    sides: dict[str, Side],
    plan: dict[str, tuple[int, float]],
    train: Data,
    validation: Data,
    options: argparse.Namespace,
    seed: int,
) -> list[dict[str, Any]]:
    """Both sides to their last step, in turns; the curve: for each mark and side seconds, steps and validation loss."""
    torch.manual_seed(seed)  # Opacus draws from it; ours from a secret
    models = {name: new_model(name, options, seed) for name in sides}
    running = {name: sides[name](models[name], train, *plan[name], options) for name in sides}
    seconds = dict.fromkeys(sides, 0.0)
    curve = []
    for mark in range(1, MARKS + 1):
        row: dict[str, Any] = {}
        for name, steps in running.items():
            share, before = (round(number / MARKS * plan[name][0]) for number in (mark, mark - 1))
            begun = time.perf_counter()
            for _ in range(share - before):
                next(steps)
            seconds[name] += time.perf_counter() - begun
            row[name] = {
                "seconds": round(seconds[name], 2),
                "steps": share,
                "loss": round(evaluate(models[name], validation), 4),
            }
        curve.append(row)
        print(
            "   ".join(f"{r['seconds']:8.1f} s {r['steps']:6} steps {r['loss']:8.4f}" for r in row.values()),
            flush=True,
        )
    return curve


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(detect().cores)
    if not _opacus.available():
        raise SystemExit("The peer is missing: pip install --no-deps opacus opt_einsum")
    train, validation = records(options)
    train = Data(*(part.to(detect().device) for part in train))
    validation = Data(*(part.to(detect().device) for part in validation))
    units = len(train.inputs_NT)
    everyone: dict[str, Side] = {"shuyuan": ours} | {
        f"opacus {mode}": partial(opacus, mode) for mode in _opacus.MODES
    }
    seconds = step_seconds(everyone, train, options)
    best = min((name for name in everyone if name != "shuyuan"), key=lambda name: seconds[name])
    sides = {name: everyone[name] for name in ("shuyuan", best)}
    print(
        f"{detect().name}, {detect().cores} cores; {units:,} records of at most {options.context} bytes, ",
        end="",
    )
    print(
        f"{len(validation.inputs_NT):,} for validation; {options.batch} a step, in parts of {options.micro_batch}"
    )
    print("seconds a step: " + ", ".join(f"{name} {value:.3f}" for name, value in seconds.items()))

    found: dict[str, Any] = {"step_seconds": seconds, "records": units, "runs": []}
    for epsilon in options.epsilon:
        steps = {name: max(MARKS, int(options.seconds / seconds[name])) for name in sides}
        plan = {
            name: (count, noise_for(name, epsilon, count, units, options)) for name, count in steps.items()
        }
        for seed in range(1, options.seeds + 1):
            print(f"\nε = {epsilon:g}, δ = {accountant.default_delta(units):.2g}, seed {seed}")
            print("   ".join(f"{name}, noise multiplier {plan[name][1]:.3f}".ljust(34) for name in sides))
            curve = race(sides, plan, train, validation, options, seed)
            found["runs"].append({"epsilon": epsilon, "seed": seed, "plan": plan, "curve": curve})
    if options.write:
        options.write.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))
    for epsilon in options.epsilon:
        lasts = [run["curve"][-1] for run in found["runs"] if run["epsilon"] == epsilon]
        losses = {name: statistics.mean(last[name]["loss"] for last in lasts) for name in sides}
        print(f"ε = {epsilon:g}: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()), end="")
        print(f": a difference of {losses['shuyuan'] - losses[best]:+.4f} nats a byte")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epsilon", type=float, nargs="+", default=[3.0, 8.0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of each side, for each ε and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128, help="expected records of a step")
    parser.add_argument("--micro-batch", type=int, default=64)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--shape", type=int, nargs=2, default=[4, 128], metavar=("LAYERS", "WIDTH"))
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate, of both")
    parser.add_argument("--records", type=int, default=10**9, help="at most so many of them")
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=6, help="steps that are timed before")
    parser.add_argument(
        "--text", type=Path, help="a text file, cut into paragraphs, in place of the built-in one"
    )
    parser.add_argument("--write", type=Path, help="a JSON file for the curves")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds of a tiny model, to try the script"
    )
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.batch, options.micro_batch, options.shape = 5.0, 16, 8, [1, 64]
        options.epsilon, options.validation, options.timed = options.epsilon[:1], 100, 2
    return options


if __name__ == "__main__":
    main()
