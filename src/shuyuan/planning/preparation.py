"""What fills the memory at the highest point of preparation. Small models on many records peak here, not in training.

Measured, not derived: what the passes over the records hold, and what a vocabulary is learned with.
"""

from __future__ import annotations

from ..data import Manifest
from ..data.duplicates import NEAR_LIMIT, SLOTS
from ..data.shards import SHARD_BYTES
from ..data.survey import BATCH_CHARS, HELD_BYTES
from ..data.vocabulary import SAMPLE_BYTES
from ..recipe import Recipe

MIB = 2**20
LOADED_BYTES = 93 * MIB  # resident memory after `import shuyuan` and a plan: Python and libraries
TORCH_BYTES = 183 * MIB  # what torch adds, once training or the measuring of a machine loads it
SHARD_COPIES = 2  # of a shard of images while it is written
DIGITS_BYTES = 125 * MIB  # scikit-learn, which holds the built-in digits, and what it needs
ACCOUNTANT_BYTES = 100 * MIB  # the library that computes ε, and what it needs
TABLES_BYTES = 16 * MIB  # that near duplicates are found with
BATCHED = 50  # times the text of a batch of records on its way through the passes
NOTED_BYTES = (
    60  # of a record: its digest, owner, draw and sizes, and the order in which repeats are looked for
)
LEARNING_BYTES, LEARNING = (
    25 * MIB,
    5.5,
)  # for a bpe vocabulary: at least, and times the sample that it is learned from


def preparation_items(recipe: Recipe, manifest: Manifest) -> dict[str, int]:
    """The parts of preparation's peak, in bytes.

    Args:
        recipe: says how records are made tokens.
        manifest: says how much text there is.
    """
    process = {
        "Python": LOADED_BYTES,
        "accountant": ACCOUNTANT_BYTES if recipe.privacy is not None else 0,
        "scikit-learn": DIGITS_BYTES if recipe.data.source == "digits" else 0,
    }
    splits = manifest.splits.values()
    records = sum(split.records for split in splits)
    text = sum(split.text_bytes for split in splits)
    if manifest.image is not None:
        pixels = records * manifest.image.bytes
        writing = SHARD_COPIES * min(pixels, SHARD_BYTES)
        held = min(pixels, HELD_BYTES)
        return process | {"images held": held, "a shard": writing, "notes on records": NOTED_BYTES * records}
    notes = NOTED_BYTES * records + SLOTS * min(records, NEAR_LIMIT)
    held, noted = min(text, HELD_BYTES), round(notes * min(1.0, HELD_BYTES / max(1, text)))
    if held + noted < notes:  # texts that become too many to hold are let go, and the notes grow on
        held, noted = 0, notes
    reading = {
        "a batch of records": TABLES_BYTES + BATCHED * min(text, BATCH_CHARS),
        "text held": held,
        "notes on records": noted,
    }
    if recipe.tokenizer.kind != "bpe" or recipe.tokenizer.from_ is not None:
        return process | reading
    learning = {
        "vocabulary": LEARNING_BYTES + round(LEARNING * min(text, SAMPLE_BYTES)),
        "text held": text if text <= HELD_BYTES else 0,
        "notes on records": NOTED_BYTES * records,
    }
    return process | max(reading, learning, key=lambda items: sum(items.values()))
