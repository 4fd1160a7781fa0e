"""Made-up reviews with labels, in English and in Chinese, of which no two are nearly alike."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

from shuyuan.data import Manifest, load_tokenizer
from shuyuan.data.stored import StoredRecords
from shuyuan.recipe import Recipe, from_table
from shuyuan.vault import Store

PARTS = {
    "en": {
        "things": ["the room", "the soup", "the bridge tour", "our guide", "the small museum", "the ferry"],
        "positive": ["was a joy", "was warm and kind", "made us smile", "is worth every coin"],
        "negative": ["was a waste", "was cold and rude", "made us leave early", "is not worth a coin"],
        "times": [
            "in spring",
            "on a rainy day",
            "after a long walk",
            "last winter",
            "at noon",
            "with friends",
        ],
    },
    "zh": {
        "things": ["房间", "这碗汤", "老城的小巷", "我们的导游", "小博物馆", "渡船"],
        "positive": ["让人高兴", "又热情又周到", "值得再来一次", "比想象的好得多"],
        "negative": ["让人失望", "又冷淡又吵闹", "不会再来第二次", "比想象的差得多"],
        "times": ["在春天", "下雨的那天", "走了很久以后", "去年冬天", "中午的时候", "和朋友一起"],
    },
}


def reviews(language: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with the columns text and label, both labels about as often."""
    parts = PARTS[language]
    choose = random.Random(seed)
    every = [
        {"text": f"{time}{', ' if language == 'en' else '，'}{thing} {word}", "label": label}
        for label in ("negative", "positive")
        for thing, word, time in itertools.product(parts["things"], parts[label], parts["times"])
    ]
    return choose.sample(every, count)


def labelled(source: Path | str, task: str = "classification", context: int = 32, **data: Any) -> Recipe:
    """A recipe for a task with labels; keywords go into [data], those of other tables as `privacy={…}`."""
    tables = {key: data.pop(key) for key in ("privacy", "audit", "tokenizer") if key in data}
    data = {"source": str(source), "duplicates": "exact", "validation": 0.2, **data}
    return from_table({"task": task, "model": {"context": context}, "data": data, **tables})


def pairs_in(store: Store, manifest: Manifest, split: str) -> list[tuple[str, str]]:
    """(text, label) of a split's records, read from its shards, in order."""
    tokenizer, records = load_tokenizer(store), StoredRecords(store, manifest, split)
    return [
        (tokenizer.decode(records.read(number, 0, int(length) - 1)), manifest.labels[kind])
        for number, (length, kind) in enumerate(zip(records.length_R, records.labels_R, strict=True))
    ]
