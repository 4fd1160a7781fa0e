"""The tasks with a prompt and an answer: what of a row is learned, and what a record must have."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import DataError, RecipeError, ShuyuanError
from shuyuan.recipe import PROMPTED_TASKS, TASK_FIELDS, Recipe, from_table
from shuyuan.tasks import TASKS, Chat, Example, QuestionAnswering, Setting, Summarization, Translation

TEXT = st.text(min_size=1).filter(lambda text: bool(text.strip()))
SUMMARY = {"text": "article", "summary": "title"}
PAIR = {"source_text": "en", "target": "zh"}


def learned(example: Example) -> str:
    """The text that is learned; | for an end."""
    return "".join("|" if piece.kind == "end" else piece.text for piece in example.pieces if piece.learn)


def prompt_of(example: Example) -> str:
    return "".join("|" if piece.kind == "end" else piece.text for piece in example.pieces if not piece.learn)


def test_the_recipe_names_the_tasks_that_there_are() -> None:
    assert set(TASKS) == set(TASK_FIELDS) == set(get_args(Recipe.model_fields["task"].annotation))
    assert {name for name, task in TASKS.items() if task.prompted} == set(PROMPTED_TASKS)


# ---- summarization -------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(TEXT, TEXT)
def test_a_summary_is_learned_with_its_end_and_nothing_else(text: str, summary: str) -> None:
    example = Summarization().example({"article": text, "title": summary}, SUMMARY, "a.csv:2")
    assert learned(example) == summary.strip() + "|"
    assert example.pieces[:3] == Summarization().prompt(text)
    assert Summarization().parse(f" {summary}\n") == summary.strip()
    assert [piece.cut for piece in example.pieces] == ["no", "end", "no", "no", "no"]


def test_sentences_in_a_list_are_joined_and_of_several_summaries_the_first_is_learned() -> None:
    row = {"article": ["One is here. ", "Two."], "title": ["Both.", "One and two."]}
    example = Summarization().example(row, SUMMARY, "a.jsonl:1")
    assert prompt_of(example) == "|One is here. Two.\n\nSummary: "
    assert learned(example) == "Both.|"
    assert Summarization().right(row, SUMMARY, example) == ["Both.", "One and two."]
    assert Summarization().right({"title": "x"}, SUMMARY, example) == ["Both."]
    with pytest.raises(DataError, match="holds list, not text"):
        Summarization().example({"article": [1], "title": "x"}, SUMMARY, "a.jsonl:1")


def test_the_prompt_is_in_the_language_of_the_text() -> None:
    rows = [{"article": "A long text.", "title": "Short"}, {"article": "很长的一段文字。", "title": "短"}]
    prompts = [prompt_of(Summarization().example(row, SUMMARY, "")) for row in rows]
    assert prompts == ["|A long text.\n\nSummary: ", "|很长的一段文字。\n\n摘要："]


def test_a_record_without_a_summary_is_counted_and_not_learned() -> None:
    task = Summarization()
    assert task.lacking({"article": "x", "title": None}, SUMMARY) == "summary"
    assert task.lacking({"article": " \n", "title": "y"}, SUMMARY) == "text"
    assert task.lacking({"article": "x", "title": "y"}, SUMMARY) is None


def test_a_missing_column_names_file_line_and_columns() -> None:
    row = {"article": "x", "headline": "y"}
    assert Summarization().lacking(row, SUMMARY) is None
    with pytest.raises(
        DataError, match=r"a\.csv:7: There is no column `title`.*article, headline.*data\.no-column"
    ):
        Summarization().example(row, SUMMARY, "a.csv:7")
    with pytest.raises(DataError, match=r"a\.csv:7.*holds list, not text"):
        Summarization().example({"article": "x", "title": [3]}, SUMMARY, "a.csv:7")


# ---- translation ---------------------------------------------------------------------------------------------------


def test_a_pair_is_learned_both_ways() -> None:
    there, back = Translation().examples({"en": "Good morning.", "zh": "早上好。"}, PAIR, "")
    assert (prompt_of(there), learned(there)) == ("|en>zh: Good morning.\n", "早上好。|")
    assert (prompt_of(back), learned(back)) == ("|zh>en: 早上好。\n", "Good morning.|")


def test_the_direction_follows_from_the_text_or_from_the_recipe() -> None:
    turned, _ = Translation().examples({"en": "早上好。", "zh": "Good morning."}, PAIR, "")
    assert prompt_of(turned) == "|zh>en: 早上好。\n"
    french = Translation().configured(Setting(languages=("en", "fr")))
    there, back = french.examples({"en": "Good morning.", "zh": "Bonjour."}, PAIR, "")
    assert (prompt_of(there), prompt_of(back)) == ("|en>fr: Good morning.\n", "|fr>en: Bonjour.\n")
    with pytest.raises(ShuyuanError, match=r"does not translate to `zh`.*en or fr.*other-language"):
        french.prompt("Bonjour.", "zh")


# ---- question answering --------------------------------------------------------------------------------------------

ASKED = {"question": "question", "answer": "answer"}


def article(**more: Any) -> dict[str, Any]:
    question = {"question": "Who?", "id": "q1", "answers": [{"text": "Li Bai", "answer_start": 0}]}
    return {"title": "Poets", "paragraphs": [{"context": "Li Bai wrote.", "qas": [question | more]}]}


def test_a_question_its_context_and_its_answer() -> None:
    row = {"question": "Who wrote?", "context": "Long ago Li Bai wrote.", "answer": "Li Bai"}
    example = QuestionAnswering().example(row, ASKED, "")
    assert prompt_of(example) == "|Text: Long ago Li Bai wrote.\nQuestion: Who wrote?\nAnswer: "
    assert learned(example) == "Li Bai|"
    (context,) = [piece for piece in example.pieces if piece.cut != "no"]
    assert context.keep == (9, 15)


def test_pairs_without_a_context() -> None:
    example = QuestionAnswering().example({"question": "营业时间？", "answer": "九点到五点"}, ASKED, "")
    assert (prompt_of(example), learned(example)) == ("|问题：营业时间？\n回答：", "九点到五点|")
    with pytest.raises(DataError, match=r"no column `passage`"):
        QuestionAnswering().example({"question": "x", "answer": "y"}, ASKED | {"context": "passage"}, "")


def test_squad_expands_to_questions() -> None:
    ((row, where),) = QuestionAnswering().records(article(), ASKED, "a.json:3")
    assert where == "a.json:3, paragraph 1, question 1"
    assert (row["title"], row["context"], row["answer"]) == ("Poets", "Li Bai wrote.", "Li Bai")


@pytest.mark.parametrize("more", [{"is_impossible": True, "answers": []}, {"answers": []}])
@pytest.mark.parametrize(("asks", "said"), [("Who?", "not in the text"), ("谁写的？", "文中没有答案")])
def test_what_cannot_be_answered_is_said_in_the_language_of_the_question(
    more: dict[str, Any], asks: str, said: str
) -> None:
    task = QuestionAnswering()
    ((row, where),) = task.records(article(question=asks, **more), ASKED, "a.json:3")
    assert task.lacking(row, ASKED) is None
    assert learned(task.example(row, ASKED, where)) == said + "|"


def test_answers_as_the_hub_has_them() -> None:
    task = QuestionAnswering()
    rows = [
        {"question": "Who?", "context": "Li Bai wrote.", "answers": {"text": texts, "answer_start": []}}
        for texts in (["Li Bai", "Bai"], [])
    ]
    found = []
    for row in rows:
        ((values, where),) = task.records(row, ASKED, "")
        found.append(learned(task.example(values, ASKED, where)))
    assert found == ["Li Bai|", "not in the text|"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"paragraphs": {}}, "`paragraphs` is no list"),
        ({"paragraphs": [{"context": "x"}]}, "`qas` is missing"),
        ({"paragraphs": [{"qas": []}]}, "`context` is missing"),
        ({"paragraphs": [{"context": "x", "qas": [{"question": "y"}]}]}, "`answers` is missing"),
        (
            {"paragraphs": [{"context": "x", "qas": [{"question": "y", "answers": [{"text": 3}]}]}]},
            "an answer is no text",
        ),
    ],
)
def test_what_is_not_squad_is_refused_with_its_place(broken: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json:3.*{why}.*not-squad"):
        list(QuestionAnswering().records(broken, ASKED, "a.json:3"))


# ---- recipes -------------------------------------------------------------------------------------------------------


def asked(task: str, **data: Any) -> Recipe:
    return from_table({"task": task, "data": {"source": "a.jsonl", **data}})


def test_columns_have_the_names_of_the_fields_unless_they_are_named() -> None:
    assert asked("summarization").columns == {"text": "text", "summary": "summary"}
    assert asked("translation", source_text="en").columns == {"source_text": "en", "target": "target"}
    assert asked("question-answering").columns == {"question": "question", "answer": "answer"}
    assert asked("question-answering", context="passage").columns["context"] == "passage"
    assert asked("chat").columns == {"messages": "messages"}
    assert from_table({"data": {"source": "a.jsonl"}}, ["task=chat", "data.messages=talk"]).columns == {
        "messages": "talk"
    }


@pytest.mark.parametrize(
    ("task", "data", "why"),
    [
        (
            "generation",
            {"summary": "title"},
            r"`data\.summary` is set, and the task generation reads no such column",
        ),
        ("translation", {"text": "en"}, r"`data\.text` is set, and the task translation reads source_text"),
        ("translation", {"targt": "zh"}, r"Did you mean `data\.target`"),
        ("translation", {"languages": ["en"]}, r"`data\.languages` must be two languages"),
        ("translation", {"languages": ["en", "en"]}, r"`data\.languages` must be two languages"),
        (
            "question-answering",
            {"answer": "question"},
            r"`data\.answer` names a column that is named for another",
        ),
        ("chat", {"record": "line"}, r"`data\.record` is set, and the task chat reads tables"),
        ("chat", {"label": "x"}, r"`data\.label` is set, and the task chat has no labels"),
    ],
)
def test_fields_that_do_not_belong_are_refused(task: str, data: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        asked(task, **data)


def test_an_answer_is_learned_by_models_that_predict_every_token() -> None:
    with pytest.raises(
        RecipeError, match=r"`model\.predict` is .last., and the task chat learns whole answers"
    ):
        from_table({"task": "chat", "data": {"source": "a"}, "model": {"family": "rnn", "predict": "last"}})
    assert isinstance(TASKS["chat"], Chat)
