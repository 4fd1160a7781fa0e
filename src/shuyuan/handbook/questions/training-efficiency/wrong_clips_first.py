"""Wrong: clips the scaled gradient and unscales afterwards, so the step is smaller than max_norm by the scale."""

import torch
import torch.nn.functional as F


def train_step(model, optimizer, micro_batches, scale, max_norm):
    targets = sum(int((targets_BT != -100).sum()) for _, targets_BT in micro_batches)
    mean_loss = 0.0
    for tokens_BT, targets_BT in micro_batches:
        logits_BTV = model(tokens_BT).float()
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum") / targets
        (loss * scale).backward()
        mean_loss += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    for parameter in model.parameters():
        parameter.grad /= scale
    stepped = bool(torch.isfinite(norm))
    if stepped:
        optimizer.step()
    optimizer.zero_grad()
    return mean_loss, stepped
