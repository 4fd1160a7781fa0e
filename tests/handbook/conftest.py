"""A made-up question that needs no torch, so that each grading takes a tenth of a second."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shuyuan.handbook import Question, load_question
from shuyuan.handbook.words import HEADINGS

CODING = """
id = "double"
order = 1
room = "train"
verb = "train"
kind = "coding"
difficulty = "easy"
topics = ["arithmetic"]
title = { en = "Double it", zh = "翻倍" }
exercise = { en = "Write `double`.", zh = "写出 `double`。" }
[coding]
functions = ["double"]
seconds = 1.0
memory_mb = 300
wrong = [
    { hint = "same", changes = [{ old = "2 * x", new = "x" }] },
    { hint = "square", changes = [{ old = "2 * x", new = "x * x" }] },
]
[coding.hints]
same = { en = "{given} came back unchanged.", zh = "{given} 原样返回了。" }
square = { en = "You squared it.", zh = "你算成了平方。" }
[figures.speed]
label = { en = "speed", zh = "速度" }
unit = { en = "tokens/s", zh = "词元/秒" }
command = "shuyuan doctor"
"""
CHECK = """
def check(answer, wrong):
    found = answer.double(5)
    if found == 5:
        wrong("same", given=5)
    if found == 25:
        wrong("square")
    assert found + 0 == 10, "not 10"
"""
NUMERIC = """
id = "answer"
order = 2
room = "plan"
verb = "plan"
kind = "numeric"
difficulty = "easy"
topics = ["arithmetic"]
title = { en = "The answer", zh = "答案" }
exercise = { en = "Six times seven.", zh = "六乘七。" }
[[parts]]
id = "product"
unit = "hours"
working = "6 * 7"
tolerance = 0.01
asks = { en = "the product", zh = "乘积" }
wrong = [{ working = "6 + 7", hint = { en = "That is the sum.", zh = "这是和。" } }]
"""
CHOICE = """
id = "pick"
order = 3
room = "plan"
verb = "plan"
kind = "choice"
difficulty = "easy"
topics = ["logic"]
title = { en = "Which?", zh = "哪个？" }
exercise = { en = "Even numbers:", zh = "偶数：" }
options = [
    { id = "a", right = true, text = { en = "two", zh = "二" } },
    { id = "b", text = { en = "three", zh = "三" }, hint = { en = "Three is odd.", zh = "三是奇数。" } },
    { id = "c", right = true, text = { en = "four", zh = "四" } },
]
"""


def write_question(folder: Path, toml: str) -> Path:
    """A whole question's folder, right in every respect."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "question.toml").write_text(toml, encoding="utf-8")
    for language, headings in HEADINGS.items():
        body = "".join(f"## {heading}\n\nText.\n\n" for heading in headings)
        if "[figures" in toml:
            body = body.replace("Text.", "It is {{figure:speed}}.\n\n{{figures}}", 1)
        (folder / f"{language}.md").write_text(body, encoding="utf-8")
    if "coding" in toml:
        (folder / "check.py").write_text(CHECK)
        (folder / "starter.py").write_text("def double(x):\n    raise NotImplementedError\n")
        (folder / "solution.py").write_text("def double(x):\n    return 2 * x\n")
    return folder


@pytest.fixture
def coding(tmp_path: Path) -> Question:
    return load_question(write_question(tmp_path / "double", CODING))


@pytest.fixture
def numeric(tmp_path: Path) -> Question:
    return load_question(write_question(tmp_path / "answer", NUMERIC))


@pytest.fixture
def choice(tmp_path: Path) -> Question:
    return load_question(write_question(tmp_path / "pick", CHOICE))


@pytest.fixture(scope="package")
def script() -> ModuleType:
    """What measures the figures: benchmarks/handbook_figures.py."""
    file = Path(__file__).parents[2] / "benchmarks" / "handbook_figures.py"
    spec = importlib.util.spec_from_file_location("handbook_figures", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(file.parent))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="package")
def figures(script: ModuleType) -> ModuleType:
    """What reads the figures of each page: benchmarks/figures, all files of which the script has loaded."""
    return sys.modules["figures"]
