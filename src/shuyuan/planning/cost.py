"""What a model costs to train in floating-point operations, and the numbers that training changes and keeps.

Counting rule: a multiply-add is two operations, and the backward pass is twice the forward one. The matrices inside the
blocks and the output head count, also where the head is the embedding; looking an embedding up does not. Attention
counts in full and is not halved for its causal mask, as in torchtitan and nanochat; Megatron-LM halves it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal

from ..errors import RecipeError
from ..models import HubConfig, ImageConfig, NgramConfig, RnnConfig, TransformerConfig, config_for, in_block
from ..models.packed import GROUP
from ..recipe import Lora, Model, Train
from ..train.parts import Part

MOST_PARAMETERS = 10**14  # a hundred times the largest models; beyond it is a slip of the finger
NEWTON_SCHULZ_ITERATIONS = 5


def planned_model(
    model: Model, vocab_size: int, labels: Sequence[str] = (), spans: bool = False
) -> TransformerConfig | RnnConfig:
    """The shape of the model that will be trained: the recipe's own, or that of the model to start from.

    Args:
        model: the recipe's [model] table.
        vocab_size: of the run's tokenizer.
        labels: names of the classes, for a task that tells some apart.
        spans: for a task whose answers are places in a text.

    Raises:
        RecipeError: the model is absurdly large.
        ShuyuanError: there is none to start from, or it cannot be opened.
    """
    config = config_for(model, vocab_size, labels=labels, spans=spans)
    if config.parameters > MOST_PARAMETERS:
        raise RecipeError(
            "plan.absurd-model",
            f"The model would have {Decimal(config.parameters):.0e} parameters; the largest ever trained have about 1e12.",
            where="model",
            mend="Look for a digit too many in model.layers, model.width or model.hidden.",
        )
    return config


def block_matrices(config: TransformerConfig | ImageConfig) -> Iterator[tuple[int, int]]:
    """(rows, columns) of every matrix inside the blocks: what Muon takes. Of networks for images all, and the kernels too.

    Args:
        config: the model.
    """
    for name, (rows, *others) in config.shapes.items():
        if others and (isinstance(config, ImageConfig) or (in_block(name) and len(others) == 1)):
            yield rows, math.prod(others)


@functools.lru_cache(maxsize=256)  # asked for each physical batch of each setting that is tried
def block_matrix_parameters(config: TransformerConfig | ImageConfig) -> int:
    """Parameters in the matrices inside the blocks.

    Args:
        config: the model.
    """
    return sum(rows * columns for rows, columns in block_matrices(config))


def coded_parameters(config: TransformerConfig | ImageConfig | RnnConfig, lora: Lora | None) -> int:
    """Parameters that LoRA keeps as codes: the matrices inside the blocks, or none.

    Args:
        config: the model.
        lora: as in the recipe.
    """
    if lora is None or lora.bits is None or not isinstance(config, TransformerConfig):
        return 0
    return block_matrix_parameters(config)


def coded_bytes(config: TransformerConfig | ImageConfig | RnnConfig, lora: Lora | None) -> int:
    """What these codes take with their scales, as `models.frozen` holds them.

    Args:
        config: the model.
        lora: as in the recipe.
    """
    if lora is None or lora.bits is None or not isinstance(config, TransformerConfig):
        return 0
    if lora.bits == 8:
        return sum(rows * (columns + 4) for rows, columns in block_matrices(config))
    groups = (rows * -(-columns // GROUP) for rows, columns in block_matrices(config))
    return sum(groups) * (GROUP // 2 + 3)  # float16 and uint8 for each group


def learned_parameters(config: TransformerConfig | ImageConfig | RnnConfig, lora: Lora | None) -> int:
    """Parameters that training changes: all, or the small matrices of LoRA and a new head.

    Args:
        config: the model.
        lora: as in the recipe; None: all is trained.
    """
    if lora is None or not isinstance(config, TransformerConfig):
        return config.parameters
    new_head = 0 if config.output == "tokens" else config.head[1] * config.width
    return new_head + sum(lora.rank * (rows + columns) for rows, columns in block_matrices(config))


def optimizer_bytes(config: TransformerConfig | ImageConfig | RnnConfig, train: Train) -> int:
    """State of the optimizer in float32: AdamW two moments a parameter; Muon one, for the matrices inside the blocks,
    beside AdamW's two for all else; SGD one.

    Args:
        config: the model.
        train: the recipe's [train], with its optimizer and LoRA.
    """
    learned = learned_parameters(config, train.lora)
    if train.optimizer == "adamw":
        return 8 * learned
    if train.optimizer == "sgd":
        return 4 * learned
    assert not isinstance(config, RnnConfig)  # the recipe refuses muon there
    matrices = block_matrix_parameters(config) if train.lora is None else learned
    return 4 * matrices + 8 * (learned - matrices)


def train_flops_per_token(config: TransformerConfig) -> int:
    """Operations of forward and backward for one token at full context, by the rule at the top of this file.

    Args:
        config: the model.
    """
    if isinstance(config, NgramConfig):  # a row of the table is added for each n-gram, and its gradient
        return 2 * config.longest * config.width
    predictions, logits = config.head
    head = logits * config.width * predictions // config.context
    return 6 * (block_matrix_parameters(config) + head) + attention_flops_per_token(config)


def attention_flops_per_token(config: TransformerConfig) -> int:
    """The part of them that is attention: scores, and the sum of the values, forward and backward.

    Args:
        config: the model; the causal mask does not halve it.
    """
    return 6 * config.layers * config.heads * 2 * config.head_dim * config.context


def computed_logits(part: Part, config: TransformerConfig) -> int:
    """How many logits are computed for some rows; models of transformers compute those of every token, learned or not.

    Args:
        part: rows that are computed at once, and how many of their tokens are learned.
        config: the model.
    """
    each = part.width if isinstance(config, HubConfig) and not config.labels else part.targets
    return round(part.rows * each * config.head[1])


def muon_flops(config: TransformerConfig | ImageConfig) -> int:
    """Operations of one Muon update: each Newton-Schulz iteration multiplies m x n, m x m and m x n matrices.

    Args:
        config: the model.
    """
    return sum(
        NEWTON_SCHULZ_ITERATIONS * (4 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3)
        for shape in block_matrices(config)
    )
