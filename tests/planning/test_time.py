"""The time's formula obeys what must hold on every machine; how close it comes is the bench's business."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shuyuan.hardware import Hardware, Rates
from shuyuan.models import TransformerConfig
from shuyuan.planning.cost import train_flops_per_token
from shuyuan.planning.time import EFFICIENCY, predicted_costs
from shuyuan.train.resolve import Costs

from .parts import CPU, GPU, RATES, make_manifest, make_recipe

WIDE = {"layers": 4, "width": 1024, "context": 512}


def costs(model: dict[str, Any], hardware: Hardware = CPU, rates: Rates = RATES, **train: Any) -> Costs:
    asked = {"batch_size": 8, "micro_batch": 8, "precision": "fp32", "optimizer": "adamw"} | train
    recipe = make_recipe(model=model, train=asked)
    config = TransformerConfig.from_recipe(recipe.model, 4096, 0)
    return predicted_costs(recipe, config, make_manifest(), hardware, rates)


def test_a_large_model_is_bound_by_its_matrix_products() -> None:
    config = TransformerConfig.from_recipe(make_recipe(model=WIDE).model, 4096, 0)
    products = 8 * 512 * train_flops_per_token(config) / (RATES.matmul_flops["fp32"] * EFFICIENCY["fp32"])
    assert products < costs(WIDE).step < 1.3 * products


def test_rates_twice_as_fast_halve_what_they_rule() -> None:
    fast = Rates({name: 2 * rate for name, rate in RATES.matmul_flops.items()}, 8e10, 8e8)
    assert costs(WIDE, rates=fast).step == pytest.approx(costs(WIDE).step / 2, rel=0.05)
    assert costs(WIDE, rates=fast).checkpoint < 0.7 * costs(WIDE).checkpoint


def test_a_tiny_model_is_bound_by_its_calls() -> None:
    tiny = {"layers": 2, "width": 32, "context": 16}
    infinite = Rates({"fp32": 1e30, "bf16": 1e30}, 1e30, 1e30)
    assert costs(tiny).step < 2 * costs(tiny, rates=infinite).step
    assert costs(tiny, rates=infinite).step > 1e-3


def test_bf16_pays_where_its_rate_is_higher() -> None:
    assert costs(WIDE, precision="bf16").step < 0.7 * costs(WIDE).step


def test_long_attention_gains_nothing_from_bf16_on_a_processor() -> None:
    wide = Rates({"fp32": 2e11, "bf16": 2e13}, 4e13, 4e8)  # so that attention is nearly all that is left
    long = {"layers": 2, "width": 64, "context": 2048}
    on_cpu, on_gpu = (costs(long, machine, wide, precision="bf16").step for machine in (CPU, GPU))
    assert on_cpu > 1.3 * on_gpu


def test_muon_costs_more_than_adamw_and_the_same_for_any_batch() -> None:
    extra = [
        costs(WIDE, optimizer="muon", batch_size=size).step - costs(WIDE, batch_size=size).step
        for size in (8, 32)
    ]
    assert extra[0] == pytest.approx(extra[1])
    assert extra[0] > 0


def test_micro_batches_add_up() -> None:
    parts = costs(WIDE, batch_size=32, micro_batch=8).step
    assert parts > costs(WIDE, batch_size=32, micro_batch=32).step > 0.9 * parts


def test_a_precision_that_was_not_measured_is_taken_for_fp32() -> None:
    rates = replace(RATES, matmul_flops={"fp32": 2e11})
    assert costs(WIDE, rates=rates, precision="bf16").step > 0


def test_an_evaluation_takes_a_third_of_a_step_on_as_many_windows() -> None:
    found = costs({"layers": 4, "width": 256, "context": 256}, batch_size=32, micro_batch=32)
    assert found.evaluation == pytest.approx(found.step / 3, rel=0.1)


@pytest.mark.parametrize("machine", [CPU, GPU])
def test_activation_checkpointing_makes_the_blocks_forward_pass_once_more(machine: Hardware) -> None:
    plain, again = (costs(WIDE, machine, activation_checkpointing=on) for on in (False, True))
    assert 1.2 < again.step / plain.step < 4 / 3
    assert again.evaluation == pytest.approx(plain.evaluation, rel=0.1)  # where nothing comes back


@pytest.mark.parametrize("hardware", [CPU, GPU])
def test_floats_of_codes_are_made_for_each_pass_over_the_blocks(hardware: Hardware) -> None:
    """Once forward, once back, and once more where blocks are computed again; for each physical batch anew."""
    wide = {"layers": 4, "width": 2048, "context": 512}
    config = TransformerConfig.from_recipe(make_recipe(model=wide).model, 4096, 0)

    def step(micro_batch: int, base: str | None = None, *, again: bool = False) -> float:
        train = {"batch_size": 8, "micro_batch": micro_batch, "precision": "fp32", "optimizer": "adamw"}
        train |= {"lora": {"rank": 4, "base": base}, "activation_checkpointing": again}
        recipe = make_recipe(model=wide | {"from": "somewhere"}, train=train)
        return predicted_costs(recipe, config, make_manifest(), hardware, RATES).step

    once = step(8, "int4") - step(8)
    assert once > step(8, "int8") - step(8) > 0
    assert step(2, "int4") - step(2) == pytest.approx(4 * once)
    assert step(8, "int4", again=True) - step(8, again=True) == pytest.approx(1.5 * once)
    assert once < 0.2 * step(8)
