"""Preparation streams: memory does not grow with the source. The fast test is small; the slow one is the promise itself."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.parts import WORDS

MEASURE = """
import resource, sys
from pathlib import Path
from shuyuan.data import prepare
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from shuyuan.vault import OpenStore
data = {"source": sys.argv[1], "record": sys.argv[4] or None, "mask": ["email", "phone", "card"]}
data = {key: value for key, value in data.items() if value is not None}
recipe = from_table({"data": data, "tokenizer": {"kind": sys.argv[3], "vocab_size": 1000}})
manifest = prepare(recipe, OpenStore(Path(sys.argv[2])), Progress())
print(manifest.records, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(source: Path, run: Path, tokenizer: str, record: str) -> tuple[int, int]:
    """(records, peak bytes of resident memory) of a preparation in its own process."""
    command = [sys.executable, "-c", MEASURE, str(source), str(run), tokenizer, record]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    records, memory = done.stdout.split()
    return int(records), int(memory)


def write_text(path: Path, size: int) -> Path:
    """Text of `size` bytes in which nothing repeats."""
    choose = random.Random(0)
    words = [f"{word}{choose.randrange(10_000)}" for word in WORDS for _ in range(500)]
    with path.open("w") as out:
        written = 0
        while written < size:
            block = "\n".join(" ".join(choose.choices(words, k=16)) for _ in range(2000)) + "\n"
            out.write(block)
            written += len(block)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
def test_memory_does_not_grow_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = write_text(tmp_path / "small.txt", 2 << 20), write_text(tmp_path / "large.txt", 40 << 20)
    # Read again rather than held in memory, as a source over 128 MB is.
    monkeypatch.setitem(
        globals(),
        "MEASURE",
        MEASURE.replace("data = {", "import shuyuan.data.survey as s; s.HELD_BYTES = 0\ndata = {", 1),
    )
    _, before = peak(small, tmp_path / "one", "byte", "")
    _, after = peak(large, tmp_path / "two", "byte", "")
    assert after - before < 130 << 20  # a shard or two; the text itself would be 40 MB and its tokens 160 MB


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
@pytest.mark.parametrize(("tokenizer", "record"), [("bpe", ""), ("bpe", "line"), ("byte", "paragraph")])
def test_a_gigabyte_within_a_gigabyte_and_a_half(tmp_path: Path, tokenizer: str, record: str) -> None:
    if record == "paragraph":  # ten lines of 100 MB each
        source = tmp_path / "long.txt"
        with source.open("w") as out:
            for number in range(10):
                out.write(
                    f"some{number} words{number} in{number} one{number} line{number} " * 2_800_000 + "\n\n"
                )
    else:
        source = write_text(tmp_path / "large.txt", 1_000_000_000)
    _, memory = peak(source, tmp_path / "run", tokenizer, record)
    assert memory < 1_500_000_000
