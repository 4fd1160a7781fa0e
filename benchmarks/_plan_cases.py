"""Whole runs that a plan is judged by: recipes over families, tasks, precisions, lengths and batches, on small real data."""

from __future__ import annotations

import itertools
import json
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from private_finetune import packaged

Table = dict[str, Any]
PAIRS, REVIEWS = 4000, 3000  # records of a case
ROLES = {"usr": "user", "sys": "assistant"}


def library(shared: Path, folder: Path) -> Table:
    """Source text of the Python standard library, 2 MB."""
    root = Path(sysconfig.get_path("stdlib"))
    return {
        "source": [str(root / name) for name in ("asyncio", "email", "json", "unittest")],
        "record": "paragraph",
    }


def pairs(shared: Path, folder: Path) -> Table:
    """Sentences in English and Chinese (Tatoeba), drawn evenly from a file that is sorted by length."""
    lines = (shared / "parallel/tatoeba_en_zh.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    source = _written(folder / "pairs.tsv", lines[:: len(lines) // PAIRS])
    return {"source": source, "source_text": "1", "target": "2", "owner": "1", "languages": ["en", "zh"]}


def talks(shared: Path, folder: Path) -> Table:
    """Dialogues with tourists in Beijing (CrossWOZ)."""
    with zipfile.ZipFile(shared / "dialogue/crosswoz_val.json.zip") as archive:
        chats = json.loads(archive.read(archive.namelist()[0]))
    lines = []
    for chat in chats.values():
        messages = [{"role": ROLES[each["role"]], "content": each["content"]} for each in chat["messages"]]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return {"source": _written(folder / "talks.jsonl", lines), "validation": 0.1}


def abstracts(shared: Path, folder: Path) -> Table:
    """English abstracts with a sentence that sums them up (SciTLDR)."""
    source = str(shared / "summarization/scitldr_A_train.jsonl")
    return {"source": source, "text": "source", "summary": "target", "validation": 0.1}


def titles(shared: Path, folder: Path) -> Table:
    """Chinese abstracts with their titles (CSL)."""
    lines = (shared / "summarization/csl_ts_dev.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    records = [{"title": row[2], "text": row[1]} for row in rows]
    texts = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    return {"source": _written(folder / "titles.jsonl", texts), "title": "title"}


def questions(shared: Path, folder: Path) -> Table:
    """Questions about paragraphs (XQuAD)."""
    return {"source": str(shared / "qa/xquad.en.json"), "owner": "context", "validation": 0.1}


def reviews(shared: Path, folder: Path) -> Table:
    """Film reviews with their tone (SST-2)."""
    lines = (shared / "sentiment/sst2_train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    source = _written(folder / "reviews.tsv", itertools.islice(lines, REVIEWS))
    return {"source": source, "text": "sentence", "label": "label", "labels": ["0", "1"], "validation": 0.1}


def hotels(shared: Path, folder: Path) -> Table:
    """Reviews of hotels in Chinese, longer ones (ChnSentiCorp)."""
    source = str(shared / "sentiment/ChnSentiCorp_htl_all.csv")
    return {"source": source, "text": "review", "label": "label", "labels": ["0", "1"], "validation": 0.1}


def digits(shared: Path, folder: Path) -> Table:
    """The built-in digits."""
    return {"source": "digits", "labels": [str(number) for number in range(10)], "validation": 0.2}


def plays(shared: Path, folder: Path) -> Table:
    """A megabyte of Shakespeare."""
    return {"source": str(shared / "text/tinyshakespeare.txt"), "record": "paragraph"}


def _written(file: Path, lines: Any) -> str:
    file.write_text("".join(lines), encoding="utf-8")
    return str(file)


BPE = {"kind": "bpe", "vocab_size": 4096}
PLAIN = {"layers": 4, "width": 256, "context": 256}
ENCODER = "the encoder"  # stands for its folder
PRIVATE = {"epsilon": 8.0, "unit": "record"}
RECURRENT = {"family": "rnn", "layers": 1, "width": 256, "context": 64}


def text(**tables: Table) -> tuple[Callable[[Path, Path], Table], Table]:
    """A transformer from nothing on source text."""
    base = {"model": PLAIN, "train": {"batch_size": 16}}
    return library, {name: base.get(name, {}) | tables.get(name, {}) for name in base | tables}


CASES: dict[str, tuple[Callable[[Path, Path], Table] | None, Table]] = {
    "demo": (None, {}),  # the ready recipe
    "demo-private": (None, {"model": {"from": "demo"}}),  # learns on from the first one's model
    "4x256, bf16": text(),
    "fp32": text(train={"batch_size": 16, "precision": "fp32"}),
    "adamw": text(train={"batch_size": 16, "optimizer": "adamw"}),
    "bpe 4096": text(tokenizer=BPE),
    "char": text(tokenizer={"kind": "char"}),
    "accumulated 4 x 4": text(train={"micro_batch": 4}),
    "context 1024": text(model={"context": 1024}, train={"batch_size": 4}),
    "8x512": text(model={"layers": 8, "width": 512}, train={"batch_size": 8}),
    "2x64": text(model={"layers": 2, "width": 64}),
    "sealed": text(vault={}),
    "private": text(tokenizer={"kind": "byte"}, privacy=PRIVATE, train={"batch_size": 64}),
    "LoRA": text(model={"from": "4x256, bf16", "layers": None, "width": None}, train={"lora": {"rank": 8}}),
    "LoRA, int4": text(
        model={"from": "4x256, bf16", "layers": None, "width": None},
        train={"lora": {"rank": 8, "base": "int4"}},
    ),
    "translation": (
        pairs,
        {
            "task": "translation",
            "tokenizer": BPE | {"vocab_size": 8192},
            "model": {"size": "tiny", "context": 96},
        },
    ),
    "chat": (talks, {"task": "chat", "tokenizer": BPE, "model": {"size": "tiny", "context": 256}}),
    "summarization": (
        abstracts,
        {
            "task": "summarization",
            "tokenizer": BPE | {"vocab_size": 8192},
            "model": {"size": "tiny", "context": 512},
        },
    ),
    "titles": (titles, {"tokenizer": BPE | {"vocab_size": 8192}, "model": {"size": "tiny", "context": 512}}),
    "answers": (
        questions,
        {
            "task": "question-answering",
            "tokenizer": BPE | {"vocab_size": 8192},
            "model": {"size": "tiny", "context": 512},
        },
    ),
    "two lines, chat": (talks, {"task": "chat"}),
    "spans, encoder": (
        questions,
        {
            "task": "question-answering",
            "model": {"from": ENCODER, "context": 256},
            "train": {"batch_size": 16},
        },
    ),
    "ngrams": (reviews, {"task": "sentiment"}),
    "ngrams, long": (hotels, {"task": "sentiment"}),
    "ngrams, private": (hotels, {"task": "sentiment", "privacy": PRIVATE, "train": {"batch_size": 256}}),
    "labels, tiny": (
        reviews,
        {
            "task": "sentiment",
            "tokenizer": {"kind": "byte"},
            "model": {"family": "transformer", "size": "tiny", "context": 256},
        },
    ),
    "labels, encoder": (
        reviews,
        {"task": "sentiment", "model": {"from": ENCODER, "context": 64}, "train": {"batch_size": 32}},
    ),
    "labels, encoder, LoRA": (
        reviews,
        {
            "task": "sentiment",
            "model": {"from": ENCODER, "context": 64},
            "train": {"batch_size": 32, "lora": {"rank": 8}},
        },
    ),
    "digits": (digits, {"task": "classification", "model": {"family": "cnn", "size": "small"}}),
    "digits, private": (
        digits,
        {"task": "classification", "model": {"family": "cnn", "size": "small"}, "privacy": PRIVATE},
    ),
    "lstm": (plays, {"tokenizer": {"kind": "char"}, "model": RECURRENT}),
    "lstm, private": (
        plays,
        {
            "tokenizer": {"kind": "byte"},
            "model": RECURRENT,
            "privacy": PRIVATE,
            "train": {"batch_size": 64},
        },
    ),
}


def recipe_of(case: str, shared: Path, folder: Path, steps: int, encoder: Path | None) -> Table:
    """The recipe of a case; writes the data that it needs beside its run."""
    made, tables = CASES[case]
    assert made is not None
    table = {name: dict(value) if isinstance(value, dict) else value for name, value in tables.items()}
    table["name"] = "case"
    table["data"] = made(shared, folder) | table.get("data", {})
    table["train"] = table.get("train", {}) | {"budget": f"{steps} steps"}
    model = {key: value for key, value in table.get("model", {}).items() if value is not None}
    if "from" in model:
        model["from"] = str((encoder or packaged()) if model["from"] == ENCODER else folder / model["from"])
    table["model"] = model
    if "vault" in table:
        table["vault"] = {"key": f"file:{folder / 'key'}"}
    return table
