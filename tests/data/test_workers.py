"""Workers beside preparation: the same bytes for any number of them, and none that is left behind or knows a secret."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuyuan import vault
from shuyuan.data import Masker, byte_tokenizer, prepare, survey, vocabulary, workers, writing
from shuyuan.data.clean import clean
from shuyuan.data.encoding import TextEncoding
from shuyuan.data.wire import receive, send
from shuyuan.data.work import Sketching
from shuyuan.data.workers import Workers
from shuyuan.errors import DataError, MachineError
from shuyuan.progress import Progress
from shuyuan.recipe import PERSONAL_DATA, Recipe, from_table
from shuyuan.runs import Run
from shuyuan.vault import OpenStore
from tests.data.parts import WORDS

SECRET = "a passphrase that nobody guesses"


@pytest.fixture(autouse=True)
def _workers_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and workers from the first one on."""
    monkeypatch.setattr(workers, "ALONE_CHARS", 0)
    monkeypatch.setattr(writing, "_BATCH_SIZE", 400)
    for module in (survey, vocabulary):
        monkeypatch.setattr(module, "BATCH_CHARS", 700)


def started(crew: Workers) -> list[int]:
    """The ids of its processes."""
    return [each._process.pid for each in crew._processes]


def texts(count: int = 60) -> list[str]:
    choose = random.Random(0)
    told = [
        f"{number} {' '.join(choose.choices(WORDS, k=14))} a{number}@example.com 书院"
        for number in range(count)
    ]
    return told + told[:5]  # repeats, which must go


TABLES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "generation": ([{"text": text, "who": at % 23} for at, text in enumerate(texts())], {}),
    "classification": (
        [{"text": text, "label": "ab"[at % 2], "who": at % 23} for at, text in enumerate(texts())],
        {"task": "classification"},
    ),
    "translation": (
        [
            {"source": text[-40:], "target": text.upper()[-40:], "who": at % 23}
            for at, text in enumerate(texts())
        ],
        {"task": "translation"},
    ),
}


def recipe_of(folder: Path, kind: str, tokenizer: str = "byte") -> Recipe:
    rows, more = TABLES[kind]
    source = folder / f"{kind}.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"source": str(source), "owner": "who", "mask": list(PERSONAL_DATA), "test": 0.2}
    table = {"data": data, "tokenizer": {"kind": tokenizer, "vocab_size": 300}, "model": {"context": 96}}
    return from_table(table | more)


def written(folder: Path, recipe: Recipe, count: int) -> dict[str, bytes]:
    """Every file of a preparation, but for how long it took."""
    folder.mkdir()
    store = OpenStore(folder)
    manifest = prepare(recipe, store, Progress(), workers=count)
    table = manifest.to_json() | {"seconds": 0}
    files = {name: store.read(name) for name in store.names() if name != "data/manifest.json"}
    return files | {"manifest": json.dumps(table).encode()}


@pytest.fixture(scope="module")
def crews() -> Iterator[dict[int, Workers]]:
    """Workers that several tests share, since it takes a while until they are ready."""
    with Workers(2) as two, Workers(5) as five:
        yield {1: Workers(1), 2: two, 5: five}


@pytest.mark.parametrize(
    ("kind", "tokenizer"), [("generation", "bpe"), ("classification", "char"), ("translation", "byte")]
)
def test_the_same_bytes_for_any_number(
    tmp_path: Path, kind: str, tokenizer: str, crews: dict[int, Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(prepare.__globals__, "Workers", lambda count: nullcontext(crews[count]))
    recipe = recipe_of(tmp_path, kind, tokenizer)
    monkeypatch.setattr(OpenStore, "derive_key", lambda self, purpose: purpose.encode().ljust(32))
    alone = written(tmp_path / "1", recipe, 1)
    assert len(alone) >= 5
    assert json.loads(alone["manifest"])["masked"]["email"] >= 60
    for count in (2, 5):
        assert written(tmp_path / str(count), recipe, count) == alone
        assert len(started(crews[count])) == count


ANYTHING = st.text(max_size=60).map(clean) | st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(ANYTHING, max_size=5), max_size=9))
def test_every_answer_comes_whole_and_in_order(crews: dict[int, Workers], batches: list[list[str]]) -> None:
    for work in (Sketching(), TextEncoding(byte_tokenizer(), Masker(PERSONAL_DATA, {}))):
        found = list(crews[5].map(work, enumerate(batches)))
        assert [number for number, _ in found] == list(range(len(batches)))
        for (_, answer), contents in zip(found, batches, strict=True):
            for one, other in zip(answer, work(contents), strict=True):
                np.testing.assert_equal(one, other)


