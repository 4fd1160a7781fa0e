"""What a trained model takes when it is asked for text: its weights, and for each text what is kept of its tokens.

Keys and values are 2 · layers · kv_heads · head_dim numbers a token, where head_dim is the model's own and not width / heads. On
CPUs the compiled function computes our own transformers as they are stored: floats and cache in bfloat16 (float32 where the
recipe says fp32), quantised matrices in 8 or 4 bits with their scales, embedding and head never below 8. On GPUs, and for other
architectures, torch computes weights and cache in float32, and a quantised variant is as large in memory as the original.
One device serves a model; several serve it several times.
"""

from __future__ import annotations

from typing import Any

from ..hardware import Hardware, Precision
from ..models import HubConfig, ImageConfig, NgramConfig, RnnConfig, TransformerConfig
from .cost import block_matrices, block_matrix_parameters
from .memory import CUDA_CONTEXT_BYTES
from .preparation import LOADED_BYTES, TORCH_BYTES

Config = TransformerConfig | ImageConfig | RnnConfig
VARIANTS = {"original": 32, "int8": 8, "int4": 4}  # bits of a weight
SCALE_BYTES, GROUP, GROUP_BYTES = (
    4,
    64,
    3,
)  # of a row at 8 bits; columns of a group at 4 bits, its scale and zero
FULL = 0.9  # of the memory: the rest is for prompts that are being read, and for others


def serving(config: Config, hardware: Hardware, precision: Precision) -> dict[str, Any]:
    """Bytes a token and how many texts of the whole context fit beside the weights, as `plan --json` prints it.

    Args:
        config: the model.
        hardware: one device.
        precision: of the matrix products.

    Returns:
        {device, context, kv_bytes_per_token, variants: {name: {bytes, texts}}}; the last two of a token and of texts are None where
        the model keeps nothing of tokens (labels, images, recurrent networks) or the memory is unknown.
    """
    number = _number_bytes(config, hardware, precision)
    compiled = _compiled(config, hardware)
    process = (
        CUDA_CONTEXT_BYTES if hardware.device == "cuda" else LOADED_BYTES + (0 if compiled else TORCH_BYTES)
    )
    token = text = None
    if (
        isinstance(config, TransformerConfig)
        and not isinstance(config, NgramConfig)
        and config.output == "tokens"
    ):
        token = kv_bytes_per_token(config, number)
        text = token * config.context
    variants = {}
    for name, bits in VARIANTS.items():
        size = weight_bytes(config, bits if compiled else 32, number)
        room = FULL * hardware.memory_bytes - process - size
        fitting = max(0, int(room // text)) if text and hardware.memory_bytes else None
        variants[name] = {"bytes": size, "texts": fitting}
    context = None if isinstance(config, ImageConfig) else config.context
    return {"device": hardware.name, "context": context, "kv_bytes_per_token": token, "variants": variants}


def kv_bytes_per_token(config: TransformerConfig, number: int) -> int:
    """Keys and values of one token in all blocks, each number of so many bytes.

    Args:
        config: the model.
        number: bytes of a number: 4 in float32, 2 in 16 bits.
    """
    return 2 * config.layers * config.kv_heads * config.head_dim * number


def weight_bytes(config: Config, bits: int, number: int) -> int:
    """Weights as the compiled function holds them: floats of so many bytes, or codes of 8 or 4 bits with their scales.

    Args:
        config: the model.
        bits: of a weight's code: 32 for none, 8 or 4.
        number: bytes of a float: 4 in float32, 2 in 16 bits.
    """
    if bits == 32 or not isinstance(config, TransformerConfig):
        return number * config.parameters
    rows = sum(rows for rows, _ in block_matrices(config))
    inner = block_matrix_parameters(config)
    outer = config.vocab_size * config.width
    outer_scales = SCALE_BYTES * config.vocab_size
    rest = max(0, config.parameters - inner - outer)
    if bits == 8:
        return inner + SCALE_BYTES * rows + outer + outer_scales + number * rest
    groups = sum(rows * -(-columns // GROUP) for rows, columns in block_matrices(config))
    return inner // 2 + GROUP_BYTES * groups + outer + outer_scales + number * rest


def _compiled(config: Config, hardware: Hardware) -> bool:
    """Whether models.compiled computes it."""
    own = isinstance(config, TransformerConfig) and not isinstance(config, HubConfig | NgramConfig)
    return own and hardware.device == "cpu" and config.output == "tokens"


def _number_bytes(config: Config, hardware: Hardware, precision: Precision) -> int:
    return 2 if _compiled(config, hardware) and precision != "fp32" else 4
