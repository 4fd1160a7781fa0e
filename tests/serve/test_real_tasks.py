"""Each task with a real run: over HTTP it answers what the library answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shuyuan as library
from tests.serve.running import serving
from tests.support.families import FAMILIES

TASKS: dict[str, tuple[str, dict[str, Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "q7"}], "temperature": 0, "max_tokens": 8},
        lambda told: told["choices"][0]["message"]["content"].strip(),
        lambda run: run.chat([{"role": "user", "content": "q7"}], temperature=0, max_tokens=8),
    ),
    "translation": (
        "/v1/translate",
        {"text": ["a7", "a8"], "to": "zh", "beams": 1, "max_tokens": 8},
        lambda told: [each["translation"] for each in told["translations"]],
        lambda run: list(run.translations(["a7", "a8"], "zh", beams=1, max_tokens=8)),
    ),
    "summarization": (
        "/v1/summarize",
        {"text": "t7.", "beams": 2, "max_tokens": 8},
        lambda told: told["summaries"][0]["summary"],
        lambda run: run.summarize("t7.", beams=2, max_tokens=8),
    ),
    "question-answering": (
        "/v1/answer",
        {"question": "q7?", "context": "It is 7.", "max_tokens": 8},
        lambda told: {name: told["answers"][0][name] for name in ("answer", "found", "start")},
        lambda run: _told(run.answer("q7?", "It is 7.", max_tokens=8)),
    ),
}


def _told(answer: Any) -> dict[str, Any]:
    return {"answer": answer.text, "found": answer.found, "start": answer.start}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_it_answers_what_the_library_answers(tmp_path: Path, task: str) -> None:
    path, body, of_server, of_library = TASKS[task]
    FAMILIES["transformer"].run(tmp_path, task)
    with serving(tmp_path / "state", tmp_path / "run") as door:
        answer = door.ask("POST", path, {"model": "run", **body}, door.key())
        assert answer.status == 200, answer.body
        assert of_server(answer.json) == of_library(library.load(tmp_path / "run"))
        assert answer.json["usage"]["prompt_tokens"] > 0
