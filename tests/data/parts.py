"""Small sources and recipes for the tests of this room."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shuyuan.data import Manifest, load_tokenizer, prepare
from shuyuan.data.shards import Shard
from shuyuan.data.sources import Row, Wanted, open_source
from shuyuan.errors import DataError
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, from_table
from shuyuan.vault import OpenStore, Store

WORDS = [
    "river",
    "stone",
    "window",
    "garden",
    "letter",
    "morning",
    "silver",
    "journey",
    "harbour",
    "quiet",
    "lantern",
    "forest",
    "bridge",
    "winter",
    "summer",
]


def sentences(count: int, seed: int = 0, words: int = 12) -> list[str]:
    """Sentences of which no two are alike."""
    choose = random.Random(seed)
    return [f"{number} " + " ".join(choose.choices(WORDS, k=words)) for number in range(count)]


def lines(path: Path, texts: list[str]) -> Path:
    """Writes a file of lines."""
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes a file of JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe_of(source: str | Path | list[str], tokenizer: str = "byte", **data: Any) -> Recipe:
    """A recipe with a window of 32 tokens; keywords go into [data], `seed` into the recipe."""
    table: dict[str, Any] = {
        "seed": data.pop("seed", 1),
        "tokenizer": {"kind": tokenizer},
        "model": {"context": 32},
    }
    table["tokenizer"] |= data.pop("tokens", {})
    spec = source if isinstance(source, list) else str(source)
    return from_table(table | {"data": {"source": spec, **data}})


def rows_of(
    source: str | Path | list[str], record: Any = None, text: str = "text"
) -> tuple[list[Row], Counter[str]]:
    """All rows of a source and what was left out."""
    spec = source if isinstance(source, list) else str(source)
    skipped: Counter[str] = Counter()
    rows = list(open_source(spec, Wanted(text, (text,), record)).rows(skipped))
    return rows, skipped


def texts_of(source: str | Path | list[str], record: Any = None) -> list[str]:
    """The column `text` of all rows."""
    return [row.values["text"] for row in rows_of(source, record)[0]]


def prepared(folder: Path, recipe: Recipe, progress: Progress | None = None) -> tuple[Manifest, OpenStore]:
    """Prepares into an open run in `folder`."""
    store = OpenStore(folder)
    return prepare(recipe, store, progress or Progress()), store


def records_in(store: Store, manifest: Manifest, split: str) -> list[str]:
    """The records of a split, decoded from its shards, in order."""
    tokenizer = load_tokenizer(store)
    found = []
    for facts in manifest.splits[split].shards:
        with store.open(facts.name) as reader:
            shard = Shard(reader, facts.name)
            offsets = shard.offsets().tolist()
            for start, stop in itertools.pairwise(offsets):
                tokens = shard.read(start, stop).tolist()
                assert tokens[-1] == tokenizer.end_id
                found.append(tokenizer.decode(tokens[:-1]))
    return found


class Listener(Progress):
    """Keeps what is said and which stages were shown, with what was done of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Any] = []

    def stage(self, name: str, total: float | None, unit: str) -> Any:  # type: ignore[override]
        opened = super().stage(name, total, unit)
        outer = self

        class Kept:
            def __enter__(self) -> Any:
                stage = opened.__enter__()
                outer.stages.append(stage)
                return stage

            def __exit__(self, *error: Any) -> Any:
                return opened.__exit__(*error)

        return Kept()


def refused(folder: Path, recipe: Any) -> DataError:
    """The refusal to prepare it, which says how to mend it and leaves nothing behind."""
    store = OpenStore(folder)
    with pytest.raises(DataError) as caught:
        prepare(recipe, store, Progress())
    assert store.names() == []
    assert caught.value.mend
    return caught.value
