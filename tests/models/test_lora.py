"""LoRA: what learns, what stays, and that what was learned is in the merged weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shuyuan.errors import RecipeError
from shuyuan.models import hub
from shuyuan.models.lora import add_lora, merge_lora
from shuyuan.recipe import Lora

from .hub_folders import written
from .tiny import tokens

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks so
LABELS = ("bad", "good")


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "bert"])
def test_small_matrices_learn_and_are_added_at_the_end(tmp_path: Path, kind: str) -> None:
    written(kind, tmp_path)
    labels = LABELS if kind == "bert" else ()
    model = hub.load_folder(tmp_path, labels)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ids = tokens(2, 10, vocab_size=255)
    with torch.no_grad():
        untouched = model.eval()(ids)
    add_lora(model, Lora(rank=4), seed=1)
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    poolers = {name for name in before if ".pooler." in name}
    assert {name for name in learns if "lora_" not in name} == (model.new or set()) | poolers
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids), untouched)  # B is zero, so nothing is added yet
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
        adapted = model(ids)
        assert (adapted - untouched).abs().max() > 0.01
        merge_lora(model)
        torch.testing.assert_close(model(ids), adapted, rtol=1e-4, atol=1e-5)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys(), "the names are the model's own again"
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert any("embed" in name or "wte" in name for name in same)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_seed_alone_decides_what_is_added(tmp_path: Path) -> None:
    written("qwen3", tmp_path)
    models = [hub.load_folder(tmp_path) for _ in range(3)]
    state = torch.get_rng_state()
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_lora(model, Lora(rank=4), seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, same, other = (dict(model.named_parameters()) for model in models)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_named_matrices_alone(tmp_path: Path) -> None:
    written("qwen3", tmp_path)
    model = hub.load_folder(tmp_path)
    add_lora(model, Lora(rank=4, targets=["q_proj", "v_proj"]), seed=1)
    learns = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(learns) == 2 * 2 * 2 and all("q_proj" in name or "v_proj" in name for name in learns)
    last = hub.load_folder(tmp_path)
    add_lora(last, Lora(rank=4, targets=["layers.1.self_attn.q_proj"]), seed=1)
    assert sum(weight.requires_grad for weight in last.parameters()) == 2
    block = hub.load_folder(tmp_path)
    add_lora(block, Lora(rank=4, targets=["layers.1"]), seed=1)
    learns = [name for name, weight in block.named_parameters() if weight.requires_grad]
    assert len(learns) == 2 * 7 and all(".layers.1." in name for name in learns)
    with pytest.raises(RecipeError, match=r"called query.*q_proj.*models\.no-lora-target"):
        add_lora(hub.load_folder(tmp_path), Lora(targets=["query"]), seed=1)
