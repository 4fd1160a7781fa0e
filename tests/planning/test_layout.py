"""Plans for other machines: several devices share the states, each holds its own activations, and all of it has a price."""

from __future__ import annotations

from typing import Any

import pytest

from shuyuan import pipeline
from shuyuan.errors import MachineError
from shuyuan.hardware import machines
from shuyuan.models import TransformerConfig
from shuyuan.planning.layouts import Layout, costs_together, goodput
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from shuyuan.train.resolve import Costs

LARGE: dict[str, Any] = {
    "data": {"source": "hf:org/text"},
    "tokenizer": {"kind": "bpe", "vocab_size": 32_000},
    "model": {"layers": 32, "width": 4096, "hidden": 11008, "context": 2048},
    "train": {
        "budget": "10B tokens",
        "batch_size": 512,
        "micro_batch": 1,
        "optimizer": "adamw",
        "checkpoint_every": "3 h",
    },
}


def planned(on: str, price: float | None = None, **train: Any) -> dict[str, Any]:
    table = LARGE | {"train": LARGE["train"] | train}
    return pipeline.plan_for(from_table(table), None, Progress(), machines(on), price)


def test_states_are_shared_and_activations_are_not() -> None:
    one, eight = planned("h100"), planned("h100:8")
    states = 4 + 8  # bytes of weights and of AdamW for each parameter
    assert one["items"]["weights"] + one["items"]["optimizer"] == states * one["parameters"]
    assert eight["items"]["weights"] == one["items"]["weights"] // 8
    assert eight["items"]["activations"] == one["items"]["activations"]
    assert not one["fits"] and eight["peak_bytes"]["expected"] < one["peak_bytes"]["expected"] / 2


def test_more_devices_take_less_time_and_never_fewer_hours() -> None:
    plans = [planned(on) for on in ("h100", "h100:8", "h100:8x8")]
    seconds = [plan["seconds"]["expected"] for plan in plans]
    hours = [plan["price"]["device_hours"] for plan in plans]
    assert seconds == sorted(seconds, reverse=True) and hours == sorted(hours)
    assert seconds[0] / seconds[1] > 6


def test_the_share_of_the_peak_is_what_models_of_this_size_reach() -> None:
    """Published runs of 7 billion parameters on eight cards of one machine reach 35 to 60 %."""
    plan = planned("a100-80g:8", micro_batch=4)
    reached = plan["train_flops"] / (plan["seconds"]["expected"] * 8 * 312e12)
    assert 0.35 < reached < 0.65


def test_the_price() -> None:
    plan = planned("h100:8", price=2.5)
    price = plan["price"]
    assert price["device_hours"] == pytest.approx(8 * plan["seconds"]["expected"] / 3600)
    assert price["amount"]["expected"] == pytest.approx(2.5 * price["device_hours"])
    assert price["amount"]["low"] < price["amount"]["expected"] < price["amount"]["high"]
    assert price["energy_kwh"] == pytest.approx(price["device_hours"] * 0.7 * 1.5)
    assert planned("h100:8")["price"]["amount"] is None
    assert planned("cpu:32")["price"]["energy_kwh"] is None


def test_devices_without_work_are_told() -> None:
    assert any("56 of 64 devices" in note for note in planned("h100:8x8", batch_size=8)["notes"])
    assert not any("devices" in note for note in planned("h100:8x8")["notes"])


def test_a_v100_is_planned_in_fp16() -> None:
    assert (
        planned("v100-32g")["seconds"]["expected"]
        < planned("v100-32g", precision="fp32")["seconds"]["expected"] / 3
    )


# ---- layouts of others -----------------------------------------------------------------------------------------------

GPT3: dict[str, Any] = LARGE | {
    "model": {"layers": 96, "width": 12288, "heads": 96, "hidden": 32768, "context": 2048},
    "train": LARGE["train"] | {"budget": "300B tokens", "batch_size": 1536},
}


def laid(on: str, layout: str, table: dict[str, Any] = GPT3) -> dict[str, Any]:
    return pipeline.plan_for(from_table(table), None, Progress(), machines(on), layout=layout)


