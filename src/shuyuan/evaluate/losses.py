"""The mean loss of a model over a whole split."""

from __future__ import annotations

import torch

from ..data import Windows
from ..hardware import Precision as PrecisionName
from ..hardware import detect
from ..models.hub import Network
from ..progress import Progress
from ..train.precision import Precision


@torch.inference_mode()
def mean_loss(
    model: Network,
    windows: Windows,
    at_once: int,
    precision: PrecisionName,
    progress: Progress,
    split: str,
) -> float:
    """Mean cross entropy in nats a token; every target of the split counts once.

    Args:
        model: the network.
        windows: the split, in order.
        at_once: windows that are computed together.
        precision: "fp32", "bf16" or "fp16"; the forward pass runs in it, the loss in float32.
        progress: shows the share done and the loss so far.
        split: its name, for the progress line.
    """
    device = detect().device
    arithmetic = Precision(precision, device)
    model.to(device).eval()
    total, tokens = 0.0, 0
    with progress.stage(f"score on {split}", windows.count, "windows") as stage:
        for inputs, targets in windows.in_order(at_once):
            with arithmetic.autocast():
                loss = model.loss(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
            total += float(loss)
            tokens += int((targets >= 0).sum())
            stage.advance(len(inputs), loss=total / max(1, tokens))
    return total / max(1, tokens)
