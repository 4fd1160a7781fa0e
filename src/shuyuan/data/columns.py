"""Columns under other names than the recipe's usual ones: found by what people call them, and always said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import ShuyuanError
from ..progress import Progress
from ..recipe import BUILT_IN_SOURCES, Recipe, usual_columns
from .sources import Skipped, Wanted, is_table, open_source
from .sources.files import matches
from .templates import load_task

# What the column of a field is called where it has not its usual name, the likeliest first; small letters.
NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("review", "sentence", "content", "comment", "message", "tweet", "body", "document", "article", "query", "question",
             "utterance", "input", "headline", "title", "text_a", "文本", "内容", "评论", "正文", "句子", "文章", "原文"),
    "label": ("labels", "sentiment", "category", "class", "intent", "topic", "emotion", "tag", "tags", "target", "stars", "rating",
              "score", "polarity", "output", "y", "标签", "类别", "分类", "情感", "意图", "评分"),
    "summary": ("highlights", "tldr", "abstract", "headline", "title", "target", "output", "摘要", "总结", "标题"),
    "source_text": ("src", "en", "english", "input", "英文", "英语", "原文"),
    "target": ("tgt", "zh", "cn", "chinese", "translation", "output", "中文", "汉语", "译文"),
    "question": ("query", "prompt", "instruction", "问题", "提问", "问"),
    "context": ("passage", "paragraph", "document", "text", "上下文", "段落", "文章", "原文"),
    "answer": ("response", "completion", "reply", "output", "答案", "回答", "答"),
    "messages": ("dialogue", "dialog", "conversation", "chat", "turns", "对话"),
}  # fmt: skip
OF_SUMMARIES = (
    "article",
    "document",
    "content",
    "body",
    "source",
    "input",
    "abstract",
    "正文",
    "原文",
    "文章",
    "内容",
)
LOOKED_AT = 200  # rows of a table without a header
NAME_CHARS = 24  # of a column; what is longer, or has a sentence's marks, is a record
_SENTENCE = re.compile(r"[.!?,;:。！？，；：]|\S\s+\S+\s+\S")


def found_columns(recipe: Recipe, progress: Progress) -> dict[str, str]:
    """Columns that the recipe leaves to their usual names, and that the table has under others, as changes of the recipe.

    Of a table without a header, whose first row is a record, columns are told by what stands in them: a label is short and stands
    in many rows, a text is longer than its summary. Never of private records.

    Args:
        recipe: as asked.
        progress: hears which column is taken for which.
    """
    wanted = _left_out(recipe)
    rows = _first_rows(recipe, 1) if wanted else []
    if not rows or all(name in rows[0] for name in wanted.values() if name != "context"):
        return {}
    found = _by_name(recipe, rows[0], wanted)
    if not found and recipe.privacy is None and _is_record(rows[0]):
        found = _by_place(recipe)
    for key, column in found.items():
        progress.say(
            f"data.column.{key}",
            f'The column `{column}` is read as data.{key}. If that is not meant, name another: data.{key} = "…".',
        )
    return {f"data.{key}": column for key, column in found.items()}


def _left_out(recipe: Recipe) -> dict[str, str]:
    """The fields that have their usual names, and these; the context of a question, which may be missing, too."""
    if recipe.task == "mixed":
        return {}
    left = {key: name for key, name in usual_columns(recipe).items() if getattr(recipe.data, key) == name}
    return {key: name or key for key, name in left.items() if name or key == "context"}


def _by_name(recipe: Recipe, row: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, str]:
    spelled = {
        str(name).strip().lower(): str(name) for name, value in row.items() if not isinstance(value, dict)
    }
    taken = set(recipe.columns.values())
    found: dict[str, str] = {}
    for key in (key for key, name in wanted.items() if name not in row):
        names = OF_SUMMARIES if key == "text" and recipe.task == "summarization" else NAMES.get(key, ())
        free = (spelled[name] for name in names if name in spelled and spelled[name] not in taken)
        if (column := next(free, None)) is not None:
            found[key] = column
            taken.add(column)
    return found


def _is_record(header: Iterable[str]) -> bool:
    """Whether the first row of a table is no header."""
    return any(len(name) > NAME_CHARS or _SENTENCE.search(name) for name in header)


def _by_place(recipe: Recipe) -> dict[str, str]:
    """The columns of a table without a header, by what stands in them; none where that does not tell."""
    if not str(_sources(recipe)[0]).removesuffix(".gz").endswith((".csv", ".tsv")):
        return {}
    rows = _first_rows(recipe, LOOKED_AT, numbered=True)
    columns = {name: [str(row[name] or "") for row in rows] for name in rows[0]}
    kinds = {name: len(set(values)) for name, values in columns.items()}
    telling = [name for name in columns if kinds[name] > 1]
    longest = sorted(telling, key=lambda name: -sum(map(len, columns[name])))
    keys = [key for key in _left_out(recipe) if key != "context"]
    if keys == ["text", "label"]:
        few = [name for name in reversed(longest[1:]) if kinds[name] <= max(2, len(rows) // 4)]
        return {"text": longest[0], "label": few[0]} if few else {}
    if keys == ["text", "summary"] and len(longest) > 1:
        return {"text": longest[0], "summary": longest[1]}
    if len(keys) == 2 and len(telling) >= 2 and recipe.task in ("translation", "question-answering"):
        return (
            dict(zip(keys, telling[:2], strict=True))
            if len(telling) == 2 or recipe.task == "translation"
            else {}
        )
    return {"text": longest[0]} if keys == ["text"] and longest else {}


def _first_rows(recipe: Recipe, count: int, *, numbered: bool = False) -> list[Mapping[str, Any]]:
    """The first rows of the source, as the task has them; none of a source that is no table, or cannot be read, which is said later.

    Args:
        recipe: names it.
        count: of rows.
        numbered: whether columns are counted, and the first row is a record.
    """
    first = _sources(recipe)[0]
    if recipe.images or first in BUILT_IN_SOURCES or first.startswith("hf:"):
        return []
    columns = ("1",) if numbered else tuple(recipe.columns.values())
    try:
        path = Path(first)
        if path.is_dir() or not is_table(matches(path)[0]):
            return []
        rows = open_source(first, Wanted("text", columns, recipe.data.record)).rows(Skipped())
        task = load_task(recipe)
        return [
            next(iter(task.records(row.values, recipe.columns, row.where)))[0] for row in islice(rows, count)
        ]
    except (ShuyuanError, StopIteration):
        return []


def _sources(recipe: Recipe) -> list[str]:
    return recipe.data.source if isinstance(recipe.data.source, list) else [recipe.data.source]
