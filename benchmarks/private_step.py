"""What privacy costs: the plain step, the private one, and the peers' ways, on the same model and data.

    pip install --no-deps opacus opt_einsum     # the peer, in an environment of the benchmark's own; without it, ours alone
    python benchmarks/private_step.py [--case main|long|vocabulary|large|cnn|lora|all] [--rounds 3] [--quick]
    python benchmarks/private_step.py --jax-python PYTHON     # with a Python that has jax-privacy: that peer too

Cases: main, 6 x 256, context 256, 64 sequences in 4 physical batches, vocabulary 4096; long, context 1024; vocabulary,
32,768 tokens; large, 12 x 768, context 1024, 50,304 tokens, for a GPU (where blocks are also compiled); cnn, a residual net with GroupNorm on 256 images of 32 x 32 in 4; lora, Qwen3 of transformers with adapters
of rank 16. The first four are steps of a recipe's backend, the other two of `make_private` in a loop of one's own.

A step is a logical batch with AdamW, and in the private ones clipping of each row, and noise. All take turns, round by
round, in one process; the median of the ratios of each round counts. Transformers are measured with a head of its own as
well as with the tied one, since Opacus' ghost clipping cannot tie; Opacus gets nn.RMSNorm in place of ours, for which it
has a rule; convolutions have none in its ghost mode, which makes their gradients one by one and keeps the norms alone.
JAX-Privacy computes in its own process, and is compared with the plain step in JAX. Peak memory is that of a process that
does one of them alone, with two physical batches a step: more do not raise it.
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

import torch

from _private_cases import CASES, PRECISIONS, QUICK, Jax, Sizes, Step, base_of, ways
from shuyuan.hardware import detect
from shuyuan.train.memory import forget_peak, peak_memory

Seconds = dict[str, list[float]]  # of each way, round by round
Row = dict[str, float]


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(detect().cores)
    everywhere = [case for case in CASES if case != "large" or torch.cuda.is_available()]
    cases = everywhere if options.case == "all" else [options.case]
    if options.peak:
        print(peak(makers(options, cases[0], of_peak=True)[options.peak]))
        return
    found = {}
    for case in cases:
        sizes = sizes_of(options, case)
        print(f"{case}: {detect().name}, {detect().cores} cores, {options.rounds} rounds, {sizes}")
        seconds = in_turns(makers(options, case), options.rounds)
        found[case] = report(options, case, seconds)
    print(json.dumps(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="main", choices=[*CASES, "all"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of tiny shapes, to try the script")
    parser.add_argument("--precision", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--only", nargs="+", default=[], help='ways, such as "plain fp32" "private fp32"')
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--jax-python", help="an interpreter with jax and jax-privacy, for the case main")
    for name in ("--batch", "--micro-batch", "--context", "--vocab"):
        parser.add_argument(name, type=int, help="in place of the case's own")
    parser.add_argument("--size", choices=["tiny", "small", "medium", "large"], help="of the transformers")
    parser.add_argument("--clipping", choices=["joint", "per-layer"])
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    return options


def sizes_of(options: argparse.Namespace, case: str) -> Sizes:
    given = QUICK if options.quick else {}
    named = {key: value for key, value in vars(options).items() if key in Sizes.__annotations__ and value}
    return replace(CASES[case], **given | named)


def makers(options: argparse.Namespace, case: str, *, of_peak: bool = False) -> dict[str, Callable[[], Step]]:
    """The ways that were asked for."""
    sizes = sizes_of(options, case)
    if of_peak:
        sizes = replace(sizes, batch=2 * sizes.micro_batch)
    return {
        name: make
        for name, make in ways(case, sizes, options.jax_python).items()
        if (name in options.only if options.only else name.split()[-1] in options.precision)
    }


def in_turns(makers: dict[str, Callable[[], Step]], rounds: int) -> Seconds:
    """Each round makes one step of each way; the first round warms up."""
    steps = {name: make() for name, make in makers.items()}
    seconds: Seconds = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def peak(make: Callable[[], Step]) -> int:
    """Bytes of the GPU, or of the process, over two steps: the second has the optimizer's state from the beginning."""
    step = make()
    forget_peak()
    step()
    step()
    if isinstance(step, Jax):
        return step.peak()
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory()


def peak_alone(case: str, name: str) -> int:
    """The same of a process that does nothing else."""
    command = [sys.executable, *sys.argv, "--case", case, "--peak", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def report(options: argparse.Namespace, case: str, seconds: Seconds) -> dict[str, Row]:
    print(f"{'':26}{'ms a step':>10}{'of plain':>10}{'peak MB':>10}{'of plain':>10}")
    found: dict[str, Row] = {}
    for name in seconds:
        base = base_of(name)
        row = found[name] = {"ms": statistics.median(seconds[name]) * 1e3}
        if base in seconds:
            row["time_ratio"] = ratio(seconds, name, base)
        if not options.no_memory:
            row["peak_mb"] = peak_alone(case, name) / 1e6
            if base in found:
                row["memory_ratio"] = row["peak_mb"] / found[base]["peak_mb"]
        columns = [row.get(key, float("nan")) for key in ("time_ratio", "peak_mb", "memory_ratio")]
        print(f"{name:26}{row['ms']:10.0f}{columns[0]:10.3f}{columns[1]:10.0f}{columns[2]:10.3f}", flush=True)
    for precision in PRECISIONS:
        peers = [name for name in seconds if name.startswith("opacus") and name.endswith(precision)]
        ours = next(
            (name for name in (f"private untied {precision}", f"private {precision}") if name in seconds),
            None,
        )
        if ours and peers:
            best = min(peers, key=lambda name: found[name]["ms"])
            found[ours]["of_best_opacus"] = ratio(seconds, ours, best)
            print(f"{ours} takes {found[ours]['of_best_opacus']:.3f} times {best}")
    return {name: {key: round(value, 3) for key, value in row.items()} for name, row in found.items()}


def ratio(seconds: Seconds, name: str, base: str) -> float:
    """The median over rounds: paired, so that a slow minute hits both."""
    return statistics.median(ours / theirs for ours, theirs in zip(seconds[name], seconds[base], strict=True))


if __name__ == "__main__":
    main()
