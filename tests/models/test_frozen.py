"""A quantised base under LoRA: what is computed with codes, what is kept of it, and what becomes of it at the end."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shuyuan.data import byte_tokenizer
from shuyuan.errors import RecipeError, ShuyuanError
from shuyuan.models import hub, in_block
from shuyuan.models.digest import weights_digest
from shuyuan.models.frozen import FrozenLinear, freeze_matrices, frozen_layers
from shuyuan.models.lora import add_lora, merge_lora
from shuyuan.models.packed import pack, unpack
from shuyuan.recipe import Lora
from shuyuan.vault import OpenStore

from .hub_folders import made, written
from .tiny import TIED, lively, tokens, write_folder

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks so
BASES: Any = ("int8", "int4")


def drawn(rows: int, columns: int, seed: int = 0, bits: int = 4, *, bias: bool = True) -> FrozenLinear:
    draws = torch.Generator().manual_seed(seed)
    weight_RC, bias_R = torch.randn(rows, columns, generator=draws), torch.randn(rows, generator=draws)
    return FrozenLinear(weight_RC.numpy(), bits, bias_R if bias else None)


@pytest.mark.parametrize("bits", [8, 4])
@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 150), seed=st.integers(0, 99))
def test_codes_are_those_of_a_compressed_model(bits: int, rows: int, columns: int, seed: int) -> None:
    weight_RC = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    layer = FrozenLinear(weight_RC, bits)
    np.testing.assert_array_equal(layer.weight.numpy(), unpack("w", *pack(weight_RC, bits), "here"))
    assert layer.numbers == weight_RC.size


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("columns", [64, 70])
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_output_and_gradient_are_those_of_the_floats(
    bits: int, columns: int, precision: torch.dtype | None
) -> None:
    layer = drawn(24, columns, bits=bits)
    floats = nn.Linear(columns, 24)
    floats.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    floats.requires_grad_(False)
    found = []
    for module in (layer, floats):
        x = torch.randn(3, 5, columns, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
            y = module(x)
        (y.float() * torch.arange(24)).sum().backward()
        found.append((y, x.grad))
    (y, gradient), (wanted, wanted_gradient) = found
    assert y.dtype == wanted.dtype == (precision or torch.float32)
    close = {"rtol": 1e-5, "atol": 1e-4} if precision is None else {"rtol": 0.02, "atol": 0.5}
    torch.testing.assert_close(y, wanted, **close)  # type: ignore[arg-type]
    torch.testing.assert_close(gradient, wanted_gradient, **close)  # type: ignore[arg-type]


def test_the_backward_pass_keeps_no_floats() -> None:
    layer, kept = drawn(32, 64), []

    def seen(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = torch.randn(3, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        layer(x).sum()
        assert not kept
        F.linear(x, layer.weight).sum()
    assert any(tensor.numel() == 32 * 64 for tensor in kept), "an ordinary product would be seen"
    held = sum(part.nbytes for part in layer.buffers())
    assert held == 32 * 64 // 2 + 32 * (2 + 1) + 32 * 4  # codes; scale and zero of one group a row; bias
    assert not list(layer.parameters()) and not layer.__dict__.keys() & {"weight"}


@pytest.mark.parametrize("bits", [8, 4])
def test_all_matrices_of_the_blocks_and_nothing_else(bits: int) -> None:
    model = lively(TIED)
    freeze_matrices(model, bits)
    names = [name for name, _ in frozen_layers(model)]
    assert len(names) == 3 * 7 and all(".layers." in name for name in names)
    left = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert left == {"model.embed_tokens.weight"} and model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("kind", ["native", "llama", "bert"])
@pytest.mark.parametrize("base", BASES)
def test_learning_beside_codes_is_learning_beside_their_floats(tmp_path: Path, kind: str, base: Any) -> None:
    """The same losses step by step; and the merged model says what the model in training said."""
    pytest.importorskip("peft")
    coded, floats = (model_of(kind, tmp_path) for _ in range(2))
    round_matrices(floats, 8 if base == "int8" else 4)
    add_lora(coded, Lora(rank=4, base=base), seed=1)
    add_lora(floats, Lora(rank=4), seed=1)
    before = {name: (layer.codes.clone(), layer.scale.clone()) for name, layer in frozen_layers(coded)}
    losses, wanted = learned(coded), learned(floats)
    assert losses == pytest.approx(wanted, rel=1e-4) and losses[-1] < 0.95 * losses[0]
    after = dict(frozen_layers(coded))
    assert before.keys() == after.keys() and len(before) >= 7
    assert all(
        torch.equal(after[name].codes, codes) and torch.equal(after[name].scale, scale)
        for name, (codes, scale) in before.items()
    )
    ids = tokens(2, 9, vocab_size=255)
    coded.eval()
    with torch.no_grad():
        said = coded(ids)
        merge_lora(coded)
        torch.testing.assert_close(coded(ids), said, rtol=1e-4, atol=1e-5)
    written_anew(coded, tmp_path / "tuned")
    again = hub.load_folder(tmp_path / "tuned/model")
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids), said, rtol=1e-4, atol=1e-5)
    assert {*again.to_hub()[1]} == {*model_of(kind, tmp_path).to_hub()[1]}


def written_anew(model: Any, folder: Path) -> None:
    with OpenStore(folder) as store, store.folder("model") as out:
        hub.save(out, model, byte_tokenizer().to_json(), "# A card\n")


@torch.no_grad()
def round_matrices(model: nn.Module, bits: int) -> None:
    """Gives the matrices of the blocks the floats that their codes stand for."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and in_block(name + "."):
            module.weight.copy_(FrozenLinear(module.weight.numpy(), bits).weight)


