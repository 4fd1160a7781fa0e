"""What a network for images costs in training: operations, memory and time of its convolutions, norms and matrices.

The counting rule is that of `cost.py`.
"""

from __future__ import annotations

import math

from ..hardware import Precision, Rates
from ..models import ImageConfig

# Of a large product's rate, reached by small convolutions and their two backward products.
EFFICIENCY = {"fp32": 0.45, "bf16": 0.4, "fp16": 0.4}
# What is not a product: so many operations at the float32 rate for each number that is kept.
OPERATIONS_A_NUMBER = 60
LAYER_SECONDS = 0.15e-3  # calling torch, forward and backward, however small the arrays
SUMMED_AT_ONCE = 2**18  # elements of a parameter that private training adds to its sum at once
# What one row's gradients add to a micro batch: each kernel's, apart from those of the other rows.
PRIVATE_PART = {"fp32": 1.5, "bf16": 1.8, "fp16": 1.8}


def train_flops_per_image(config: ImageConfig) -> int:
    """Operations of forward and backward for one image."""
    return 6 * sum(
        math.prod(layer.weight) * layer.places for layer in config.layers() if layer.kind != "norm"
    )


def micro_batch_seconds(config: ImageConfig, precision: Precision, micro_batch: int, rates: Rates) -> float:
    """Forward and backward of one micro batch."""
    rate = rates.matmul_flops.get(precision, rates.matmul_flops["fp32"]) * EFFICIENCY[precision]
    layers = list(config.layers())
    numbers = sum(layer.outputs * layer.places for layer in layers)
    return (
        micro_batch * train_flops_per_image(config) / rate
        + micro_batch * numbers * OPERATIONS_A_NUMBER / rates.matmul_flops["fp32"]
        + len(layers) * LAYER_SECONDS
    )


def unit_gradient_bytes(config: ImageConfig, precision: Precision) -> int:
    """What one unit's gradients take until they are summed: an array of each kernel, and the two factors of a matrix.

    In half precision also a float32 copy of the kernel, or piece of it, that is being added to the sum.
    """
    kernels = [math.prod(layer.weight) for layer in config.layers() if layer.kind == "convolution"]
    factors = sum(layer.inputs + layer.outputs for layer in config.layers() if layer.kind == "matrix")
    if precision == "fp32":
        return 4 * (sum(kernels) + factors)
    return 2 * (sum(kernels) + factors) + 4 * min(max(kernels), SUMMED_AT_ONCE)
