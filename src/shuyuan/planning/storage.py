"""How much disk a run takes at most: prepared data, checkpoints, the model, logs."""

from __future__ import annotations

from ..data import Manifest
from ..models import ImageConfig, RnnConfig, TransformerConfig
from ..recipe import Train
from .cost import learned_parameters, optimizer_bytes

RECORD_BYTES = 16  # where it begins and whose it is
VOCABULARY_ENTRY_BYTES = 40  # of a tokenizer.json, which lies in data/ and in model/
LOG_BYTES = 2_000_000  # metrics, scores, samples and the report; thinned, so that their size does not grow with the steps


def storage_bytes(
    config: TransformerConfig | ImageConfig | RnnConfig, manifest: Manifest, train: Train
) -> int:
    """Bytes on disk at the fullest moment: while a checkpoint is written, the old ones and the safe one still stand."""
    tokens = sum(split.tokens for split in manifest.splits.values())
    records = sum(split.records for split in manifest.splits.values())
    each = manifest.image.bytes if manifest.image else 2 if config.vocab_size <= 65_536 else 4
    shards = tokens * each + records * RECORD_BYTES
    model = 4 * config.parameters
    checkpoint = 4 * learned_parameters(config, train.lora) + optimizer_bytes(config, train)
    return (
        shards
        + (train.keep + 2) * checkpoint
        + model
        + 2 * VOCABULARY_ENTRY_BYTES * manifest.vocab_size
        + LOG_BYTES
    )