@given(
    table=st.dictionaries(
        st.text(min_size=1),
        st.none()
        | st.integers(-(2**60), 2**60)
        | st.lists(st.text())
        | st.binary(max_size=40).map(lambda data: np.frombuffer(data, np.uint8)),
    )
)
def test_messages_arrive_as_they_were(table: dict[str, Any]) -> None:
    stream = BytesIO()
    send(stream, table)
    send(stream, {})
    stream.seek(0)
    found = receive(stream)
    assert found.keys() == table.keys()
    for key, value in table.items():
        np.testing.assert_equal(found[key], value)
    assert receive(stream) == {}
    with pytest.raises(EOFError):
        receive(stream)


# ---- what goes wrong -----------------------------------------------------------------------------------------------


def test_an_error_is_the_one_that_a_preparation_alone_would_show(tmp_path: Path) -> None:
    class Damaged(TextEncoding):
        def settings(self) -> dict[str, Any]:
            return super().settings() | {"tokenizer": "{}"}

    Damaged.__name__ = TextEncoding.__name__
    damaged = Damaged(byte_tokenizer(), Masker(["email"], {}))
    with Workers(2) as two, pytest.raises(DataError) as caught:
        list(two.map(damaged, [(0, ["text"])]))
    assert caught.value.code == "data.bad-tokenizer"
    assert caught.value.where == "tokenizer.json"
    assert caught.value.mend


def test_an_error_of_the_source_names_file_and_line(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "generation")
    source = Path(recipe.data.source)  # type: ignore[arg-type]
    source.write_text(source.read_text() + "{damaged\n")
    told = []
    for count in (1, 2):
        store = OpenStore(tmp_path / str(count))
        with pytest.raises(DataError) as caught:
            prepare(recipe, store, Progress(), workers=count)
        told.append(str(caught.value))
        assert store.names() == []
    assert told[0] == told[1]
    assert f"{source}:{len(texts()) + 1}" in told[0]


def test_a_worker_that_was_killed_is_named(tmp_path: Path) -> None:
    with Workers(1 + 1) as two:
        list(two.map(Sketching(), [(0, ["one two three"])]))
        for process in started(two):
            os.kill(process, signal.SIGKILL)
        with pytest.raises(MachineError, match="has ended"):
            list(two.map(Sketching(), [(0, ["one two three"])]))


def test_small_sources_start_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ALONE_CHARS", 100)
    with Workers(2) as two:
        batches = [(number, ["x" * 30]) for number in range(3)]
        list(two.map(TextEncoding(byte_tokenizer(), Masker([], {})), batches * 9))  # would not pay
        list(two.map(Sketching(), batches))
        assert started(two) == []
        list(two.map(Sketching(), batches))
        assert len(started(two)) == 2


# ---- nothing is left behind, and nothing told ----------------------------------------------------------------------

ENDLESS = """
import itertools, sys
from shuyuan.data import workers
from shuyuan.data.work import Sketching
workers.ALONE_CHARS = 0
with workers.Workers(2) as two:
    for number, _ in two.map(Sketching(), ((n, [f"{n} words of a text"] * 50) for n in itertools.count())):
        if number == 3:
            print(*(each._process.pid for each in two._processes), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_preparation(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as leader:
        assert leader.stdout is not None
        workers_of = [int(word) for word in leader.stdout.readline().split()]
        assert len(workers_of) == 2
        leader.send_signal(number)
    _wait_until_gone(workers_of)


def _wait_until_gone(processes: list[int]) -> None:
    for _ in range(600):
        if not any(_alive(process) for process in processes):
            return
        time.sleep(0.1)
    raise AssertionError("a worker lives on")


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_of_a_sealed_run_know_no_key_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUYUAN_KEY", SECRET)
    recipe = recipe_of(tmp_path, "generation")
    seen: list[bytes] = []
    real = Workers.__exit__

    def looking(self: Workers, *arguments: Any) -> None:
        for process in started(self):
            for part in ("environ", "cmdline"):
                seen.append(Path(f"/proc/{process}/{part}").read_bytes())
            opened = [str(handle.readlink()) for handle in Path(f"/proc/{process}/fd").iterdir()]
            assert not [name for name in opened if name.startswith(str(tmp_path))]
        real(self, *arguments)

    monkeypatch.setattr(Workers, "__exit__", looking)
    with vault.open_store(Run(tmp_path / "run"), "env:SHUYUAN_KEY", create=True) as store:
        prepare(recipe, store, Progress(), workers=2)
    assert len(seen) == 4
    assert not any(SECRET.encode() in part or b"SHUYUAN_KEY" in part for part in seen)
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or b"lantern" not in file.read_bytes()
