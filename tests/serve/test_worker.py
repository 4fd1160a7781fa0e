"""What a model writes reaches who waits for it in as few events as nobody notices, and whole."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.serve.running import Door, running

TEXT = "".join(chr(0x4E00 + place) for place in range(250))


def events(door: Door, key: str, **more: Any) -> list[Any]:
    body = {"model": "demo", "prompt": TEXT, "temperature": 0, "max_tokens": 500, "stream": True, **more}
    lines = door.ask("POST", "/v1/completions", body, key).body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [choice for line in lines[:-2] for choice in json.loads(line[6:])["choices"]]


def test_a_fast_model_says_much_in_an_event(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        key = door.key()
        told = events(door, key)
        assert len(told[0]["text"]) < 10  # the first does not wait for more
        assert len(told) < len(TEXT) / 3
        assert "".join(each["text"] for each in told) == TEXT
        assert [each["finish_reason"] for each in told] == [None] * (len(told) - 1) + ["stop"]
        told = events(door, key, logprobs=1)
        tokens = [token for each in told for token in each["logprobs"]["tokens"]]
        offsets = [offset for each in told for offset in each["logprobs"]["text_offset"]]
        assert "".join(tokens) == TEXT and offsets == list(range(len(TEXT)))


def test_a_slow_model_says_each_token_at_once(tmp_path: Path) -> None:
    with running(tmp_path, seconds=0.06) as door:
        told = events(door, door.key(), max_tokens=6)
        assert [each["text"] for each in told] == list(TEXT[:6])


def test_several_answers_share_an_event_each_with_its_own(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        texts = [f"{number} {TEXT}" for number in range(3)]
        told = events(door, door.key(), prompt=texts)
        for number, text in enumerate(texts):
            assert "".join(each["text"] for each in told if each["index"] == number) == text


def test_the_loop_is_woken_seldom(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        key = door.key()
        events(door, key, max_tokens=1)
        worker = door.server.shelf.find("demo").worker
        assert worker is not None
        tell, woken, begun = worker._tell, [], time.monotonic()
        worker._tell = lambda *what: (woken.append(what), tell(*what))  # type: ignore[method-assign,assignment,func-returns-value]
        events(door, key)
        assert len(woken) < 10 + (time.monotonic() - begun) / 0.005
