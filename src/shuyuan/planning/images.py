"""What a network for images costs in training: operations, memory and time of its convolutions, norms and matrices.

The counting rule is that of `cost.py`.
"""

from __future__ import annotations

import math

from ..hardware import Precision, Rates
from ..models import ImageConfig

# The constants were fitted to the processor time of 24 kinds of steps (three sizes, 8 to 64 pixels a side, 1 and 3 channels, bf16
# and fp32, private and not) on one core with AVX512-BF16. Convolutions reach this share of a large product's rate:
EFFICIENCY = 0.9
# What is no product, or a poor one, in operations at the float32 rate: a number that the first convolution makes of so few
# channels, one that is pooled, one that is normed, an element of a unit's own gradient of a kernel.
FIRST, POOLED, NORMED, APART = 600, 300, 100, 500
LAYER_SECONDS = 0.3e-3  # calling torch, forward and backward, however small the arrays
SUMMED_AT_ONCE = 2**18  # elements of a parameter that private training adds to its sum at once


def train_flops_per_image(config: ImageConfig) -> int:
    """Operations of forward and backward for one image.

    Args:
        config: the model.
    """
    return 6 * sum(
        math.prod(layer.weight) * layer.places for layer in config.layers() if layer.kind != "norm"
    )


def micro_batch_seconds(
    config: ImageConfig, precision: Precision, micro_batch: int, rates: Rates, *, private: bool
) -> float:
    """Forward and backward of one micro batch.

    Args:
        config: the model.
        precision: of its products.
        micro_batch: images computed at once.
        rates: what the machine reaches.
        private: whether each image's gradient is made by itself.
    """
    fp32 = rates.matmul_flops["fp32"]
    rate = rates.matmul_flops.get(precision, fp32)
    layers, sides = list(config.layers()), config.sides()
    normed = sum(layer.outputs * layer.places for layer in layers if layer.kind == "norm")
    halved = zip(config.widths, sides, sides[1:], strict=False)
    pooled = sum(width * side[0] * side[1] for width, side, after in halved if after != side)
    apart = sum(math.prod(layer.weight) for layer in layers if layer.kind == "convolution") if private else 0
    beside = FIRST * layers[0].outputs * layers[0].places + POOLED * pooled + NORMED * normed + APART * apart
    return (
        micro_batch * (train_flops_per_image(config) / (rate * EFFICIENCY) + beside / fp32)
        + len(layers) * LAYER_SECONDS
    )


def unit_gradient_bytes(config: ImageConfig, precision: Precision) -> int:
    """What one unit's gradients take until they are summed: an array of each kernel, and the two factors of a matrix.

    In half precision also a float32 copy of the kernel, or piece of it, that is being added to the sum.

    Args:
        config: the model.
        precision: of its products.
    """
    kernels = [math.prod(layer.weight) for layer in config.layers() if layer.kind == "convolution"]
    factors = sum(layer.inputs + layer.outputs for layer in config.layers() if layer.kind == "matrix")
    if precision == "fp32":
        return 4 * (sum(kernels) + factors)
    return 2 * (sum(kernels) + factors) + 4 * min(max(kernels, default=0), SUMMED_AT_ONCE)
