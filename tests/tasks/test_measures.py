"""Measures of answers: by hand where that can be done, beside the libraries where they are used."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import MachineError
from shuyuan.tasks import Chat, Generation, QuestionAnswering, Summarization, Translation, measures
from shuyuan.tasks.extractive import Memory, lead, nearest_sentence, text_rank
from shuyuan.tasks.measures import bleu, chrf, chrf_of, distinct, exact, interval, overlap, repetition, rouge
from shuyuan.tasks.prompted import Case

ENGLISH = ["The cat sat on the mat today.", "It rains a lot in the north."]
CHINESE = ["今天猫坐在垫子上。", "北方经常下雨。"]


def case(text: str, right: str | list[str], asks: str = "") -> Case:
    return Case([], [text], asks, right if isinstance(right, list) else [right])


# ---- libraries -----------------------------------------------------------------------------------------------------


def test_bleu_and_chrf_are_those_of_sacrebleu() -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    said = ["The cat sat on a mat today.", "It rains much in the north."]
    found, low, high = bleu(said, ENGLISH, "en")
    assert found == pytest.approx(metrics.BLEU().corpus_score(said, [ENGLISH]).score)
    assert 0 < low <= found <= high < 100
    chinese = bleu(["今天猫坐在椅子上。", CHINESE[1]], CHINESE, "zh")[0]
    assert chinese == pytest.approx(
        metrics.BLEU(tokenize="zh").corpus_score(["今天猫坐在椅子上。", CHINESE[1]], [CHINESE]).score
    )
    assert chrf(said, ENGLISH)[0] == pytest.approx(metrics.CHRF().corpus_score(said, [ENGLISH]).score)
    for measure in (lambda a, b: bleu(a, b, "en"), chrf):
        assert measure(ENGLISH, ENGLISH) == pytest.approx((100, 100, 100))
        assert measure(["", ""], ENGLISH)[0] < 1
    assert chrf_of(CHINESE[0], CHINESE[0]) == pytest.approx(100)


def test_rouge_counts_words_and_characters_of_chinese() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    said = "A cat sat on it."
    theirs = scorer.score(ENGLISH[0], said)
    assert rouge(said, ENGLISH[0]) == {
        f"rouge_{name[-1].lower()}": pytest.approx(theirs[name].fmeasure) for name in theirs
    }
    assert rouge("今天下雨", "今天下雪")["rouge_1"] == pytest.approx(0.75)
    assert rouge("今天下雨", "今天下雪")["rouge_2"] == pytest.approx(2 / 3)
    assert rouge("", "今天")["rouge_l"] == 0


@pytest.mark.parametrize(
    ("task", "library"), [(Translation, "sacrebleu"), (Chat, "sacrebleu"), (Summarization, "rouge_score")]
)
def test_a_missing_library_names_its_extra(task: Any, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measures.check_installed(task())
    real = importlib.util.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == library else real(name)

    monkeypatch.setattr(measures, "find_spec", without)
    with pytest.raises(MachineError, match=r"shuyuan\[tasks\].*machine\.missing-extra"):
        measures.check_installed(task())
    measures.check_installed(QuestionAnswering())


# ---- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "right", "same", "f1"),
    [
        ("The Li Bai!", "li bai", 1, 1),
        ("Li Bai", "Li Bo", 0, 0.5),
        ("李白。", "李白", 1, 1),
        ("李白", "李太白", 0, 0.8),
        ("", "x", 0, 0),
        ("the", "a", 1, 1),
        ("3.5", "35", 1, 1),
    ],
)
def test_exact_match_and_f1(said: str, right: str, same: float, f1: float) -> None:
    assert (exact(said, right), overlap(said, right)) == (same, pytest.approx(f1))


@settings(deadline=None)
@given(st.text(alphabet="ab 李白.", max_size=12), st.text(alphabet="ab 李白.", max_size=12))
def test_f1_is_a_share_that_does_not_care_who_is_right(one: str, other: str) -> None:
    assert 0 <= overlap(one, other) == overlap(other, one) <= 1
    assert overlap(one, one) == 1
    assert exact(one, other) <= overlap(one, other)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    mean, low, high = interval(values)
    assert mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert interval(values) == (mean, low, high)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = [interval((random.random(60) < 0.4).astype(float).tolist()) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 0.4 <= high for _, low, high in held]) <= 0.99


def test_an_interval_is_as_wide_as_its_confidence_asks() -> None:
    """95 %: of many scores 1.96 deviations of their mean to each side."""
    scores = np.random.default_rng(1).normal(size=400)
    _, low, high = interval(scores.tolist())
    assert (high - low) / 2 == pytest.approx(1.96 * scores.std() / 20, rel=0.08)


def test_repetition_and_different_words() -> None:
    assert distinct(["a b c", "a b d"], 1) == pytest.approx(4 / 6)
    assert distinct(["a b c", "a b d"], 2) == pytest.approx(3 / 4)
    assert repetition(["a b c d a b c d"]) == pytest.approx(1 / 5)
    assert repetition(["one two three four five"]) == repetition([]) == distinct([], 1) == 0
    told = Generation().text_scores(["春 眠 不 觉 晓"])
    assert told == {"repetition": 0.0, "distinct_1": 1.0, "distinct_2": 1.0}


@pytest.mark.parametrize(
    "stuck", ["a" * 200, "ha" * 100, "_" * 200, "\n" * 200, "!?" * 100, "啊" * 200, "no " * 70]
)
def test_a_model_that_says_one_letter_or_mark_for_ever_repeats_itself(stuck: str) -> None:
    assert repetition([stuck]) > 0.9 and distinct([stuck], 1) < 0.05
    assert repetition(["It said: " + stuck]) > 0.9


# ---- baselines -----------------------------------------------------------------------------------------------------


def test_sentences_of_the_text_itself() -> None:
    text = "Cats sleep. Dogs and cats and birds eat in the garden. Birds sing in the garden. Snow."
    assert lead(text) == "Cats sleep."
    assert text_rank(text) == "Dogs and cats and birds eat in the garden."
    assert text_rank("One.") == lead("One.") == "One."
    assert text_rank("") == lead("") == ""
    assert text_rank("Aa. Bb.") in ("Aa.", "Bb.")
    assert lead("第一句。第二句。") == "第一句。"
    assert nearest_sentence(text, "Who sings?") == "Cats sleep."
    assert nearest_sentence(text, "What do birds sing?") == "Birds sing in the garden."


def test_a_memory_finds_the_most_similar_text() -> None:
    memory = Memory(["the red fox", "the blue bird sings", "the fox and the bird", "今天下雨"])
    asked = ["a red fox runs", "blue bird", "今天下雪", "the fox and the bird"]
    assert [memory.nearest(text) for text in asked] == [0, 1, 3, 2]
    assert memory.nearest("nothing in common") == 0


# ---- tasks ---------------------------------------------------------------------------------------------------------


def test_a_translation_is_scored_by_direction() -> None:
    cases = [case(one, other, "en>zh: ") for one, other in zip(ENGLISH, CHINESE, strict=True)]
    cases += [case(other, one, "zh>en: ") for one, other in zip(ENGLISH, CHINESE, strict=True)]
    told = Translation().scores(cases, [*CHINESE, "", ""])
    assert (told["bleu_en_zh"], told["chrf_en_zh"]) == (pytest.approx(100), pytest.approx(100))
    assert told["bleu_zh_en"] < 1
    assert {f"bleu_en_zh_{end}" for end in ("low", "high")} <= told.keys()
    memory = Translation().baselines(cases, cases)["memory"]
    assert memory == [*CHINESE, *ENGLISH]
    assert Translation().baselines(cases, cases[:2]) == {}


def test_any_right_answer_is_as_good() -> None:
    cases = [case("Who?", ["Li Bai", "Bai"]), case("When?", ["701"])]
    told = QuestionAnswering().scores(cases, ["bai", "702"])
    assert (told["exact_match"], told["f1"]) == (0.5, 0.5)
    assert QuestionAnswering().score("bai", ["Li Bai", "Bai"]) == 1
    row = {"answers": [{"text": "Li Bai"}, {"text": "Bai"}], "question": "Who?", "answer": "Li Bai"}
    example = QuestionAnswering().example(row, {"question": "question", "answer": "answer"}, "")
    assert QuestionAnswering().right(row, {"question": "question", "answer": "answer"}, example) == [
        "Li Bai",
        "Li Bai",
        "Bai",
    ]


def test_a_summary_is_compared_with_sentences_of_its_text() -> None:
    cases = [case("One is here. Two.", "One is here.")]
    assert Summarization().scores(cases, ["One is here."])["rouge_l"] == 1
    assert Summarization().baselines(cases, [])["lead"] == ["One is here."]


def test_a_reply_is_compared_with_that_to_the_most_similar_message() -> None:
    training = [case("Hello there", "Hi."), case("Goodbye then", "Bye.")]
    assert Chat().baselines([case("hello", "Hi!")], training) == {"memory": ["Hi."]}
    assert Chat().scores([case("x", "Hi.")], ["Hi."])["chrf"] == pytest.approx(100)
