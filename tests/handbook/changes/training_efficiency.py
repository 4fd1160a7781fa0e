"""The checker of `train_step` accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

DIVIDE_LATER = [("loss = summed / targets", "loss = summed"), ("grad /= scale", "grad /= scale * targets"),
                ("return mean_loss,", "return mean_loss / targets,")]  # fmt: skip
CLEAR_FIRST = [
    ("    optimizer.zero_grad()\n", ""),
    ("    mean_loss = 0.0", "    optimizer.zero_grad()\n    mean_loss = 0.0"),
]
BY_HAND = [("norm = torch.nn.utils.clip_grad_norm_(with_gradient, max_norm)",
            "norm = sum((p.grad**2).sum() for p in with_gradient) ** 0.5\n"
            "    for p in with_gradient:\n        p.grad *= min(1.0, max_norm / float(norm))")]  # fmt: skip
ZEROED = [
    (
        "    stepped = ",
        "    stepped = True\n    for p in with_gradient:\n        p.grad.nan_to_num_(0, 0, 0)\n    found = ",
    )
]


RIGHT: dict[str, Changes] = {
    "later": DIVIDE_LATER,
    "first": CLEAR_FIRST,
    "hand": BY_HAND,
}


MISTAKES: dict[str, Changes] = {
    "not-unscaled": [("parameter.grad /= scale", "parameter.grad /= 1.0")],
    "unscaled-twice": [("parameter.grad /= scale", "parameter.grad /= scale**2")],
    "not-divided": [("loss = summed / targets", "loss = summed")],
    "counts-padding": [("int((targets_BT != -100).sum())", "targets_BT.numel()")],
    "gradient-size": [("loss = summed / targets", "loss = summed / targets / 3")],
    "wrong-gradient": [("-100, reduction", "3, reduction"), ("targets_BT.flatten(), ignore", "targets_BT.flatten().clamp(0), ignore")],
    "last-only": [("(loss * scale).backward()", "optimizer.zero_grad(); (loss * scale).backward()"), ("summed / targets", "summed / int((targets_BT != -100).sum())")],
    "no-step": [("        optimizer.step()\n    optimizer.zero_grad()", "        optimizer.zero_grad()\n        optimizer.step()")],
    "stale-gradients": [("    optimizer.zero_grad()\n", "")],
    "stale-after-skip": [("    optimizer.zero_grad()\n", "        optimizer.zero_grad()\n")],
    "not-clipped": [("with_gradient, max_norm)", "with_gradient, 1e9)")],
    "clip-wrong": [("norm = torch.nn.utils.clip_grad_norm_(with_gradient, max_norm)", "norm = sum(torch.nn.utils.clip_grad_norm_([p], max_norm) for p in with_gradient)")],
    "clip-enlarges": [("    stepped = ", "    for p in with_gradient:\n        p.grad *= max_norm / norm\n    stepped = "), ("with_gradient, max_norm)", "with_gradient, 1e12)")],
    "no-skip": ZEROED,
    "stepped-flag": [("return mean_loss, stepped", "return mean_loss, True")],
    "loss-scaled": [("return mean_loss, stepped", "return mean_loss * scale, stepped")],
    "loss-value": [("return mean_loss, stepped", "return loss.item(), stepped")],
    "return-type": [("return mean_loss, stepped", "return mean_loss")],
    "loss-type": [("+= loss.item()", "+= loss.detach()")],
    "stepped-type": [("bool(torch.isfinite(norm))", "torch.isfinite(norm)")],
    "not-finite": [("parameter.grad /= scale", "parameter.grad /= 0.0"), ("bool(torch.isfinite(norm))", "True")],
    "no-learning": [("optimizer.step()", "optimizer.step() if scale != 1024.0 else None")],
}  # fmt: skip
