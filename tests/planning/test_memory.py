"""The memory's parts are what torch really keeps, and their sum is what the process really takes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shuyuan.models import Transformer, TransformerConfig, hub, lora
from shuyuan.models.frozen import frozen_layers
from shuyuan.planning.cost import coded_bytes, coded_parameters, learned_parameters, optimizer_bytes
from shuyuan.planning.host import lora_items, not_modelled
from shuyuan.planning.memory import (
    LONGEST_PRODUCT,
    _of_a_part,
    activation_bytes,
    bigram_bytes,
    half_weight_bytes,
    peak_memory,
)
from shuyuan.planning.storage import LOG_BYTES
from shuyuan.recipe import Lora, Train
from shuyuan.train.blocks import checkpoint_blocks
from shuyuan.train.optimizers import Optimizers
from shuyuan.train.parts import Part

from .parts import CPU, GPU, make_manifest, make_recipe

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def shape(**changes: Any) -> TransformerConfig:
    table = {
        "vocab_size": 300,
        "layers": 2,
        "width": 64,
        "heads": 4,
        "kv_heads": 4,
        "hidden": 160,
        "context": 128,
    }
    return TransformerConfig(**({"head_dim": 16} | table | changes))


def kept_bytes(config: TransformerConfig, precision: str, micro_batch: int) -> int:
    """What autograd keeps between forward and backward, without the model's own weights."""
    tokens_BT = torch.zeros((micro_batch, config.context), dtype=torch.int64)
    return kept_by(Transformer(config), tokens_BT, tokens_BT, precision)