def test_the_scale_of_gpt3() -> None:
    """175 billion parameters on 1,024 A100: 34 days by Narayanan et al., 33 days without interruptions by OPT's account."""
    plan = laid("a100-80g:128x8", "tensor=8,pipeline=8,recompute,unfused")
    assert plan["parameters"] == pytest.approx(175e9, rel=0.01)
    days = plan["seconds"]["expected"] / 86400
    assert 28 < days < 40
    assert plan["price"]["device_hours"] == pytest.approx(days * 24 * 1024)
    # 2 + 4 bytes a parameter on each of 64 devices are 16 GB, the shared optimizer 2, activations of 8 physical batches the rest.
    assert plan["fits"] and 20e9 < plan["peak_bytes"]["expected"] < 40e9
    assert plan["peak_bytes"]["low"] <= plan["peak_bytes"]["expected"] <= plan["peak_bytes"]["high"]
    alone = laid("a100-80g", "")
    assert not alone["fits"]


def test_what_a_tensor_and_a_pipeline_group_hold() -> None:
    plan = laid("a100-80g:128x8", "tensor=8,pipeline=8")
    each = plan["parameters"] // 64
    assert plan["items"]["weights"] == 2 * each and plan["items"]["gradients"] == 4 * each
    assert plan["items"]["optimizer"] == 12 * each // 16
    again = laid("a100-80g:128x8", "tensor=8,pipeline=8,recompute")
    assert again["items"]["activations"] < plan["items"]["activations"] / 5
    assert again["seconds"]["expected"] > 1.2 * plan["seconds"]["expected"]
    asked = GPT3 | {"train": GPT3["train"] | {"activation_checkpointing": True}}
    assert laid("a100-80g:128x8", "tensor=8,pipeline=8", asked)["items"] == again["items"]


def test_a_pipeline_waits_more_where_a_step_has_few_parts() -> None:
    few, many = (
        laid("a100-80g:32x8", "tensor=8,pipeline=16", GPT3 | {"train": GPT3["train"] | {"batch_size": size}})
        for size in (32, 512)
    )
    assert few["seconds"]["expected"] > 1.3 * many["seconds"]["expected"]


def test_attention_that_passes_through_memory_takes_more_of_both() -> None:
    fused, unfused = (laid("a100-80g:128x8", f"tensor=8,pipeline=8{word}") for word in ("", ",unfused"))
    assert unfused["items"]["activations"] > 1.2 * fused["items"]["activations"]
    assert unfused["seconds"]["expected"] > 1.02 * fused["seconds"]["expected"]


def test_devices_that_share_the_states_share_the_update() -> None:
    config = TransformerConfig(300, 2, 64, 2, 2, 32, 160, 32)
    costs = Costs(step=3.0, evaluation=0.0, checkpoint=0.0, update=1.0)
    together = costs_together(costs, config, machines("h100:8"), Layout(), 1, 32)
    assert together.step == pytest.approx(2.0 + 1.0 / 8, rel=1e-3)


def test_on_many_devices_a_share_of_the_time_is_lost() -> None:
    """As published runs have it: BLOOM and Llama 3.1 0.89, PaLM 0.65 of steady rates, hardly anything on one node."""
    shares = [goodput(devices) for devices in (1, 8, 64, 384, 2048, 16_384)]
    assert shares == [1.0, 1.0, 0.95, 0.89, 0.83, 0.77]
    costs, config = Costs(3.0, 0.0, 0.0, update=1.0), TransformerConfig(300, 2, 64, 2, 2, 32, 160, 32)
    on_64 = costs_together(costs, config, machines("h100:8x8"), Layout(), 1, 32)
    assert on_64.step == pytest.approx((2.0 + 1.0 / 8) / 0.95, rel=1e-2)  # each node holds the states


@pytest.mark.parametrize(
    "layout",
    [
        "tensor=16",
        "tensor=3",
        "tensor=0",
        "pipeline=7",
        "tensor",
        "data=8",
        "tensor=8;pipeline=2",
        "recompute=1",
    ],
)
def test_layouts_that_fit_nothing(layout: str) -> None:
    with pytest.raises(MachineError, match="bad-layout"):
        laid("a100-80g:4x8", layout)
