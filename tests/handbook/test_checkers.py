"""The checker of each coding question accepts every right way, and names many more mistakes than the listed ones."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet

from shuyuan.handbook import QUESTIONS, load_bank
from shuyuan.handbook.bank import Change, Coding, Variant

from .changes import Changes

BANK = load_bank()
MADE: dict[str, ModuleType] = {  # by question
    file.stem.replace("_", "-"): importlib.import_module(f"tests.handbook.changes.{file.stem}")
    for file in sorted((Path(__file__).parent / "changes").glob("[a-z]*.py"))
}


class NamedError(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the grader: threads only get in each other's way here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def coding_of(question: str) -> Coding:
    coding = BANK[question].facts.coding
    assert coding is not None
    return coding


@cache
def check_of(question: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{question}_check", QUESTIONS / question / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check


def hint_for(question: str, variant: Variant | None) -> str | None:
    """Which mistake the checker sees in a changed solution, without a process for each; None if it passes."""
    source = (QUESTIONS / question / "solution.py").read_text(encoding="utf-8")
    space: dict[str, Any] = {}
    exec(compile(variant.source(source) if variant else source, "answer.py", "exec"), space)

    def wrong(hint: str, **_: object) -> None:
        raise NamedError(hint)

    try:
        check_of(question)(
            SimpleNamespace(**{name: space[name] for name in coding_of(question).functions}), wrong
        )
    except NamedError as named:
        return str(named)
    return None


def made(hint: str, changes: Changes) -> Variant:
    return Variant(hint=hint.partition(":")[0], changes=[Change(old=old, new=new) for old, new in changes])


def tried(question: str, name: str, variant: Variant | None) -> ParameterSet:
    keras = "Keras" in BANK[question].facts.topics
    marks = [pytest.mark.skipif(keras and importlib.util.find_spec("keras") is None, reason="needs Keras")]
    if name in getattr(MADE[question], "SLOW", ()):
        marks.append(pytest.mark.slow)
    return pytest.param(question, variant, id=f"{question}-{name}", marks=marks)


RIGHT = [tried(question, "solution", None) for question in MADE]
RIGHT += [
    tried(question, name, made(name, changes))
    for question, module in MADE.items()
    for name, changes in module.RIGHT.items()
]
MISTAKES = [
    tried(question, name, made(name, changes))
    for question, module in MADE.items()
    for name, changes in module.MISTAKES.items()
]
LISTED = [tried(question, one.hint, one) for question in MADE for one in coding_of(question).wrong]


@pytest.mark.parametrize(("question", "variant"), RIGHT)
def test_right_ways_pass(question: str, variant: Variant | None) -> None:
    assert hint_for(question, variant) is None


@pytest.mark.parametrize(("question", "variant"), [*LISTED, *MISTAKES])
def test_mistakes_are_named(question: str, variant: Variant) -> None:
    assert hint_for(question, variant) == variant.hint


@pytest.mark.parametrize("question", MADE)
def test_every_hint_is_tried(question: str) -> None:
    coding = coding_of(question)
    tried_hints = {name.partition(":")[0] for name in MADE[question].MISTAKES} | {
        one.hint for one in coding.wrong
    }
    assert coding.hints.keys() == tried_hints


def test_every_coding_question_has_its_changes() -> None:
    assert MADE.keys() == {name for name, question in BANK.items() if question.facts.coding}
