"""Asks the checker of a coding question which mistake it sees in a changed solution, without a process for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from shuyuan.handbook import QUESTIONS

HintFor = Callable[..., str | None]


class NamedError(Exception):
    pass


@contextmanager
def checker_of(question: str, *functions: str) -> Iterator[HintFor]:
    """A function of (old, new) changes to the solution: the hint that it then gets, or None if it passes."""
    folder = QUESTIONS / question
    solution = (folder / "solution.py").read_text(encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"{question}_check", folder / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def hint_for(*changes: tuple[str, str]) -> str | None:
        source = solution
        for old, new in changes:
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        space: dict[str, Any] = {}
        exec(compile(source, "answer.py", "exec"), space)

        def wrong(hint: str, **_: object) -> None:
            raise NamedError(hint)

        try:
            module.check(SimpleNamespace(**{name: space[name] for name in functions}), wrong)
        except NamedError as named:
            return str(named)
        return None

    torch = getattr(module, "torch", None)  # not where Keras computes
    if torch is None:
        yield hint_for
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the grader: threads only get in each other's way here
    yield hint_for
    torch.set_num_threads(threads)
