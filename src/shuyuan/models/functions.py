"""The arithmetic inside the transformer: norm, rotary positions, causal attention, loss; two with their own backward.

Shapes: B sequences, T tokens of each, V vocabulary, C width, H query heads, K key-value heads, D width of a head,
N tokens of all sequences.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LEARN_NOTHING = -100  # a target that adds nothing to the loss


# ---- positions and attention -------------------------------------------------------------------------------

# On a CPU without AMX, torch's fused attention gains nothing from bfloat16, while matrix products do: forward and
# backward of 4096 tokens, 4 heads of 64: 8 against 36 ms at T=64, 17 against 45 at 256, 32 against 78 at 512; from 1024
# on the fused one wins (91 against 109), since it skips what lies in the future.
LONGEST_PRODUCT = 512


def attend_causal(q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor) -> Tensor:
    """Every token attends to itself and to those before it.

    Args:
        q_BHTD: queries; H is a multiple of K, and so many neighbouring heads share a key.
        k_BKTD, v_BKTD: keys and values.

    Returns:
        (B, H, T, D), in the type of the queries.
    """
    if q_BHTD.dtype == torch.bfloat16 and q_BHTD.device.type == "cpu" and q_BHTD.shape[2] <= LONGEST_PRODUCT:
        return _attend_by_products(q_BHTD, k_BKTD, v_BKTD)
    grouped = q_BHTD.shape[1] != k_BKTD.shape[1]
    return F.scaled_dot_product_attention(q_BHTD, k_BKTD, v_BKTD, is_causal=True, enable_gqa=grouped)


def _attend_by_products(q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor) -> Tensor:
    """Causal attention as two batched matrix products around a softmax."""
    B, H, T, D = q_BHTD.shape
    group = H // k_BKTD.shape[1]
    if group > 1:
        k_BKTD, v_BKTD = (heads.repeat_interleave(group, 1) for heads in (k_BKTD, v_BKTD))
    q, k, v = (heads.reshape(B * H, T, D) for heads in (q_BHTD, k_BKTD, v_BKTD))
    future_TT = torch.full((T, T), -torch.inf, dtype=q.dtype).triu_(1)
    weights = torch.baddbmm(future_TT, q, k.transpose(1, 2), alpha=D**-0.5).softmax(-1)
    return (weights @ v).view(B, H, T, D)


def rotary_tables(D: int, context: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position and wavelength, each (context, D/2), float32; theta is the base.

    Args:
        D: width of a head, even.
        context: positions.
        theta: base of the wavelengths.
    """
    # On the CPU also while a loader builds the model on the meta device: tables are computed, not loaded.
    pairs = torch.arange(0, D, 2, dtype=torch.float32, device="cpu")
    positions = torch.arange(context, dtype=torch.float32, device="cpu")
    angles = positions[:, None] * (1.0 / theta ** (pairs / D))
    return angles.cos(), angles.sin()


# From so many sequences on, tables are written out for every head: products with their short rows take twice as long.
MANY_ROWS = 8


def rotate(x_BTHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x[i], x[i + D/2]) by the angle of its position.

    Args:
        x_BTHD: queries or keys.
        cos, sin: of the pairs, once for each half of D; the sines of the first half negative, so that two products
            and a sum do it.

    Reference: https://arxiv.org/abs/2104.09864
    """
    # An exported graph takes any number of sequences, and may not ask how many there are.
    if cos.ndim == 3 and not torch.compiler.is_exporting() and len(x_BTHD) >= MANY_ROWS:
        cos, sin = (table.expand(x_BTHD.shape[1:]).contiguous() for table in (cos, sin))
    return (x_BTHD * cos).addcmul_(x_BTHD.roll(x_BTHD.shape[-1] // 2, -1), sin)


# ---- with a backward of their own --------------------------------------------------------------------------


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis, with a backward in few passes.

    Args:
        x: rows first, width C last.
        weight: (C,), or one for each row, (rows, 1, …, C), which must be copies of one: then each copy gets the gradient of
            its own row.
        eps: added to the mean square.

    Forward and backward take half the time of F.rms_norm, which CPUs compose of a dozen small steps. Without a backward
    F.rms_norm is the faster, above all on the few numbers of one token.
    """
    # A compiler makes few passes by itself, and that of torch 2.11 loses what goes back through a function of ours.
    if torch.compiler.is_compiling():
        scale = x.to(_at_least_float32(x)).square().mean(-1, keepdim=True).add(eps).rsqrt()
        return x * scale.to(x.dtype) * weight.to(x.dtype)
    if not torch.is_grad_enabled():
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)
    y: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return y


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_at_least_float32(x))
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        weight_C = weight if weight.ndim == 1 else weight[0].flatten()
        y: Tensor = (x * scale.to(x.dtype)).mul_(weight_C.to(x.dtype))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        (grad,) = grads
        scale = scale.to(x.dtype)
        normed = x * scale
        by_normed = grad * normed
        grad_weight = _sum_to(by_normed, weight)
        weight_C = (weight if weight.ndim == 1 else weight[0].flatten()).to(x.dtype)
        # The output does not change when x grows as a whole: the gradient has no part along x.
        along = (by_normed @ weight_C).div_(x.shape[-1]).unsqueeze(-1)
        grad_x = (grad * weight_C).sub_(normed.mul_(along)).mul_(scale)
        return grad_x, grad_weight, None


