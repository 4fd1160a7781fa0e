"""The engine step by step: texts join and leave, and none changes another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import byte_tokenizer
from shuyuan.errors import ShuyuanError
from shuyuan.inference import Engine
from shuyuan.inference.request import Request
from shuyuan.inference.stream import StopStrings
from shuyuan.models import CompiledModel
from shuyuan.models.compiled import NotCompiledError

from ..models.tiny import TINY, lively
from .test_engine import scripted

TOKENIZER = byte_tokenizer()
LETTERS = [*range(97, 107)]


def compiled(model: Any) -> CompiledModel:
    named = [(name, None, {"": weight.detach().numpy().copy()}) for name, weight in model.named_parameters()]
    return CompiledModel(model.config, named, half=False)


@pytest.fixture(params=["compiled", "torch"])
def model(request: pytest.FixtureRequest) -> Any:
    """One that says ASCII alone: a token is a character."""
    made = lively()
    with torch.no_grad():
        made.lm_head.weight[128:] = -made.lm_head.weight[:129].abs()
    if request.param == "torch":
        return made
    try:
        return compiled(made)
    except NotCompiledError as error:
        pytest.skip(str(error))


def run(engine: Engine) -> dict[int, str]:
    """All texts to their ends, by identity."""
    texts: dict[int, str] = {}
    while engine.busy:
        for text, said in engine.step():
            texts[id(text)] = texts.get(id(text), "") + said.text
    return texts


def test_what_joins_later_changes_nothing(model: Any) -> None:
    settings: dict[str, Any] = {"max_tokens": 25, "temperature": 0.9}
    alone = ["".join(Engine(model, TOKENIZER).generate(f"text {n}", seed=n, **settings)) for n in range(5)]
    engine, requests, texts = Engine(model, TOKENIZER, slots=3), [], {}
    for n in range(5):
        requests.append(engine.submit(f"text {n}", seed=n, **settings))
        for _ in range(4):
            for text, said in engine.step():
                texts[id(text)] = texts.get(id(text), "") + said.text
    for key, more in run(engine).items():
        texts[key] = texts.get(key, "") + more
    assert [texts[id(each)] for each in requests] == alone
    assert all(each.completion_tokens <= 25 and each.finish for each in requests)


def test_a_cancelled_text_leaves_its_slot_before_the_next_step(model: Any) -> None:
    engine = Engine(model, TOKENIZER, slots=1)
    first, second = (engine.submit("abc", max_tokens=40, seed=seed) for seed in (1, 2))
    assert {id(text) for text, _ in engine.step()} == {id(first)}
    engine.cancel(first)
    assert first.over and first.finish is None
    assert {id(text) for text, _ in engine.step()} == {id(second)}
    engine.cancel(second)
    engine.cancel(second)
    assert not engine.busy and engine.step() == []


def test_a_text_that_nobody_reads_on_frees_its_slot(model: Any) -> None:
    engine = Engine(model, TOKENIZER, slots=1)
    pieces = engine.generate("abc", max_tokens=40)
    next(pieces)
    assert engine.busy
    pieces.close()  # type: ignore[attr-defined]
    assert not engine.busy
    engine.generate("never read")
    assert not engine.busy


def test_tenants_change_nothing_but_what_is_read(model: Any) -> None:
    """Bit for bit the same text, whether its beginning is remembered or not."""
    engine = Engine(model, TOKENIZER, slots=2)
    engine.reserve()
    text, settings = "a beginning that many share", {"max_tokens": 10, "seed": 3}
    alone = "".join(Engine(model, TOKENIZER).generate(text, **settings))
    for tenant in ("one", "one", "two", None, "one"):
        request = engine.submit(text, tenant=tenant, **settings)
        assert run(engine)[id(request)] == alone


def test_memory_is_set_aside_at_the_start(model: Any) -> None:
    engine = Engine(model, TOKENIZER, slots=2)
    engine.reserve()
    slots = engine._slots
    for length in (5, 40, 200):
        engine.submit("x" * length, max_tokens=30)
    run(engine)
    assert engine._slots is slots


def test_longer_texts_get_longer_slots(model: Any) -> None:
    engine = Engine(model, TOKENIZER)
    for length in (5, 30, 12):
        assert engine.generate_all(["x" * length], max_tokens=9, seed=1) == [
            "".join(Engine(model, TOKENIZER).generate("x" * length, max_tokens=9, seed=1))
        ]


def test_a_diverged_model_leaves_nothing_behind() -> None:
    broken = lively()
    with torch.no_grad():
        broken.model.norm.weight.fill_(torch.nan)
    engine = Engine(broken, TOKENIZER, slots=1)
    texts = [engine.submit("x") for _ in range(2)]
    with pytest.raises(ShuyuanError, match=r"inference\.no-numbers"):
        engine.step()
    assert not engine.busy and all(text.over for text in texts)


# ---- where a text ends ---------------------------------------------------------------------------------------------------


def told(engine: Engine, request: Request) -> Iterator[Any]:
    while not request.over:
        yield from (said for text, said in engine.step() if text is request)


def test_why_a_text_ended() -> None:
    model = scripted(lively(), "Hi, world")
    for asked, finish, text, counted in (
        ({"max_tokens": 50}, "stop", "Hi, world", 10),
        ({"max_tokens": 5}, "length", "Hi, w", 5),
        ({"max_tokens": 50, "stop": [", wo"]}, "stop", "Hi", 6),
        ({"max_tokens": 50, "stop": ["zz", "o", "w"]}, "stop", "Hi, ", 5),
        ({"max_tokens": 5, "stop": ["world"]}, "length", "Hi, w", 5),
        ({"max_tokens": 50, "stop": ["world!"]}, "stop", "Hi, world", 10),
    ):
        engine = Engine(model, TOKENIZER)
        request = engine.submit("", temperature=0.0, **asked)
        said = list(told(engine, request))
        assert "".join(each.text for each in said) == text
        assert (said[-1].finish, request.finish, request.completion_tokens) == (finish, finish, counted)
        assert request.prompt_tokens == 1 and all(each.finish is None for each in said[:-1])


@settings(deadline=None)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_cut_wherever_pieces_are_divided(text: str, stop: list[str], data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stops, given = StopStrings(stop), ""
    for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True):
        given += stops.add(text[first:last])
        assert text.startswith(given)
        if stops.found:
            break
    # Pieces end early: the first string that is whole ends the text, though an earlier one may still be growing.
    whole = [text[:end] for end in [*cuts, len(text)] if any(each in text[:end] for each in stop)]
    meant = text
    if whole:
        meant = whole[0][: min(whole[0].find(each) for each in stop if each in whole[0])]
    assert given + stops.rest() == meant and stops.found == bool(whole)


def test_probabilities_are_those_of_the_model(model: Any) -> None:
    """Before temperature, and the likeliest first."""
    engine = Engine(model, TOKENIZER)
    request = engine.submit("Once", max_tokens=6, temperature=0.7, logprobs=3)
    tokens = [TOKENIZER.end_id, *TOKENIZER.encode("Once")]
    for said in told(engine, request):
        (drawn,) = said.tokens
        other = Engine(model, TOKENIZER)
        other.reserve()
        slot, logits = other._slots.begin(tokens)
        while logits is None:
            logits = other._slots.decode({}).get(slot)
        values = np.asarray(logits, np.float64)[: TOKENIZER.vocab_size]
        logs = values - values.max() - math.log(np.exp(values - values.max()).sum())
        assert [log for _, log in drawn.top] == pytest.approx(sorted(logs, reverse=True)[:3], abs=1e-5)
        tokens.append(request.tokens[len(tokens)])  # a step may have given two
        assert drawn.logprob == pytest.approx(logs[tokens[-1]], abs=1e-5)
        assert drawn.text == TOKENIZER.decode(tokens[-1:])


def test_no_probabilities_unless_they_are_asked_for(model: Any) -> None:
    engine = Engine(model, TOKENIZER)
    assert all(said.tokens == [] for said in told(engine, engine.submit("x", max_tokens=3)))


@pytest.mark.parametrize(
    "settings", [{"stop": [""]}, {"stop": ["x"] * 17}, {"logprobs": -1}, {"logprobs": 21}, {"seed": -1}]
)
def test_bad_settings_never_join(settings: dict[str, Any]) -> None:
    engine = Engine(lively(), TOKENIZER)
    with pytest.raises(ShuyuanError, match=r"inference\.bad-setting"):
        engine.submit("x", **settings)
    assert not engine.busy


def test_a_prompt_of_tokens_must_fit() -> None:
    engine = Engine(lively(), TOKENIZER)
    with pytest.raises(ShuyuanError, match=r"inference\.too-long"):
        engine.submit([1] * (TINY.context + 1))
    request = engine.submit([1] * TINY.context, max_tokens=50)
    assert len(list(told(engine, request))) == 1


def test_the_end_is_no_token_of_the_text() -> None:
    engine = Engine(scripted(lively(), "Hi"), TOKENIZER)
    request = engine.submit("", temperature=0.0, logprobs=0)
    said = list(told(engine, request))
    assert [drawn.text for each in said for drawn in each.tokens] == ["H", "i"]
    assert said[-1].finish == "stop"


@pytest.mark.parametrize("prompt", [[], [-1], [257], [5, 2**40]])
def test_tokens_that_are_none_never_join(model: Any, prompt: list[int]) -> None:
    with pytest.raises(ShuyuanError, match=r"`prompt` = .*inference\.bad-setting"):
        Engine(model, TOKENIZER).submit(prompt)


def test_a_tenant_with_many_texts_slows_others_little(model: Any) -> None:
    """Of eight that ask one after another, with a ninth that has as many texts as it may: the work between question and answer."""

    def median_work(flooded: bool) -> float:
        engine, work, done = Engine(model, TOKENIZER), 0, []
        asked: dict[int, tuple[str, int]] = {}

        def ask(tenant: str) -> None:
            text = engine.submit(f"{tenant} asks", tenant=tenant, max_tokens=12, seed=len(done))
            asked[id(text)] = tenant, work
            kept.append(text)

        kept: list[Any] = []
        engine.reserve()
        for tenant in [*map(str, range(8)), *["flood"] * (4 * flooded)]:
            ask(tenant)
        while len(done) < 80:
            for text, said in engine.step():
                work += 1
                if said.finish:
                    tenant, begun = asked[id(text)]
                    done += [work - begun] if tenant != "flood" else []
                    ask(tenant)
        return float(np.median(done))

    if isinstance(model, CompiledModel):
        assert median_work(True) < 1.2 * median_work(False)
