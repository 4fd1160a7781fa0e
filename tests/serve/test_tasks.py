"""The tasks over HTTP: alone and in batches, as the command answers them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve import fake
from tests.serve.running import Door, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("labels", "sentiment"), fake.model("pictures", "sentiment")]
    with running(tmp_path_factory.mktemp("state"), models) as opened:
        yield opened


@pytest.fixture(scope="module")
def key(door: Door) -> str:
    return door.key()


def png(side: int = 4) -> str:
    out = io.BytesIO()
    Image.fromarray(np.full((side, side), 7, np.uint8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_translate(door: Door, key: str) -> None:
    body: dict[str, Any] = {"model": "demo", "text": ["Good day.", "Well."], "to": "zh", "beams": 1}
    told = door.ask("POST", "/v1/translate", body, key)
    assert told.status == 200
    assert told.json.keys() == {"to", "translations", "usage"}
    assert [each["text"] for each in told.json["translations"]] == ["Good day.", "Well."]
    assert ["Good day." in told.json["translations"][0]["translation"]] == [True]
    assert told.json["usage"]["completion_tokens"] > 0
    searched = door.ask("POST", "/v1/translate", {**body, "beams": 4}, key).json
    assert all(each["translation"].startswith("4:") for each in searched["translations"])
    assert ["Well." in each["translation"] for each in searched["translations"]] == [False, True]
    assert searched["usage"]["prompt_tokens"] > 0
    refused = door.ask("POST", "/v1/translate", {**body, "to": "fr"}, key)
    assert (refused.status, refused.code) == (400, "inference.other-language")


def test_streams_go_on_while_beams_are_searched(tmp_path: Path) -> None:
    with running(tmp_path, seconds=0.005) as door:
        key = door.key()
        searched = {"model": "demo", "text": "x" * 100, "beams": 4, "max_tokens": 100}
        written = {"model": "demo", "prompt": "y" * 60, "temperature": 0, "max_tokens": 60}
        ended: list[str] = []

        def ask(path: str, body: dict[str, Any]) -> None:
            assert door.ask("POST", path, body, key).status == 200
            ended.append(path)

        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(ask, "/v1/summarize", searched)]
            door.wait(lambda: "demo" in door.runs and door.runs["demo"].searches > 0)
            asked.append(pool.submit(ask, "/v1/completions", written))
        for each in asked:
            each.result()
        assert ended == ["/v1/completions", "/v1/summarize"]


def test_nobody_searches_for_who_went_away(tmp_path: Path) -> None:
    with running(tmp_path, seconds=0.02) as door:
        body = {"model": "demo", "text": "x" * 400, "beams": 4, "max_tokens": 400}
        connection = door.send("/v1/summarize", body, door.key())
        door.wait(lambda: "demo" in door.runs and door.runs["demo"].searches > 0)
        connection.close()
        door.wait(lambda: door.runs["demo"].searches == 0, 5)


def test_summarize(door: Door, key: str) -> None:
    told = door.ask("POST", "/v1/summarize", {"model": "demo", "text": "It rained."}, key).json
    assert told["summaries"][0]["text"] == "It rained."
    assert "It rained." in told["summaries"][0]["summary"]


def test_a_long_text_is_summarized_by_its_parts(door: Door, key: str) -> None:
    text = " ".join(f"Sentence number {number} is here." for number in range(60))
    body = {"model": "demo", "text": text, "max_tokens": 100}
    short = door.ask("POST", "/v1/summarize", body | {"text": "It rained."}, key)  # the model is there then
    assert short.status == 200
    before = len(door.runs["demo"].engine.seen)
    assert door.ask("POST", "/v1/summarize", body, key).status == 200
    assert len(door.runs["demo"].engine.seen) - before > 3


def test_answer(door: Door, key: str) -> None:
    body = {"model": "demo", "question": ["Who?", "What?"], "context": "Nobody."}
    told = door.ask("POST", "/v1/answer", body, key).json
    assert [each["question"] for each in told["answers"]] == ["Who?", "What?"]
    assert told["answers"][0].keys() >= {"question", "answer", "found", "start"}
    assert door.ask("POST", "/v1/answer", {"model": "demo", "question": "Who?"}, key).status == 200


def test_classify(door: Door, key: str) -> None:
    body = {"model": "labels", "text": ["even", "odd"] * 10}
    told = door.ask("POST", "/v1/classify", body, key).json["labels"]
    assert [each["label"] for each in told] == ["good", "bad"] * 10
    assert told[0] == {"label": "good", "probability": 0.75, "probabilities": {"good": 0.75, "bad": 0.25}}


def test_classify_images(door: Door, key: str) -> None:
    door.ask("POST", "/v1/classify", {"model": "pictures", "text": "x"}, key)  # loads it
    door.runs["pictures"].reads_images = True
    told = door.ask("POST", "/v1/classify", {"model": "pictures", "image": [png(), png(5)]}, key).json
    assert [each["label"] for each in told["labels"]] == ["good", "bad"]
    wrong = door.ask("POST", "/v1/classify", {"model": "pictures", "text": "x"}, key)
    assert (wrong.status, wrong.code) == (400, "serve.other-input")


@pytest.mark.parametrize(
    "path, body, code",
    [
        ("classify", {"model": "labels"}, "serve.bad-request"),
        ("classify", {"model": "labels", "text": "x", "image": png()}, "serve.bad-request"),
        ("classify", {"model": "labels", "image": png()}, "serve.other-input"),
        ("classify", {"model": "demo", "text": "x"}, "run.other-task"),
        ("translate", {"model": "labels", "text": "x", "to": "zh"}, "run.other-task"),
        ("summarize", {"model": "labels", "text": "x"}, "run.other-task"),
        ("answer", {"model": "labels", "question": "x"}, "run.other-task"),
        ("summarize", {"model": "demo", "text": ["x"] * 65}, "serve.bad-request"),
        ("summarize", {"model": "demo", "text": []}, "serve.bad-request"),
        ("summarize", {"model": "demo", "text": "x" * 200_001}, "serve.too-long"),
        ("translate", {"model": "demo", "text": "x", "to": "zh", "beams": 100}, "serve.bad-request"),
    ],
)
def test_refusals(door: Door, key: str, path: str, body: dict[str, Any], code: str) -> None:
    refused = door.ask("POST", f"/v1/{path}", body, key)
    assert refused.code == code
    assert 400 <= refused.status < 500
