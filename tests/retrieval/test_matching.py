"""Votes, calibrated confidence, and when a person is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shuyuan.errors import DataError
from shuyuan.progress import Stage
from shuyuan.retrieval import Wish, answer, matching
from shuyuan.retrieval.matching import NEVER, Matching, Vote, _by_words, calibrate, vote
from shuyuan.retrieval.scoring import Scoring, learn
from shuyuan.retrieval.words import asked, terms

from .parts import FAQ_ZH, PAIRS, pairs_index


def noisy_pairs(count: int = 600) -> list[tuple[str, int]]:
    """Questions of 20 answers that have words of their own; some questions take most of theirs from other answers."""
    chance = random.Random(7)
    pairs = []
    for _ in range(count):
        answer, clear = chance.randrange(20), chance.random()
        sources = [answer if chance.random() < clear else chance.randrange(20) for _ in range(5)]
        pairs.append((" ".join(f"t{source}x{chance.randrange(9)}" for source in sources), answer))
    return pairs


def learnt(questions: Sequence[str]) -> Scoring:
    return learn(map(terms, questions), Stage("index", len(questions), "pairs"))


def calibrated(
    pairs: list[tuple[str, int]], wish: Wish | None = None
) -> tuple[Scoring, np.ndarray, Matching]:
    scoring, answers = learnt([question for question, _ in pairs]), np.array([a for _, a in pairs], np.int32)
    questions = [asked(question) for question, _ in pairs]
    stage = Stage("calibrate", len(pairs), "pairs")
    return scoring, answers, calibrate(scoring, answers, questions, wish or Wish(), stage)


@pytest.mark.parametrize("wish", [(0.5, 0.5), (1.5, None), (None, -0.1), (float("nan"), None)])
def test_a_wish_that_means_nothing_is_refused(wish: tuple[float | None, float | None]) -> None:
    with pytest.raises(DataError, match=r"retrieval\.bad-wish"):
        Wish(*wish)


def test_a_vote_is_of_many_or_of_one_that_is_near() -> None:
    scoring = learnt(["lost card", "lost card abroad", "lost key", "open an account"])
    answers = np.array([0, 0, 1, 2], np.int32)
    assert vote(scoring, answers, ["card", "lost"]).answer == 0
    assert vote(scoring, answers, ["key", "lost"]).pair == 2
    assert vote(scoring, answers, ["key", "lost"], without=2).answer == 0
    exact, part = vote(scoring, answers, ["account"]), vote(scoring, answers, ["account", "colour", "tree"])
    assert exact.evidence == 1 and part.answer == 2 and part.evidence < 0.6
    assert vote(scoring, answers, ["colour"]) == Vote(-1, -1, 0.0, 0.0)


def test_words_of_all_questions_of_an_answer_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest question has another answer, but only one answer has these words again and again."""
    pairs = [(f"card {number}", 0) for number in range(6)] + [(f"abroad {number}", 0) for number in range(6)]
    pairs += [("card abroad", 1)] + [(f"key {number}", 1) for number in range(50)]
    scoring, answers, _ = calibrated(pairs)
    assert vote(scoring, answers, ["abroad", "card"]).answer == 0
    monkeypatch.setattr(matching, "FEWEST", 1000)  # with few pairs, the votes alone decide
    assert vote(scoring, answers, ["abroad", "card"]).answer == 1


