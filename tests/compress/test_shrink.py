"""Fewer heads and channels: an ordinary model of the shape that it says, that errs less than one cut without a look."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import shuyuan
from shuyuan.compress.shrink import shrink
from shuyuan.models import TransformerConfig, hub
from shuyuan.models.transformer import Transformer
from shuyuan.progress import Progress
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES

CONFIG = TransformerConfig(
    vocab_size=60, end_id=0, layers=2, width=32, heads=8, kv_heads=4, head_dim=8, hidden=64, context=32
)


def model() -> Transformer:
    """One whose blocks do something: they start as the identity."""
    made = Transformer(CONFIG, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and "layers" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)
    return made.eval()


RECORDS = [np.random.default_rng(n).integers(0, 60, (1, 32)) for n in range(24)]


@torch.no_grad()
def error(one: Transformer, other: Transformer) -> float:
    tokens = torch.from_numpy(np.concatenate(RECORDS))
    return float((one(tokens) - other(tokens)).square().mean())


@pytest.mark.parametrize(("share", "shape"), [(0.25, (48, 6, 3)), (0.5, (32, 4, 2)), (0.99, (8, 2, 1))])
def test_the_shape_is_what_the_share_says(share: float, shape: tuple[int, int, int]) -> None:
    small = model()
    shrink(small, share, RECORDS, Progress())
    assert (small.config.hidden, small.config.heads, small.config.kv_heads) == shape
    assert small.config.parameters == sum(weight.numel() for weight in small.parameters())
    assert {name: tuple(weight.shape) for name, weight in small.named_parameters()} == dict(
        small.config.shapes
    )
    again = Transformer(small.config, seed=None)
    again.load_state_dict(small.state_dict())
    assert error(again.eval(), small) == 0


def test_channels_that_nothing_listens_to_go_without_a_trace() -> None:
    whole = model()
    with torch.no_grad():
        for block in whole.model.layers:
            block.mlp.down_proj.weight[:, ::2] = 0
            block.self_attn.o_proj.weight[:, :32] = 0  # two groups of two heads
    small = copy.deepcopy(whole)
    shrink(small, 0.5, RECORDS, Progress())
    assert error(small, whole) < 1e-6


def test_what_is_left_stands_for_what_went() -> None:
    whole, small, cut = model(), model(), model()
    shrink(small, 0.5, RECORDS, Progress())
    for block in cut.model.layers:
        for layer in (block.mlp.gate_proj, block.mlp.up_proj):
            layer.weight = torch.nn.Parameter(layer.weight[:32].clone())
        block.mlp.down_proj.weight = torch.nn.Parameter(block.mlp.down_proj.weight[:, :32].clone())
        attention = block.self_attn
        attention.q_proj.weight = torch.nn.Parameter(attention.q_proj.weight[:32].clone())
        for layer in (attention.k_proj, attention.v_proj):
            layer.weight = torch.nn.Parameter(layer.weight[:16].clone())
        attention.o_proj.weight = torch.nn.Parameter(attention.o_proj.weight[:, :32].clone())
    cut.config = replace(CONFIG, hidden=32, heads=4, kv_heads=2)
    assert error(small, whole) < 0.8 * error(cut, whole)


def test_a_shrunk_variant_is_an_ordinary_model(tmp_path: Path) -> None:
    shape = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "context": 32}
    asked = {"shrink": 0.5, "quantize": "int8", "recover": "4 steps"}
    FAMILIES["transformer"].run(tmp_path, "generation", model=shape, compress=asked)
    run = tmp_path / "run"
    variants = command("info", run, "--json").json["variants"]
    names = ["original", "int8", "shrunk-50-recovered", "shrunk-50-recovered-int8"]
    assert sorted(variants) == sorted(names)
    assert variants[names[3]]["bytes"] < variants[names[2]]["bytes"] < variants["original"]["bytes"]
    assert isinstance(shuyuan.load(run, variant=names[2]).generate("line", max_tokens=6), str)
    ours = hub.load_folder(run / "compressed" / names[2])
    assert ours.config.kv_heads == 1
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run / "compressed" / names[2])
    tokens = torch.tensor([[3, 1, 2, 9]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-4, atol=1e-4)
    card = (run / "compressed" / names[2] / "README.md").read_text()
    assert "fewer heads" in card and "layout of Qwen3" in card


@pytest.mark.parametrize("family", ["cnn", "ngrams"])
def test_other_models_have_no_such_heads(family: str, tmp_path: Path) -> None:
    FAMILIES[family].run(tmp_path, "classification")
    refused = command("compress", tmp_path / "run", "--shrink", "0.5")
    assert refused.status == 1 and "compress.no-heads" in refused.stderr
