"""Fewer blocks: those go that do least, and what is left is an ordinary model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import shuyuan
from shuyuan.compress.shorten import shorten
from shuyuan.models import Transformer, hub
from tests.compress.test_shrink import RECORDS, error, model
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES


@pytest.mark.parametrize("number", [0, 1])
def test_a_block_that_does_nothing_goes_without_a_trace(number: int) -> None:
    whole, small = model(), model()
    for one in (whole, small):
        block = one.model.layers[number]
        with torch.no_grad():
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    shorten(small, 0.5, RECORDS)
    assert small.config.layers == len(small.model.layers) == 1
    assert error(small, whole) == 0
    again = Transformer(small.config, seed=None)
    again.load_state_dict(small.state_dict())
    assert error(again.eval(), small) == 0
    assert small.config.parameters == sum(weight.numel() for weight in small.parameters())


@pytest.mark.parametrize(("share", "left"), [(0.01, 1), (0.5, 1), (0.99, 1)])
def test_one_goes_and_one_stays(share: float, left: int) -> None:
    small = model()
    shorten(small, share, RECORDS)
    assert len(small.model.layers) == left
    shorten(small, share, RECORDS)
    assert len(small.model.layers) == 1, "the last block stays"


def test_a_shortened_variant_is_an_ordinary_model(tmp_path: Path) -> None:
    asked = {"shorten": 0.5, "quantize": "int8", "recover": "4 steps"}
    FAMILIES["transformer"].run(tmp_path, "generation", compress=asked)
    run = tmp_path / "run"
    variants = command("info", run, "--json").json["variants"]
    names = ["original", "int8", "shortened-50-recovered", "shortened-50-recovered-int8"]
    assert sorted(variants) == sorted(names)
    assert variants[names[2]]["bytes"] < variants["original"]["bytes"]
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run / "compressed" / names[2])
    assert isinstance(shuyuan.load(run, variant=names[2]).generate("line", max_tokens=6), str)
    ours = hub.load_folder(run / "compressed" / names[2])
    tokens = torch.tensor([[3, 1, 2, 9]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-4, atol=1e-4)
    assert "fewer layers" in (run / "compressed" / names[2] / "README.md").read_text()
