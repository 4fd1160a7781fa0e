"""Beam search: with enough beams it finds what trying everything finds."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shuyuan.errors import ShuyuanError
from shuyuan.inference.beam import searching, to_the_end
from shuyuan.models import Transformer, open_slots
from tests.models.tiny import TINY, lively

ENTRIES, END = 5, 4
SMALL = replace(TINY, vocab_size=6, context=12, end_id=END)  # one entry more than the tokenizer
PROMPT = [4, 1, 2]


def search(
    model: Transformer, most: int, beams: int, penalty: float, prompt: list[int] = PROMPT
) -> list[int]:
    settings = {"beams": beams, "length_penalty": penalty, "max_tokens": most}
    return to_the_end(searching(model, prompt, ends=(END,), entries=ENTRIES, **settings))


@torch.no_grad()
def log_probability(model: Transformer, tokens: list[int], prompt: list[int] = PROMPT) -> float:
    logs = (
        model(torch.tensor([[*prompt, *tokens]]))[0, len(prompt) - 1 : -1, :ENTRIES].double().log_softmax(-1)
    )
    return float(logs.gather(1, torch.tensor(tokens)[:, None]).sum())


def best_of_all(model: Transformer, most: int, penalty: float) -> list[int]:
    """Every continuation of at most so many tokens, its end among them, tried."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(most):
        for tokens in itertools.product(range(ENTRIES - 1), repeat=length):
            score = log_probability(model, [*tokens, END])
            found[tokens] = score / (length + 1) ** penalty
    return list(max(found, key=found.__getitem__))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_enough_beams_find_the_best_of_all(seed: int, penalty: float) -> None:
    model = lively(SMALL, seed)
    assert search(model, 4, 64, penalty) == best_of_all(model, 4, penalty)


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(seed: int) -> None:
    model = lively(SMALL, seed)
    slots = open_slots(model, 1, 12)
    slot, logits = slots.prefill(PROMPT)
    greedy: list[int] = []
    for _ in range(6):
        token = int(np.asarray(logits)[:ENTRIES].argmax())
        if token == END:
            break
        greedy.append(token)
        logits = slots.decode({slot: token})[slot]
    assert search(model, 6, 1, 1.0) == greedy


def test_the_penalty_prefers_longer_ones() -> None:
    lengths = [
        [len(search(lively(SMALL, seed), 6, 32, penalty)) for seed in range(8)] for penalty in (0.0, 1.0, 3.0)
    ]
    assert sum(lengths[0]) < sum(lengths[1]) < sum(lengths[2])
    assert all(one <= other for one, other in zip(lengths[0], lengths[2], strict=True))


def test_it_stops_where_the_context_ends() -> None:
    model = lively(SMALL)
    with torch.no_grad():
        model.lm_head.weight[END] = -model.lm_head.weight.sum(0)  # hardly ever an end
    prompt = [4, *[1] * 9]
    assert len(search(model, 50, 3, 1.0, prompt)) <= SMALL.context - len(prompt) + 1
    assert len(search(model, 50, 3, 1.0, [1] * SMALL.context)) <= 1


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("beams", {"beams": 0}),
        ("length_penalty", {"penalty": -1.0}),
        ("length_penalty", {"penalty": math.inf}),
        ("max_tokens", {"most": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, setting: dict[str, float]) -> None:
    asked = {"most": 4, "beams": 2, "penalty": 1.0} | setting
    with pytest.raises(ShuyuanError, match=rf"`{name}` = .*bad-setting"):
        search(lively(SMALL), **asked)  # type: ignore[arg-type]


def test_a_diverged_model_says_so() -> None:
    model = lively(SMALL)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ShuyuanError, match="no-numbers"):
        search(model, 4, 2, 1.0)
