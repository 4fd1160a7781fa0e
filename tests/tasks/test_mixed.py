"""Several tasks in one model: each record as its own task has it, behind a tag that prompts carry too."""

from __future__ import annotations

from typing import Any

import pytest

from shuyuan.errors import DataError
from shuyuan.recipe import MIXABLE_TASKS, from_table
from shuyuan.tasks import TASKS, Chat, Example, Mixed, QuestionAnswering, Summarization, Translation
from shuyuan.tasks.prompted import Prompted, case_of

FIELDS = from_table({"task": "mixed", "data": {"source": "a.jsonl"}}).columns
ROWS: dict[str, dict[str, Any]] = {
    "translation": {"source": "Good morning to all of you.", "target": "大家早上好。"},
    "summarization": {"text": "A long text. More of it.", "summary": "A text."},
    "question-answering": {"question": "Who?", "context": "Ann came.", "answer": "Ann"},
    "chat": {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]},
}


def spelt(example: Example) -> str:
    return "".join("|" if piece.kind == "end" else piece.text for piece in example.pieces)


def row(name: str) -> dict[str, Any]:
    return {"task": name} | ROWS[name]


def test_the_tasks_that_mix_are_those_with_prompts() -> None:
    assert set(ROWS) == set(MIXABLE_TASKS) == {n for n, t in TASKS.items() if t.prompted} - {"mixed"}
    assert all(Mixed().part(name) is not None for name in ROWS) and Mixed().part("generation") is None


@pytest.mark.parametrize("name", list(ROWS))
def test_a_record_is_what_its_task_makes_of_it_behind_a_tag(name: str) -> None:
    alone = TASKS[name]
    mixed = Mixed().examples(row(name), FIELDS, "a.jsonl:1")
    for one, other in zip(alone.examples(ROWS[name], FIELDS, "a.jsonl:1"), mixed, strict=True):
        tag = f"[{name}] "
        assert spelt(other).replace(tag, "", 1) == spelt(one)
        assert spelt(other).removeprefix("|").startswith(tag)
        learned = [(piece.text, piece.kind) for piece in one.pieces if piece.learn]
        assert learned == [(piece.text, piece.kind) for piece in other.pieces if piece.learn]
        assert next(piece for piece in other.pieces if piece.text == tag).kind == "markup"
    assert spelt(alone.examples(ROWS[name], FIELDS, "")[0]).count("[") == 0  # the task alone is as ever


def test_prompts_are_asked_as_they_were_taught() -> None:
    def asked(name: str) -> str:
        example = Mixed().examples(row(name), FIELDS, "")[0]
        return spelt(Example(tuple(case_of(example, []).prompt)))  # type: ignore[arg-type]

    part = Mixed().part
    translation, summarization, answering, chat = (part(name) for name in ROWS)
    assert isinstance(translation, Translation) and isinstance(summarization, Summarization)
    assert isinstance(answering, QuestionAnswering) and isinstance(chat, Chat)
    assert spelt(Example(translation.prompt("Good morning to all of you.", "zh"))) == asked("translation")
    assert spelt(Example(summarization.prompt(ROWS["summarization"]["text"]))) == asked("summarization")
    assert spelt(Example(answering.prompt("Who?", "Ann came."))) == asked("question-answering")
    assert spelt(Example(chat.prompt(ROWS["chat"]["messages"][:1]))) == asked("chat")


def test_scores_are_those_of_each_task_under_its_name() -> None:
    mixed = Mixed()
    cases = [
        case_of(e, mixed.right(row(n), FIELDS, e)) for n in ROWS for e in mixed.examples(row(n), FIELDS, "")
    ]
    right = [case.right[0] for case in cases]
    scores = mixed.scores(cases, right)
    assert scores["translation_bleu_en_zh"] == pytest.approx(100)
    assert scores["summarization_rouge_l"] == scores["question_answering_exact_match"] == 1.0
    assert scores["chat_chrf"] == pytest.approx(100)
    wrong = mixed.scores(cases, ["no" if text == "Ann" else text for text in right])
    assert wrong["question_answering_exact_match"] == 0.0 and wrong["summarization_rouge_l"] == 1.0
    guesses = mixed.baselines(cases, cases)["simple"]
    assert guesses[:2] == right[:2] and guesses[2] == "A long text." and guesses[4] == "Hi"
    assert len(mixed.baselines(cases, [])["simple"]) == len(cases)


def test_squad_articles_mix_too_and_right_answers_stay_together() -> None:
    answers = [{"text": "Ann", "answer_start": 0}, {"text": "Ann came", "answer_start": 0}]
    paragraph = {"context": "Ann came.", "qas": [{"question": "Who?", "answers": answers}]}
    article = {"task": "question-answering", "paragraphs": [paragraph]}
    ((found, _),) = Mixed().records(article, FIELDS, "a.json:1")
    example = Mixed().example(found, FIELDS, "")
    assert Mixed().right(found, FIELDS, example) == ["Ann", "Ann", "Ann came"]


@pytest.mark.parametrize(
    ("values", "code", "said"),
    [({"text": "x"}, "data.no-column", "no column `task`"),
     ({"task": "generation", "text": "x"}, "data.unknown-task", "`generation` is no task"),
     ({"task": "summarization", "text": "x"}, "data.no-column", "summary")],
)  # fmt: skip
def test_a_record_whose_task_is_unknown_or_that_lacks_a_column_is_refused(
    values: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(DataError, match=said) as refused:
        for found, where in Mixed().records(values, FIELDS, "a.jsonl:7"):
            assert Mixed().lacking(found, FIELDS) is None
            Mixed().example(found, FIELDS, where)
    assert refused.value.code == code and refused.value.where == "a.jsonl:7"


def test_a_record_without_a_task_is_left_out_and_counted() -> None:
    for empty in (None, "", "  "):
        ((found, _),) = Mixed().records({"task": empty, "text": "x"}, FIELDS, "")
        assert Mixed().lacking(found, FIELDS) == "a task"


def test_one_mixture_does_not_change_another_or_the_tasks_alone() -> None:
    assert isinstance(TASKS["translation"], Prompted)
    before = TASKS["translation"].opening
    Mixed()
    assert TASKS["translation"].opening == before and len(before) == 1
