"""Optimizers: the right parameters in the right one, decay on matrices only, and torch's own Muon as a yardstick."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shuyuan.train.optimizers import OUTSIDE_RATE, STACKED, Muon, Optimizers, orthogonal

from .parts import Network


def test_muon_takes_the_matrices_inside_blocks_and_adamw_the_rest_each_once() -> None:
    network = Network()
    muon, adamw = Optimizers(network, "muon", 0.1).all
    names = {weight: name for name, weight in network.named_parameters()}
    inside = {names[weight] for weight in muon.param_groups[0]["params"]}
    outside = {names[weight] for weight in adamw.param_groups[0]["params"]}
    assert inside == {f"model.layers.{layer}.{part}.weight" for layer in (0, 1) for part in (0, 3)}
    assert "embed_tokens.weight" in outside
    assert "norm.weight" in outside
    assert not inside & outside
    assert inside | outside == set(names.values())


@pytest.mark.parametrize("kind", ["muon", "adamw", "sgd"])
def test_a_tied_weight_is_updated_once_and_every_parameter_moves(kind: str) -> None:
    network = Network()
    optimizers = Optimizers(network, kind, 0.0)  # type: ignore[arg-type]
    listed = [weight for each in optimizers.all for group in each.param_groups for weight in group["params"]]
    assert len(listed) == len({id(weight) for weight in listed}) == len(list(network.parameters()))
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    network.loss(torch.arange(8).view(1, 8), torch.arange(1, 9).view(1, 8)).backward()
    optimizers.step(0.01)
    assert all(not torch.equal(before[name], weight) for name, weight in network.named_parameters())


@pytest.mark.parametrize("kind", ["muon", "adamw", "sgd"])
def test_weight_decay_is_decoupled_and_falls_on_matrices_inside_blocks_only(kind: str) -> None:
    def after_a_step(weight_decay: float) -> dict[str, torch.Tensor]:
        network = Network()
        optimizers = Optimizers(network, kind, weight_decay)  # type: ignore[arg-type]
        network.loss(torch.arange(8).view(1, 8), torch.arange(1, 9).view(1, 8)).backward()
        optimizers.step(0.01)
        return dict(network.named_parameters())

    start = dict(Network().named_parameters())
    plain, decayed = after_a_step(0.0), after_a_step(0.5)
    for name, weight in plain.items():
        if ".layers." in name and weight.ndim == 2:
            torch.testing.assert_close(decayed[name], weight - 0.01 * 0.5 * start[name])
        else:
            assert torch.equal(decayed[name], weight), name


def test_muon_is_torchs_muon_at_adamws_scale() -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in [(16, 48), (48, 16), (32, 32)]]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    optimizer = Muon([{"params": ours}], torch.bfloat16)
    for weight in ours:
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    optimizer.param_groups[0]["lr"] = 0.02
    yardstick = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimizer.step()
        yardstick.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(24, 24), (8, 40), (40, 8)])
def test_orthogonal_brings_all_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(1, *shape), torch.float32))
    assert values.min() > 0.3
    assert values.max() < 1.3


@pytest.mark.parametrize("at_once", [1, 3 * 16 * 48, 2**20])
def test_matrices_iterated_together_learn_what_each_would_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shapes = [(16, 48), (32, 32), (16, 48), (48, 16), (16, 48), (16, 48), (32, 32)]
    gradients = [torch.randn(shape) for shape in shapes]

    def after_a_step(groups: list[list[int]]) -> list[torch.Tensor]:
        weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for group in groups:
            optimizer = Muon([{"params": [weights[n] for n in group]}], torch.float32)
            optimizer.param_groups[0]["lr"] = 0.1
            for n in group:
                weights[n].grad = gradients[n].clone()
            optimizer.step()
        return [weight.detach() for weight in weights]

    alone = after_a_step([[n] for n in range(len(shapes))])
    monkeypatch.setitem(STACKED, "cpu", at_once)
    for together, one in zip(after_a_step([[*range(len(shapes))]]), alone, strict=True):
        torch.testing.assert_close(together, one, rtol=0, atol=1e-6)


def one_step(network: Network, optimizer: Any, *rate: float) -> None:
    network.loss(torch.arange(8).view(1, 8), torch.arange(1, 9).view(1, 8)).backward()
    optimizer.step(*rate)


@pytest.mark.parametrize("kind", ["muon", "adamw", "sgd"])
def test_the_state_is_whole_before_the_first_step(kind: str) -> None:
    network = Network()
    optimizers = Optimizers(network, kind, 0.0)  # type: ignore[arg-type]
    before = {name: (tensor.shape, tensor.dtype) for name, tensor in optimizers.tensors().items()}
    one_step(network, optimizers, 0.01)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in optimizers.tensors().items()} == before


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_state_of_zeros_starts_as_torch_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OUTSIDE_RATE, kind, 1.0)
    ours, theirs = Network(), Network()
    plain = {
        "adamw": torch.optim.AdamW(theirs.parameters(), 0.01, (0.9, 0.95), weight_decay=0.0, fused=True),
        "sgd": torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.9, nesterov=True),
    }[kind]
    optimizers = Optimizers(ours, kind, 0.0)  # type: ignore[arg-type]
    for _ in range(2):
        one_step(ours, optimizers, 0.01)
        one_step(theirs, plain)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("kind", ["muon", "adamw", "sgd"])
def test_embeddings_and_norms_get_their_multiple_of_the_rate(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(factor: float) -> dict[str, torch.Tensor]:
        monkeypatch.setitem(OUTSIDE_RATE, kind, factor)
        network = Network()
        one_step(network, Optimizers(network, kind, 0.0), 0.001)  # type: ignore[arg-type]
        start = dict(Network().named_parameters())
        return {name: weight.detach() - start[name] for name, weight in network.named_parameters()}

    single, double = moved(1.0), moved(2.0)
    for name, step in single.items():
        inside = ".layers." in name and step.ndim == 2
        torch.testing.assert_close(double[name], step if inside else 2 * step, rtol=1e-3, atol=1e-6)
