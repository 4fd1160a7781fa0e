"""What a recurrent model needs: operations, memory and time, by the same counting rules as a transformer's.

Constants were fitted to real runs of one layer to three, widths 64 to 1024, all three cells, in bf16 and fp32.
"""

from __future__ import annotations

from ..data import Manifest
from ..hardware import Precision, Rates
from ..models import RnnConfig
from ..models.rnn_config import GATES
from ..privacy.cost import KERAS_DENSE_MEMORY
from ..recipe import Recipe
from ..train.resolve import SEALING_BYTES_PER_SECOND, Costs, validation_windows
from .cost import optimizer_bytes

MIB = 2**20
KERAS_BYTES = 717 * MIB  # TensorFlow and Keras, and the code that a step is compiled to
UPDATE_COPIES = 0.5  # of the weights, beside gradients and optimizer, while an update is made
LOGIT_COPIES = 5.75  # of the logits in float32: logits, probabilities, and their gradients on the way back
EFFICIENCY = {"fp32": 0.6, "bf16": 0.45}  # of a large product's rate, reached by the rows of a position
POSITION_SECONDS = {
    "lstm": 1.1e-4,
    "gru": 1.2e-4,
    "simple": 5e-5,
}  # calling TensorFlow, there and back, however small
OPERATIONS_A_BYTE = 20  # gates and states: for each byte kept, at the float32 rate of the processor
PRIVATE_PART = 1.3  # a physical batch beside a plain one
STEP_SECONDS = 4e-3  # what Keras and the driver do around a step
START_SECONDS = 3.0  # until TensorFlow has compiled a step
ACCOUNTANT_BYTES = 60 * MIB  # what the library that computes ε leaves beside TensorFlow
NOISE_SECONDS = 30e-9


def flops_per_token(config: RnnConfig) -> int:
    """Operations of forward and backward for one token: every matrix counts, looking an embedding up does not.

    Args:
        config: the model.
    """
    each = sum(rows * columns for layer in config.stack[:-1] for rows, columns in layer.matrices)
    each += sum(layer.weights for layer in config.stack if layer.kind == "other")
    head = sum(rows * columns for rows, columns in config.stack[-1].matrices)
    return 6 * (each + head * config.head[0] // config.context)


def step_items(recipe: Recipe, config: RnnConfig) -> dict[str, int]:
    """The parts of memory that training takes at its fullest, beside what the process holds anyway.

    Args:
        recipe: with batch size, micro batch and precision filled in.
        config: the model.
    """
    rows = recipe.train.micro_batch
    assert rows != "auto"  # resolve.fill_in came first
    number = 4 if recipe.train.precision == "fp32" else 2
    predictions, outputs = config.head
    items = {
        "weights": 4 * config.parameters,
        "optimizer": optimizer_bytes(config, recipe.train),
        "gradients": 4 * config.parameters,
        "copies of weights": round(UPDATE_COPIES * 4 * config.parameters),
        "activations": rows * config.sequence_bytes(number),
        "logits": round(LOGIT_COPIES * 4 * rows * predictions * outputs),
    }
    if recipe.privacy is not None:
        items["gradients of units"] = rows * unit_bytes(config, number)
    return items


def unit_bytes(config: RnnConfig, number: int) -> int:
    """What the gradients of one unit take until its clip is known: arrays, or the factors that the step keeps anyway.

    Args:
        config: the model.
        number: bytes of a number: 4 in float32, 2 in half precision.
    """
    total = 0
    for layer in config.stack:
        for rows, columns in layer.matrices:
            positions = config.context if layer.kind in GATES or layer.sequence else 1
            factors = positions * (rows + columns)
            dense = positions > 1 and rows * columns <= KERAS_DENSE_MEMORY * factors
            total += (rows * columns if dense else factors) * number
    return total


def costs(recipe: Recipe, config: RnnConfig, manifest: Manifest, rates: Rates) -> Costs:
    """Seconds of a step, an evaluation and a checkpoint.

    Args:
        recipe: with batch size, micro batch and precision filled in.
        config: the model.
        manifest: of the prepared data, or an estimate.
        rates: what the machine reaches.
    """
    train = recipe.train
    rows, micro_batch = train.batch_size, train.micro_batch
    assert rows != "auto" and micro_batch != "auto"  # resolve.fill_in came first
    part = _part_seconds(config, micro_batch, train.precision, rates)
    state = 4 * config.parameters + optimizer_bytes(config, train)
    update = 3 * (state + 4 * config.parameters) / rates.memory_bytes_per_second
    if recipe.privacy is not None:
        part *= PRIVATE_PART
        update += NOISE_SECONDS * config.parameters
    return Costs(
        step=rows // micro_batch * part + update + STEP_SECONDS,
        evaluation=validation_windows(recipe, manifest) / micro_batch * part / 3,
        checkpoint=state / rates.disk_bytes_per_second + state / SEALING_BYTES_PER_SECOND,
        start=START_SECONDS,
    )


def _part_seconds(config: RnnConfig, rows: int, precision: str, rates: Rates) -> float:
    """Forward and backward of some rows."""
    assert precision in EFFICIENCY
    kind: Precision = "fp32" if precision == "fp32" else "bf16"
    rate = rates.matmul_flops.get(kind, rates.matmul_flops["fp32"]) * EFFICIENCY[kind]
    kept = rows * config.sequence_bytes(4 if kind == "fp32" else 2)
    directions = ((layer.kind, 2 if layer.both else 1) for layer in config.recurrent)
    calls = sum(POSITION_SECONDS[cell] * times for cell, times in directions) * config.context
    products = rows * config.context * flops_per_token(config) / rate
    return products + calls + kept * OPERATIONS_A_BYTE / rates.matmul_flops["fp32"]
