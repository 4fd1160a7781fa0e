"""How long training takes: matrix products at a share of the measured rate, and all else by the bytes that it passes over.

The constants were fitted to the time of 32 kinds of parts of this project's own transformer (2 to 8 layers, widths 64 to 512, 128 to
4,096 tokens in rows of 32 to 1,024, bf16 and fp32) on two cores with AVX512-BF16, whose rates were measured in between: median
error 4 % in bf16 and 6 % in fp32, largest 16 %.
"""

from __future__ import annotations

from dataclasses import replace

from ..data import Manifest
from ..hardware import Hardware, Precision, Rates, choose_precision
from ..models import ImageConfig, NgramConfig, RnnConfig, TransformerConfig, stored_config
from ..recipe import Recipe
from ..train.parts import Part, typical_parts
from ..train.resolve import SEALING_BYTES_PER_SECOND, Costs, validation_windows
from . import images
from .cost import (
    attention_flops_per_token,
    block_matrices,
    block_matrix_parameters,
    coded_parameters,
    computed_logits,
    learned_parameters,
    muon_flops,
    optimizer_bytes,
)
from .memory import activation_bytes, by_products
from .rnn import costs as recurrent_costs

# Shares of a large product's rate, reached by the model's own products and by those of attention.
EFFICIENCY = {"fp32": 0.80, "bf16": 0.76, "fp16": 0.5}
ATTENTION_EFFICIENCY = {"fp32": 0.84, "bf16": 1.0, "fp16": 0.5}
MUON_EFFICIENCY = 0.85
# What is not a product: for each byte kept for the backward pass, about this many operations at the float32 rate of the
# processor, or this many bytes through its memory, whichever takes longer.
OPERATIONS_A_BYTE, PASSES = {"fp32": 60, "bf16": 102, "fp16": 102}, 6
# Private training: a micro batch beside the plain one (benchmarks/private_step.py), and noise for each parameter.
PRIVATE_PART = {"fp32": 1.07, "bf16": 1.14, "fp16": 1.14}
NOISE_SECONDS = 12e-9
# On a GPU: the share of a large product's rate that the model's own reach, and how often each byte kept passes through its memory,
# fitted to 142 measured throughputs of eight GPUs (A100 40 and 80 GB, H100; 125 million to 30 billion parameters, contexts 512 to
# 65,536) that llm-foundry publishes (scripts/train/benchmarking), median error 6 %. Attention leaves out what the mask hides, at
# about half the rate of a product, as FlashAttention-2 is reported (arXiv 2307.08691). Calling torch for a block takes so long at
# least (the plain step of private_step.py on an H200).
GPU_EFFICIENCY, GPU_PASSES, GPU_ATTENTION, GPU_BLOCK_SECONDS = 0.88, 9, 1.0, 2.5e-3
# Of a classifier of n-grams: seconds for each of a row, made, looked up, learned from, on a CPU's core; times as many in private
# training, sums by unit included; and for rows computed at once, however short.
GRAM_SECONDS, PRIVATE_GRAM, GRAM_PART_SECONDS = 0.12e-6, 1.3, 2e-3
STEP_SECONDS = 5e-3  # what the driver does around a step, on a CPU
ACCOUNTING_SECONDS = 2.0  # of private training: ε for the lines of the log
BESIDE = 1.07  # batches that are read and lines that are logged meanwhile (benchmarks/plan.py)
# With compiled blocks: the share of a step's time, and seconds until they are (benchmarks/train.py, on two cores and on an H200).
COMPILED, COMPILING_SECONDS = {"cpu": 0.88, "cuda": 0.67}, 30.0
FORWARD_AGAIN = 1 / 3  # of the work in the blocks, with activation checkpointing
UPDATE_PASSES = 2  # of weights, gradients and optimizer, in an update
# Bytes through memory for each weight that is made of a code, by bits: 20 and 48 ms more in steps of 8x512 and 256 tokens, forward and
# back, on two cores that copy 50 GB/s (docs/lab-notes.md).
DECODED_BYTES = {8: 20, 4: 47}
# Calling torch for a block, forward and back, however small the arrays: autocast converts each matrix besides.
BLOCK_SECONDS, MUON_MATRIX_SECONDS = {"fp32": 1.8e-3, "bf16": 3.0e-3, "fp16": 3.0e-3}, 0.6e-3