def _sum_to(x: Tensor, weight: Tensor) -> Tensor:
    """The sum over all that a weight of (C,), or of (rows, 1, …, C), was used for, in its shape and type."""
    if weight.ndim == 1:
        summed = x.flatten(0, -2).sum(0, dtype=_at_least_float32(x))
    else:
        summed = x.flatten(1, -2).sum(1, dtype=_at_least_float32(x)) if x.ndim > 2 else x
    return summed.view(weight.shape).to(weight.dtype)


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """The cross entropy of each target (N,), in nats, float32, a few tokens at a time; that of a target of -100 is zero.

    No float32 copy of the logits outlives its chunk: backward computes the probabilities again. On a CPU the chunks
    stay in its cache, which makes it 3.5 times faster than one F.cross_entropy (4096 tokens of 4096 bfloat16 logits,
    forward and backward: 21 against 74 ms).

    Args:
        logits_NV: of any float type; the gradient has the same.
        targets_N: int64, from 0 up to V, or -100.
    """
    losses_N: Tensor = _CrossEntropy.apply(logits_NV, targets_N)  # type: ignore[no-untyped-call]
    return losses_N


def label_losses(logits_BK: Tensor, targets: Tensor) -> Tensor:
    """What telling labels costs of each row (B, 1), in nats, float32; zero where the target is -100.

    Args:
        logits_BK: of the labels.
        targets: the class (B, 1), for its cross entropy; or ones and zeros (B, 1, K), for the sum of a binary cross entropy for each
            label.
    """
    if targets.ndim == 2:
        return cross_entropy(logits_BK, targets.flatten()).view(targets.shape)
    has_BK = targets[:, 0].clamp(min=0).float()
    losses_BK = F.binary_cross_entropy_with_logits(logits_BK.float(), has_BK, reduction="none")
    return losses_BK.sum(1, keepdim=True) * (targets[..., 0] >= 0)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        ctx.save_for_backward(logits_NV, targets_N)
        chunk = _chunk(logits_NV)
        pairs = zip(torch.split(logits_NV, chunk), torch.split(targets_N, chunk), strict=True)
        losses = [
            F.cross_entropy(logits.float(), targets, reduction="none", ignore_index=LEARN_NOTHING)
            for logits, targets in pairs
        ]
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        logits_NV, targets_N = ctx.saved_tensors
        scale_N1 = (grads[0] * (targets_N != LEARN_NOTHING)).unsqueeze(1)
        targets_N1 = targets_N.clamp(min=0).unsqueeze(1)
        grad_NV = torch.empty_like(logits_NV)
        chunk = _chunk(logits_NV)
        parts = (torch.split(part, chunk) for part in (grad_NV, logits_NV, targets_N1, scale_N1))
        for grad, logits, targets, scale in zip(*parts, strict=True):
            probabilities = F.softmax(logits, -1, dtype=torch.float32)
            grad.copy_(probabilities.mul_(scale).scatter_add_(1, targets, -scale))
        return grad_NV, None


def _chunk(logits_NV: Tensor) -> int:
    """Tokens a chunk: 2 MB of float32 logits fit a CPU's cache; a GPU wants fewer, larger pieces."""
    elements = 2**19 if logits_NV.device.type == "cpu" else 2**25
    return max(1, elements // logits_NV.shape[1])
