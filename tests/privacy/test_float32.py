"""Norms, factors and sums are true float32, whatever products of the model may use; and what was set is put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from shuyuan.privacy import Clipper, Units, make_private
from shuyuan.privacy.clipping import contributions, rules
from shuyuan.privacy.clipping.float32 import true_float32
from shuyuan.privacy.noise import Noise, Total

from .reference import spread

BACKENDS = (
    torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.conv,
)  # fmt: skip
SETTINGS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "allow_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "by backend": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "convolutions": lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
    "by processor": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
}


def now() -> list[Any]:
    """All that torch tells of its settings; one way of asking may fail after another way of setting."""
    told: list[Any] = [backend.fp32_precision for backend in BACKENDS]
    for ask in (torch.get_float32_matmul_precision, lambda: torch.backends.cuda.matmul.allow_tf32):
        try:
            told.append(ask())
        except RuntimeError:
            told.append("mixed")
    return told


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    before = [backend.fp32_precision for backend in BACKENDS]
    yield
    torch.set_float32_matmul_precision("highest")
    for backend, precision in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = precision


@pytest.mark.parametrize("name", SETTINGS)
def test_inside_it_is_float32_and_outside_it_is_as_before(name: str) -> None:
    SETTINGS[name]()
    before = now()
    with true_float32():
        assert now() == ["ieee"] * 4 + ["highest", False]
        with true_float32():
            pass
        assert now() == ["ieee"] * 4 + ["highest", False]
    after = now()
    # torch itself cannot read "medium" back once a backend was set, even to what it was.
    assert after[:4] == before[:4] and after[5] == before[5]
    with pytest.raises(ZeroDivisionError), true_float32():
        raise ZeroDivisionError
    assert now()[:4] == before[:4]


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
@pytest.mark.parametrize("positions", [1, 200])
def test_all_that_the_clip_computes_is_inside(
    clipping: Any, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    SETTINGS["high"]()
    seen: dict[str, set[str]] = {}

    def watch(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*arguments: Any, **keywords: Any) -> Any:
            seen.setdefault(name, set()).update(backend.fp32_precision for backend in BACKENDS)
            return inner(*arguments, **keywords)

        monkeypatch.setattr(owner, name, outer)

    for name in ("add_outer", "square_norms", "add_clipped"):
        watch(contributions.Contributions, name)
    watch(rules, "_kernels")
    model = nn.Sequential(nn.Linear(30, 40), nn.Conv1d(positions, 3, 2), nn.LSTM(39, 4, batch_first=True))
    clipper = Clipper(model, 1.0, clipping)
    clipper.begin(Units.one_a_row(4))
    clipper.backward(model(torch.randn(4, positions, 30))[0].flatten(1).sum(1))
    assert seen == {name: {"ieee"} for name in ("add_outer", "square_norms", "add_clipped", "_kernels")}
    assert torch.get_float32_matmul_precision() == "high"


def test_sums_and_noise_of_parameters_in_half_precision_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that is drawn in bf16 has 8 bits: it is added in float32, and only the outcome is rounded."""
    model = nn.Linear(50, 50).bfloat16()
    seen: list[tuple[torch.dtype, torch.Tensor]] = []
    add = Noise.add

    def noted(self: Noise, totals: list[Total], deviation: float, *, step: int) -> list[torch.Tensor]:
        outcomes = add(self, totals, deviation, step=step)
        seen.extend((total.sum.dtype, noisy.clone()) for total, noisy in zip(totals, outcomes, strict=True))
        return outcomes

    monkeypatch.setattr(Noise, "add", noted)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    loop = make_private(model, optimizer, units=8, expected_batch=8, steps=1, noise_multiplier=1.0)
    grads: list[torch.Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: grads.extend(weight.grad for weight in model.parameters()))
    for batch in loop.batches():
        for rows in batch:
            loop.backward(spread(model, torch.randn(len(rows), 50).bfloat16()).float())
        loop.step()
    assert [dtype for dtype, _ in seen] == [torch.float32] * 2
    for (_, noisy), grad in zip(seen, grads, strict=True):
        assert noisy.dtype == torch.float32 and grad.dtype == torch.bfloat16
        assert not torch.equal(noisy, noisy.bfloat16().float())  # it had more bits than the parameter has
        assert torch.equal(grad, (noisy / 8).bfloat16())
