"""Pages of the handbook: a question's Markdown with its measured figures, answers and tested code filled in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from .bank import PLACEHOLDER, Measured, Question, load_bank
from .quantity import Language, write
from .words import LANGUAGES, say

_CHINESE = "\u2e80-\u9fff\uff00-\uffef“”"
_STOPS = "，。、；：？！）”"


def page(question: Question, language: Language) -> str:
    """The whole page: title, answer, figures, code, references and the exercise at the end.

    Args:
        question: of the bank.
        language: "en" or "zh".
    """
    facts = question.facts

    def fill(found: re.Match[str]) -> str:
        kind, name = found[1], found[2]
        if kind == "figure":
            return _figure(question, name, language)
        if kind == "answer":
            part = next(part for part in facts.parts if part.id == name)
            return write(part.value, language, unit=part.unit)
        if kind == "file":
            return _code(question.folder / name)
        return figures_table(question, language)

    body = PLACEHOLDER.sub(fill, _unwrapped(question.pages[language])).strip()
    title = f"# {facts.title[language]}\n\n*{say(language, 'answered-by', verb=facts.verb)}*"
    return f"{title}\n\n{body}\n\n{exercise(question, language)}"


def exercise(question: Question, language: Language) -> str:
    """What the reader is asked to do, without the answer.

    Args:
        question: of the bank.
        language: "en" or "zh".
    """
    facts = question.facts
    lines = [f"## {say(language, 'exercise')}", "", _unwrapped(facts.exercise[language].strip()), ""]
    command = f"shuyuan practice grade {question.id}"
    if facts.parts:
        lines += [say(language, "parts-intro"), ""]
        lines += [
            say(language, "part-line", id=part.id, asks=part.asks[language], unit=say(language, part.unit))
            for part in facts.parts
        ]
        command += f" {facts.parts[0].id}=…"
    elif facts.options:
        lines += [say(language, "choices-intro"), ""]
        lines += [f"- `{option.id}`: {option.text[language]}" for option in facts.options]
        command += f" {facts.options[0].id}"
    elif facts.coding:
        starter = f"{question.id}.py"
        command = f"shuyuan practice starter {question.id} --to {starter}\n{command} {starter}"
        memory = f"{facts.coding.memory_mb / 1000:.2g} GB"
        lines += [say(language, "no-sandbox", seconds=facts.coding.seconds, memory=memory)]
    return "\n".join([*lines, "", say(language, "hand-in"), "", "```sh", command, "```", ""])


def figures_table(question: Question, language: Language) -> str:
    """Every figure with its value, and below it the command, hardware and date that it came from."""
    rows = [f"| {say(language, 'figure')} | {say(language, 'value')} |", "| --- | --- |"]
    for name, figure in question.facts.figures.items():
        known = name in question.measured
        value = (
            f"{_figure(question, name, language)} {figure.unit[language]}"
            if known
            else _figure(question, name, language)
        )
        rows.append(f"| {figure.label[language]} | {value.strip()} |")
    blocks = ["\n".join(rows)]
    commands = [
        (figure.command, question.measured.get(name)) for name, figure in question.facts.figures.items()
    ]
    for command, group in groupby(commands, key=lambda pair: pair[0]):
        measured = next((found for _, found in group if found), None)
        blocks.append(f"```sh\n{command.strip()}\n```")
        blocks.append(_provenance(measured, language))
    return "\n\n".join(blocks)


def contents(questions: Iterable[Question], language: Language) -> str:
    """The page that lists the questions, each with a link to its own.

    Args:
        questions: of the bank, in order.
        language: "en" or "zh".
    """
    lines = [f"# {say(language, 'index-title')}", "", say(language, "index-intro"), ""]
    return "\n".join(lines + [f"- [{each.facts.title[language]}]({each.id}.md)" for each in questions])


def render(folder: Path) -> list[Path]:
    """Writes docs/handbook/{en,zh}/ID.md and an index for each language; returns the files written.

    Args:
        folder: made if need be.

    Raises:
        ShuyuanError: a question is broken; nothing has been written then.
    """
    bank = load_bank()
    texts: dict[Path, str] = {}
    for language in LANGUAGES:
        for question in bank.values():
            made = f"<!-- {say(language, 'generated', id=question.id)} -->\n\n"
            texts[folder / language / f"{question.id}.md"] = made + page(question, language)
        texts[folder / language / "index.md"] = contents(bank.values(), language) + "\n"
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return list(texts)


def _figure(question: Question, name: str, language: Language) -> str:
    found = question.measured.get(name)
    if found is None:
        return f"*{say(language, 'unmeasured')}*"
    return write(found.value, language, question.facts.figures[name].digits)


def _provenance(measured: Measured | None, language: Language) -> str:
    if measured is None:
        return f"*{say(language, 'unmeasured')}*"
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items())
    hardware = f"{measured.hardware}; {versions}" if versions else measured.hardware
    return f"*{say(language, 'measured-on', date=measured.date, hardware=hardware)}*"


def _unwrapped(text: str) -> str:
    """Chinese is written without spaces, so a line break inside a Chinese sentence must not become one."""
    joined = re.sub(rf"(?<=[{_CHINESE}])\n *(?=[{_CHINESE}])", "", text)
    return re.sub(rf"(?<=[{_STOPS}])\n *(?=[A-Za-z0-9])(?!\d+\.)", "", joined)


def _code(file: Path) -> str:
    name = {".py": "python", ".toml": "toml", ".sh": "sh"}.get(file.suffix, "")
    return f"```{name}\n{file.read_text(encoding='utf-8').strip()}\n```"
