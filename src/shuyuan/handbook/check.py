"""Grades an answer: numbers with a tolerance, choices exactly, code by what it does in a limited subprocess."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from .bank import Coding, Part, Question
from .limited import OUTPUT_BYTES, Limits, run_limited
from .quantity import Language, UnreadableError, read, write
from .words import say

ANSWER_BYTES = 1_000_000
ROUNDED = 5e-3  # how closely a number is written whose unit is the power of 1000 where that of 1024 is meant, or the other way round


@dataclass(frozen=True)
class Remark:
    """One thing to say about an answer.

    Attributes:
        part: the part of the question, "" for the whole.
        correct: whether it is right; None where the part was not answered.
        code: a stable name: right, a key of `words.WORDS`, "wrong-way:N" (the N-th known wrong way) or "hint:NAME".
        text: what to tell the reader.
    """

    part: str
    correct: bool | None
    code: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of one answer.

    Attributes:
        correct: whether everything that was answered is right, and something was.
        complete: whether the whole question is answered.
        remarks: what to tell the reader, in the order of the parts.
        output: what the code printed.
    """

    correct: bool
    complete: bool
    remarks: tuple[Remark, ...]
    output: str = ""


def grade(question: Question, answers: list[str], language: Language = "en") -> Verdict:
    """Judges an answer.

    Args:
        question: from the bank.
        answers: for code the path of one file; for numbers "part=value" (several), or a bare value where there is one
            part, or the path of a file with such lines; for choices the letters.
        language: of the remarks.
    """
    facts = question.facts
    if facts.coding:
        return _grade_code(question, facts.coding, answers, language)
    lines = _lines(answers)
    if not lines:
        return _whole(False, "no-answer", say(language, "no-answer"))
    if facts.options:
        return _grade_choice(question, lines, language)
    return _grade_numbers(facts.parts, lines, language)


# ---- numbers and choices -------------------------------------------------------------------------------------------


def _grade_numbers(parts: list[Part], lines: list[str], language: Language) -> Verdict:
    given: dict[str, str] = {}
    for line in lines:
        name, sign, value = (piece.strip() for piece in re.sub("[＝：:]", "=", line, count=1).partition("="))
        if not sign and len(parts) == 1:
            name, value = parts[0].id, line
        elif not sign:
            return _whole(False, "which-part", say(language, "which-part", example=f"{parts[0].id}={line}"))
        if name not in (part.id for part in parts):
            names = ", ".join(part.id for part in parts)
            return _whole(False, "unknown-part", say(language, "unknown-part", part=name, parts=names))
        if value:
            given[name] = value
    if not given:
        return _whole(False, "no-answer", say(language, "no-answer"))
    remarks = tuple(
        _grade_number(part, given[part.id], language)
        if part.id in given
        else Remark(part.id, None, "missing-part", say(language, "missing-part"))
        for part in parts
    )
    correct = all(remark.correct is not False for remark in remarks)
    return Verdict(correct, correct and len(given) == len(parts), remarks)


def _grade_number(part: Part, text: str, language: Language) -> Remark:
    try:
        number = read(text, part.unit)
    except UnreadableError as error:
        code = {"number": "not-a-number", "finite": "not-finite", "unit": "other-unit"}[error.why]
        return Remark(part.id, False, code, say(language, code, text=text, unit=say(language, part.unit)))
    if part.accepts(number):
        way = say(language, "way", working=part.working)
        return Remark(
            part.id, True, "right", f"{say(language, 'right')}{'。' if language == 'zh' else '. '}{way}"
        )
    if part.unit == "bytes" and _other_kilo(number / part.value, part.value):
        return Remark(part.id, False, "other-kilo", say(language, "other-kilo"))
    near = [
        (abs(number / way.value - 1), n)
        for n, way in enumerate(part.wrong)
        if part.accepts(number, way.value)
    ]
    if near:
        _, n = min(near)
        return Remark(part.id, False, f"wrong-way:{n}", part.wrong[n].hint[language])
    return Remark(part.id, False, *_how_far(part, number, language))


