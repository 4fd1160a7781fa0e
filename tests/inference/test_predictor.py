"""A model is asked as it was taught: the prompts of training, shortened as in training, ended by what ends an answer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from shuyuan.data import byte_tokenizer, laid_out
from shuyuan.errors import ShuyuanError
from shuyuan.inference import Predictor
from shuyuan.models import open_slots
from shuyuan.tasks import Chat, Example, Summarization, Translation
from tests.inference.test_engine import scripted
from tests.models.tiny import TINY, lively

TOKENIZER = byte_tokenizer()
WIDE = replace(TINY, context=96)


def predictor(task: Summarization | Translation | Chat, says: str = "") -> Predictor:
    model = lively(WIDE)
    return Predictor(scripted(model, says) if says else model, TOKENIZER, task)


@pytest.mark.parametrize("length", [3, 40, 400])
def test_the_prompt_is_the_beginning_of_the_row_that_was_learned(length: int) -> None:
    task = Summarization()
    text = ("word " * length).strip()
    ids = predictor(task).tokens(task.prompt(text), 20)
    example = task.example({"t": text, "s": "x" * 19}, {"text": "t", "summary": "s"}, "")
    (row,) = laid_out([example], TOKENIZER, WIDE.context)
    assert row is not None
    assert row.ids[: len(ids)] == ids
    assert len(ids) <= WIDE.context - 20


def test_the_answer_ends_with_the_end_token_or_the_room() -> None:
    asked = predictor(Summarization(), "Hi, you")
    prompt = Summarization().prompt("A text.")
    # The script goes on by the last token alone, so it begins anew behind the prompt's last one.
    ids = asked.tokens(prompt, 5)
    assert ids[0] == TOKENIZER.end_id and len(ids) < WIDE.context
    free = predictor(Summarization())
    (answer,) = free.answers([prompt], max_tokens=500)
    assert len(answer.encode()) <= 3 * (WIDE.context - len(free.tokens(prompt, 500)) + 1)
    assert free.answers([prompt, ids], max_tokens=8) == free.answers([prompt], max_tokens=8) * 2


def test_what_may_not_be_shortened_is_refused() -> None:
    task = Translation()
    with pytest.raises(ShuyuanError, match=r"sees 96 tokens at once.*inference\.too-long"):
        predictor(task).tokens(task.prompt("word " * 30, "zh"), 20)
    assert not predictor(task).fits(task.prompt("word " * 30, "zh"), 20)
    assert predictor(task).fits(task.prompt("word", "zh"), 20)


def test_a_long_chat_loses_its_oldest_turns_and_keeps_its_system_message() -> None:
    talk = [{"role": "system", "content": "Be brief."}]
    for turn in range(6):
        talk += [
            {"role": "user", "content": f"asks {turn}"},
            {"role": "assistant", "content": f"says {turn}"},
        ]
    ids = predictor(Chat()).tokens(Chat().prompt([*talk, {"role": "user", "content": "last"}]), 20)
    text = TOKENIZER.decode(ids)
    assert text.startswith("system:\nBe brief.user:\nasks 5assistant:\nsays 5")
    assert text.endswith("user:\nlastassistant:\n")
    assert len(ids) <= WIDE.context - 20
    too_long = [{"role": "user", "content": "x" * 100}]
    with pytest.raises(ShuyuanError, match="too-long"):
        predictor(Chat()).tokens(Chat().prompt(too_long), 20)


def test_results_come_in_order_and_do_not_depend_on_each_other() -> None:
    task, asked = Translation(), predictor(Translation())
    texts = [f"sentence {number}." for number in range(5)]
    many = list(asked.results([partial(task.asking, text, to="zh") for text in texts], max_tokens=6))
    alone = [next(asked.results([partial(task.asking, text, to="zh")], max_tokens=6)) for text in texts]
    assert many == alone
    searched = list(
        asked.results([partial(task.asking, text, to="zh") for text in texts], max_tokens=6, beams=3)
    )
    assert len(searched) == 5
    assert searched[0] == asked.best(task.prompt(texts[0], "zh"), max_tokens=6, beams=3)


def test_a_forked_sequence_goes_its_own_way() -> None:
    model = lively(WIDE)
    slots = open_slots(model, 3, 20)
    first, _ = slots.prefill([1, 2, 3])
    other, _ = slots.prefill([7, 8])
    copy = slots.fork(first)
    assert slots.idle == 0
    found = slots.decode({first: 4, copy: 5, other: 9})
    for slot, tokens in ((first, [1, 2, 3, 4]), (copy, [1, 2, 3, 5]), (other, [7, 8, 9])):
        alone = open_slots(model, 1, 20).prefill(tokens)[1]
        assert float((found[slot] - alone).abs().max()) < 1e-4
    slots.free(first)
    found = slots.decode({copy: 6, other: 1})
    assert float((found[copy] - open_slots(model, 1, 20).prefill([1, 2, 3, 5, 6])[1]).abs().max()) < 1e-4


def test_the_ending_is_one_row() -> None:
    assert predictor(Chat()).end_id == TOKENIZER.end_id
    assert laid_out([Example(Chat().ending)], TOKENIZER, 9)[0] is not None
