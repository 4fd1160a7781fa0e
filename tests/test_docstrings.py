"""Whatever a room offers to others, whatever docs/python.md tells, and what people meet next, says what goes in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import shuyuan
from shuyuan import errors, loaded, privacy, progress, retrieval, tasks
from shuyuan.inference import engine, predictor, spans, stream
from shuyuan.planning import scaling
from shuyuan.privacy.ledger import Ledger
from shuyuan.privacy.mechanism import Mechanism
from shuyuan.privacy.sampling import PoissonSampler
from shuyuan.tasks import prompted

ROOMS = sorted(
    file.parent.name
    for file in Path(shuyuan.__file__).parent.glob("*/__init__.py")
    if "__all__" in file.read_text(encoding="utf-8")
)
REFERENCE = (loaded.LoadedRun, retrieval.Index, privacy.PrivateLoop, progress.Progress, errors.ShuyuanError)
# What stands behind these, and is met by whoever looks further.
BEHIND = (
    *(engine.Engine, predictor.Predictor, spans.Spanner, stream.TextStream, stream.StopStrings),
    *(Ledger, Mechanism, PoissonSampler, scaling.Law, prompted.Prompted),
    *(tasks.Chat, tasks.Classification, tasks.QuestionAnswering, tasks.Summarization, tasks.Translation),
)
MODULES = (
    *(
        "errors",
        "runs",
        "sizes",
        "compress.recovery",
        "compress.solve",
        "inference.sampling",
        "planning.cost",
    ),
    *("planning.rewrite", "planning.scaling", "planning.storage", "privacy.accountant", "privacy.ledger"),
    *(
        "tasks.confusion",
        "tasks.extractive",
        "tasks.languages",
        "tasks.measures",
        "tasks.packing",
        "tasks.prompted",
    ),
)


def offered() -> Iterator[tuple[str, Callable[..., Any]]]:
    for room in ["", *(f".{name}" for name in ROOMS)]:
        module = import_module(f"shuyuan{room}")
        for name in module.__all__:
            if inspect.isfunction(thing := getattr(module, name)):
                yield f"shuyuan{room}.{name}", thing
    for file in MODULES:
        for name, thing in inspect.getmembers(import_module(f"shuyuan.{file}"), inspect.isfunction):
            if not name.startswith("_") and thing.__module__ == f"shuyuan.{file}":
                yield f"shuyuan.{file}.{name}", thing
    for kind in (*REFERENCE, *BEHIND):
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") and member.__qualname__.startswith(kind.__name__):
                yield f"{kind.__name__}.{name}", member


OFFERED = dict(offered())


@pytest.mark.parametrize("name", OFFERED)
def test_what_is_offered_says_of_each_argument_what_it_is(name: str) -> None:
    thing = inspect.unwrap(OFFERED[name])
    told = inspect.getdoc(thing) or ""
    assert told, "no docstring"
    wanted = set(inspect.signature(thing).parameters) - {"self", "cls"}
    section = re.search(r"^Args:\n((?:    .*\n?|\n(?=    ))*)", told, re.M)
    found = re.findall(r"^    ([\w, ]+):", section[1], re.M) if section else []
    assert wanted == {each.strip() for names in found for each in names.split(",")}


def test_there_is_something_to_look_at() -> None:
    assert len(ROOMS) >= 10 and len(OFFERED) > 100
