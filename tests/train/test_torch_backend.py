"""One step in PyTorch: accumulation, clipping, precision, skips, and a state that is all the next step depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shuyuan.errors import Interrupted, TrainError
from shuyuan.models.lora import add_lora
from shuyuan.recipe import Lora
from shuyuan.train.backend import OVERFLOW, Batch
from shuyuan.train.precision import repeatable
from shuyuan.train.torch_backend import TorchBackend

from ..models.tiny import lively, tokens
from .parts import CPU, OLD_CPU, Network, drive, sample, settings


def ragged(sequences: int = 8, seed: int = 0) -> Batch:
    """A batch in which sequences have very different numbers of targets, one of them none at all."""
    random = np.random.default_rng(seed)
    tokens_BT = random.integers(0, 50, (sequences, 13))
    targets_BT = tokens_BT[:, 1:].copy()
    for row, learned in enumerate(random.permutation(np.linspace(0, 12, sequences).astype(int))):
        targets_BT[row, learned:] = -100
    return Batch(1, tokens_BT[:, :-1].copy(), targets_BT)


def arrays(backend: TorchBackend) -> dict[str, Any]:
    return {name: array.copy() for name, array in backend.state().items()}


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_accumulation_is_the_large_batch_with_ragged_targets(optimizer: str, micro_batch: int) -> None:
    large = TorchBackend(Network(), settings(optimizer=optimizer, batch_size=8, micro_batch=8), OLD_CPU)
    small = TorchBackend(
        Network(), settings(optimizer=optimizer, batch_size=8, micro_batch=micro_batch), OLD_CPU
    )
    for seed in range(3):
        first, second = large.step(ragged(seed=seed), 0.01), small.step(ragged(seed=seed), 0.01)
        assert second.loss == pytest.approx(first.loss, rel=1e-5)
        assert second.gradient_norm == pytest.approx(first.gradient_norm, rel=1e-4)
        assert second.tokens == first.tokens == (ragged(seed=seed).targets_BT >= 0).sum()
    for one, other in zip(large.model.parameters(), small.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_batch_without_targets_learns_nothing_and_is_no_error() -> None:
    batch = Batch(1, np.zeros((2, 4), np.int64), np.full((2, 4), -100))
    figures = TorchBackend(Network(), settings(weight_decay=0.0), CPU).step(batch, 0.01)
    assert (figures.loss, figures.gradient_norm, figures.skipped) == (0.0, 0.0, None)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gradient_is_cut_to_its_norm(precision: str) -> None:
    def update(grad_clip: float) -> tuple[float, torch.Tensor]:
        backend = TorchBackend(
            Network(),
            settings(optimizer="sgd", grad_clip=grad_clip, weight_decay=0.0, precision=precision),
            CPU,
        )
        before = torch.cat([weight.detach().flatten().clone() for weight in backend.model.parameters()])
        norm = backend.step(sample(1), 1.0).gradient_norm
        after = torch.cat([weight.detach().flatten() for weight in backend.model.parameters()])
        return norm, before - after

    norm, free = update(0.0)
    assert free.norm().item() == pytest.approx(1.9 * norm, rel=1e-3)  # Nesterov's first step is 1 + momentum
    for times in (1.5, 4):
        again, cut = update(norm / times)
        assert again == norm
        torch.testing.assert_close(cut, free / times, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(update(norm * 2)[1], free)


@pytest.mark.parametrize("what", ["the loss", "the gradient"])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(what: str) -> None:
    backend = TorchBackend(Network(), settings(), CPU)
    backend.step(sample(1), 0.01)
    loss_of = backend._loss

    def broken(tokens_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        loss = loss_of(tokens_BT, targets_BT)
        if what == "the loss":
            return loss * torch.inf
        loss.register_hook(lambda gradient: gradient * torch.nan)
        return loss

    backend._loss = broken
    before = arrays(backend)
    assert backend.step(sample(2), 0.01).skipped == f"{what} is not finite"
    assert all(np.array_equal(before[name], array) for name, array in backend.state().items())
    backend._loss = loss_of
    assert backend.step(sample(3), 0.01).skipped is None


# ---- precision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("fp16", 0.003)])
def test_low_precision_learns_almost_the_same(precision: str, tolerance: float) -> None:
    exact, rough = (TorchBackend(Network(), settings(precision=name), CPU) for name in ("fp32", precision))
    for step in range(1, 6):
        expected, found = exact.step(sample(step), 0.01), rough.step(sample(step), 0.01)
        assert found.loss == pytest.approx(expected.loss, rel=tolerance)
        assert found.loss != expected.loss
    assert {array.dtype for name, array in rough.state().items() if name.startswith("weights.")} == {
        np.dtype("f4")
    }


def test_fp16_lowers_its_scale_until_gradients_fit_and_the_scale_is_in_the_state() -> None:
    backend = TorchBackend(Network(), settings(precision="fp16"), CPU)
    state = arrays(backend)
    state["scaler.scale"] = np.array(2.0**40, np.float32)
    backend.load(state)
    skips = []
    while (figures := backend.step(sample(1), 0.01)).skipped:
        skips.append(figures.skipped)
    assert 5 < len(skips) < 40
    assert set(skips) == {OVERFLOW}
    assert backend.state()["scaler.scale"] == 2.0 ** (40 - len(skips))


def test_fp16_with_a_scale_of_one_does_not_hide_a_broken_gradient() -> None:
    backend = TorchBackend(Network(), settings(precision="fp16"), CPU)
    state = arrays(backend)
    state["scaler.scale"] = np.array(1.0, np.float32)
    state["weights.norm.weight"][0] = 1e30
    backend.load(state)
    assert backend.step(sample(1), 0.01).skipped != OVERFLOW


# ---- evaluation and state ------------------------------------------------------------------------------------------


def test_evaluation_is_the_mean_over_all_targets_and_leaves_no_trace() -> None:
    backend = TorchBackend(Network(dropout=0.5), settings(), CPU)
    before = arrays(backend)
    parts = [ragged(2, 1), ragged(6, 2)]
    losses = [(backend.evaluate([part]), (part.targets_BT >= 0).sum()) for part in parts]
    weighed = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert backend.evaluate(parts) == pytest.approx(weighed, rel=1e-5)
    assert backend.evaluate(parts) == backend.evaluate(parts)
    assert all(np.array_equal(before[name], array) for name, array in backend.state().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_the_state_is_all_that_the_next_step_depends_on(
    tmp_path: Path, optimizer: str, precision: str
) -> None:
    changes = {"optimizer": optimizer, "precision": precision, "micro_batch": 2, "schedule": "wsd"}

    def backend(seed: int) -> TorchBackend:
        return TorchBackend(Network(dropout=0.2, seed=seed), settings(**changes), CPU)

    with repeatable(1, 5, precision):
        drive(tmp_path / "whole", whole := backend(3), **changes)
    with repeatable(1, 5, precision), pytest.raises(Interrupted):
        drive(tmp_path / "cut", backend(3), stop_at=5, **changes)
    with repeatable(
        1, 99, precision
    ):  # everything must come from the checkpoint: weights, optimizer, scale, dropout
        drive(tmp_path / "cut", cut := backend(4), **changes)
    assert whole.state().keys() == cut.state().keys()
    for name, array in whole.state().items():
        assert cut.state()[name].tobytes() == array.tobytes(), name


def test_a_fresh_state_has_the_arrays_of_a_trained_one() -> None:
    backend = TorchBackend(Network(), settings(), CPU)
    fresh = {name: (array.shape, array.dtype) for name, array in backend.state().items()}
    backend.step(sample(1), 0.01)
    assert {name: (array.shape, array.dtype) for name, array in backend.state().items()} == fresh


def test_repeatable_fixes_threads_and_random_state_and_puts_them_back() -> None:
    torch.manual_seed(5)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with repeatable(threads + 1, 7, "bf16"):
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
        first = torch.rand(3)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    with repeatable(1, 7, "bf16"):
        assert torch.equal(torch.rand(3), first)
    with repeatable(1, 8, "bf16"):
        assert not torch.equal(torch.rand(3), first)


def test_an_unresolved_recipe_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not resolved"):
        TorchBackend(Network(), settings(precision="auto"), CPU)


def test_frozen_weights_are_not_saved_and_must_be_the_same(tmp_path: Path) -> None:
    """A checkpoint of LoRA holds a digest of what it was trained beside."""

    def backend(seed: int) -> TorchBackend:
        model = Network(seed=seed)
        for name, weight in model.named_parameters():
            weight.requires_grad_("norm" in name)
        return TorchBackend(model, settings(), CPU)

    first = backend(3)
    assert {name for name in first.state() if name.startswith("weights.")} == {
        "weights.norm.weight",
        "weights.norm.bias",
    }
    first.step(sample(1), 0.01)
    state = {name: array.copy() for name, array in first.state().items()}
    second = backend(3)
    second.load(state)
    assert all(np.array_equal(array, state[name]) for name, array in second.state().items())
    with pytest.raises(TrainError, match="has changed since training began"):
        backend(4).load(state)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks so
def test_a_state_knows_codes_by_their_digest_and_counts_what_they_stand_for() -> None:
    """Training leaves them; one code, scale or zero that is another one is another model to start from."""
    pytest.importorskip("peft")

    def backend(change: str = "") -> TorchBackend:
        model = lively()
        add_lora(model, Lora(rank=2, base="int4"), seed=1)
        if change:
            part = model.get_submodule("model.layers.1.mlp.up_proj.base_layer").get_buffer(change)
            part.view(torch.uint8).flatten()[5] ^= 1
        return TorchBackend(model, settings(optimizer="adamw"), OLD_CPU)

    one = backend()
    assert one.parameters == sum(weight.numel() for weight in lively().parameters())
    before = arrays(one)
    one.step(Batch(1, tokens(4, 12).numpy(), tokens(4, 12, seed=1).numpy()), 0.01)
    state = arrays(one)
    assert np.array_equal(before["frozen"], state["frozen"])
    assert all("lora_" in name for name in state if name.startswith("weights."))
    backend().load(state)
    for change in ("codes", "scale", "zero"):
        with pytest.raises(TrainError, match="has changed since training began"):
            backend(change).load(state)
