"""Small models with weights that show every mistake: nothing in them is zero or one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from shuyuan.data import byte_tokenizer
from shuyuan.models import Transformer, TransformerConfig, hub
from shuyuan.vault import OpenStore

# Every two sizes that could be confused differ: width, heads x head_dim, hidden, context, layers, vocabulary.
TINY = TransformerConfig(
    vocab_size=257,
    layers=3,
    width=40,
    heads=4,
    kv_heads=2,
    head_dim=16,
    hidden=56,
    context=48,
    tied=False,
    rope_theta=500.0,
    norm_eps=1e-5,
    end_id=256,
)


TIED = replace(TINY, tied=True)


def lively(config: TransformerConfig = TINY, seed: int = 1) -> Transformer:
    """A model whose blocks, norms and head all matter."""
    model = Transformer(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.15)
    return model


def tokens(*shape: int, seed: int = 0, vocab_size: int = TINY.vocab_size) -> torch.Tensor:
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def write_folder(path: Path, model: Transformer) -> Path:
    """Writes a model as a Hugging Face folder; gives its path."""
    with OpenStore(path) as store, store.folder("model") as folder:
        hub.save(folder, model, byte_tokenizer().to_json(), "# A card\n")
    return path / "model"