def predicted_costs(
    recipe: Recipe,
    config: TransformerConfig | ImageConfig | RnnConfig,
    manifest: Manifest,
    hardware: Hardware,
    rates: Rates,
) -> Costs:
    """Seconds of a step, an evaluation and a checkpoint.

    Args:
        recipe: with batch size, micro batch and precision filled in.
        config: the model.
        manifest: of the prepared data, or an estimate.
        hardware: where it runs.
        rates: what it reaches.
    """
    accounting = 0.0 if recipe.privacy is None else ACCOUNTING_SECONDS
    if isinstance(config, RnnConfig):
        costs = recurrent_costs(recipe, config, manifest, rates)
        return replace(costs, start=costs.start + accounting)
    train = recipe.train
    batch_size, micro_batch = train.batch_size, train.micro_batch
    assert batch_size != "auto" and micro_batch != "auto"  # resolve.fill_in came first
    if isinstance(config, ImageConfig):
        part = images.micro_batch_seconds(
            config, precision_of(recipe), micro_batch, rates, private=recipe.privacy is not None
        )
        computing = batch_size // micro_batch * part
    elif isinstance(config, NgramConfig):
        each = GRAM_SECONDS * (1 if recipe.privacy is None else PRIVATE_GRAM)
        computing = sum(
            GRAM_PART_SECONDS + part.rows * replace(config, context=part.width).grams * each
            for part in typical_parts(recipe, manifest)
        )
    else:
        parts = typical_parts(recipe, manifest)
        computing = sum(_part_seconds(part, recipe, config, hardware, rates) for part in parts)
    if train.distill is not None:
        computing += _teacher_seconds(recipe, config, manifest, hardware, rates)
    learned = learned_parameters(config, train.lora)
    state = 4 * learned + optimizer_bytes(config, train)
    update = UPDATE_PASSES * (state + 4 * learned) / rates.memory_bytes_per_second
    if train.optimizer == "muon":
        muon = "bf16" if choose_precision("auto", hardware) == "bf16" else "fp32"
        update += muon_flops(config) / (_rate(rates, muon) * MUON_EFFICIENCY)
        update += rates.calling * len(list(block_matrices(config))) * MUON_MATRIX_SECONDS
    if recipe.privacy is not None:
        apart = recipe.images or isinstance(config, NgramConfig)
        computing *= 1.0 if apart else PRIVATE_PART[precision_of(recipe)]
        update += learned * NOISE_SECONDS
    computing *= BESIDE * (COMPILED[hardware.device] if train.compile else 1.0)
    passes = 3 + 3 * FORWARD_AGAIN * train.activation_checkpointing
    return Costs(
        step=computing + update + (STEP_SECONDS if hardware.device == "cpu" else 0.0),
        evaluation=validation_windows(recipe, manifest) / batch_size * computing / passes,  # forward only
        checkpoint=state / rates.disk_bytes_per_second + state / SEALING_BYTES_PER_SECOND,
        start=accounting + (COMPILING_SECONDS if train.compile else 0.0),
        update=update,
    )


def _teacher_seconds(
    recipe: Recipe,
    config: TransformerConfig | ImageConfig,
    manifest: Manifest,
    hardware: Hardware,
    rates: Rates,
) -> float:
    """What a teacher says of the records of a step: its forward pass, a third of a step of its own."""
    train = recipe.train
    assert (
        train.distill is not None and isinstance(train.batch_size, int) and isinstance(train.micro_batch, int)
    )
    teacher = stored_config(train.distill.from_)
    if isinstance(teacher, ImageConfig):
        part = images.micro_batch_seconds(
            teacher, precision_of(recipe), train.micro_batch, rates, private=False
        )
        return train.batch_size // train.micro_batch * part / 3
    parts = typical_parts(recipe, manifest)
    return sum(_part_seconds(part, recipe, teacher, hardware, rates) for part in parts) / 3


