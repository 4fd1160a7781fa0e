"""How each kind of module tells the gradient of each unit: from its input and the gradient of its output.

A rule belongs to a forward computation, not to a class name: a subclass that computes something else gets none, and goes
the general way (`general.py`). Weights are held still during the forward pass, so that autograd never computes the
ordinary gradient, which nobody would use.

Legend: N rows of the physical batch, U units, T positions of a unit, O outputs, I inputs, C channels, S rows looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from .contributions import Contributions
from .float32 import at_least_float32
from .units import Units

# (module, input, gradient of the output, units, what each parameter's gradient gets)
Rule = Callable[[nn.Module, Tensor, Tensor, Units, dict[str, Contributions]], None]


def rule_for(module: nn.Module) -> Rule | None:
    """The rule of a module's own forward computation; None if there is none."""
    forward = type(module).forward
    for kind, rule in RULES:
        if isinstance(module, kind) and forward is kind.forward and _plain(module):
            return rule
    if _is_hub_conv1d(module):
        return conv1d_of_transformers
    return elementwise if _is_elementwise(module) else None


def _plain(module: nn.Module) -> bool:
    """Whether a module's computation is what its class says: no option that the rules do not know."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
        return plain and getattr(module, "mode", "sum") == "sum"
    return getattr(module, "padding_mode", "zeros") == "zeros"


# ---- matrices --------------------------------------------------------------------------------------------------------


def linear(module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]) -> None:
    """y = x W^T + b, with any number of dimensions between rows and inputs."""
    G_UTO = units.positions(grad)
    if "weight" in to:
        to["weight"].add_outer(units.positions(x), G_UTO)
    if "bias" in to:
        to["bias"].add_dense(_sum(G_UTO, 1))


def conv1d_of_transformers(
    module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """y = x W + b: the layer of GPT-2, a matrix that lies the other way."""
    G_UTO = units.positions(grad)
    if "weight" in to:
        to["weight"].add_outer(G_UTO, units.positions(x))
    if "bias" in to:
        to["bias"].add_dense(_sum(G_UTO, 1))


def embedding(
    module: nn.Module, ids: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """y = W[ids]; the padding row learns nothing."""
    assert isinstance(module, nn.Embedding)
    ids_US = units.positions(ids.unsqueeze(-1)).squeeze(-1)
    G_USI = units.positions(grad)
    if module.padding_idx is not None:
        G_USI = G_USI * (ids_US != module.padding_idx).unsqueeze(-1)
    to["weight"].add_rows(ids_US, G_USI)


def embedding_bag(
    module: nn.Module, ids: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """y = the sum of W[ids] over each row; the padding row adds nothing and learns nothing."""
    assert isinstance(module, nn.EmbeddingBag)
    G_NSI = grad.unsqueeze(1).expand(*ids.shape, grad.shape[-1])
    if module.padding_idx is not None:
        G_NSI = G_NSI * (ids != module.padding_idx).unsqueeze(-1)
    to["weight"].add_rows(units.positions(ids.unsqueeze(-1)).squeeze(-1), units.positions(G_NSI))


# ---- convolutions ----------------------------------------------------------------------------------------------------


def convolution(
    module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """Cross-correlation in 1, 2 or 3 dimensions, with stride, padding, dilation and groups.

    The gradient of each row's kernel is itself a convolution, in which input and output gradient of all rows lie side by
    side as groups (Rochette, Manoel and Tramel, "Efficient per-example gradient computations in convolutional neural
    networks", 2019).
    """
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    if "weight" in to:
        to["weight"].add_dense(units.sum(_kernels(module, x.to(grad.dtype), grad).flatten(1)))
    if "bias" in to:
        to["bias"].add_dense(units.sum(_sum(grad.flatten(2), 2)))


def _kernels(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of each row's kernel, (N, *kernel); rows lie side by side as groups of one row of many channels."""
    N, shape = len(x), module.weight.shape
    before, after = zip(*_padding(module), strict=True)
    beyond = [last - first for first, last in zip(before, after, strict=True)]
    if any(beyond):  # "same" with a kernel of an even size: one more zero at the end
        x = F.pad(x, [amount for more in reversed(beyond) for amount in (0, more)])
    kernels_of_one: Tensor = KERNEL_GRADIENTS[len(module.kernel_size)](
        x.reshape(1, -1, *x.shape[2:]),
        (N * shape[0], *shape[1:]),
        grad.reshape(1, -1, *grad.shape[2:]),
        stride=module.stride,
        padding=before,
        dilation=module.dilation,
        groups=N * module.groups,
    )
    return kernels_of_one.view(N, *shape)


def _padding(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[tuple[int, int]]:
    """Zeros before and after, for each dimension."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        both = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in both]
    return [(int(amount), int(amount)) for amount in module.padding]


# ---- scales and shifts -----------------------------------------------------------------------------------------------


def layer_norm(
    module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """y = (x - mean) / deviation · w + b over the last dimensions."""
    assert isinstance(module, nn.LayerNorm)
    normed = F.layer_norm(at_least_float32(x), module.normalized_shape, eps=module.eps)
    _scale_and_shift(normed, grad, len(module.normalized_shape), units, to)


def rms_norm(module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]) -> None:
    """y = x / root mean square · w over the last dimensions."""
    assert isinstance(module, nn.RMSNorm)
    eps = module.eps if module.eps is not None else torch.finfo(x.dtype).eps
    normed = F.rms_norm(at_least_float32(x), module.normalized_shape, eps=eps)
    _scale_and_shift(normed, grad, len(module.normalized_shape), units, to)


def group_norm(
    module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """y = normed by groups of channels · w + b, one for each channel."""
    assert isinstance(module, nn.GroupNorm)
    normed = F.group_norm(at_least_float32(x), module.num_groups, eps=module.eps)
    _scale_and_shift(normed.transpose(1, -1), grad.transpose(1, -1), 1, units, to)


def elementwise(
    module: nn.Module, x: Tensor, grad: Tensor, units: Units, to: dict[str, Contributions]
) -> None:
    """Any module whose output is one scale a channel times something that no parameter touches, plus something such.

    That something is the difference between the output with ones and with zeros as weights: so it is right for each of
    the root-mean-square norms of transformers, whether they multiply by w or by 1 + w.
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    x = at_least_float32(x)
    ones, zeros = (
        _with_weight(module, fill(weight.shape, device=x.device), x) for fill in (torch.ones, torch.zeros)
    )
    _scale_and_shift(ones - zeros, grad, weight.ndim, units, to)


def _scale_and_shift(
    normed: Tensor, grad: Tensor, dims: int, units: Units, to: dict[str, Contributions]
) -> None:
    """w gets grad · normed, b gets grad, summed over all but rows and the last `dims` dimensions."""
    grad = at_least_float32(grad)
    middle = tuple(range(1, grad.ndim - dims))

    def summed(x: Tensor) -> Tensor:
        return units.sum(x.sum(middle) if middle else x)

    if "weight" in to:
        to["weight"].add_dense(summed(grad * normed))
    if "bias" in to:
        to["bias"].add_dense(summed(grad))


# ---- recognising ----------------------------------------------------------------------------------------------------


def _is_hub_conv1d(module: nn.Module) -> bool:
    """transformers' Conv1D, without importing transformers: whoever has such a module has imported it."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def _is_elementwise(module: nn.Module) -> bool:
    """Whether a module with one weight vector scales by it and does nothing else with it: tried on made-up numbers.

    Only norms are tried, by name, since others may do what cannot be tried (move buffers, count calls).
    """
    parameters = dict(module.named_parameters(recurse=False))
    if "Norm" not in type(module).__name__ or parameters.keys() != {"weight"} or list(module.children()):
        return False
    weight = parameters["weight"]
    if weight.ndim != 1:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, len(weight), generator=generator).to(weight.device)
    first, second = (torch.randn(len(weight), generator=generator).to(weight.device) for _ in range(2))
    try:
        none, ones = (
            _with_weight(module, fill(weight.shape, device=x.device), x) for fill in (torch.zeros, torch.ones)
        )
        outputs = [_with_weight(module, scale, x) for scale in (first, second)]
    except (RuntimeError, TypeError, ValueError):
        return False
    expected = [none + (ones - none) * scale for scale in (first, second)]
    return all(
        isinstance(found, Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)
        for found, wanted in zip(outputs, expected, strict=True)
    )


@torch.no_grad()
def _with_weight(module: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """The module's output with another weight, without its hooks and outside of autocast."""
    held = module._parameters["weight"]
    module._parameters["weight"] = weight  # type: ignore[assignment]
    try:
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = type(module).forward(module, x)
    finally:
        module._parameters["weight"] = held
    return out


def _sum(x: Tensor, dim: int) -> Tensor:
    return x.sum(dim, dtype=torch.promote_types(x.dtype, torch.float32))


def _convolutions() -> Iterator[tuple[type[nn.Module], Rule]]:
    for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        yield kind, convolution


# By the number of dimensions.
KERNEL_GRADIENTS: dict[int, Callable[..., Tensor]] = {
    1: conv1d_weight,
    2: conv2d_weight,
    3: conv3d_weight,
}

RULES: list[tuple[Any, Rule]] = [
    (nn.Linear, linear),
    (nn.Embedding, embedding),
    (nn.EmbeddingBag, embedding_bag),
    *_convolutions(),
    (nn.LayerNorm, layer_norm),
    (nn.RMSNorm, rms_norm),
    (nn.GroupNorm, group_norm),
]
