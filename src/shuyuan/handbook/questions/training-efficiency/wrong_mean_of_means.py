"""Wrong: averages over micro-batches, so a target in a short micro-batch counts more than one in a long one."""

import torch
import torch.nn.functional as F


def train_step(model, optimizer, micro_batches, scale, max_norm):
    mean_loss = 0.0
    for tokens_BT, targets_BT in micro_batches:
        logits_BTV = model(tokens_BT).float()
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten()) / len(micro_batches)
        (loss * scale).backward()
        mean_loss += loss.item()
    for parameter in model.parameters():
        parameter.grad /= scale
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    stepped = bool(torch.isfinite(norm))
    if stepped:
        optimizer.step()
    optimizer.zero_grad()
    return mean_loss, stepped