def precision_of(recipe: Recipe) -> Precision:
    """The precision of a filled-in recipe."""
    assert recipe.train.precision != "auto"
    return recipe.train.precision


def _part_seconds(
    part: Part, recipe: Recipe, config: TransformerConfig, hardware: Hardware, rates: Rates
) -> float:
    """Forward and backward of rows that are computed at once."""
    precision = precision_of(recipe)
    again = FORWARD_AGAIN if recipe.train.activation_checkpointing else 0.0
    decoding = _decoding_seconds(recipe, config, rates)
    if hardware.device == "cuda":
        computing = _on_gpu(part, recipe, config, rates, again) + decoding
        return max(computing, (1 + again) * config.layers * GPU_BLOCK_SECONDS)  # calls run ahead of the work
    computing = rates.computing * computing_seconds(part, config, precision, rates, again) + decoding
    return computing + rates.calling * (1 + again) * calling_seconds(config, precision)


def _decoding_seconds(recipe: Recipe, config: TransformerConfig, rates: Rates) -> float:
    """Making floats of the codes of a quantised base, in the forward pass, in the backward one, and where blocks are computed again."""
    lora = recipe.train.lora
    if lora is None or lora.bits is None:
        return 0.0
    passes = 2 + recipe.train.activation_checkpointing
    moved = passes * DECODED_BYTES[lora.bits] * coded_parameters(config, lora)
    return moved / rates.memory_bytes_per_second


def _on_gpu(part: Part, recipe: Recipe, config: TransformerConfig, rates: Rates, again: float) -> float:
    precision = precision_of(recipe)
    # Frozen matrices need no gradient of their own.
    learned = 1.0 if recipe.train.lora is None else 2 / 3
    products, attention, kept = _work(part, config, precision, "cuda", again, learned)
    computing = (products + GPU_ATTENTION * attention) / (_rate(rates, precision) * GPU_EFFICIENCY)
    return computing + kept * GPU_PASSES / rates.memory_bytes_per_second


def computing_seconds(
    part: Part, config: TransformerConfig, precision: Precision, rates: Rates, again: float = 0.0
) -> float:
    """What the numbers of a part take on a CPU, forward and backward; `again` is the share of the blocks' work that is done once more.

    LoRA's many small products take as long as the gradients of frozen matrices would, which are left out.
    """
    products, attention, kept = _work(part, config, precision, "cpu", again)
    # torch's fused attention gains nothing from bf16 on a CPU.
    as_wide = replace(config, context=part.width)
    attending = precision if by_products(as_wide, precision, "cpu") else "fp32"
    operations = kept * OPERATIONS_A_BYTE[precision]
    return (
        products / (_rate(rates, precision) * EFFICIENCY[precision])
        + attention / (_rate(rates, attending) * ATTENTION_EFFICIENCY[attending])
        + max(operations / _rate(rates, "fp32"), kept * PASSES / rates.memory_bytes_per_second)
    )


def calling_seconds(config: TransformerConfig, precision: Precision) -> float:
    """What calling torch takes for the blocks of a part on a CPU, however small the arrays."""
    return config.layers * BLOCK_SECONDS[precision]


def _work(
    part: Part,
    config: TransformerConfig,
    precision: Precision,
    device: str,
    again: float = 0.0,
    learned: float = 1.0,
) -> tuple[float, float, float]:
    """Operations of the products and of attention, and bytes that are kept for the backward pass."""
    config = replace(config, context=part.width)
    tokens, logits = part.rows * part.width, computed_logits(part, config)
    in_blocks = (learned + again) * tokens * block_matrix_parameters(config)
    kept = (1 + again) * activation_bytes(config, precision, part.rows, device)
    return (
        6 * (in_blocks + learned * logits * config.width),
        (1 + again) * tokens * attention_flops_per_token(config),
        kept + 2 * logits * (4 if precision == "fp32" else 2),
    )


def _rate(rates: Rates, precision: str) -> float:
    return rates.matmul_flops.get(precision, rates.matmul_flops["fp32"])
