"""The transformer's arithmetic against torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.models import functions
from shuyuan.models.functions import attend_causal, cross_entropy, rms_norm, rotary_tables, rotate


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# ---- norm ----------------------------------------------------------------------------------------------------------


def test_norm_and_its_gradient_are_exact() -> None:
    x, weight = normal(3, 5, 8).double().requires_grad_(), normal(8, seed=1).double().requires_grad_()
    torch.testing.assert_close(rms_norm(x, weight, 0.1), F.rms_norm(x, (8,), weight, 0.1))
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 0.1), (x, weight))


def test_norm_in_bfloat16_is_as_good_as_torchs() -> None:
    x, weight, upstream = normal(64, 32), (1 + normal(32, seed=1) / 2), normal(64, 32, seed=2)

    def gradients(norm: object, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = x.to(dtype).detach().requires_grad_(), weight.clone().requires_grad_()
        norm(*inputs).backward(upstream.to(dtype))  # type: ignore[operator]
        return [value.grad.float() for value in inputs if value.grad is not None]

    exact = gradients(lambda x, weight: F.rms_norm(x, (32,), weight, 1e-6), torch.float32)
    theirs = gradients(lambda x, weight: F.rms_norm(x, (32,), weight.to(x.dtype), 1e-6), torch.bfloat16)
    ours = gradients(lambda x, weight: rms_norm(x, weight, 1e-6), torch.bfloat16)
    for right, their, our in zip(exact, theirs, ours, strict=True):
        assert (our - right).norm() < 1.5 * (their - right).norm() + 1e-6


# ---- positions -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_rotated_products_depend_on_distance_alone(first: int, second: int, shift: int) -> None:
    cos, sin = rotary_tables(16, 512, 500.0)

    def turned(x: torch.Tensor, position: int) -> torch.Tensor:
        c, s = cos[position], sin[position]
        return rotate(x, torch.cat((c, c)), torch.cat((-s, s)))

    q, k = normal(16), normal(16, seed=1)
    here = turned(q, first) @ turned(k, second)
    there = turned(q, first + shift) @ turned(k, second + shift)
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(turned(q, first).norm(), q.norm())


# ---- attention -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_by_products_is_attention(kv_heads: int) -> None:
    """In bfloat16 on a CPU the short way is taken; it must give what torch's fused kernel gives."""
    q, upstream = normal(2, 4, 33, 16, dtype=torch.bfloat16), normal(2, 4, 33, 16, seed=3)
    k, v = (normal(2, kv_heads, 33, 16, seed=seed, dtype=torch.bfloat16) for seed in (1, 2))

    def both(*qkv: torch.Tensor) -> list[torch.Tensor]:
        leaves = [part.clone().requires_grad_() for part in qkv]
        y = attend_causal(*leaves)
        y.backward(upstream.to(y.dtype))
        return [y.float(), *(leaf.grad.float() for leaf in leaves if leaf.grad is not None)]

    for ours, exact in zip(both(q, k, v), both(q.float(), k.float(), v.float()), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0.05, atol=0.03)


# ---- loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_loss_and_gradient_are_cross_entropys(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "_chunk", lambda logits: chunk)
    logits = (normal(20, 11) * 3).to(dtype)
    targets = torch.randint(0, 11, (20,), generator=torch.Generator().manual_seed(1))
    targets[::4] = -100
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = cross_entropy(ours, targets).sum()
    right = F.cross_entropy(theirs.float(), targets, reduction="sum")
    (loss / 7).backward()
    (right / 7).backward()
    assert loss.dtype == torch.float32
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(loss, right)
    torch.testing.assert_close(
        ours.grad, theirs.grad, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-7
    )
    assert ours.grad[targets == -100].abs().sum() == 0


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    logits = normal(4, 7).requires_grad_()
    loss = cross_entropy(logits, torch.full((4,), -100)).sum()
    loss.backward()
    assert loss == 0 and logits.grad is not None and not logits.grad.any()


def test_loss_keeps_no_float32_copy_of_the_logits() -> None:
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    logits = normal(64, 32, dtype=torch.bfloat16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy(logits, torch.zeros(64, dtype=torch.int64))
    assert not [
        tensor for tensor in kept if tensor.dtype == torch.float32 and tensor.numel() >= logits.numel()
    ]
