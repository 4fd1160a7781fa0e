"""The question bank: one folder a question, read and checked as a whole, so that a broken question is never shown."""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ShuyuanError
from .quantity import ASKED, Language, UnreadableError, arithmetic
from .words import HEADINGS, LANGUAGES

QUESTIONS = Path(__file__).parent / "questions"
NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Kind = TypeVar("Kind", bound=BaseModel)
PLACEHOLDER = re.compile(r"\{\{(\w+)(?::([^{}]+))?\}\}")


class Table(BaseModel):
    """A table of question.toml: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Words(Table):
    """The same words in both languages."""

    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)

    def __getitem__(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


class WrongNumber(Table):
    """A known wrong way: how it is computed, and what to say to who went it."""

    working: str
    hint: Words

    @cached_property
    def value(self) -> float:
        return arithmetic(self.working)


class Part(Table):
    """One number asked for. `working` is its computation, so that the answer and the way to it cannot differ."""

    id: str = Field(pattern=NAME)
    asks: Words
    unit: str
    working: str
    tolerance: float = Field(gt=0, lt=0.5)
    wrong: list[WrongNumber] = []

    @cached_property
    def value(self) -> float:
        return arithmetic(self.working)

    def accepts(self, number: float, around: float | None = None) -> bool:
        """Whether a number lies within the tolerance of the answer, or of `around`."""
        middle = self.value if around is None else around
        return abs(number - middle) <= self.tolerance * abs(middle)

    @model_validator(mode="after")
    def _makes_sense(self) -> Part:
        if self.unit not in ASKED:
            raise ValueError(f"unit must be one of {', '.join(ASKED)}")
        try:
            if self.value == 0:
                raise ValueError("the answer is zero, which no relative tolerance fits")
            accepted = [wrong.working for wrong in self.wrong if self.accepts(wrong.value)]
        except UnreadableError as error:
            raise ValueError(f"“{error}” is no working") from None
        if accepted:
            raise ValueError(f"the wrong way {accepted[0]} lies within the tolerance of the answer")
        return self


class Option(Table):
    """One answer to choose from; a wrong one says why it is wrong."""

    id: str = Field(pattern=r"^[a-z]$")
    text: Words
    right: bool = False
    hint: Words | None = None

    @model_validator(mode="after")
    def _explains(self) -> Option:
        if not self.right and self.hint is None:
            raise ValueError("a wrong option needs a hint")
        return self


class Change(Table):
    """A place of the solution, which stands there once, and what takes it."""

    old: str = Field(min_length=1)
    new: str


class Variant(Table):
    """A wrong solution, as changes to the right one, that the checker must refuse; and the hint that it must give."""

    hint: str
    changes: list[Change] = Field(min_length=1)

    def source(self, solution: str) -> str:
        """The wrong program, made from the right one.

        Raises:
            ValueError: a place does not stand in the solution exactly once.
        """
        for change in self.changes:
            if solution.count(change.old) != 1:
                raise ValueError(f"“{change.old}” does not stand in solution.py exactly once")
            solution = solution.replace(change.old, change.new)
        return solution


class Coding(Table):
    """What a coding question needs beside its files starter.py, solution.py and check.py."""

    functions: list[str] = Field(min_length=1)
    seconds: float = Field(gt=0, le=120)
    memory_mb: int = Field(ge=64, le=16_000)
    hints: dict[str, Words]
    wrong: list[Variant] = Field(min_length=2)

    @model_validator(mode="after")
    def _hints_are_there(self) -> Coding:
        missing = [variant.hint for variant in self.wrong if variant.hint not in self.hints]
        if missing:
            raise ValueError(f"there is no hint “{missing[0]}”")
        return self


class Figure(Table):
    """A figure that the page shows: what it is and the command that measures it; its value is in figures.json.

    Attributes:
        rerun_within: of a figure that takes seconds and is the same on any machine: the share by which the tests may find
            another value than the committed one. Without it, only `make docs-figures` measures it again.
    """

    label: Words
    unit: Words
    command: str
    digits: int = Field(3, ge=1, le=6)
    rerun_within: float | None = Field(None, gt=0, lt=0.5)


class Measured(Table):
    """A figure as `benchmarks/handbook_figures.py` wrote it."""

    value: float = Field(allow_inf_nan=False)
    unit: str
    command: str
    hardware: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    versions: dict[str, str] = {}


class Facts(Table):
    """question.toml."""

    id: str = Field(pattern=NAME)
    order: int
    room: str
    verb: str
    kind: Literal["numeric", "choice", "coding"]
    difficulty: Literal["easy", "medium", "hard"]
    topics: list[str] = Field(min_length=1)
    title: Words
    exercise: Words
    parts: list[Part] = []
    options: list[Option] = []
    coding: Coding | None = None
    figures: dict[str, Figure] = {}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Facts:
        has = {"numeric": bool(self.parts), "choice": bool(self.options), "coding": self.coding is not None}
        if [kind for kind, there in has.items() if there] != [self.kind]:
            raise ValueError(
                "numeric needs parts, choice needs options, coding needs the table coding; and nothing else"
            )
        ids = [part.id for part in self.parts] + [option.id for option in self.options]
        if len(ids) != len(set(ids)):
            raise ValueError("two parts or options have the same id")
        if self.kind == "choice" and not any(option.right for option in self.options):
            raise ValueError("no option is right")
        return self


@dataclass(frozen=True)
class Question:
    """One question with everything in its folder read and checked.

    Attributes:
        facts: question.toml.
        folder: where it lies.
        pages: the Markdown of each language, with its placeholders.
        measured: the figures measured so far, by name.
    """

    facts: Facts
    folder: Path
    pages: dict[Language, str]
    measured: dict[str, Measured]

    @property
    def id(self) -> str:
        return self.facts.id

    def starter(self) -> str:
        """What the reader begins with: code with a gap, or a list of parts to fill in."""
        if self.facts.coding:
            return (self.folder / "starter.py").read_text(encoding="utf-8")
        gaps = [(part.asks, "", f"{part.id} =\n") for part in self.facts.parts]
        gaps += [(option.text, f"{option.id}: ", "") for option in self.facts.options]
        lines = []
        for words, label, gap in gaps:
            lines += [textwrap.fill(label + words.en, 78, initial_indent="# ", subsequent_indent="# ")]
            lines += [f"# {label}{words.zh}", gap]
        return "\n".join(lines)


def load_bank(folder: Path = QUESTIONS) -> dict[str, Question]:
    """Every question by its id, in the order of the handbook.

    Args:
        folder: with a folder for each question; default: the handbook's own.

    Raises:
        ShuyuanError: a question is broken; the file and what is wrong are named.
    """
    questions = [load_question(file.parent) for file in folder.glob("*/question.toml")]
    return {
        question.id: question for question in sorted(questions, key=lambda one: (one.facts.order, one.id))
    }


def load_question(folder: Path) -> Question:
    """Reads and checks one question's folder.

    Args:
        folder: the question's, with question.toml, en.md and zh.md.

    Raises:
        ShuyuanError: something in it is missing or contradicts the rest.
    """
    facts = _read_facts(folder / "question.toml")
    measured = _read_measured(folder / "figures.json")
    pages: dict[Language, str] = {}
    for language in LANGUAGES:
        file = folder / f"{language}.md"
        if not file.is_file():
            raise _broken(file, "The page is missing")
        pages[language] = file.read_text(encoding="utf-8")
    question = Question(facts, folder, pages, measured)
    for file, what in _problems(question):
        raise _broken(file, what)
    return question


def _problems(question: Question) -> Iterator[tuple[Path, str]]:
    facts, folder = question.facts, question.folder
    if facts.id != folder.name:
        yield folder / "question.toml", f"The id {facts.id} is not the folder's name"
    if facts.coding:
        yield from _coding_problems(facts.coding, folder)
    for name, figure in question.measured.items():
        if name not in facts.figures:
            yield folder / "figures.json", f"The figure {name} stands in no question.toml"
        elif (figure.command, figure.unit) != (facts.figures[name].command, facts.figures[name].unit.en):
            yield (
                folder / "figures.json",
                f"The figure {name} was measured by another command or unit: measure again",
            )
    for language in LANGUAGES:
        yield from _page_problems(question, language)
    if _outline(question.pages["en"]) != _outline(question.pages["zh"]):
        yield folder / "zh.md", "Its headings are not on the same levels as those of en.md"


def _coding_problems(coding: Coding, folder: Path) -> Iterator[tuple[Path, str]]:
    for name in ("starter.py", "solution.py", "check.py"):
        if not (folder / name).is_file():
            yield folder / name, "The file is missing"
            return
    solution = (folder / "solution.py").read_text(encoding="utf-8")
    for variant in coding.wrong:
        try:
            variant.source(solution)
        except ValueError as error:
            yield folder / "question.toml", f"The wrong variant with the hint {variant.hint}: {error}"


def _page_problems(question: Question, language: Language) -> Iterator[tuple[Path, str]]:
    page, file = question.pages[language], question.folder / f"{language}.md"
    headings = tuple(text for level, text in _headings(page) if level == 2)
    if headings != HEADINGS[language]:
        yield file, f"Its headings must be: {', '.join(HEADINGS[language])}"
    known = {
        "figure": set(question.facts.figures),
        "answer": {part.id for part in question.facts.parts},
        "file": {path.name for path in question.folder.iterdir()},
        "figures": {""},
    }
    for found in PLACEHOLDER.finditer(page):
        if (found[2] or "") not in known.get(found[1], set()):
            yield file, f"{found[0]} refers to nothing"
    if question.facts.figures and "{{figures}}" not in page:
        yield file, "{{figures}} is missing, so that the commands of its figures would not be shown"


def _outline(page: str) -> list[int]:
    return [level for level, _ in _headings(page)]


def _headings(page: str) -> list[tuple[int, str]]:
    without_code = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    return [
        (len(marks), text.strip()) for marks, text in re.findall(r"^(#+) +(.+)$", without_code, re.MULTILINE)
    ]


def _read_facts(file: Path) -> Facts:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _broken(file, f"It cannot be read ({error})") from None
    return _validated(Facts, table, file)


def _read_measured(file: Path) -> dict[str, Measured]:
    if not file.exists():
        return {}
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(file, f"It cannot be read ({error})") from None
    if not isinstance(table, dict):
        raise _broken(file, "It holds no table of figures")
    return {name: _validated(Measured, entry, file, name) for name, entry in table.items()}


def _validated(kind: type[Kind], table: Any, file: Path, inside: str = "") -> Kind:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ([inside] if inside else []) + list(first["loc"]))
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise _broken(file, f"`{key}`: {reason}" if key else reason) from None


def _broken(file: Path, what: str) -> ShuyuanError:
    return ShuyuanError(
        "handbook.broken-question",
        f"{what}.",
        where=f"{file.parent.name}/{file.name}",
        mend="Mend the file; docs/adding-a-question.md shows a whole question.",
    )
