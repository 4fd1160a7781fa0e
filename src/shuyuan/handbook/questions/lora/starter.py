"""A linear layer with LoRA: two small matrices beside a frozen one."""

import torch  # noqa: F401


def start(outputs, inputs, rank, generator):
    """The small matrices before the first step: nothing has changed yet, and
    something can be learned.

    Args:
        outputs, inputs: the shape of the frozen matrix, (outputs, inputs).
        rank: columns that the two matrices have in common.
        generator: where every random number comes from.

    Returns:
        a (rank, inputs) and b (outputs, rank), float32, both with
        requires_grad. Random numbers have a spread between 0.2 and 1.1
        divided by sqrt(inputs).
    """
    raise NotImplementedError


def forward(x, weight, a, b, alpha):
    """The layer with what was learned beside it.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs), frozen, even if it has requires_grad.
        a, b: as `start` returns them.
        alpha: what was learned counts alpha / rank times.

    Returns:
        (..., outputs). Besides the product with `weight`, no tensor on the way
        may be as large as `weight`.
    """
    raise NotImplementedError


def merged(weight, a, b, alpha):
    """One matrix of the shape of `weight` that does what `forward` does; the
    arguments stay as they are."""
    raise NotImplementedError
