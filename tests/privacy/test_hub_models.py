"""Models of transformers and LoRA of peft, tiny and made offline: the reference and the clip agree on every parameter."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")

from ..models.tiny import lively  # noqa: E402
from .reference import check  # noqa: E402

VOCABULARY, WIDTH, T = 40, 16, 5
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 16,
}  # fmt: skip
GROUPED = SHAPE | {"num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}


def causal(kind: str) -> Any:
    configs = {
        "llama": lambda: transformers.LlamaConfig(**GROUPED),
        "qwen3": lambda: transformers.Qwen3Config(**GROUPED, tie_word_embeddings=True),
        "gemma": lambda: transformers.GemmaConfig(**GROUPED),
        "glm": lambda: transformers.GlmConfig(**GROUPED),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        ),
    }  # fmt: skip
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(configs[kind](), attn_implementation="eager")


def next_token(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma", "glm", "gpt2"])
@pytest.mark.parametrize("rows", [3, T])
def test_causal_models(kind: str, rows: int) -> None:
    """Also with as many rows as positions, where a position that is looked up once could be taken for a row."""
    check(causal(kind), torch.randint(1, VOCABULARY, (rows, T)), next_token)


def test_an_encoder() -> None:
    config = transformers.BertConfig(
        **SHAPE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification._from_config(config, attn_implementation="eager")

    def losses(model: nn.Module, tokens: Tensor) -> Tensor:
        return F.cross_entropy(model(input_ids=tokens).logits, tokens[:, 0] % 3, reduction="none")

    check(model, torch.randint(1, VOCABULARY, (4, T)), losses)


def test_a_head_for_places_with_several_windows_of_a_unit() -> None:
    from shuyuan.models.hub_config import HubConfig
    from shuyuan.models.hub_model import build

    config = transformers.BertConfig(**SHAPE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = build(HubConfig.from_hub(config.to_dict()), None, (), 0, "here", spans=True)
    inputs_N2T = torch.stack([torch.randint(1, VOCABULARY, (5, T)), torch.randint(0, 2, (5, T))], 1)
    inputs_N2T[1:3, 0, -2:] = -1  # filled up
    targets_N2 = torch.tensor([[0, 0], [1, 2], [0, 0], [3, 4], [2, 2]])

    def losses(model: nn.Module, rows: tuple[Tensor, Tensor]) -> Tensor:
        summed: Tensor = model.losses(*rows).sum(1)  # type: ignore[operator]
        return summed

    check(model, (inputs_N2T, targets_N2), losses, units=[0, 0, 1, 2, 2])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers so
@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_lora(kind: str) -> None:
    peft = pytest.importorskip("peft")
    names = ["q_proj", "v_proj", "down_proj"] if kind == "qwen3" else ["c_attn", "c_fc"]
    config = peft.LoraConfig(
        r=3, target_modules=names, lora_dropout=0.0, init_lora_weights=False, fan_in_fan_out=kind == "gpt2"
    )
    model = peft.get_peft_model(causal(kind), config)
    trainable = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trainable and all("lora_" in name for name in trainable)
    check(model, torch.randint(1, VOCABULARY, (4, T)), next_token)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers so
@pytest.mark.parametrize("base", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["native", "llama"])
def test_lora_beside_a_base_of_codes(kind: str, base: Any) -> None:
    pytest.importorskip("peft")
    from shuyuan.models.hub_config import HubConfig
    from shuyuan.models.hub_model import HubModel
    from shuyuan.models.lora import add_lora
    from shuyuan.recipe import Lora

    model: Any = lively()
    if kind != "native":
        body = causal(kind)
        model = HubModel(body, HubConfig.from_hub(body.config.to_dict()))
    add_lora(model, Lora(rank=3, base=base), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # begins at zero, so that its partner would learn nothing
                weight.normal_(0, 0.2)

    def losses(model: nn.Module, tokens: Tensor) -> Tensor:
        return model.losses(tokens[:, :-1], tokens[:, 1:]).mean(1)  # type: ignore[no-any-return,operator]

    check(model, torch.randint(1, VOCABULARY, (4, T)), losses, units=[0, 1, 1, 2])


def test_the_mean_loss_of_transformers_is_refused() -> None:
    """It divides by the tokens of the whole batch: a denominator that crosses units."""
    from shuyuan.errors import PrivacyError
    from shuyuan.privacy import Clipper, Units

    model, tokens = causal("gpt2"), torch.randint(1, VOCABULARY, (3, T))
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(3))
    with pytest.raises(PrivacyError, match="losses have the shape"):
        clipper.backward(model(input_ids=tokens, labels=tokens).loss)
