"""The form in which torch writes text where nothing can be compiled says what the model says."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.models import Cache, Slots, Transformer, TransformerConfig, eager

from .tiny import TINY, lively, tokens


@given(
    st.sampled_from([(4, 1), (4, 2), (3, 3), (1, 1)]),
    st.sampled_from([16, 24, 40]),
    st.sampled_from([17, 64]),
    st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_the_logits_are_the_models(heads: tuple[int, int], width: int, hidden: int, tied: bool) -> None:
    config = TransformerConfig(
        vocab_size=71, layers=2, width=width, heads=heads[0], kv_heads=heads[1], head_dim=8, hidden=hidden, context=32,
        end_id=0, tied=tied,
    )  # fmt: skip
    model, ids = lively(config), tokens(2, 20) % 71
    ready = eager.prepared(copy.deepcopy(model), half=False)
    cache = Cache(config, 2, 32)
    with torch.inference_mode():
        wanted = model(ids)
        torch.testing.assert_close(ready(ids), wanted, rtol=1e-4, atol=1e-5)
        pieces = torch.cat([ready(piece, cache) for piece in ids.split([7, 11, 1, 1], 1)], 1)
        torch.testing.assert_close(pieces, wanted, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_it_is_as_near_as_bfloat16_is() -> None:
    model, ids = lively(), tokens(2, 20)
    with torch.inference_mode():
        wanted = model(ids)
        halved = copy.deepcopy(model).bfloat16()(ids).float()
        found = eager.prepared(model, half=True)(ids).float()
    assert 0 < (found - wanted).square().mean() <= (halved - wanted).square().mean()


def test_texts_of_different_lengths_share_a_step() -> None:
    model = lively()
    ready = Slots(eager.prepared(copy.deepcopy(model), half=False), 3, TINY.context)
    texts = {}
    for length in (3, 17, 9):
        text = tokens(1, length, seed=length)[0].tolist()
        texts[ready.prefill(text)[0]] = text
    for step in range(3):
        logits = ready.decode(dict.fromkeys(texts, step + 1))
        for slot, text in texts.items():
            text.append(step + 1)
            with torch.inference_mode():
                wanted = model(torch.tensor([text]))[0, -1]
            torch.testing.assert_close(logits[slot], wanted, rtol=1e-4, atol=1e-5)


def _missing(*_: Any) -> Any:
    raise RuntimeError("no kernel")


WRONG = SimpleNamespace(default=lambda x, *_: x.new_zeros(1))


@pytest.mark.parametrize(
    ("name", "broken"), [("_reorder_linear_weight", _missing), ("_linear_pointwise", WRONG)]
)
def test_a_product_that_torch_cannot_do_or_does_wrong_is_not_used(
    name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, name, broken)
    model, ids = lively(), tokens(1, 9)
    with torch.inference_mode():
        wanted = model(ids)
        torch.testing.assert_close(eager.prepared(model, half=False)(ids), wanted, rtol=1e-4, atol=1e-5)


def test_matrices_are_not_kept_twice() -> None:
    ready = eager.prepared(lively(), half=False)
    assert isinstance(ready, Transformer)
    assert set(dict(ready.named_parameters())) == {"model.embed_tokens.weight", "model.norm.weight"}
