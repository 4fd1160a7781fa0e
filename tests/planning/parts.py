"""Recipes, machines and models that the plan's tests share."""

from __future__ import annotations

from typing import Any

from shuyuan import recipe as recipes
from shuyuan.data import Manifest, Split, TokenizerFacts
from shuyuan.hardware import Hardware, Rates
from shuyuan.recipe import Recipe

CPU = Hardware("cpu", "a processor", 2, 24 << 30, ("avx512_bf16", "avx512f"))
SMALL_CPU = Hardware("cpu", "a small processor", 2, 1 << 30, ("avx2",))
GPU = Hardware("cuda", "NVIDIA H100", 16, 80 << 30, ("compute_9.0",))
RATES = Rates({"fp32": 2e11, "bf16": 8e11}, 4e10, 4e8)


def make_recipe(**tables: Any) -> Recipe:
    """A recipe with the given tables; its source is never read where a manifest is given."""
    return recipes.from_table({"data": {"source": "notes.txt"}, **tables})


def make_manifest(tokens: int = 1_000_000, vocab_size: int = 257) -> Manifest:
    """A manifest of byte tokens, a tenth of them held out."""
    parts = {"train": tokens, "validation": tokens // 10}
    splits = {name: Split(count // 100, count // 100, count, count, []) for name, count in parts.items()}
    return Manifest(splits, vocab_size, TokenizerFacts("byte", "0" * 64, 256))
