"""How long training takes: matrix products at a share of the measured rate, all else by the bytes that it moves."""

from __future__ import annotations

from ..data import Manifest
from ..hardware import Hardware, Rates, choose_precision
from ..models import TransformerConfig
from ..recipe import Recipe
from ..train.resolve import SEALING_BYTES_PER_SECOND, Costs, validation_windows
from .cost import block_matrices, muon_flops, train_flops_per_token
from .memory import activation_bytes, optimizer_bytes

# Fitted to steps of this project's own transformer on two cores with AVX512-BF16, widths 128 to 768.
EFFICIENCY = {
    "fp32": 0.75,
    "bf16": 0.55,
    "fp16": 0.5,
}  # of the large product's rate, reached by the model's own
PASSES = 6  # times that what is kept for the backward pass moves through memory, in all
UPDATE_PASSES = 3  # the same for weights, gradients and optimizer in an update
CALL_SECONDS = 8e-6  # one operation of torch, however small
BLOCK_CALLS, MUON_CALLS = 160, 30  # operations a block (forward and backward), and a matrix in Muon's update


def predicted_costs(
    recipe: Recipe, config: TransformerConfig, manifest: Manifest, hardware: Hardware, rates: Rates
) -> Costs:
    """Seconds of a step, an evaluation and a checkpoint.

    Args:
        recipe: with batch size, micro batch and precision filled in.
        config: the model.
        manifest: of the prepared data, or an estimate.
        hardware: where it runs.
        rates: what it reaches.
    """
    train = recipe.train
    batch_size, micro_batch, precision = train.batch_size, train.micro_batch, train.precision
    assert (
        batch_size != "auto" and micro_batch != "auto" and precision != "auto"
    )  # resolve.fill_in came first
    flops = micro_batch * config.context * train_flops_per_token(config)
    kept = activation_bytes(config, precision, micro_batch, hardware.device)
    part = (
        flops / (_rate(rates, precision) * EFFICIENCY[precision])
        + PASSES * kept / rates.memory_bytes_per_second
        + config.layers * BLOCK_CALLS * CALL_SECONDS
    )
    state = 4 * config.parameters + optimizer_bytes(config, train.optimizer)
    update = UPDATE_PASSES * (state + 4 * config.parameters) / rates.memory_bytes_per_second
    if train.optimizer == "muon":
        muon = "bf16" if choose_precision("auto", hardware) == "bf16" else "fp32"
        update += muon_flops(config) / (_rate(rates, muon) * EFFICIENCY[muon])
        update += len(list(block_matrices(config))) * MUON_CALLS * CALL_SECONDS
    evaluation = validation_windows(recipe, manifest) / micro_batch * part / 3  # forward only
    checkpoint = state / rates.disk_bytes_per_second + state / SEALING_BYTES_PER_SECOND
    return Costs(step=batch_size // micro_batch * part + update, evaluation=evaluation, checkpoint=checkpoint)


def _rate(rates: Rates, precision: str) -> float:
    return rates.matmul_flops.get(precision, rates.matmul_flops["fp32"])
