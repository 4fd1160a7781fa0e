"""One training step in fp16: several micro-batches, loss scaling, clipping."""

import torch
import torch.nn.functional as F


def train_step(model, optimizer, micro_batches, scale, max_norm):
    """Returns (loss, stepped); see starter.py for what each argument is."""
    targets = sum(int((targets_BT != -100).sum()) for _, targets_BT in micro_batches)
    mean_loss = 0.0
    for tokens_BT, targets_BT in micro_batches:
        logits = model(tokens_BT).float().flatten(0, 1)
        summed = F.cross_entropy(logits, targets_BT.flatten(), ignore_index=-100, reduction="sum")
        loss = summed / targets  # each target counts alike, in whichever micro-batch it is
        (loss * scale).backward()  # scaled first: 16 bits round small gradients to zero
        mean_loss += loss.item()

    with_gradient = [p for p in model.parameters() if p.grad is not None]
    for parameter in with_gradient:
        parameter.grad /= scale  # first the true gradient, then its norm
    norm = torch.nn.utils.clip_grad_norm_(with_gradient, max_norm)
    stepped = bool(torch.isfinite(norm))
    if stepped:
        optimizer.step()
    optimizer.zero_grad()
    return mean_loss, stepped
