"""config.json, out and in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shuyuan.errors import ShuyuanError
from shuyuan.models import TransformerConfig

from .tiny import TIED, TINY


@pytest.mark.parametrize("config", [TINY, TIED, replace(TINY, end_id=None)])
def test_what_is_written_is_read(config: TransformerConfig) -> None:
    assert TransformerConfig.from_hub(json.loads(json.dumps(config.to_hub()))) == config


def test_older_spellings_are_read() -> None:
    """Before transformers 5 the rotary base stood by itself; several end tokens are a list."""
    table = TINY.to_hub() | {"rope_scaling": None, "rope_theta": 1e6, "eos_token_id": [7, 8]}
    del table["rope_parameters"], table["layer_types"]
    config = TransformerConfig.from_hub(table)
    assert (config.rope_theta, config.end_id) == (1e6, 7)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"architectures": ["LlamaForCausalLM"]},
        "LlamaForCausalLM.*Qwen3ForCausalLM.*models.other-architecture",
    ),
    ({"architectures": ["Qwen3ForCausalLM"], "model_type": "llama"}, "models.other-architecture"),
    ({"architectures": None, "model_type": "gpt2"}, "gpt2.*models.other-architecture"),
    ({"architectures": [], "model_type": None}, "models.other-architecture"),
    ({"architectures": 3}, "models.other-architecture"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}}, "`rope_parameters`.*yarn"),
    ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "`rope_parameters`.*linear"),
    ({"rope_parameters": "yes"}, "`rope_parameters`"),
    ({"rope_parameters": {"rope_theta": -1}}, "`rope_theta` = -1"),
    ({"use_sliding_window": True}, "`use_sliding_window`"),
    ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "`layer_types`"),
    ({"layer_types": 5}, "`layer_types`"),
    ({"attention_bias": True}, "`attention_bias`"),
    ({"hidden_act": "gelu"}, "`hidden_act` = gelu"),
    ({"num_key_value_heads": 3}, "`num_key_value_heads` = 3.*divide num_attention_heads, 4"),
    ({"head_dim": 15}, "`head_dim` = 15.*even"),
    ({"hidden_size": "big"}, "`hidden_size` = big"),
    ({"hidden_size": True}, "`hidden_size`"),
    ({"hidden_size": 0}, "`hidden_size`"),
    ({"vocab_size": 10**12}, "`vocab_size` = 1000000000000"),
    ({"num_hidden_layers": 10**9}, "`num_hidden_layers` = 1000000000"),
    ({"max_position_embeddings": 10**12}, "`max_position_embeddings`"),
    ({"rms_norm_eps": float("nan")}, "`rms_norm_eps` = nan"),
    ({"eos_token_id": 257}, "`eos_token_id` = 257.*vocab_size, 257"),
    ({"eos_token_id": [[1]]}, "`eos_token_id`"),
]


@pytest.mark.parametrize(("change", "expected"), REFUSED)
def test_what_is_not_computed_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ShuyuanError, match=expected) as caught:
        TransformerConfig.from_hub(TINY.to_hub() | change, where="folder/config.json")
    assert caught.value.where == "folder/config.json"


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
def test_a_missing_size_is_named(key: str) -> None:
    table = TINY.to_hub()
    del table[key]
    with pytest.raises(ShuyuanError, match=f"`{key}`"):
        TransformerConfig.from_hub(table)
