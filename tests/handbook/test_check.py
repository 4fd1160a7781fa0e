"""Numbers and choices are graded with remarks in the reader's language."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan.handbook import Question, grade, load_bank


@pytest.mark.parametrize(
    "answer", ["42", "42 h", "product=42", "product = 42.3", "product：42", "product＝４２", "1.75 days"]
)
def test_right_numbers(numeric: Question, answer: str) -> None:
    assert grade(numeric, [answer]).complete


@pytest.mark.parametrize(
    ("answer", "code", "english", "chinese"),
    [
        ("13", "wrong-way:0", "That is the sum.", "这是和。"),
        ("45", "off-by", "Close, but 7% off", "偏差 7%"),
        ("4200", "too-large", "About 100 times too large", "大了约 100 倍"),
        ("420,000,000", "too-large", "10 million times", "1,000 万倍"),
        ("0.42", "too-small", "About 100 times too small", "小了约 100 倍"),
        ("-42", "sign", "sign", "符号"),
        ("nan", "not-finite", "not a finite number", "不是有限的数"),
        ("forty-two", "not-a-number", "cannot be read", "看不懂"),
        ("42 GB", "other-unit", "hours is asked for", "这里问的是小时"),
        ("sum=42", "unknown-part", "The parts are: product", "可选的有：product"),
        ("product=", "no-answer", "empty", "没有写答案"),
        ("", "no-answer", "empty", "没有写答案"),
    ],
)
def test_wrong_numbers(numeric: Question, answer: str, code: str, english: str, chinese: str) -> None:
    for language, says in (("en", english), ("zh", chinese)):
        verdict = grade(numeric, [answer], language)  # type: ignore[arg-type]
        assert not verdict.correct and not verdict.complete
        assert verdict.remarks[0].code == code
        assert says in verdict.remarks[0].text


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("text=4.83 GB", "right"),
        ("text=4.8G", "right"),
        ("text=4.5 GiB", "right"),
        ("text=4.5 GB", "other-kilo"),
        ("text=4.83 GiB", "other-kilo"),
        ("token=144 KB", "other-kilo"),
        ("text=4.6 GB", "off-by"),
        ("text=19.3 GB", "wrong-way:0"),
    ],
)
def test_bytes_by_1024_are_told_from_bytes_by_1000(answer: str, code: str) -> None:
    remarks = grade(load_bank()["kv-cache-size"], [answer]).remarks
    assert [remark.code for remark in remarks if remark.correct is not None] == [code]


def test_parts_can_be_answered_one_by_one_or_from_a_file(tmp_path: Path) -> None:
    question = load_bank()["training-cost"]
    some = grade(question, ["days=28.4"])
    assert some.correct and not some.complete
    assert [remark.correct for remark in some.remarks].count(None) == 5
    assert grade(question, ["28.4"]).remarks[0].code == "which-part"
    file = tmp_path / "answers.txt"
    lines = question.starter().splitlines()
    filled = [
        f"{line} {part.value!r}" for line in lines for part in question.facts.parts if line == f"{part.id} ="
    ]
    file.write_text("\n".join([*lines, *filled]), encoding="utf-8")
    assert grade(question, [str(file)]).complete
    file.write_text(question.starter(), encoding="utf-8")
    assert grade(question, [str(file)]).remarks[0].code == "no-answer"


@pytest.mark.parametrize(
    ("letters", "right", "codes"),
    [
        (["a", "c"], True, ["right", "right"]),
        (["C, a"], True, ["right", "right"]),
        (["a"], False, ["right", "incomplete-choice"]),
        (["a", "b", "c"], False, ["right", "hint:b", "right"]),
        (["ac"], True, ["right", "right"]),
        (["A and C"], True, ["right", "right"]),
        (["a 和 c"], True, ["right", "right"]),
        (["a、b"], False, ["right", "hint:b"]),
        (["d"], False, ["unknown-choice"]),
        (["acd"], False, ["unknown-choice"]),
    ],
)
def test_choices(choice: Question, letters: list[str], right: bool, codes: list[str]) -> None:
    assert "# a: two\n# a: 二" in choice.starter()
    verdict = grade(choice, letters, "zh")
    assert (verdict.correct, [remark.code for remark in verdict.remarks]) == (right, codes)
    if "hint:b" in codes:
        assert verdict.remarks[1].text == "三是奇数。"