def _other_kilo(ratio: float, size: float) -> bool:
    """Whether a number of bytes is right by 1024 for 1000, in the unit that one would write the size in."""
    kilo = 1.024 ** int(math.log(size, 1000))
    return kilo > 1 and any(abs(ratio / off - 1) < ROUNDED for off in (kilo, 1 / kilo))


def _how_far(part: Part, number: float, language: Language) -> tuple[str, str]:
    ratio = number / part.value
    if ratio <= 0:
        return "sign", say(language, "sign")
    if 0.75 < ratio < 1.33:
        facts = {"percent": f"{abs(ratio - 1):.0%}", "allowed": f"{part.tolerance:.0%}"}
        return "off-by", say(language, "off-by", **facts)
    code = "too-large" if ratio > 1 else "too-small"
    text = say(language, code, times=write(max(ratio, 1 / ratio), language, 2))
    return code, re.sub("(?<=[万亿]) (?=倍)", "", text)


def _grade_choice(question: Question, lines: list[str], language: Language) -> Verdict:
    options = {option.id: option for option in question.facts.options}
    chosen = {letter for line in lines for letter in _chosen(line, options)}
    unknown = sorted(chosen - options.keys())
    if unknown:
        told = say(language, "unknown-choice", part=unknown[0], parts=", ".join(options))
        return _whole(False, "unknown-choice", told)
    remarks = []
    for letter in sorted(chosen):
        option = options[letter]
        hint = option.hint[language] if option.hint else say(language, "right" if option.right else "wrong")
        remarks.append(Remark(letter, option.right, "right" if option.right else f"hint:{letter}", hint))
    right = chosen == {letter for letter, option in options.items() if option.right}
    if all(remark.correct for remark in remarks) and not right:
        remarks.append(Remark("", False, "incomplete-choice", say(language, "incomplete-choice")))
    return Verdict(right, right, tuple(remarks))


def _chosen(line: str, options: Collection[str]) -> Iterator[str]:
    """The letters in a line, however they are put together: "a, c", "ac", "a and c", "a 和 c"."""
    for word in re.findall(r"\w+", re.sub(r"\band\b|[和与及]", " ", line.casefold())):
        yield from word if set(word) <= set(options) else [word]


def _lines(answers: list[str]) -> list[str]:
    """The answers, a file among them replaced by its lines; comments and empty lines left out."""
    lines = []
    for answer in answers:
        path = Path(answer)
        try:
            is_file = path.is_file() and path.stat().st_size <= ANSWER_BYTES
            text = path.read_text(encoding="utf-8-sig") if is_file else answer
        except (OSError, ValueError):  # too long for a name, or not text: then it is the answer itself
            text = answer
        lines += [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


# ---- code ----------------------------------------------------------------------------------------------------------


def _grade_code(question: Question, coding: Coding, answers: list[str], language: Language) -> Verdict:
    name = answers[0] if len(answers) == 1 else " ".join(answers)
    try:
        raw = Path(name).read_bytes()
        source = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _whole(False, "unreadable-file", say(language, "unreadable-file", file=name))
    except (OSError, ValueError):
        return _whole(False, "no-file", say(language, "no-file", file=name, id=question.id))
    if len(raw) > ANSWER_BYTES:
        return _whole(False, "file-too-large", say(language, "file-too-large", file=name))
    limits = Limits(coding.seconds, coding.memory_mb * 1_000_000)
    outcome = run_limited(source, question.folder / "check.py", coding.functions, limits)
    output = outcome.output
    if outcome.output_cut:
        output += "\n" + say(language, "output-cut", limit=f"{OUTPUT_BYTES // 1000} kB")
    if outcome.code == "passed":
        return Verdict(True, True, (Remark("", True, "passed", say(language, "passed")),), output)
    if outcome.code == "hint":
        hint = outcome.facts["hint"]
        text = coding.hints[hint][language].format(**outcome.facts["facts"])
        return Verdict(False, False, (Remark("", False, f"hint:{hint}", text),), output)
    return Verdict(
        False, False, (Remark("", False, outcome.code, say(language, outcome.code, **outcome.facts)),), output
    )


def _whole(correct: bool, code: str, text: str) -> Verdict:
    return Verdict(correct, correct, (Remark("", correct, code, text),))
