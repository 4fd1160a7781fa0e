"""Prepared megabytes a second of the whole pipeline, beside the library `tokenizers` alone on the same text.

Usage: python benchmarks/prepare.py [MEGABYTES, 16 unless said] [FOLDER OR FILE of text, the standard library unless said]

Both sides encode with the same learned vocabulary of 4,096 entries. "pipeline" reads, cleans, finds near duplicates, masks
every kind of personal data, splits, learns the vocabulary, encodes and writes shards; "tokenizers" learns the vocabulary and
encodes text that is in memory already. The sealed pipeline writes into a vault.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from shuyuan import vault
from shuyuan.data import prepare
from shuyuan.data.sources import Wanted, open_source
from shuyuan.progress import Progress
from shuyuan.recipe import PERSONAL_DATA, from_table
from shuyuan.runs import Run

VOCABULARY = 4096


def text_files(folder: Path, megabytes: float, source: str) -> list[str]:
    """Writes text of about so many megabytes as files of a folder; returns their contents."""
    texts: list[str] = []
    size, wanted = 0, megabytes * 1e6
    while size < wanted:
        before = size
        for row in open_source(source, Wanted("text", ("text",))).rows(Counter()):
            texts.append(f"{len(texts)}\n{row.values['text']}")
            size += len(texts[-1].encode())
            if size >= wanted:
                break
        if size == before:
            raise SystemExit("the source is empty")
    for number, text in enumerate(texts):
        (folder / f"{number:06d}.txt").write_text(text, encoding="utf-8")
    return texts


def alone(texts: list[str]) -> dict[str, float]:
    """Seconds of the library alone: learning the vocabulary, and encoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    begin = time.perf_counter()
    tokenizer.train_from_iterator(texts, trainer)
    learned = time.perf_counter()
    for start in range(0, len(texts), 500):
        tokenizer.encode_batch_fast(texts[start : start + 500], add_special_tokens=False)
    return {"learn": learned - begin, "encode": time.perf_counter() - learned}


def pipeline(source: Path, folder: Path, tokenizer: str, key: str | None) -> float:
    """Seconds of a whole preparation."""
    data = {"source": str(source), "mask": list(PERSONAL_DATA)}
    recipe = from_table({"data": data, "tokenizer": {"kind": tokenizer, "vocab_size": VOCABULARY}})
    with vault.open_store(Run(folder), key, create=True) as store:
        begin = time.perf_counter()
        prepare(recipe, store, Progress())
        return time.perf_counter() - begin


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 16.0
    source = sys.argv[2] if len(sys.argv) > 2 else "stdlib"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "texts").mkdir()
        texts = text_files(folder / "texts", megabytes, source)
        size = sum(len(text.encode()) for text in texts) / 1e6
        key = f"file:{vault.write_key_file(folder / 'bench.key')}"
        library = alone(texts)
        seconds = {
            "tokenizers alone, learning and encoding": library["learn"] + library["encode"],
            "tokenizers alone, encoding": library["encode"],
            "pipeline, bpe": pipeline(folder / "texts", folder / "bpe", "bpe", None),
            "pipeline, bpe, sealed": pipeline(folder / "texts", folder / "sealed", "bpe", key),
            "pipeline, byte": pipeline(folder / "texts", folder / "byte", "byte", None),
        }
    rates = {what: size / taken for what, taken in seconds.items()}
    print(f"{size:.1f} MB in {len(texts):,} records, {os.cpu_count()} cores")
    for what, rate in rates.items():
        print(f"{what:<42} {rate:>8.1f} MB/s")
    ratio = rates["pipeline, bpe"] / rates["tokenizers alone, learning and encoding"]
    print(f"the whole pipeline runs at {ratio:.2f} of the speed of learning and encoding alone")
    print(
        json.dumps(
            {
                "benchmark": "prepare",
                "megabytes": size,
                "records": len(texts),
                "mb_per_second": rates,
                "ratio": ratio,
            }
        )
    )


if __name__ == "__main__":
    main()
