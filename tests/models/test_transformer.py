"""The transformer against a plain reading of the layout, and the laws that it must keep."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import ShuyuanError
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.models.transformer import init_weights
from shuyuan.recipe import Model

from .tiny import TIED, TINY, lively, tokens

Array = np.ndarray


def plain_logits(model: Transformer, ids: list[int]) -> Array:
    """Qwen3 spelled out for one sequence, head by head and token by token, in float64."""
    c = model.config
    w = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}

    def norm(x: Array, name: str) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + c.norm_eps) * w[name]

    def turn(x: Array, position: int) -> Array:
        y = x.copy()
        half = c.head_dim // 2
        for i in range(half):
            angle = position * c.rope_theta ** (-2 * i / c.head_dim)
            y[i] = x[i] * np.cos(angle) - x[i + half] * np.sin(angle)
            y[i + half] = x[i + half] * np.cos(angle) + x[i] * np.sin(angle)
        return y

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(c.layers):
        at = f"model.layers.{layer}."
        h = norm(x, at + "input_layernorm.weight")
        q, k, v = (
            (h @ w[f"{at}self_attn.{name}_proj.weight"].T).reshape(len(ids), -1, c.head_dim) for name in "qkv"
        )
        q, k = norm(q, at + "self_attn.q_norm.weight"), norm(k, at + "self_attn.k_norm.weight")
        y = np.zeros_like(q)
        for head in range(c.heads):
            group = head * c.kv_heads // c.heads
            for t in range(len(ids)):
                scores = [turn(q[t, head], t) @ turn(k[s, group], s) / c.head_dim**0.5 for s in range(t + 1)]
                weights = np.exp(np.array(scores) - max(scores))
                y[t, head] = (weights / weights.sum()) @ v[: t + 1, group]
        x = x + y.reshape(len(ids), -1) @ w[at + "self_attn.o_proj.weight"].T
        h = norm(x, at + "post_attention_layernorm.weight")
        gate, up = (h @ w[f"{at}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    return np.asarray(norm(x, "model.norm.weight") @ w["lm_head.weight"].T)


@pytest.mark.parametrize("config", [TINY, TIED, replace(TINY, kv_heads=4), replace(TINY, kv_heads=1)])
def test_it_computes_the_layout(config: TransformerConfig) -> None:
    model = lively(config)
    ids = tokens(1, 12)
    np.testing.assert_allclose(
        model(ids)[0].detach().numpy(), plain_logits(model, ids[0].tolist()), atol=2e-5
    )


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.04), (torch.float16, 0.004)])
@pytest.mark.parametrize("learning", [True, False])
def test_under_autocast_it_computes_nearly_the_same(dtype: torch.dtype, error: float, learning: bool) -> None:
    model, ids = lively(), tokens(2, 40)
    exact = model(ids)
    with torch.autocast("cpu", dtype), torch.set_grad_enabled(learning):
        rough = model(ids)
    assert rough.dtype == dtype
    assert (rough.float() - exact).norm() < error * exact.norm()


def test_gradients_under_autocast_point_the_same_way() -> None:
    ids = tokens(2, 40)

    def gradients(autocast: bool) -> torch.Tensor:
        model = lively()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        assert all(weight.grad is not None for weight in model.parameters())
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    assert F.cosine_similarity(gradients(True), gradients(False), dim=0) > 0.999


@given(st.integers(0, 19), st.integers(0, 256))
@settings(max_examples=15, deadline=None)
def test_no_token_sees_a_later_one(place: int, other: int) -> None:
    model, ids = lively(), tokens(1, 20)
    changed = ids.clone()
    changed[0, place] = other
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :place], after[:, :place], rtol=0, atol=1e-6)


def test_loss_is_the_sum_over_learned_targets() -> None:
    model, ids = lively(), tokens(3, 21)
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[1, 5:] = -100
    right = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum")
    loss = model.loss(inputs, targets)
    assert loss.dtype == torch.float32 and loss.ndim == 0
    torch.testing.assert_close(loss, right)


def test_split_batches_add_up_to_the_whole() -> None:
    """What gradient accumulation relies on: the loss is a sum, so parts of a batch add up."""
    model, ids = lively(), tokens(4, 17)
    whole = model.loss(ids[:, :-1], ids[:, 1:])
    parts = sum(model.loss(part[:, :-1], part[:, 1:]) for part in ids.split(1))
    torch.testing.assert_close(whole, parts)


def test_a_sequence_beyond_the_context_is_refused() -> None:
    model = lively()
    model(tokens(1, TINY.context))
    with pytest.raises(ShuyuanError, match=r"49 tokens.*context of 48.*models\.too-long"):
        model(tokens(1, TINY.context + 1))


# ---- weights -------------------------------------------------------------------------------------------------------


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(5)
    first = Transformer(TINY, seed=7)
    state = torch.get_rng_state()
    torch.manual_seed(6)
    second = Transformer(TINY)
    init_weights(second, 7)
    third = Transformer(TINY, seed=8)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    assert not torch.equal(first.lm_head.weight, third.lm_head.weight)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state), "building a model moved the global random state"


def test_a_new_model_expects_nothing() -> None:
    """Before training, the loss is that of even chances."""
    model, ids = Transformer(replace(TINY, width=128)), tokens(4, 40)
    loss = model.loss(ids[:, :-1], ids[:, 1:]) / (4 * 39)
    assert abs(loss.item() - np.log(TINY.vocab_size)) < 0.1


def test_initial_weights_are_the_same_in_every_process() -> None:
    """Bit for bit, in a fresh interpreter with another number of threads."""
    program = (
        "import torch; torch.set_num_threads(1); from tests.models.tiny import TINY; from shuyuan.models import Transformer;"
        "print(sum(weight.double().abs().sum().item() for weight in Transformer(TINY, 3).parameters()).hex())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    here = sum(weight.double().abs().sum().item() for weight in Transformer(TINY, 3).parameters())
    assert told.stdout.strip() == here.hex()


def test_tied_weights_are_one_tensor() -> None:
    model = lively(TIED)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(model.named_parameters())


sizes = st.integers(1, 4)


@given(sizes, sizes, sizes, sizes, sizes, st.integers(1, 40), st.integers(2, 50), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_count_of_parameters_is_exact(
    layers: int, width: int, groups: int, kv_heads: int, half: int, hidden: int, vocab_size: int, tied: bool
) -> None:
    config = TransformerConfig(
        vocab_size, layers, width, groups * kv_heads, kv_heads, 2 * half, hidden, context=8, tied=tied
    )
    model = Transformer(config)
    assert config.parameters == sum(weight.numel() for weight in model.parameters())
    assert config.shapes == {name: tuple(weight.shape) for name, weight in model.named_parameters()}


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
def test_a_recipes_shape_becomes_a_models(size: str) -> None:
    asked = Model.model_validate({"size": size, "context": 64})
    config = TransformerConfig.from_recipe(asked, vocab_size=300, end_id=299)
    assert (config.layers, config.width) == {
        "tiny": (4, 128),
        "small": (6, 256),
        "medium": (8, 512),
        "large": (12, 768),
    }[size]
    assert config.heads * config.head_dim == config.width
    assert (config.context, config.vocab_size, config.end_id, config.tied) == (64, 300, 299, True)


def test_the_configuration_loads_no_torch() -> None:
    """The plan counts parameters before anything heavy is imported."""
    program = "import sys; from shuyuan.models import TransformerConfig; assert 'torch' not in sys.modules, 'torch was loaded'"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
