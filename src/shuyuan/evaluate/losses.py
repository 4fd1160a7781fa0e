"""The mean loss of a model over a whole split."""

from __future__ import annotations

from ..data import PromptRows, SpanRows, Windows
from ..hardware import Precision
from ..inference import computed
from ..models import AnyNetwork
from ..progress import Progress


def mean_loss(
    model: AnyNetwork,
    windows: Windows | PromptRows | SpanRows,
    at_once: int,
    precision: Precision,
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
    network = computed(model, precision)
    total, tokens = 0.0, 0
    with progress.stage(f"score on {split}", windows.count, "windows") as stage:
        for inputs, targets in windows.in_order(at_once):
            total += network.loss(inputs, targets)
            tokens += int((targets >= 0).sum())
            stage.advance(len(inputs), loss=total / max(1, tokens))
    return total / max(1, tokens)
