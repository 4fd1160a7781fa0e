"""Prompts in, text out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from shuyuan.data import byte_tokenizer, learn_bpe
from shuyuan.errors import ShuyuanError
from shuyuan.inference import Engine
from shuyuan.models import Transformer
from shuyuan.progress import Progress

from ..models.tiny import TINY, lively

TOKENIZER = byte_tokenizer()
END = TOKENIZER.end_id


def write(model: Transformer, prompt: str = "Once", **settings: Any) -> str:
    return "".join(Engine(model, TOKENIZER).generate(prompt, **settings))


def greedy_without_cache(model: Transformer, prompt: str, count: int) -> list[int]:
    """What generation means: the whole visible text through the model for every token."""
    seen = [END, *TOKENIZER.encode(prompt)]
    new: list[int] = []
    while len(new) < count:
        if len(seen) > model.context:
            seen = seen[-(model.context // 2) :]
        token = int(model(torch.tensor([seen]))[0, -1].argmax())
        if token == END:
            break
        new.append(token)
        seen.append(token)
    return new


def scripted(model: Transformer, text: str) -> Transformer:
    """A model that says one text and ends, whatever the prompt: each token's row of the head answers the one before."""
    ids = [END, *TOKENIZER.encode(text), END]
    assert len(set(ids[:-1])) == len(ids) - 1, "each token must be followed by one only"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        embedding = torch.randn(257, TINY.width, generator=torch.Generator().manual_seed(1))
        model.model.embed_tokens.weight.copy_(embedding)
        model.model.norm.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        for before, after in itertools.pairwise(ids):
            model.lm_head.weight[after] += 10 * embedding[before] / embedding[before].norm()
    return model


def test_greedy_text_is_what_the_whole_model_says() -> None:
    model = lively()
    for prompt in ("", "Once", "a longer beginning, 书院"):
        expected = greedy_without_cache(model, prompt, 12)
        assert write(model, prompt, max_tokens=12, temperature=0.0) == TOKENIZER.decode(expected).rstrip(
            "\ufffd"
        )


def test_text_goes_on_past_the_context() -> None:
    """The window slides: its older half is forgotten, the rest is read again; the listener is told once."""
    model, progress = lively(), Progress()
    expected = TOKENIZER.decode(greedy_without_cache(model, "Once", 150))
    engine = Engine(model, TOKENIZER, progress=progress)
    text = "".join(engine.generate("Once", max_tokens=150, temperature=0.0))
    assert text == expected.removesuffix("\ufffd")
    assert list(progress.said) == ["inference.window"]


@pytest.mark.parametrize("length", [TINY.context - 2, TINY.context - 1, TINY.context, TINY.context + 1, 500])
def test_a_prompt_at_and_beyond_the_context(length: int) -> None:
    model, prompt = lively(), "abcdefg" * 100
    expected = TOKENIZER.decode(greedy_without_cache(model, prompt[:length], 5))
    assert write(model, prompt[:length], max_tokens=5, temperature=0.0) == expected.removesuffix("\ufffd")


def test_text_within_the_context_is_not_cut() -> None:
    progress = Progress()
    list(Engine(lively(), TOKENIZER, progress=progress).generate("x" * 20, max_tokens=20))
    assert not progress.said


def test_the_same_seed_gives_the_same_text() -> None:
    model = lively()
    torch.manual_seed(1)
    first = write(model, seed=3, max_tokens=40)
    torch.manual_seed(2)
    assert write(model, seed=3, max_tokens=40) == first
    assert write(model, seed=4, max_tokens=40) != first


def test_generating_moves_no_global_random_state() -> None:
    state = torch.get_rng_state()
    write(lively(), max_tokens=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_end_token_ends_the_text() -> None:
    model = scripted(lively(), "Hi, world")
    assert write(model, "", max_tokens=50, temperature=0.0) == "Hi, world"
    assert write(model, "", max_tokens=5, temperature=0.0) == "Hi, w"


def test_an_empty_prompt_begins_a_record() -> None:
    """It begins from the end token, which closes the record before: the scripted model then says its text."""
    model = scripted(lively(), "书 is")
    assert list(Engine(model, TOKENIZER).generate("", temperature=0.0)) == ["书", " ", "i", "s"]


def test_max_tokens_is_a_limit() -> None:
    model = lively()
    with torch.no_grad():
        model.lm_head.weight[128:] = 0  # ASCII alone: a token is a character
        model.lm_head.weight[:128] += 0.1
    assert len(write(model, max_tokens=1, temperature=0.0)) == 1


def test_many_texts_at_once_are_what_they_are_alone() -> None:
    """More prompts than slots, of different lengths, some past the context."""
    model = lively()
    prompts = ["", "a", "some longer beginning", "书院", "x" * 47, "last"]
    settings: dict[str, Any] = {"max_tokens": 60, "temperature": 0.7, "top_k": 20, "top_p": 0.9}
    together = Engine(model, TOKENIZER, slots=3).generate_all(prompts, seed=5, **settings)
    assert together == [write(model, prompt, seed=5 + n, **settings) for n, prompt in enumerate(prompts)]
    assert Engine(model, TOKENIZER).generate_all([]) == []


def test_two_texts_can_be_read_in_turns() -> None:
    engine = Engine(lively(), TOKENIZER)
    alone = [list(engine.generate(prompt, max_tokens=10, seed=1)) for prompt in ("one", "another")]
    turns = [engine.generate(prompt, max_tokens=10, seed=1) for prompt in ("one", "another")]
    read: list[list[str]] = [[], []]
    for _ in range(12):
        for number, pieces in enumerate(turns):
            read[number] += [piece for piece in [next(pieces, "")] if piece]
    assert read == alone


def test_tokens_that_the_tokenizer_lacks_are_never_drawn() -> None:
    """Vocabularies are often padded to a round size."""
    model = lively(replace(TINY, vocab_size=300))
    texts = []
    for loudness in (0.0, 100.0):
        with torch.no_grad():
            model.lm_head.weight[257:] = loudness * model.lm_head.weight[:43]
        texts.append(write(model, max_tokens=30, temperature=0.0))
    assert texts[0] == texts[1] != ""


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    with pytest.raises(ShuyuanError, match=r"tokenizer has \d+ entries and the model 257"):
        Engine(lively(), learn_bpe(["some text to learn from"] * 9, 270))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 0},
        {"max_tokens": -3},
        {"temperature": -1.0},
        {"top_k": 0},
        {"top_p": 0.0},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_bad_settings_are_refused_before_the_first_piece(settings: dict[str, Any]) -> None:
    engine, name = Engine(lively(), TOKENIZER), next(iter(settings))
    with pytest.raises(ShuyuanError, match=rf"`{name}` = .*inference\.bad-setting"):
        engine.generate("x", **settings)
    with pytest.raises(ShuyuanError, match=rf"`{name}` = .*inference\.bad-setting"):
        engine.generate_all(["x"], **settings)


def test_a_diverged_model_says_so() -> None:
    model = lively()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ShuyuanError, match=r"inference\.no-numbers"):
        write(model)
