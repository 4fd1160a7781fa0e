"""What a model takes when it is asked for text: as the engine really holds it, and as much of it as fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shuyuan.hardware import machines
from shuyuan.models import ImageConfig, TransformerConfig
from shuyuan.planning import plan
from shuyuan.planning.serving import FULL, kv_bytes_per_token, serving, weight_bytes

from .parts import CPU, GPU, RATES, make_manifest, make_recipe

CONFIG = TransformerConfig(257, 4, 256, 4, 2, 64, 672, 128)


def test_a_head_is_as_wide_as_the_model_says() -> None:
    """Qwen3-4B: 36 layers, width 2560, 32 heads of 128 that share 8: 147,456 bytes a token in 16 bits, and not 92,160."""
    config = TransformerConfig(151_936, 36, 2560, 32, 8, 128, 9728, 4096)
    assert kv_bytes_per_token(config, 2) == 147_456


@pytest.mark.parametrize("half", [False, True])
def test_the_cache_is_as_large_as_the_one_that_the_model_has(half: bool) -> None:
    torch = pytest.importorskip("torch")
    from shuyuan.models.cache import Cache

    cache = Cache(CONFIG, 3, 50, dtype=torch.bfloat16 if half else torch.float32)
    real = sum(kept.numel() * kept.element_size() for kept in (cache.keys_LBKSD, cache.values_LBKSD))
    assert 150 * kv_bytes_per_token(CONFIG, 2 if half else 4) == real


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_weights_are_as_large_as_what_is_stored(bits: int) -> None:
    from shuyuan.models.config import in_block
    from shuyuan.models.packed import Kind

    real = 0
    sizes = {"float32": 4, "int8": 1, "uint8": 1, "float16": 2}
    for name, shape in CONFIG.shapes.items():
        if len(shape) == 1:
            real += 2 * shape[0]  # norms, in bfloat16
            continue
        kind = Kind(shape, bits if in_block(name) else 8, False)
        for kept, extent in kind.parts(shape[0] * shape[1]).values():
            count = 1
            for side in extent:
                count *= side
            real += sizes[kept] * count
    assert weight_bytes(CONFIG, bits, 2) == real


def test_as_many_texts_as_fit_and_no_more() -> None:
    found = serving(CONFIG, CPU, "bf16")
    text = found["kv_bytes_per_token"] * CONFIG.context
    for variant in found["variants"].values():
        left = FULL * CPU.memory_bytes - variant["bytes"] - variant["texts"] * text
        assert 0 <= left < text + (300 << 20)
    texts = [variant["texts"] for variant in found["variants"].values()]
    sizes = [variant["bytes"] for variant in found["variants"].values()]
    assert texts == sorted(texts) and sizes == sorted(sizes, reverse=True)


def test_on_a_gpu_variants_are_as_large_as_the_original() -> None:
    found = serving(CONFIG, GPU, "bf16")
    assert {variant["bytes"] for variant in found["variants"].values()} == {4 * CONFIG.parameters}


def test_what_is_not_known_or_not_there_is_none() -> None:
    labels = replace(CONFIG, labels=("a", "b"))
    for config in (labels, ImageConfig(8, 8, 1, ("a", "b"), (16, 32), 1, 0)):
        found = serving(config, CPU, "fp32")
        assert found["kv_bytes_per_token"] is None
        assert {variant["texts"] for variant in found["variants"].values()} == {None}
    unknown = serving(CONFIG, replace(CPU, memory_bytes=0), "bf16")
    assert unknown["kv_bytes_per_token"] and unknown["variants"]["int8"]["texts"] is None


def test_a_model_too_large_serves_nobody() -> None:
    assert serving(CONFIG, replace(CPU, memory_bytes=1 << 20), "fp32")["variants"]["original"]["texts"] == 0


# ---- beside training -------------------------------------------------------------------------------------------------


def planned(on: str, tokens: int = 10**9, **tables: Any) -> dict[str, Any]:
    there = machines(on)
    return plan(make_recipe(**tables), there.hardware, there.rates, make_manifest(tokens), there).to_json()


def test_each_machine_feeds_its_own_devices() -> None:
    train = {"budget": "10 steps", "batch_size": 256}
    one, eight, many = (planned(on, train=train)["host"] for on in ("h100", "h100:8", "h100:4x8"))
    assert one["cores"] >= 2 and eight["cores"] >= 8 + 1 and many["cores"] <= eight["cores"]
    assert sum(eight["items"].values()) == eight["memory_bytes"] > one["memory_bytes"]
    assert planned("cpu:32", train=train)["host"] is None


def test_the_disk_item_by_item() -> None:
    found = planned(
        "h100",
        train={"keep": 3, "optimizer": "adamw", "budget": "10 steps"},
        compress={"quantize": ["int8", "int4"]},
    )
    items, parameters = found["storage_items"], found["parameters"]
    assert sum(items.values()) == found["storage_bytes"]
    assert items["checkpoints"] == (3 + 2) * 12 * parameters and items["model"] == 4 * parameters
    assert parameters < items["variants"] < 2 * parameters
    assert found["exports"] == {"float32": 4 * parameters, "float16": 2 * parameters}


def test_what_is_left_out_is_said() -> None:
    here = plan(make_recipe(), CPU, RATES, make_manifest()).to_json()["not_modelled"]
    there = planned("h100:8", train={"budget": "10 steps", "batch_size": 64})["not_modelled"]
    assert any("Exports" in line for line in here) and set(here) < set(there)
    assert any("unknown" in line for line in planned("cpu:4", train={"budget": "10 steps"})["not_modelled"])
