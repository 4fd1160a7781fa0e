"""The built-in source `stdlib`: documentation and source text of the Python that runs.

No download, no imports of what is read, the same order each time. A record is one of

- the source file of a standard library module (without the test suites, which slim Pythons leave out);
- the documentation of a module, a class or a public function: its name, its signature and its docstring;
- a topic of the language reference, as `help()` shows it.

Columns: `text`, and `module`, the top-level module ("json" for json/decoder.py; "topics:NAME" for a topic), which is the
owner unless the recipe names another column, so that what documents a module is never split from it.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from platform import python_version

from ...errors import DataError
from .base import Fact, Row, Skipped, Source, Wanted

_LEFT_OUT = {
    "__pycache__",
    "dist-packages",
    "idle_test",
    "lib-dynload",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
}
_TOPICS = "pydoc_data/topics.py"  # read by its topics, not as the one long literal that it is


class Stdlib(Source):
    """Documentation and source text of the running Python.

    Args:
        wanted: under which column the text is given.

    Raises:
        DataError: this Python carries no source files.
    """

    owner = "module"

    def __init__(self, wanted: Wanted) -> None:
        self._text = wanted.text
        self._root = Path(sysconfig.get_path("stdlib"))
        self._files = _source_files(self._root)
        if not self._files:
            raise DataError(
                "data.no-stdlib",
                "This Python comes without the source text of its standard library.",
                where=str(self._root),
                mend="Use another Python, or name a source of your own.",
            )
        self.total_bytes = sum(file.stat().st_size for file in self._files)
        self._read = 0

    def facts(self) -> list[Fact]:
        name = f"stdlib of Python {python_version()}: {len(self._files)} files"
        return [Fact(name, self.total_bytes or 0, 0)]

    @property
    def position(self) -> int:
        return self._read

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        self._read = 0
        for file in self._files:
            content = file.read_bytes()
            self._read += len(content)
            inner = file.relative_to(self._root).as_posix()
            try:
                text = content.decode()
                tree = _parse(text)
            except (SyntaxError, ValueError, RecursionError):
                skipped["files that are not Python in UTF-8"] += 1
                continue
            if inner == _TOPICS:
                yield from self._topic_rows(tree)
                continue
            name = inner.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            owner = name.split(".")[0]
            yield Row({self._text: text, "module": owner}, f"{file}:1")
            for line, entry in _documentation(name, tree):
                yield Row({self._text: entry, "module": owner}, f"{file}:{line}")

    def _topic_rows(self, tree: ast.Module) -> Iterator[Row]:
        for node in tree.body:
            value = getattr(node, "value", None)
            if isinstance(value, ast.Dict):
                for key, topic in zip(value.keys, value.values, strict=True):
                    name, text = ast.literal_eval(key or ast.Constant("")), ast.literal_eval(topic)
                    yield Row({self._text: text, "module": f"topics:{name}"}, f"{_TOPICS}:{topic.lineno}")


def _source_files(root: Path) -> list[Path]:
    files = []
    for here, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        files += [Path(here, name) for name in names if name.endswith(".py")]
    # _sysconfigdata*.py says how this one Python was built; it differs from machine to machine.
    return sorted(file for file in files if not file.name.startswith("_sysconfigdata"))


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules are theirs to mend
        return ast.parse(text)


_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _documentation(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, entry) for the module and each public class and function in it that has a docstring."""
    about = ast.get_docstring(tree)
    if about:
        yield 1, f"module {module}\n\n{about}\n"
    yield from _members(module, tree.body)


def _members(prefix: str, body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    for node in body:
        if isinstance(node, _Documented) and not node.name.startswith("_"):
            name = f"{prefix}.{node.name}"
            about = ast.get_docstring(node)
            if about:
                yield node.lineno, f"{_signature(name, node)}\n\n{about}\n"
            if isinstance(node, ast.ClassDef):
                yield from _members(name, node.body)


def _signature(name: str, node: _Documented) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}{name}({ast.unparse(node.args)}){returns}"
