"""The families of docs/support.md: for each the smallest recipe that trains in seconds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shuyuan import pipeline
from tests.models.hub_folders import written
from tests.runs import text_of

Table = dict[str, Any]
TRAIN = {
    "budget": "4 steps",
    "batch_size": 4,
    "precision": "fp32",
    "evaluations": 2,
    "checkpoint_every": "1 h",
}


@dataclass
class Family:
    """One column of the table.

    Attributes:
        title: heads the column.
        model: the recipe's table.
        images: whether its records are images.
        needs: modules of the extra that it takes.
        kind: of the folder that `from = "base"` means, for each task.
    """

    title: str
    model: Table
    images: bool = False
    needs: tuple[str, ...] = ()
    kind: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> bool:
        """Whether it tells labels apart, and nothing else."""
        return self.images or self.model.get("family") == "ngrams"

    def recipe(self, folder: Path, task: str, **changes: Table) -> Table:
        """A recipe for a task, with the files it names, and some tables changed."""
        for module in self.needs:
            pytest.importorskip(module)
        table: Table = {"name": "tiny", "task": task, "data": self._data(folder, task)}
        table |= {"model": dict(self.model), "train": dict(TRAIN)}
        if self.kind:
            written(self.kind.get(task, self.kind["generation"]), folder / "base")
            table["model"]["from"] = str(folder / "base")
        table = copy.deepcopy(table)
        for name, lines in changes.items():
            table[name] = table.get(name, {}) | lines
        return table

    def run(self, folder: Path, task: str, **changes: Table) -> Table:
        """Makes the run at folder/run; its summary."""
        return pipeline.run(self.recipe(folder, task, **changes), out=folder / "run")

    def _data(self, folder: Path, task: str) -> Table:
        if self.images:
            return {"source": "digits", "labels": [str(digit) for digit in range(10)]}
        if task == "generation":
            (folder / "notes.txt").write_text(text_of(120))
            return {"source": str(folder / "notes.txt"), "record": "line", "validation": 0.2}
        return prompts(folder, task) if task in PROMPTS else texts(folder)


PROMPTS: dict[str, Callable[[int], Table]] = {
    "translation": lambda n: {"source": f"a{n}", "target": f"书{n}"},
    "summarization": lambda n: {"text": f"t{n}.", "summary": f"{n}"},
    "question-answering": lambda n: {"question": f"q{n}", "answer": f"{n}"},
    "chat": lambda n: {
        "messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"{n}"}]
    },
}


def prompts(folder: Path, task: str) -> Table:
    """A table of prompts with answers that are short; what the recipe says of it."""
    rows = map(PROMPTS[task], range(80))
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"source": str(folder / "prompts.jsonl"), "validation": 0.2, "duplicates": "keep"}


def texts(folder: Path) -> Table:
    """A table of labelled texts; what the recipe says of it."""
    lines = enumerate(text_of(120).splitlines())
    rows = [{"text": line, "label": "ab"[number % 2], "who": number % 40} for number, line in lines]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"source": str(folder / "texts.jsonl"), "labels": ["a", "b"], "owner": "who"}
    return source | {"validation": 0.2, "duplicates": "keep"}


FAMILIES = {
    "transformer": Family("transformer", {"layers": 2, "width": 32, "heads": 2, "context": 32}),
    "hub": Family(
        "Hugging Face models",
        {"context": 32},
        needs=("transformers",),
        kind={"generation": "gpt2", "sentiment": "bert", "classification": "bert"},
    ),
    "cnn": Family("CNN", {"family": "cnn", "size": "textbook"}, images=True, needs=("sklearn",)),
    "ngrams": Family("n-grams", {"family": "ngrams", "size": "tiny", "context": 32}),
    "rnn": Family(
        "RNN (Keras)", {"family": "rnn", "width": 16, "context": 32}, needs=("tensorflow", "keras")
    ),
}
