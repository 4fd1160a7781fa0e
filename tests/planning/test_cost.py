"""Parameters are those of the real model, and operations those that it really does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shuyuan.errors import RecipeError, ShuyuanError
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.planning import cost
from shuyuan.recipe import Model
from shuyuan.train.optimizers import orthogonal

SHAPES = [
    TransformerConfig(257, 2, 64, 2, 2, 32, 160, 32),
    TransformerConfig(500, 3, 64, 4, 2, 16, 96, 48, tied=False),
    TransformerConfig(131, 1, 96, 6, 1, 16, 128, 16),
]


@pytest.mark.parametrize("config", SHAPES)
def test_matrices_and_parameters_are_those_of_the_model(config: TransformerConfig) -> None:
    model = Transformer(config)
    real = {
        name: weight for name, weight in model.named_parameters() if ".layers." in name and weight.ndim == 2
    }
    assert cost.block_matrix_parameters(config) == sum(weight.numel() for weight in real.values())
    assert sorted(cost.block_matrices(config)) == sorted(tuple(weight.shape) for weight in real.values())
    assert config.parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("config", SHAPES)
def test_operations_are_those_that_torch_counts(config: TransformerConfig) -> None:
    model = Transformer(config)
    tokens_BT = torch.zeros((2, config.context), dtype=torch.int64)
    # In bf16 on a CPU short attention is made of plain products, all of which the counter knows.
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(tokens_BT, tokens_BT)
        loss.backward()
    counted = counter.get_total_flops() / tokens_BT.numel()
    assert counted == pytest.approx(cost.train_flops_per_token(config), rel=0.01)


def test_muon_operations_are_those_that_torch_counts() -> None:
    config = SHAPES[1]
    with FlopCounterMode(display=False) as counter:
        for shape in cost.block_matrices(config):
            orthogonal(torch.ones(1, *shape), torch.float32)
    assert counter.get_total_flops() == cost.muon_flops(config)


def test_gpt_2_of_this_layout_has_the_parameters_counted_by_hand() -> None:
    config = TransformerConfig(50257, 12, 768, 12, 12, 64, 2048, 1024)
    block = 4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768 + 2 * 64
    assert config.parameters == 50257 * 768 + 12 * block + 768
    attention = 12 * 12 * 64 * 1024 * 2
    assert cost.train_flops_per_token(config) == 6 * (
        12 * (4 * 768 * 768 + 3 * 768 * 2048) + 50257 * 768 + attention
    )


def test_the_model_to_start_from_gives_the_shape(tmp_path: Path) -> None:
    given = SHAPES[1]
    (tmp_path / "config.json").write_text(json.dumps(given.to_hub()))
    planned = cost.planned_model(Model(**{"from": str(tmp_path)}, context=40), 300)
    assert (planned.parameters, planned.vocab_size, planned.context) == (given.parameters, 500, 40)


def test_the_model_of_another_run_gives_the_shape(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "recipe.toml").write_text('[data]\nsource = "stdlib"')
    (tmp_path / "model/config.json").write_text(json.dumps(SHAPES[0].to_hub()))
    assert (
        cost.planned_model(Model(**{"from": str(tmp_path)}, context=32), 1).parameters == SHAPES[0].parameters
    )


def test_no_model_to_start_from_is_refused(tmp_path: Path) -> None:
    for text in (None, "{", "[]"):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        with pytest.raises(ShuyuanError) as caught:
            cost.planned_model(Model(**{"from": str(tmp_path)}), 257)
        assert caught.value.mend


def test_an_absurd_model_is_refused_quickly() -> None:
    with pytest.raises(RecipeError) as caught:
        cost.planned_model(Model(width=65536, heads=512, layers=1024, hidden=2**20), 257)
    assert caught.value.code == "plan.absurd-model"
    assert "2e+14" in caught.value.what
