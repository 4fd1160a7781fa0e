"""What a model trained from nothing learns in minutes for each task, beside what anyone would try first.

    python benchmarks/tasks.py [--data ../shared/data] [--budget "14 min"] [translation titles tldr dialogues articles poems plays]

The recipes are the ready ones (`shuyuan run translation`, …) with the files named. Each line of JSON has the scores of held-out records
with their 95 % intervals, and the baselines': a translation memory, the reply to the most similar message, the first sentence, TextRank's.
`poems` are Song lyrics written to the name of a tune: how often the length of every line is one that the tune has in training, beside
the poems of a bigram of characters. Seconds are those of training.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import shuyuan
from shuyuan import pipeline, recipe

POEMS, TUNES = 200, 10  # written; different tunes, those with the most lyrics
POEM_CHARS = 150


def run(folder: Path, ready: str, budget: str, **data: str | float) -> dict[str, Any]:
    """Trains a ready recipe on other files; its scores beside the baselines'."""
    changes = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    return told(
        pipeline.run(ready, out=folder / ready, changes=[*changes, f'train.budget="{budget}"']),
        folder / ready,
    )


def told(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The figures of a run, and some of what it wrote."""
    (variants,) = summary["scores"].values()
    return {
        "task": summary["task"],
        "seconds": round(summary["seconds"]),
        "steps": summary["steps"],
        "parameters": summary["parameters"],
        "loss": summary["loss"],
        "scores": {name: round(value, 3) for name, value in variants["original"].items()},
        "samples": json.loads((folder / "samples.json").read_text()),
    }


def translation(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """English and Chinese of Tatoeba; sentences of validation stand in no training pair."""
    return run(
        folder, "translation", budget,
        source=str(data / "parallel/tatoeba_en_zh.tsv"), source_text="1", target="2", owner="1",
    )  # fmt: skip


def titles(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """Titles of Chinese abstracts (CSL)."""
    source = str(data / "summarization/csl_ts_dev.tsv")
    return run(folder, "summarization", budget, source=source, text="2", summary="3")


def tldr(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """One sentence for an English abstract (SciTLDR)."""
    return run(
        folder, "summarization", budget,
        source=str(data / "summarization/scitldr_A_train.jsonl"),
        validation=str(data / "summarization/scitldr_A_dev.jsonl"),
        text="source", summary="target",
    )  # fmt: skip


def dialogues(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """Replies to tourists in Beijing (CrossWOZ)."""
    with zipfile.ZipFile(data / "dialogue/crosswoz_val.json.zip") as archive:
        chats = json.loads(archive.read(archive.namelist()[0]))
    roles = {"usr": "user", "sys": "assistant"}
    with (folder / "chats.jsonl").open("w", encoding="utf-8") as file:
        for chat in chats.values():
            messages = [
                {"role": roles[each["role"]], "content": each["content"]} for each in chat["messages"]
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return run(folder, "chat", budget, source=str(folder / "chats.jsonl"), validation=0.1)


def articles(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """A Chinese abstract written from its title (CSL): the title is the question, the abstract the reply."""
    with (data / "summarization/csl_ts_dev.tsv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    with (folder / "articles.jsonl").open("w", encoding="utf-8") as file:
        for _, abstract, title in rows:
            file.write(json.dumps({"title": title, "text": abstract}, ensure_ascii=False) + "\n")
    table = {
        "name": "articles",
        "data": {"source": str(folder / "articles.jsonl"), "title": "title"},
        "tokenizer": {"kind": "bpe", "vocab_size": 8192},
        "model": {"size": "tiny", "context": 512},
        "train": {"budget": budget},
    }
    summary = pipeline.run(recipe.from_table(table), out=folder / "articles")
    model = shuyuan.load(folder / "articles")
    asked = ["基于深度学习的图像识别方法研究", "农村土地制度改革的思考"]
    written = [model.write(title, max_tokens=120, seed=1) for title in asked]
    return told(summary, folder / "articles") | {"written": dict(zip(asked, written, strict=True))}


def poems(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """Song lyrics, one a record, whose first line names the tune."""
    source = data / "text/zh_song_ci.txt"
    table = {
        "name": "poems",
        "data": {"source": str(source), "record": "paragraph", "duplicates": "exact"},
        "tokenizer": {"kind": "char"},
        "model": {"size": "tiny", "context": 256},
        "train": {"budget": budget},
    }
    summary = pipeline.run(recipe.from_table(table), out=folder / "poems")
    lyrics = [
        text.split("\n", 1) for text in source.read_text(encoding="utf-8").split("\n\n") if "\n" in text
    ]
    patterns: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for title, body in lyrics:
        patterns[_tune(title)].add(_lines(body))
    count = Counter(_tune(title) for title, _ in lyrics)
    tunes = [tune for tune, _ in count.most_common(TUNES)]
    asked = [f"{tunes[number % TUNES]}\u3000" for number in range(POEMS)]
    model = shuyuan.load(folder / "poems")
    ours = model.generate_all(asked, max_tokens=POEM_CHARS, seed=1)
    theirs = _bigram(lyrics, asked)

    def kept(continuations: list[str]) -> float:
        whole = [(prompt + rest).split("\n", 1) for prompt, rest in zip(asked, continuations, strict=True)]
        hits = [len(each) == 2 and _lines(each[1]) in patterns[_tune(each[0])] for each in whole]
        return sum(hits) / len(hits)

    return told(summary, folder / "poems") | {
        "pattern_kept": kept(ours),
        "pattern_kept_by_a_bigram": kept(theirs),
        "patterns_of_a_tune": sum(len(patterns[tune]) for tune in tunes) / TUNES,
        "poem": asked[0] + ours[0],
    }


def _tune(title: str) -> str:
    return title.split("\u3000")[0]


def _lines(body: str) -> tuple[int, ...]:
    """Characters of each piece between marks."""
    return tuple(len(piece) for piece in re.split(r"[，。！？；、：\s]+", body) if piece)


def _bigram(lyrics: list[list[str]], asked: list[str]) -> list[str]:
    """Each character drawn from those that follow the one before it in the lyrics."""
    follows: dict[str, Counter[str]] = defaultdict(Counter)
    for lyric in lyrics:
        text = "\n".join(lyric) + "\0"
        for one, other in pairwise(text):
            follows[one][other] += 1
    draw = random.Random(1)
    written = []
    for prompt in asked:
        text = prompt
        while len(text) < POEM_CHARS and text[-1] != "\0":
            options = follows[text[-1]]
            text += draw.choices(list(options), list(options.values()))[0]
        written.append(text.removesuffix("\0")[len(prompt) :])
    return written


def plays(data: Path, folder: Path, budget: str) -> dict[str, Any]:
    """Characters of tinyshakespeare: the loss of a transformer, beside a bigram's; the recurrent one's is in rnn_text.py."""
    table = {
        "name": "plays",
        "data": {"source": str(data / "text/tinyshakespeare.txt")},
        "tokenizer": {"kind": "char"},
        "model": {"size": "tiny", "context": 256},
        "train": {"budget": budget},
    }
    summary = pipeline.run(recipe.from_table(table), out=folder / "plays")
    return told(summary, folder / "plays")


TASKS: dict[str, Callable[[Path, Path, str], dict[str, Any]]] = {
    each.__name__: each for each in (translation, titles, tldr, dialogues, articles, poems, plays)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    parser.add_argument("--budget", default="14 min")
    options = parser.parse_args()
    for name in options.what:
        with tempfile.TemporaryDirectory() as folder:
            found = TASKS[name](options.data, Path(folder), options.budget)
            print(json.dumps({"what": name} | found, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
