"""How much disk a run takes at most: prepared data, checkpoints, the model, logs."""

from __future__ import annotations

from collections.abc import Sequence

from ..compress import Variant
from ..data import Manifest
from ..models import ImageConfig, RnnConfig, TransformerConfig
from ..recipe import Train
from .cost import learned_parameters, optimizer_bytes

RECORD_BYTES = 16  # where it begins and whose it is
VOCABULARY_ENTRY_BYTES = 40  # of a tokenizer.json, which lies in data/ and in model/
LOG_BYTES = 2_000_000  # metrics, scores, samples and the report; thinned, so that their size does not grow with the steps


def storage_items(
    config: TransformerConfig | ImageConfig | RnnConfig,
    manifest: Manifest,
    train: Train,
    variants: Sequence[Variant] = (),
) -> dict[str, int]:
    """The parts of the disk at its fullest moment: while a checkpoint is written, the old ones and the safe one still stand.

    Args:
        config: the model.
        manifest: of the prepared data.
        train: the recipe's [train], with its optimizer, LoRA and `keep`.
        variants: that will be made. Default: none.

    Returns:
        Name of a part to its bytes.
    """
    tokens = sum(split.tokens for split in manifest.splits.values())
    records = sum(split.records for split in manifest.splits.values())
    each = manifest.image.bytes if manifest.image else 2 if config.vocab_size <= 65_536 else 4
    checkpoint = 4 * learned_parameters(config, train.lora) + optimizer_bytes(config, train)
    return {
        "shards": tokens * each + records * RECORD_BYTES,
        "checkpoints": (train.keep + 2) * checkpoint,
        "model": 4 * config.parameters,
        "variants": sum(round(config.parameters * _bytes_a_weight(variant)) for variant in variants),
        "tokenizers": (2 + len(variants)) * VOCABULARY_ENTRY_BYTES * manifest.vocab_size,
        "logs": LOG_BYTES,
    }


def storage_bytes(
    config: TransformerConfig | ImageConfig | RnnConfig,
    manifest: Manifest,
    train: Train,
    variants: Sequence[Variant] = (),
) -> int:
    """Bytes on disk at the fullest moment.

    Args:
        config, manifest, train, variants: as of `storage_items`.
    """
    return sum(storage_items(config, manifest, train, variants).values())


def export_bytes(config: TransformerConfig | ImageConfig | RnnConfig) -> dict[str, int]:
    """What an export takes, by how its weights are written.

    Args:
        config: the model.

    Returns:
        {float32, float16}.
    """
    return {"float32": 4 * config.parameters, "float16": 2 * config.parameters}


def _bytes_a_weight(variant: Variant) -> float:
    """With scales, as if every weight lay in an inner matrix."""
    scales = 0.5 if variant.bits == 4 else 0.0  # bits a weight
    mask = 1.0 if variant.pruned else 0.0
    return ((1 - variant.pruned) * variant.bits + scales + mask) / 8