def test_what_is_left_out_tells_nothing() -> None:
    """Each question has a word that no other has: only by its own pair could its answer be known."""
    pairs = [(f"common words and w{number}", number // 2) for number in range(80)]
    accuracy = calibrated(pairs, Wish(coverage=1.0))[2].accuracy
    assert accuracy is not None and accuracy < 0.1


@pytest.mark.parametrize("left", [0, 17, 59])
def test_leaving_out_is_as_if_it_had_never_been_there(left: int) -> None:
    pairs = noisy_pairs(60)
    rest = pairs[:left] + pairs[left + 1 :]
    question = asked(pairs[left][0])
    whole, part = (learnt([text for text, _ in some]) for some in (pairs, rest))
    answers, others = (np.array([number for _, number in some], np.int32) for some in (pairs, rest))
    sizes = np.bincount(others, minlength=20)
    np.testing.assert_array_equal(
        _by_words(whole, answers, sizes, question, left), _by_words(part, others, sizes, question, None)
    )


def test_confidence_is_the_share_of_right_answers() -> None:
    """On questions that were not there when it was calibrated."""
    pairs = noisy_pairs(1400)
    scoring, answers, matching = calibrated(pairs[:900])
    votes = [vote(scoring, answers, asked(question)) for question, _ in pairs[900:]]
    right = np.array([each.answer == answer for each, (_, answer) in zip(votes, pairs[900:], strict=True)])
    confidence = np.array([matching.confidence_of(each.evidence) for each in votes])
    assert 0.4 < right.mean() < 0.9
    assert abs(right.mean() - confidence.mean()) < 0.06
    sure = confidence >= np.median(confidence)
    assert right[sure].mean() > right[~sure].mean() + 0.1
    assert abs(right[sure].mean() - confidence[sure].mean()) < 0.1


def test_steps_rise_and_claim_no_certainty() -> None:
    matching = calibrated(noisy_pairs())[2]
    assert matching.evidence == sorted(matching.evidence)
    assert matching.confidence == sorted(matching.confidence)
    assert 0 < matching.confidence[0] <= matching.confidence[-1] < 1
    assert matching.confidence_of(0) == matching.confidence[0]
    assert matching.confidence_of(1) == matching.confidence[-1]


@pytest.mark.parametrize("coverage", [0.5, 0.9, 1.0])
def test_a_coverage_is_kept(coverage: float) -> None:
    matching = calibrated(noisy_pairs(), Wish(coverage=coverage))[2]
    assert matching.coverage is not None and abs(matching.coverage - coverage) < 0.01


def test_accuracy_rises_as_coverage_falls() -> None:
    found = [calibrated(noisy_pairs(), Wish(coverage=share))[2].accuracy for share in (1, 0.8, 0.5)]
    assert found == sorted(found, key=lambda accuracy: accuracy or 0) and len(set(found)) == 3


def test_an_accuracy_is_kept_with_as_many_answers_as_can_be() -> None:
    matching = calibrated(noisy_pairs(), Wish(accuracy=0.85))[2]
    assert matching.accuracy is not None and matching.coverage is not None
    assert 0.85 <= matching.accuracy < 0.87 and matching.coverage > 0.3


def test_an_accuracy_that_cannot_be_had_hands_everything_over() -> None:
    chance = random.Random(3)
    pairs = [(f"same words {chance.randrange(9)}", number % 50) for number in range(200)]
    matching = calibrated(pairs, Wish(accuracy=1.0))[2]
    assert (matching.threshold, matching.coverage, matching.accuracy) == (NEVER, 0, None)


def test_answers_that_stand_once_calibrate_nothing(tmp_path: Path) -> None:
    index = pairs_index(tmp_path, FAQ_ZH)
    assert index.matching is not None and not index.matching.calibrated
    told = answer("密码怎么重置", index)
    assert (told.answer, told.hand_over) == (FAQ_ZH[0][1], False)
    far = answer("你们招聘吗", index)
    assert (far.answer, far.hand_over) == (None, True)


def test_a_word_that_every_question_has_answers_nothing(tmp_path: Path) -> None:
    pairs = [
        ("When do you open?", "At nine."),
        ("How much is a ticket?", "12 euros."),
        ("Can I park?", "Yes."),
    ]
    index = pairs_index(tmp_path, pairs)
    assert answer("when are you open", index).answer == "At nine."
    for question in ("Do you sell books?", "Can you help me with my dog?", "How do I get a refund?"):
        assert answer(question, index).hand_over, question


def test_a_known_question_is_answered_and_an_unknown_one_handed_over(tmp_path: Path) -> None:
    index = pairs_index(tmp_path)
    assert index.matching is not None and index.matching.calibrated
    told = answer("how can I reset my password", index)
    assert told.answer == "Use the link on the login page." and told.hand_over is False
    assert told.source is not None and told.source.document.startswith(f"{tmp_path}/faq.csv:")
    assert told.confidence is not None and told.confidence > 0.8
    for question in ("Is the earth round?", "quokka", "Where can I park?"):
        unknown = answer(question, index).as_dict()
        assert (unknown["answer"], unknown["hand-over"]) == (None, True), question


def test_each_question_finds_its_own_answer(tmp_path: Path) -> None:
    index = pairs_index(tmp_path)
    assert [answer(question, index).answer for question, _ in PAIRS] == [said for _, said in PAIRS]
