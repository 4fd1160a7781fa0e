"""Activation checkpointing: the same bits as without it, whatever else the recipe asks for, and blocks that are ordinary again at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shuyuan.errors import Interrupted, RecipeError, TrainError
from shuyuan.models import hub, lora
from shuyuan.privacy import Clipper, Mechanism, Units
from shuyuan.recipe import Lora, from_table
from shuyuan.train.backend import Batch
from shuyuan.train.blocks import checkpoint_blocks
from shuyuan.train.precision import repeatable
from shuyuan.train.private import PrivateBackend
from shuyuan.train.torch_backend import TorchBackend

from ..models.hub_folders import made, written
from ..models.tiny import TINY, lively, tokens
from .parts import CPU, Network, drive, settings

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks so
Made = Callable[[Path], nn.Module]


def with_lora(base: Any) -> Made:
    def make(folder: Path) -> nn.Module:
        model = lively()
        lora.add_lora(model, Lora(rank=4, dropout=0.3, base=base), seed=1)
        return model

    return make


def of_transformers(kind: str) -> Made:
    def make(folder: Path) -> nn.Module:
        if not (folder / "config.json").exists():
            written(kind, folder)
        return hub.load_folder(folder, ("bad", "good") if kind == "bert" else (), dropout=0.2)

    return make


MODELS: dict[str, Made] = {
    "native": lambda _: lively(),
    "dropout": lambda _: Network(vocabulary=TINY.vocab_size, dropout=0.3),
    "lora": with_lora(None),
    "lora on codes": with_lora("int4"),
    **{kind: of_transformers(kind) for kind in ("gpt2", "llama", "bert")},
}


def batch_of(model: nn.Module, step: int, rows: int = 6) -> Batch:
    """Rows that are not all learned to their ends; the same for the same step."""
    ids = tokens(rows, 18, seed=step, vocab_size=255).numpy()
    if getattr(getattr(model, "config", None), "labels", ()):
        return Batch(step, ids[:, :-1].copy(), ids[:, -1:] % 2, np.arange(rows) // 2)
    targets = ids[:, 1:].copy()
    targets[: rows // 2, 9:] = -100
    return Batch(step, ids[:, :-1].copy(), targets, np.arange(rows) // 2)


def seen(model: nn.Module, private: str = "", **changes: Any) -> dict[str, bytes]:
    """Losses, gradients' norms and the state after three steps."""
    train = settings(micro_batch=2, batch_size=6, optimizer="adamw", **changes)
    with repeatable(1, 5, train.precision):
        backend = TorchBackend(model, train, CPU)
        if private:
            mechanism = Mechanism(9, 3.0, 4, 1.0, 0.1, private, 1e-5)
            backend = PrivateBackend(model, train, CPU, mechanism, bytes(32))
        told = [backend.step(batch_of(model, step), 0.01) for step in range(1, 4)]
        state = {name: array.tobytes() for name, array in backend.state().items()}
        backend.close()
    return state | {"told": repr(told).encode()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", MODELS)
def test_not_a_bit_is_different(tmp_path: Path, kind: str, precision: str) -> None:
    plain, again = (
        seen(MODELS[kind](tmp_path), precision=precision, activation_checkpointing=on) for on in (False, True)
    )
    assert plain == again


def test_with_a_loss_scale_too() -> None:
    plain, again = (seen(lively(), precision="fp16", activation_checkpointing=on) for on in (False, True))
    assert plain == again


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
@pytest.mark.parametrize("kind", ["native", "lora", "lora on codes", "gpt2", "bert"])
def test_nor_in_private_training(tmp_path: Path, kind: str, clipping: str) -> None:
    plain, again = (
        seen(MODELS[kind](tmp_path), private=clipping, precision="fp32", activation_checkpointing=on)
        for on in (False, True)
    )
    assert plain == again


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
@pytest.mark.parametrize("autocast", [False, True])
def test_each_unit_has_the_norm_that_it_has_without(clipping: Any, autocast: bool) -> None:
    found = []
    for on in (False, True):
        model = lively()
        if on:
            checkpoint_blocks(model)
        clipper = Clipper(model, 0.5, clipping)
        clipper.begin(Units(torch.tensor([0, 0, 1, 2, 2])))
        ids = tokens(5, 13)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            losses = model.losses(ids[:, :-1], ids[:, 1:])
        clipped = clipper.backward(losses.sum(1))
        found.append([clipped.norms_U, clipped.factors_U, *clipper.take().values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert len(found[0][0]) == 3 and bool((found[0][0] > 0).all())


def test_per_layer_gradients_are_given_up_as_soon_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is computed again is no further use of its weights, which nobody waits for."""
    left = []
    whole = Clipper._add
    monkeypatch.setattr(Clipper, "_add", lambda self, kept: left.append(len(kept)) or whole(self, kept))
    model = lively()
    checkpoint_blocks(model)
    clipper = Clipper(model, 0.5, "per-layer")
    clipper.begin(Units.one_a_row(3))
    ids = tokens(3, 13)
    clipper.backward(model.losses(ids[:, :-1], ids[:, 1:]).sum(1))
    assert left == [0]


def test_a_run_that_was_broken_off_goes_on_with_it_to_the_same_bits(tmp_path: Path) -> None:
    def backend(on: bool) -> TorchBackend:
        train = settings(micro_batch=2, activation_checkpointing=on)
        return TorchBackend(Network(dropout=0.2), train, CPU)

    with repeatable(1, 5, "fp32"):
        drive(tmp_path / "whole", whole := backend(False))
    with repeatable(1, 5, "fp32"), suppress(Interrupted):
        drive(tmp_path / "cut", backend(False), stop_at=5)
    with repeatable(1, 99, "fp32"):
        drive(tmp_path / "cut", cut := backend(True))
    for name, array in whole.state().items():
        assert cut.state()[name].tobytes() == array.tobytes(), name


def test_blocks_are_computed_twice_in_training_and_are_ordinary_at_the_end() -> None:
    model = lively()
    backend = TorchBackend(model, settings(activation_checkpointing=True), CPU)
    begun: list[bool] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: begun.append(torch.is_grad_enabled()))
    batch = Batch(1, *(part.numpy() for part in (tokens(4, 17), tokens(4, 17, seed=1))))
    backend.step(batch, 0.01)
    assert begun == [True, True]
    backend.evaluate([batch])
    assert begun == [True, True, False]
    backend.close()
    assert not any("forward" in block.__dict__ for block in model.model.layers)


def test_what_has_no_blocks_is_refused() -> None:
    with pytest.raises(TrainError, match=r"no blocks.*train\.activation_checkpointing"):
        checkpoint_blocks(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(RecipeError, match="activation_checkpointing"):
        from_table(
            {
                "data": {"source": "stdlib"},
                "model": {"family": "rnn"},
                "train": {"activation_checkpointing": True},
            }
        )


def test_transformers_models_have_their_blocks_found() -> None:
    for kind in ("gpt2", "bert", "glm", "gemma"):
        model = made(kind)
        checkpoint_blocks(model)
        blocks = [module for module in model.modules() if "forward" in module.__dict__]
        assert len(blocks) == 2, kind
