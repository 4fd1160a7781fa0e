"""Exploit: whoever asks what another key may have asked learns by the time of the first token whether it did."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Hub
from tokenizers import models

from shuyuan.data import Tokenizer, byte_tokenizer
from shuyuan.inference import Engine
from shuyuan.loaded import LoadedRun
from shuyuan.models import CompiledModel, TransformerConfig
from shuyuan.models.compiled import CompiledSlots, NotCompiledError
from shuyuan.serve import indexes
from tests.models.tiny import lively
from tests.serve.fake import CONTEXT
from tests.serve.running import Door, running

SMALL = TransformerConfig(
    vocab_size=257,
    layers=4,
    width=128,
    heads=4,
    kv_heads=2,
    head_dim=32,
    hidden=256,
    context=CONTEXT,
    tied=False,
    rope_theta=1e4,
    norm_eps=1e-5,
    end_id=256,
)


def engine() -> Engine:
    """One with a compiled model of made-up weights: it alone remembers beginnings."""
    named = [(name, None, {"": each.detach().numpy()}) for name, each in lively(SMALL).named_parameters()]
    try:
        return Engine(CompiledModel(SMALL, named, half=False), byte_tokenizer())
    except NotCompiledError as error:
        pytest.skip(str(error))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path, engine=engine) as opened:
        yield opened


def text(seed: int) -> str:
    """A long beginning that nobody else has."""
    return "".join(random.Random(seed).choices("abcdefghij ", k=400))


def ask(door: Door, key: str, prompt: str) -> float:
    """Seconds until the answer's first token is there."""
    body = {"model": "demo", "prompt": prompt, "max_tokens": 1, "temperature": 0}
    began = time.perf_counter()
    assert door.ask("POST", "/v1/completions", body, key).status == 200
    return time.perf_counter() - began


def test_what_another_key_asked_is_read_anew(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = CompiledSlots._forward

    def counted(slots: CompiledSlots, new: Any) -> Any:
        read.append(sum(map(len, new.values())))
        return forward(slots, new)

    def tokens(key: str, prompt: str) -> int:
        read.clear()
        ask(door, key, prompt)
        return sum(read)

    monkeypatch.setattr(CompiledSlots, "_forward", counted)
    one, other, secret = door.key("one"), door.key("other"), text(1)
    fresh = tokens(other, text(2))
    assert fresh == 401
    assert tokens(one, secret) == fresh
    assert tokens(one, secret) == 1  # its own is remembered
    assert tokens(door.key("third"), secret) == fresh


def difference(first: list[float], second: list[float], rounds: int = 10_000) -> float:
    """How likely medians differ so much by chance: a permutation test."""
    told, dice = abs(median(first) - median(second)), np.random.default_rng(1)
    mixed = dice.permuted(np.tile([*first, *second], (rounds, 1)), axis=1)
    medians = np.median(mixed[:, : len(first)], axis=1) - np.median(mixed[:, len(first) :], axis=1)
    return float((np.abs(medians) >= told).mean())


@pytest.mark.slow
def test_no_clock_tells_what_another_key_asked(door: Door) -> None:
    one, other = door.key("one"), door.key("other")
    ask(door, one, text(0))
    known, unknown, own = [], [], []
    for seed in range(1, 121, 2):
        ask(door, one, text(seed))
        known.append(ask(door, other, text(seed)))
        unknown.append(ask(door, other, text(seed + 1)))
        ask(door, one, text(-seed))
        own.append(ask(door, one, text(-seed)))
    assert difference(own, unknown) < 0.001  # with the same clock one's own are told apart
    assert difference(known, unknown) > 0.001


def test_no_words_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's tokenizer keeps the words that it has seen, of everybody; in one that serves there is no room for any."""
    tokenizer = Tokenizer(Hub(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])))
    before = tokenizer.encode("abba")
    rooms: list[int] = []

    class Watched:
        _resize_cache = staticmethod(rooms.append)

    served = Tokenizer(Hub(models.BPE({"a": 0}, [])))
    run = SimpleNamespace(_tokenizer=served)
    with monkeypatch.context() as patched:
        patched.setattr("shuyuan.data.tokenizer.models.BPE", Watched)
        patched.setattr(served, "_hub", SimpleNamespace(model=Watched()))
        loaded = SimpleNamespace(forget=lambda: LoadedRun.forget(run))  # type: ignore[arg-type]
        patched.setattr(indexes, "LoadedRun", lambda *_: loaded)
        indexes.load(Path("run"), None)
    assert rooms == [0]
    tokenizer.forget()
    assert tokenizer.encode("abba") == before
