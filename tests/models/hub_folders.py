"""Tiny models of transformers and their folders, made offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from shuyuan.data import byte_tokenizer

SHAPE = {
    "vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = SHAPE | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": None}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GPT2 = {
    "vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 256,
    "eos_token_id": 256, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
CAUSAL = ("llama", "gpt2", "glm", "gemma", "qwen3")


def made(kind: str, seed: int = 0) -> Any:
    """A model of transformers with lively weights: causal, or "bert", an encoder without a head."""
    transformers = pytest.importorskip("transformers")
    configs = {
        "llama": lambda: transformers.LlamaConfig(**GROUPED),
        "qwen3": lambda: transformers.Qwen3Config(**GROUPED, eos_token_id=256),
        "gemma": lambda: transformers.GemmaConfig(**GROUPED),
        "glm": lambda: transformers.GlmConfig(**GROUPED, eos_token_id=256),
        "gpt2": lambda: transformers.GPT2Config(**GPT2),
        "bert": lambda: transformers.BertConfig(**SHAPE, **NO_DROPOUT),
    }
    torch.manual_seed(seed)
    auto = transformers.AutoModel if kind == "bert" else transformers.AutoModelForCausalLM
    model = auto.from_config(configs[kind]()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.1)
    return model


def written(kind: str, folder: Path, seed: int = 0) -> Any:
    """Writes the model's folder, with a byte tokenizer; gives the model."""
    model = made(kind, seed)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer().to_json())
    return model
