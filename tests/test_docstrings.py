"""Whatever a room offers to others, or others use of it, whatever docs/python.md tells, and what people meet next, says what goes in."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
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


def room(module: str) -> str:
    """The room of a module, by its full name; a file beside the rooms is one of its own."""
    return f"{module}.".split(".")[1]


def used_elsewhere() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(module, name) of all that a file takes from another room, and (room, name) of all attributes that it asks for."""
    source = Path(shuyuan.__file__).parent
    files = [file for file in source.rglob("*.py") if "questions" not in file.parts]
    modules = {".".join(file.relative_to(source.parent).with_suffix("").parts): file for file in files}
    known = {name.removesuffix(".__init__") for name in modules}
    taken: set[tuple[str, str]] = set()
    asked: set[tuple[str, str]] = set()
    for here, file in modules.items():
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        whole: dict[str, str] = {}  # modules that the file has under a name of its own
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.level:
                there = ".".join([*here.split(".")[: -node.level], *([node.module] if node.module else [])])
                for each in node.names:
                    if f"{there}.{each.name}" in known:
                        whole[each.asname or each.name] = f"{there}.{each.name}"
                    else:
                        taken.add((there, each.name) if room(there) != room(here) else ("", ""))
        for node in nodes:
            if isinstance(node, ast.Attribute):
                asked.add((room(here), node.attr))
                there = whole.get(node.value.id, "") if isinstance(node.value, ast.Name) else ""
                if there and room(there) != room(here):
                    taken.add((there, node.attr))
    return taken - {("", "")}, asked


def used() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and classes that a file of another room takes, and methods of these classes that such files call, by their names."""
    taken, asked = used_elsewhere()
    for there, name in sorted(taken):
        thing = getattr(import_module(there), name)
        home = getattr(thing, "__module__", None) or ""
        if name.startswith("_") or not home.startswith("shuyuan"):
            continue
        if inspect.isclass(thing):
            yield from methods(thing, asked)
        elif inspect.isfunction(inspect.unwrap(thing)):
            yield f"{home}.{name}", thing


def classes() -> Iterator[tuple[str, type]]:
    """Classes that a file of another room takes, by their names."""
    for there, name in sorted(used_elsewhere()[0]):
        thing = getattr(import_module(there), name)
        if inspect.isclass(thing) and thing.__module__.startswith("shuyuan"):
            yield f"{thing.__module__}.{name}", thing


def methods(kind: type, asked: set[tuple[str, str]]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for each in kind.__mro__:
        if not each.__module__.startswith("shuyuan"):
            continue
        others = {name for where, name in asked if where != room(each.__module__)}
        for name, member in vars(each).items():
            member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if inspect.isfunction(member) and not name.startswith("_") and name in others:
                yield f"{each.__module__}.{each.__qualname__}.{name}", member


OFFERED = dict(offered())
USED = dict(used())
CLASSES = dict(classes())


@pytest.mark.parametrize("name", OFFERED | USED)
def test_what_others_use_says_of_each_argument_what_it_is(name: str) -> None:
    thing = (OFFERED | USED)[name]
    plain = inspect.unwrap(thing)
    told = inspect.getdoc(thing) or inspect.getdoc(plain) or ""
    assert told, "no docstring"
    wanted = set(inspect.signature(plain).parameters) - {"self", "cls"}
    assert wanted == named("Args", told)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_that_others_use_says_what_it_holds_or_is_made_of(name: str) -> None:
    kind = CLASSES[name]
    told = inspect.getdoc(kind) or ""
    assert told, "no docstring"
    if issubclass(kind, tuple) or is_dataclass(kind):
        held = kind._fields if issubclass(kind, tuple) else {each.name for each in fields(kind)}  # type: ignore[attr-defined]
        own = {each for each in held if each in vars(kind)["__annotations__"] and not each.startswith("_")}
        assert own <= named("Attributes", told) | named("Args", told)
    elif "__init__" in vars(kind) and not getattr(kind, "_is_protocol", False):
        assert set(inspect.signature(kind.__init__).parameters) - {"self"} == named("Args", told)


def named(section: str, told: str) -> set[str]:
    """The names that a section of a docstring explains."""
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n(?=    ))*)", told, re.M)
    lines = re.findall(r"^    ([\w, ]+):", found[1], re.M) if found else []
    return {each.strip() for names in lines for each in names.split(",")}


def test_there_is_something_to_look_at() -> None:
    assert len(ROOMS) >= 10 and len(OFFERED) > 100
    assert {
        "shuyuan.vault.disk.writing",
        "shuyuan.vault.store.Store.folder",
        "shuyuan.data.pairs.windows",
    } <= USED.keys()
