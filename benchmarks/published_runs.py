"""The plan against published training runs: their operations and their GPU hours.

    python benchmarks/published_runs.py [../shared/data/planning/published_training_runs.csv]

Nothing is fitted to these rows: the shares of the peak in hardware/catalog.toml and the constants of planning/time.py come from other
measurements. What a row does not say is filled in by one rule for all (`assumed`): the tokens of a step from the run's own source, else
half a million below a billion parameters and four million above; 1,024 devices where no number is given; matrices split over the eight
devices of a node where it has no room for all states, blocks over eight groups from a hundred billion parameters on; activations
computed again where the run's own source says so, or where they do not fit else; attention unfused in runs older than FlashAttention. Hours that a source worked out from a measured rate have no failures and no waiting
in them: from the plan's they are taken out too. Rows that are projections, or that their sources call no plain pretraining, are left out, and named.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

from shuyuan import pipeline
from shuyuan.hardware import machines
from shuyuan.planning.layouts import ROOM_FOR_STATES, goodput
from shuyuan.progress import Progress
from shuyuan.recipe import from_table

HARDWARE = {"A100-40GB": "a100-40g", "A100-80GB": "a100-80g", "H100-80GB": "h100"}
UNSOUND = (
    "projected",
    "distilled",
    "MoE",
    "llm.c GPT-3",
    "Llama 3 8B",
    "Llama 3.1 8B",
    "Llama 3.2",
    "PaLM",
    "OLMo 1",
)
STATE_BYTES = 18  # of weights, gradients and optimizer, for each parameter
RECOMPUTED = ("OPT", "GPT-NeoX", "Pythia")
UNFUSED = ("OPT", "GPT-NeoX")  # trained before FlashAttention was there
# Of these the table's own source gives a rate, and hours that are the tokens by that rate (OPT: "assuming no hardware issues"; LLaMA:
# 1.4e12 tokens at 380 a second and GPU; TinyLlama: 24,000; llm.c: milliseconds an iteration).
BY_RATE = ("OPT", "LLaMA-", "TinyLlama", "llm.c")
# Tokens a step, as the runs' own sources have them: GPT-NeoX and SmolLM3 in the table; Pythia in the table of EleutherAI/pythia's README.
STEP_TOKENS = {"GPT-NeoX": 3_150_000, "SmolLM3": 2_359_296, "Pythia": 2_097_152}
Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parents[2] / "shared/data/planning/published_training_runs.csv"
    parser.add_argument("table", type=Path, nargs="?", default=default)
    rows = list(csv.DictReader(parser.parse_args().table.open(encoding="utf-8")))
    operations(rows)
    hours(rows)


def operations(rows: list[Row]) -> None:
    """Parameters and tokens times 6 beside what was reported, or times what the report says that it counts."""
    print(f"{'operations':36}{'a parameter and token':>22}{'counted / reported':>20}")
    ratios = []
    for row in rows:
        if row["train_flops_reported"] and sound(row):
            each = operations_each(row)
            ratio = each * float(row["params"]) * float(row["tokens"]) / float(row["train_flops_reported"])
            ratios.append(ratio)
            print(f"{row['model'][:34]:36}{each:22.2f}{ratio:20.3f}")
    print(f"within 5 %: {sum(abs(ratio - 1) <= 0.05 for ratio in ratios)} of {len(ratios)}\n")


def operations_each(row: Row) -> float:
    """Operations of a parameter and a token, as the row's source counts them: 6, unless it says otherwise.

    The table says of OPT that activations which are computed again are counted (8). nanochat's own count (estimate_flops) leaves out the
    table of embeddings and adds the products of attention.
    """
    if "counts recompute" in row["source"]:
        return 8.0
    if row["model"].startswith("nanochat"):
        params, table = float(row["params"]), float(row["vocab"]) * float(row["d_model"])
        attention = 12 * float(row["layers"]) * float(row["d_model"]) * float(row["seq_len"])
        return (6 * (params - table) + attention) / params
    return 6.0


def hours(rows: list[Row]) -> None:
    """Planned GPU hours beside those reported."""
    print(f"{'GPU hours':30}{'planned':>12}{'reported':>12}{'ratio':>8}  peak of each GPU, layout")
    ratios, left_out = [], []
    for row in rows:
        if not row["gpu_hours_reported"]:
            continue
        if not sound(row) or row["gpu"] not in HARDWARE:
            left_out.append(row["model"])
            continue
        plan, layout = planned(row)
        planned_hours, reported = plan["price"]["device_hours"], float(row["gpu_hours_reported"])
        if row["model"].startswith(BY_RATE):
            planned_hours *= goodput(devices_of(row))
        ratios.append(planned_hours / reported)
        peak = f"{plan['peak_bytes']['expected'] / 1e9:.0f} GB, {layout or 'sharded data parallel'}"
        print(f"{row['model'][:28]:30}{planned_hours:12,.0f}{reported:12,.0f}{ratios[-1]:8.2f}  {peak}")
    good = sum(1 / 1.3 <= ratio <= 1.3 for ratio in ratios)
    print(f"within a factor of 1.3: {good} of {len(ratios)}; median {statistics.median(ratios):.2f}")
    print("left out:", "; ".join(left_out))


def sound(row: Row) -> bool:
    return not any(words in row["model"] for words in UNSOUND)


def planned(row: Row) -> tuple[dict[str, Any], str]:
    """The plan of a row, and the layout that it was made for."""
    on, layout, batch_tokens = assumed(row)
    table = recipe_of(row, batch_tokens, 1 if "pipeline" in layout else "auto")
    plan = pipeline.plan_for(from_table(table), None, Progress(), machines(on), layout=layout)
    if plan["fits"] or "recompute" in layout:
        return plan, layout
    again = ",".join([*filter(None, [layout]), "recompute"])
    return pipeline.plan_for(from_table(table), None, Progress(), machines(on), layout=again), again


def recipe_of(row: Row, batch_tokens: int, micro_batch: int | str) -> dict[str, Any]:
    """The recipe of a row."""
    tokens, context = float(row["tokens"]), int(row["seq_len"])
    return {
        "name": "published",
        "data": {"source": "hf:org/text"},
        "tokenizer": {"kind": "bpe", "vocab_size": int(row["vocab"])},
        "model": {
            "layers": int(row["layers"]),
            "width": int(row["d_model"]),
            "heads": int(row["heads"]),
            "kv_heads": int(row["kv_heads"]),
            "hidden": hidden(row),
            "context": context,
        },
        "train": {
            "budget": f"{tokens / 1e6:.0f}M tokens",
            "batch_size": max(1, batch_tokens // context),
            "micro_batch": micro_batch,
            "optimizer": "adamw",
            "checkpoint_every": "3 h",
        },
    }


def assumed(row: Row) -> tuple[str, str, int]:
    """(hardware, layout, tokens a step) by the rule above."""
    size, devices = float(row["params"]), devices_of(row)
    words = []
    memory = machines(HARDWARE[row["gpu"]]).hardware.memory_bytes
    if STATE_BYTES * size / 8 > ROOM_FOR_STATES * memory:
        words.append("tensor=8")
    if size > 1e11:
        words.append("pipeline=8")
    if row["model"].startswith(RECOMPUTED):
        words.append("recompute")
    if row["model"].startswith(UNFUSED):
        words.append("unfused")
    nodes = max(1, devices // 8)
    given = (tokens for name, tokens in STEP_TOKENS.items() if row["model"].startswith(name))
    batch = next(given, 2**22 if size > 1e9 else 2**19)
    return (
        f"{HARDWARE[row['gpu']]}:{nodes}x{min(8, devices)}",
        ",".join(words),
        max(batch, devices * int(row["seq_len"])),
    )


def devices_of(row: Row) -> int:
    return int(row["gpu_count"] or 1024)


def hidden(row: Row) -> int:
    """The width of a gated layer with as many operations: of runs without a gate, two thirds of their own."""
    layers, width, inner = int(row["layers"]), int(row["d_model"]), int(row["d_ff"])
    attention = 2 * width**2 * (1 + int(row["kv_heads"]) / int(row["heads"]))
    left = (float(row["params"]) - 2 * int(row["vocab"]) * width) / layers - attention
    gated = abs(left - 3 * width * inner) < abs(left - 2 * width * inner)
    return inner if gated else round(inner * 2 / 3 / 8) * 8


if __name__ == "__main__":
    main()
