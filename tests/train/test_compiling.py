"""Compiled blocks: the same losses but for rounding, a state like any other, and a clear word where nothing can compile."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shuyuan.errors import PrivacyError, RecipeError, TrainError
from shuyuan.models import Transformer
from shuyuan.privacy import Clipper, Mechanism, Noise, Total, Units
from shuyuan.privacy.clipping import traced
from shuyuan.privacy.mechanism import Clipping
from shuyuan.recipe import from_table
from shuyuan.train.backend import Batch
from shuyuan.train.compiling import compile_blocks
from shuyuan.train.private import PrivateBackend
from shuyuan.train.torch_backend import TorchBackend

from ..models.tiny import TINY
from .parts import OLD_CPU, settings

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What this process compiles lies here."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))


def backend(compile_: bool) -> TorchBackend:
    train = settings(optimizer="adamw", steps=4, micro_batch=4, compile=compile_)
    return TorchBackend(Transformer(replace(TINY, layers=1), seed=1), train, OLD_CPU)


@pytest.mark.usefixtures("own_cache")
def test_compiled_blocks_learn_what_others_learn() -> None:
    from torch._dynamo.utils import counters
    from torch._inductor import config

    plain, compiled = backend(False), backend(True)
    draws = np.random.default_rng(0)
    counters.clear()
    for step in range(1, 4):
        tokens = draws.integers(0, TINY.vocab_size, (4, 17))
        batch = Batch(step, tokens[:, :-1].copy(), tokens[:, 1:].copy())
        found, wanted = compiled.step(batch, 1e-3), plain.step(batch, 1e-3)
        assert found.loss == pytest.approx(wanted.loss, abs=1e-5)
        assert found.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-3)
    assert counters["stats"]["unique_graphs"] >= 1 and not counters["graph_break"]
    states = compiled.state(), plain.state()
    assert states[0].keys() == states[1].keys()
    assert config.force_disable_caches


def private(compile_: bool, clipping: Clipping = "joint") -> PrivateBackend:
    train = settings(optimizer="sgd", steps=4, micro_batch=4, compile=compile_)
    mechanism = Mechanism(100, 8, 10, 1.0, 0.5, clipping, 1e-5)
    return PrivateBackend(Transformer(replace(TINY, layers=2), seed=1), train, OLD_CPU, mechanism, bytes(32))


@pytest.mark.usefixtures("own_cache")
def test_compiled_blocks_learn_privately_what_others_learn() -> None:
    """The units' norms are seen through the compiler: the same clip, the same sums, the same noise."""
    from torch._dynamo.utils import counters

    kinds = [type(module) for module in Transformer(replace(TINY, layers=2), seed=1).modules()]
    clippings: tuple[Clipping, ...] = ("joint", "per-layer")
    for clipping in clippings:
        counters.clear()
        plain, compiled = private(False, clipping), private(True, clipping)
        draws = np.random.default_rng(0)
        for step in range(1, 4):
            tokens = draws.integers(0, TINY.vocab_size, (6, 17))
            batch = Batch(step, tokens[:, :-1].copy(), tokens[:, 1:].copy(), np.array([0, 1, 1, 2, 3, 4]))
            found, wanted = compiled.step(batch, 0.1), plain.step(batch, 0.1)
            assert found.loss == pytest.approx(wanted.loss, abs=1e-5)
            assert found.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-5)
            assert compiled.evaluate([batch]) == pytest.approx(plain.evaluate([batch]), abs=1e-5)
        assert not counters["graph_break"]
        states = compiled.state(), plain.state()
        assert states[0].keys() == states[1].keys()
        for name, array in states[0].items():
            if name.startswith("weights."):
                assert np.allclose(array, states[1][name], rtol=0, atol=1e-6), name
        compiled.close()
        assert [type(module) for module in compiled.model.modules()] == kinds


@pytest.mark.usefixtures("own_cache")
def test_compiled_noise_is_the_same_noise() -> None:
    totals = [
        Total(0, torch.arange(77.0).view(7, 11)),
        Total(3, torch.ones(5)),
        Total(4, torch.zeros(5001), 7),
    ]
    wanted = Noise(bytes(32)).add(totals, 2.0, step=5)
    found = Noise(bytes(32), compiled=True)._of_device(totals, 2.0, 5)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours == theirs).double().mean() > 0.99  # another logarithm may differ in its last place
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_a_backward_pass_that_is_silent_about_a_weight_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those were that torch 2.11 compiled: the step would be made, and the layer would learn noise alone."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    clipper = Clipper(model)
    clipper.compiled([model[1]])
    x = torch.randn(3, 2)
    clipper.begin(Units.one_a_row(3))
    clipper.backward(model(x).sum(1))
    monkeypatch.setattr(traced, "_tell_and_go_on", lambda grad, x, weight, number: grad @ weight)
    clipper.begin(Units.one_a_row(3))
    with pytest.raises(PrivacyError, match=r"told nothing of 1\.0\.weight"):
        clipper.backward(model(x).sum(1))
    clipper.discard()


def test_a_block_with_something_else_inside_is_refused() -> None:
    model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))]))
    clipper = Clipper(model)
    with pytest.raises(PrivacyError, match=r"0\.0\.1 \(LayerNorm\)"):
        clipper.compiled([*model[0]])


def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainError, match="no C") as error:
        backend(True)
    assert error.value.code == "train.no-compiler"
    if not torch.cuda.is_available():
        monkeypatch.setattr("shuyuan.train.compiling.find_spec", lambda _: None)
        with pytest.raises(TrainError, match="Triton"):
            compile_blocks(Transformer(TINY, seed=1), "cuda")


def test_a_model_without_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CXX", "true")
    with pytest.raises(TrainError, match="no blocks"):
        compile_blocks(nn.Sequential(nn.Linear(2, 2)), "cpu")


@pytest.mark.parametrize(
    "beside",
    [
        {
            "privacy": {"epsilon": 8.0, "unit": "record"},
            "tokenizer": {"kind": "byte"},
            "train": {"compile": True, "activation_checkpointing": True},
        },
        {"train": {"compile": True, "sharded": True}},
        {"train": {"compile": True, "lora": {"rank": 2}}, "model": {"from": "somewhere"}},
        {"model": {"family": "rnn"}},
    ],
)
def test_what_cannot_be_compiled_is_refused(beside: dict[str, object]) -> None:
    table = {"data": {"source": "stdlib"}, "train": {"compile": True}} | beside
    with pytest.raises(RecipeError, match=r"train\.compile|compile"):
        from_table(table)
