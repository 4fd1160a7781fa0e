"""Opacus as a peer: its two ways to clip, put around a model as its documentation shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shuyuan.models.transformer import RMSNorm
from shuyuan.train.precision import DTYPES

MODES = ("hooks", "ghost")


def available() -> bool:
    try:
        import opacus  # noqa: F401
    except ImportError:
        return False
    return True


def wrapped(
    model: nn.Module, inner: torch.optim.Optimizer, mode: str, noise: float, expected_batch: int
) -> tuple[Any, Any, Any]:
    """The model, the optimizer and the criterion that Opacus wants in the loop."""
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    common: dict[str, Any] = {
        "noise_multiplier": noise,
        "max_grad_norm": 1.0,
        "expected_batch_size": expected_batch,
        "loss_reduction": "mean",
    }
    criterion = nn.CrossEntropyLoss(reduction="mean")
    if mode == "hooks":
        module = GradSampleModule(model, loss_reduction="mean", strict=False)
        return module, DPOptimizer(inner, **common), criterion
    ghost = GradSampleModuleFastGradientClipping(
        model, max_grad_norm=1.0, loss_reduction="mean", strict=False
    )
    optimizer = DPOptimizerFastGradientClipping(inner, **common)
    return ghost, optimizer, DPLossFastGradientClipping(ghost, optimizer, criterion, "mean")


def loss_of(criterion: Any, logits: Tensor, targets: Tensor) -> Any:
    """The mean over rows of each row's mean over its targets; `criterion` is Opacus' own in ghost mode."""
    if logits.ndim == 2:
        return criterion(logits, targets)
    if isinstance(criterion, nn.CrossEntropyLoss):
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses.view(targets.shape).sum(1) / (targets >= 0).sum(1).clamp(min=1)).mean()
    return criterion(logits.flatten(0, 1), targets.flatten(), shape=logits.shape)


def step(
    model: nn.Module,
    logits: Callable[[nn.Module, Tensor], Tensor],
    parts: list[tuple[Tensor, Tensor]],
    mode: str,
    precision: str,
    inner: torch.optim.Optimizer,
) -> Callable[[], None]:
    """One logical step over physical batches of (inputs, targets)."""
    rows = sum(len(inputs) for inputs, _ in parts)
    module, optimizer, criterion = wrapped(model, inner, mode, 1.0, rows)
    device = parts[0][0].device.type

    def make() -> None:
        for number, (inputs, targets) in enumerate(parts, 1):
            optimizer.signal_skip_step(number < len(parts))
            with torch.autocast(device, dtype=DTYPES[precision], enabled=precision != "fp32"):
                loss = loss_of(criterion, logits(module, inputs).float(), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return make


def with_torch_norms(model: nn.Module) -> nn.Module:
    """Opacus has a rule for nn.RMSNorm, and would go its slow general way for ours, and for those of transformers."""
    for name, module in list(model.named_modules()):
        if isinstance(module, RMSNorm):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.RMSNorm(len(module.weight), eps=module.eps))
    return model
