"""One training step in fp16: several micro-batches, loss scaling, clipping."""

import torch  # noqa: F401
import torch.nn.functional as F  # noqa: F401


def train_step(model, optimizer, micro_batches, scale, max_norm):
    """Takes one optimizer step over several micro-batches, or skips it.

    Args:
        model: model(tokens_BT) gives logits_BTV. It computes in 16 bits; its
            parameters and their gradients are float32.
        optimizer: an optimizer over the parameters of the model.
        micro_batches: a list of (tokens_BT, targets_BT). A target of -100 is
            not learned, and the micro-batches hold different numbers of
            targets. The step must equal that of one large batch.
        scale: the loss scale, for example 16384.0.
        max_norm: the norm of the true gradient, over all parameters together,
            is cut to this.

    Returns:
        (loss, stepped): the mean loss over all targets of the step as a Python
        float, not scaled; and True if the optimizer stepped, False if a
        gradient was infinite or NaN and the step was skipped. No gradient is
        left behind for the next step.
    """
    raise NotImplementedError