def model_of(kind: str, folder: Path) -> Any:
    if kind == "native":
        return lively(TIED)
    if not (folder / "config.json").exists():
        written(kind, folder)
    return hub.load_folder(folder, ("bad", "good") if kind == "bert" else (), dropout=0.0)


def learned(model: Any) -> list[float]:
    """The losses of some steps on the same few rows."""
    ids = tokens(6, 17, vocab_size=255)
    targets = ids[:, -1:] % 2 if model.config.labels else ids[:, 1:]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, losses = torch.optim.AdamW(weights, lr=0.01), []
    for _ in range(12):
        loss = model.loss(ids[:, :-1], targets) / targets.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_targets_alone_learn_and_all_else_is_kept_as_codes_too() -> None:
    pytest.importorskip("peft")
    model = lively()
    add_lora(model, Lora(rank=4, base="int4", targets=["q_proj"]), seed=1)
    learns = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(learns) == 3 * 2 and all("q_proj" in name for name in learns)
    assert len(list(frozen_layers(model))) == 3 * 7


def test_a_base_is_refused_that_cannot_be_kept_so() -> None:
    pytest.importorskip("peft")
    with pytest.raises(RecipeError, match=r"train\.lora\.base: .*Conv1D.*Leave the key out"):
        add_lora(hub.HubModel(made("gpt2"), None), Lora(base="int4"), seed=1)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"models\.no-lora-target"):
        add_lora(lively(), Lora(base="int4", targets=["query"]), seed=1)
    for bad in (float("nan"), float("inf"), 1e6):
        model = lively()
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[3, 4] = bad
        with pytest.raises(ShuyuanError, match=r"model\.from: .*layers\.1\.mlp\.up_proj.*models\.not-finite"):
            freeze_matrices(model, 4)


def test_a_layer_of_another_class_is_not_taken_for_a_product() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = lively()
    model.model.layers[0].mlp.up_proj = Doubled(40, 56)
    with pytest.raises(RecipeError, match="Doubled"):
        freeze_matrices(model, 8)


@pytest.mark.parametrize("base", BASES)
def test_a_folder_is_read_into_codes(tmp_path: Path, base: Any) -> None:
    """The same model as from floats, which are never all there."""
    pytest.importorskip("peft")
    folder = write_folder(tmp_path, lively(replace(TIED, layers=12, width=64, hidden=256)))
    model = hub.load_folder(folder)
    floats = sum(weight.nbytes for weight in model.parameters())
    add_lora(model, Lora(rank=4, base=base), seed=1)
    peaks = {}
    for bits in (None, 8 if base == "int8" else 4):
        tracemalloc.start()
        read = hub.load_folder(folder, bits=bits)
        peaks[bits] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[None] > floats > 1.5 * peaks[bits]
    add_lora(read, Lora(rank=4, base=base), seed=1)
    assert weights_digest(model) == weights_digest(read)


@pytest.mark.parametrize("labels", [(), ("bad", "good")])
def test_a_model_to_try_steps_on_has_the_tensors_of_a_real_one(labels: tuple[str, ...]) -> None:
    """In the same order: other ranks are given them one by one."""
    pytest.importorskip("peft")
    config = replace(TIED, labels=labels, tied=not labels)
    real, tried = hub.scratch(config), hub.scratch(config, bits=4)
    for model in (real, tried):
        add_lora(model, Lora(rank=4, base="int4"), seed=1)
    found, wanted = (
        [(name, part.shape, part.dtype) for name, part in (*model.named_parameters(), *model.named_buffers())]
        for model in (tried, real)
    )
    assert found == wanted
    ids = tokens(2, 9, vocab_size=255)
    assert tried.loss(ids[:, :-1], ids[:, -1:] % 2 if labels else ids[:, 1:]).isfinite()