def kept_by(model: Any, tokens_BT: torch.Tensor, targets: torch.Tensor, precision: str) -> int:
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no address is used twice
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    autocast = torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32")
    with hooks, autocast:
        loss = model.loss(tokens_BT, targets)
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    assert loss.requires_grad
    return sum(size for address, (size, _) in kept.items() if address not in own)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "config",
    [
        shape(),
        shape(kv_heads=1),
        shape(kv_heads=2, tied=False, vocab_size=50),
        shape(layers=5, hidden=96),
        shape(context=LONGEST_PRODUCT),
        shape(context=LONGEST_PRODUCT + 8),
        shape(context=LONGEST_PRODUCT + 8, kv_heads=2),
    ],
)
def test_activations_are_what_autograd_keeps(config: TransformerConfig, precision: Any) -> None:
    logits = 3 * config.context * config.vocab_size * (4 if precision == "fp32" else 2)
    copies = 0 if precision == "fp32" else half_weight_bytes(config)
    counted = activation_bytes(config, precision, 3, "cpu") + logits + copies
    assert counted == pytest.approx(kept_bytes(config, precision, 3), rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_activation_checkpointing_the_inputs_of_blocks_alone_are_kept(precision: Any) -> None:
    config, tokens_BT = shape(layers=5), torch.zeros((3, 128), dtype=torch.int64)
    train = Train(precision=precision, activation_checkpointing=True)
    inputs, block, logits = _of_a_part(Part(3, 128, 128), config, train, "cpu")
    head = 0 if precision == "fp32" else 2 * config.vocab_size * config.width
    last = activation_bytes(config, precision, 3, "cpu") - 5 * (
        activation_bytes(config, precision, 3, "cpu")
        - activation_bytes(replace(config, layers=4), precision, 3, "cpu")
    )
    checkpoint_blocks(model := Transformer(config))
    assert inputs + last + logits + head == pytest.approx(
        kept_by(model, tokens_BT, tokens_BT, precision), rel=0.02
    )
    assert block == activation_bytes(replace(config, layers=1), precision, 3, "cpu")


def test_what_activation_checkpointing_saves_grows_with_the_blocks() -> None:
    def peak(layers: int, **train: Any) -> int:
        asked = {"batch_size": 8, "micro_batch": 8, "precision": "fp32"} | train
        recipe = make_recipe(model={"context": 512}, train=asked)
        return round(
            peak_memory(recipe, shape(layers=layers, context=512), GPU, make_manifest(0)).peak.expected
        )

    saved = [peak(layers) - peak(layers, activation_checkpointing=True) for layers in (4, 8, 16)]
    assert 0 < saved[0] < 0.6 * saved[1] < 0.36 * saved[2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("drops", [0.0, 0.1])
def test_an_encoder_that_drops_attention_keeps_all_of_its_weights(precision: Any, drops: float) -> None:
    transformers = pytest.importorskip("transformers")
    from shuyuan.models import HubConfig
    from shuyuan.models.hub_model import build

    table = transformers.BertConfig(
        vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=8, intermediate_size=128,
        max_position_embeddings=256, attention_probs_dropout_prob=drops,
    ).to_dict()  # fmt: skip
    model = build(HubConfig.from_hub(table), None, (), 0, "here", spans=True)
    inputs_B2T = torch.zeros((4, 2, 256), dtype=torch.int64)
    kept = kept_by(model, inputs_B2T, torch.zeros((4, 2), dtype=torch.int64), precision)
    assert activation_bytes(model.config, precision, 4, "cpu") == pytest.approx(
        kept, rel=0.15 if drops else 0.3
    )


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("tied", [True, False])
def test_optimizer_bytes_are_those_of_the_real_state(optimizer: Any, tied: bool) -> None:
    config = shape(tied=tied)
    tensors = Optimizers(Transformer(config), optimizer, 0.1).tensors().values()
    real = sum(tensor.nbytes for tensor in tensors if tensor.ndim)  # without the few scalars that count steps
    assert optimizer_bytes(config, Train(optimizer=optimizer)) == real


def test_the_parts_add_up_and_the_interval_is_in_order() -> None:
    for changes in ({}, {"batch_size": 8}, {"precision": "fp32", "optimizer": "adamw"}):
        recipe = make_recipe(train={"batch_size": 4, "micro_batch": 4, "precision": "bf16"} | changes)
        for machine in (CPU, GPU):
            found = peak_memory(recipe, shape(), machine, make_manifest(10_000))
            assert sum(found.items.values()) == found.peak.expected
            assert 0 < found.peak.low < found.peak.expected < found.peak.high
            assert all(size > 0 for size in found.items.values())


def test_accumulation_keeps_the_gradients_beside_the_activations() -> None:
    config = shape(context=512, layers=8)
    once, twice = (
        peak_memory(
            make_recipe(
                model={"context": 512}, train={"batch_size": size, "micro_batch": 8, "precision": "fp32"}
            ),
            config,
            CPU,
            make_manifest(0),
        ).items
        for size in (8, 16)
    )
    assert "gradients" not in once
    assert twice["gradients"] == 4 * config.parameters


def test_logits_and_their_gradient_or_the_heads_are_counted() -> None:
    config = shape(vocab_size=32_000)
    for batch, counted in ((16, 2 * 16 * 128 * 32_000 * 2), (1, 128 * 32_000 * 2 + 32_000 * 64 * 6)):
        train = {"batch_size": 2 * batch, "micro_batch": batch, "precision": "bf16"}
        recipe = make_recipe(model={"context": 128}, train=train)
        assert peak_memory(recipe, config, CPU, make_manifest(0)).items["logits and head"] == counted


def test_a_large_model_on_few_tokens_peaks_at_its_update() -> None:
    config = shape(width=512, hidden=2048, head_dim=128, layers=8, context=16)
    recipe = make_recipe(
        model={"context": 16}, train={"batch_size": 1, "micro_batch": 1, "precision": "fp32"}
    )
    found = peak_memory(recipe, config, CPU, make_manifest(0))
    assert found.items["gradients"] >= 4 * config.parameters
    assert "activations" not in found.items


def test_a_gpu_holds_no_python_and_a_processor_no_context() -> None:
    recipe = make_recipe(train={"batch_size": 4, "micro_batch": 4, "precision": "bf16"})
    assert {"Python and torch", "tokenizer", "data"}.isdisjoint(
        peak_memory(recipe, shape(), GPU, make_manifest(99)).items
    )
    assert "CUDA context" not in peak_memory(recipe, shape(), CPU, make_manifest(0)).items


def test_a_split_beyond_the_cache_is_not_held_in_memory() -> None:
    recipe = make_recipe(train={"batch_size": 16, "micro_batch": 16, "precision": "bf16"})
    large = shape(width=1024, hidden=4096, head_dim=256, layers=12)
    assert peak_memory(recipe, large, CPU, make_manifest(1_000_000)).items["data"] == 2_000_000
    assert "data" not in peak_memory(recipe, large, CPU, make_manifest(10**9)).items


def test_the_bigram_knows_no_more_pairs_than_there_are() -> None:
    few, many = make_manifest(10**9, vocab_size=257), make_manifest(10**9, vocab_size=65_536)
    assert bigram_bytes(few) < bigram_bytes(make_manifest(0)) + 25 * 257**2 + 1
    assert bigram_bytes(many) < bigram_bytes(make_manifest(0)) + 25 * 10**9


def test_a_small_model_on_much_text_peaks_in_preparation() -> None:
    recipe = make_recipe(train={"batch_size": 1, "micro_batch": 1, "precision": "fp32"})
    small, large = (peak_memory(recipe, shape(), CPU, make_manifest(size)) for size in (10_000, 4 * 10**8))
    assert "notes on records" in large.items
    assert large.peak.expected > small.peak.expected + 10**8
    assert sum(large.items.values()) == large.peak.expected
    assert large.peak.low < large.peak.expected < large.peak.high
    on_gpu = peak_memory(recipe, shape(), GPU, make_manifest(4 * 10**8))
    assert (
        "notes on records" not in on_gpu.items
    )  # the GPU's memory is planned, and preparation takes none of it


# ---- against the process -------------------------------------------------------------------------------------------

RUN = """
import json, os, sys
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread, which a busy machine does not slow to a crawl
from shuyuan import pipeline
folder = Path(sys.argv[1])
recipe = {"data": {"source": str(folder / "notes.txt"), "record": "line"}, **json.loads(sys.argv[2])}
with pipeline.begin(recipe, "run", out=folder / "run") as job:
    pipeline.everything(job)
    loaded = {"scipy", "torch._dynamo", "sympy"} & set(sys.modules)
    print(json.dumps(job.store.read_json(pipeline.PLAN_FILE) | {"loaded": sorted(loaded)}))
"""
SMALL = {"layers": 4, "width": 256, "context": 256}
FOUR_STEPS = {"budget": "4 steps", "evaluations": 1}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is measured on Linux")
@pytest.mark.parametrize(
    ("model", "train"),
    [
        (SMALL, {"batch_size": 4, "precision": "bf16"}),
        pytest.param({"layers": 1, "width": 32, "context": 64}, {"batch_size": 1}, marks=pytest.mark.slow),
        pytest.param(SMALL, {"batch_size": 16, "precision": "fp32"}, marks=pytest.mark.slow),
        pytest.param(
            {"layers": 8, "width": 512, "heads": 8, "kv_heads": 2, "context": 128},
            {"batch_size": 8, "micro_batch": 4, "precision": "fp32", "optimizer": "adamw"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_peak_is_what_a_real_run_takes(
    model: dict[str, Any], train: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("".join(f"The number of this line is {n}.\n" for n in range(2000)))
    command = [
        sys.executable,
        "-c",
        RUN,
        str(tmp_path),
        json.dumps({"model": model, "train": FOUR_STEPS | train}),
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    plan = json.loads(out.splitlines()[-1])
    assert plan["loaded"] == []  # a hundred megabytes that training needs nothing of
    measured, peak = plan["measured"]["peak_bytes"], plan["peak_bytes"]
    assert peak["low"] <= measured <= peak["high"]
    assert peak["expected"] == pytest.approx(measured, rel=0.10)
    storage = plan["measured"]["storage_bytes"]
    assert storage < plan["storage_bytes"] < 3 * storage + LOG_BYTES


@pytest.mark.parametrize("labels", [(), ("bad", "good")])
def test_lora_learns_what_the_plan_counts(labels: tuple[str, ...]) -> None:
    pytest.importorskip("peft")
    config = replace(shape(tied=False), labels=labels)
    model = hub.scratch(config)
    model.new = frozenset({"score.weight"} if labels else ())
    lora.add_lora(model, Lora(rank=3), 1)
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    assert learned_parameters(config, Lora(rank=3)) == sum(weight.numel() for weight in learned)
    tensors = Optimizers(model, "adamw", 0.1).tensors().values()
    real = sum(tensor.nbytes for tensor in tensors if tensor.ndim)
    assert optimizer_bytes(config, Train(optimizer="adamw", lora=Lora(rank=3))) == real


@pytest.mark.parametrize("base", ["int8", "int4"])
@pytest.mark.parametrize("width", [64, 72])
def test_a_base_of_codes_takes_what_the_plan_counts(base: Any, width: int) -> None:
    """Also where the last group of a row is not full."""
    pytest.importorskip("peft")
    config = replace(shape(tied=False), width=width)
    model, asked = hub.scratch(config), Lora(rank=3, base=base)
    parameters = sum(weight.numel() for weight in model.parameters())
    lora.add_lora(model, asked, 1)
    codes = [layer for _, layer in frozen_layers(model)]
    assert coded_bytes(config, asked) == sum(part.nbytes for layer in codes for part in layer.buffers())
    assert coded_parameters(config, asked) == sum(layer.numbers for layer in codes)
    floats = [weight for weight in model.parameters() if not weight.requires_grad]
    assert parameters - coded_parameters(config, asked) == sum(weight.numel() for weight in floats)
    assert coded_bytes(config, Lora()) == coded_bytes(config, None) == 0


def test_the_plan_itemises_a_base_of_codes(tmp_path: Path) -> None:
    config = shape(layers=8, width=256, tied=True)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hub()))
    items, found = {}, {}
    for base in (None, "int8", "int4"):
        train = {
            "batch_size": 4,
            "micro_batch": 4,
            "precision": "bf16",
            "optimizer": "adamw",
            "lora": {"base": base},
        }
        recipe = make_recipe(
            model={"from": str(tmp_path), "context": 16}, train=train, tokenizer={"kind": "byte"}
        )
        assert isinstance(config, TransformerConfig)
        memory = peak_memory(recipe, config, GPU, make_manifest())
        items[base], found[base] = memory.items, memory.peak.expected
        codes = coded_bytes(config, recipe.train.lora)
        assert memory.items.get("quantised base", 0) == codes
        assert memory.items["weights"] == 4 * (
            config.parameters - coded_parameters(config, recipe.train.lora)
        )
        told = lora_items(recipe, config)
        assert told is not None and told["base_bytes"] == memory.items["weights"] + codes
        left_out = not_modelled(recipe, GPU, None)
        assert any("finished model is in floats" in line for line in left_out) == (base is not None)
        assert not any("finished model" in line for line in not_modelled(recipe, CPU, None))
    assert found[None] > found["int8"] > found["int4"]
    assert "a matrix in floats" in items["int4"] and "merged and written" not in items["int4"]
