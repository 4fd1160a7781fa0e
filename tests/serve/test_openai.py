"""The real client of OpenAI, against the server on a real port."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.serve import fake
from tests.serve.running import MANY, Door, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("words", "generation"), fake.model("labels", "sentiment")]
    with running(tmp_path_factory.mktemp("state"), models) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(door: Door) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.address}/v1", api_key=door.key(), max_retries=0) as made:
        yield made


HELLO: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello there."}]


def chat(client: openai.OpenAI, **settings: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "demo", "messages": HELLO, "temperature": 0, **settings}
    )


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo", "words", "labels"]
    assert client.models.retrieve("demo").object == "model"


def test_a_chat(client: openai.OpenAI, door: Door) -> None:
    answer = chat(client)
    (choice,) = answer.choices
    assert "Hello there." in choice.message.content and "Be kind." in choice.message.content
    assert (choice.message.role, choice.finish_reason, choice.index) == ("assistant", "stop", 0)
    assert (answer.object, answer.model) == ("chat.completion", "demo")
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens == len(choice.message.content)
    (request,) = [each for each in door.runs["demo"].engine.seen if "Hello there." in each.script][-1:]
    assert request.settings["tenant"]


def test_a_chat_that_is_streamed(client: openai.OpenAI) -> None:
    whole = chat(client).choices[0].message.content
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(whole)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in chat(client, stream=True))


def test_the_end_of_an_answer(client: openai.OpenAI) -> None:
    whole = chat(client).choices[0].message.content
    for name in ("max_tokens", "max_completion_tokens"):
        cut = chat(client, **{name: 5}).choices[0]
        assert (cut.message.content, cut.finish_reason) == (whole[:5], "length")
    for stop in ("there", ["nowhere", "there"]):
        stopped = chat(client, stop=stop).choices[0]
        assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.index("there")], "stop")
        pieces = [chunk.choices[0].delta.content or "" for chunk in chat(client, stop=stop, stream=True)]
        assert "".join(pieces) == whole[: whole.index("there")]


def test_several_answers_and_seeds(client: openai.OpenAI) -> None:
    answer = chat(client, n=3, seed=7, temperature=1, max_tokens=6)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [c.message.content.partition("|")[0] for c in answer.choices] == ["7", "8", "9"]
    again = chat(client, n=3, seed=7, temperature=1, max_tokens=6)
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]
    one, other = (chat(client, temperature=1).choices[0].message.content for _ in range(2))
    assert one.partition("|")[0] != other.partition("|")[0]  # without a seed, chance decides
    told: dict[int, str] = {}
    for chunk in chat(client, n=3, seed=7, temperature=1, max_tokens=6, stream=True):
        (choice,) = chunk.choices
        told[choice.index] = told.get(choice.index, "") + (choice.delta.content or "")
    assert [told[n] for n in range(3)] == [c.message.content for c in answer.choices]


def test_more_answers_than_a_key_has_places(client: openai.OpenAI) -> None:
    answer = chat(client, n=2 * MANY.streams + 1, max_tokens=2)
    assert len(answer.choices) == 2 * MANY.streams + 1
    assert all(len(choice.message.content) == 2 for choice in answer.choices)


def test_logprobs(client: openai.OpenAI) -> None:
    told = chat(client, logprobs=True, top_logprobs=2, max_tokens=4).choices[0].logprobs.content
    assert len(told) == 4
    assert all(math.isclose(each.logprob, -0.5) and len(each.top_logprobs) == 2 for each in told)
    assert bytes(told[0].bytes).decode() == told[0].token
    assert chat(client, max_tokens=4).choices[0].logprobs is None
    text = client.completions.create(model="words", prompt="abcdef", logprobs=1, max_tokens=3, temperature=0)
    assert text.choices[0].logprobs is not None
    assert text.choices[0].logprobs.tokens == ["a", "b", "c"]
    assert text.choices[0].logprobs.text_offset == [0, 1, 2]
    assert text.choices[0].logprobs.top_logprobs == [{"a": -0.5}, {"b": -0.5}, {"c": -0.5}]
    streamed = client.completions.create(
        model="words", prompt="abcdef", logprobs=1, max_tokens=3, temperature=0, stream=True
    )
    offsets = [
        at for chunk in streamed if chunk.choices[0].logprobs for at in chunk.choices[0].logprobs.text_offset
    ]
    assert offsets == [0, 1, 2]


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="words", prompt="The fox", temperature=0)
    assert (answer.object, answer.choices[0].text) == ("text_completion", "The fox")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens == 8
    long = client.completions.create(model="words", prompt="x" * 40, temperature=0)
    assert (len(long.choices[0].text), long.choices[0].finish_reason) == (16, "length")
    several: Any = client.completions.create(model="words", prompt=["one", "two"], temperature=0, n=2)
    assert [choice.text for choice in several.choices] == ["one", "one", "two", "two"]
    tokens: Any = client.completions.create(model="words", prompt=[0, 65, 66], temperature=0)
    assert tokens.choices[0].text == "AB"
    rows: Any = client.completions.create(model="words", prompt=[[0, 65], [0, 66]], temperature=0)
    assert [choice.text for choice in rows.choices] == ["A", "B"]
    streamed = client.completions.create(model="words", prompt="The fox", temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == "The fox"


@pytest.mark.parametrize(
    "settings, kind, code",
    [
        ({"model": "nothing"}, openai.NotFoundError, "serve.no-model"),
        ({"model": "labels"}, openai.BadRequestError, "run.other-task"),
        ({"model": "words"}, openai.BadRequestError, "run.other-task"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, "data.message-order"),
        (
            {"messages": [{"role": "user", "content": "x" * 600}]},
            openai.BadRequestError,
            "inference.too-long",
        ),
        ({"messages": [{"role": "user", "content": "x" * 10**6}]}, openai.BadRequestError, "serve.too-long"),
        ({"temperature": 3}, openai.BadRequestError, "serve.bad-request"),
        ({"top_logprobs": 2}, openai.BadRequestError, "serve.bad-request"),
    ],
)
def test_errors(
    client: openai.OpenAI, settings: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        chat(client, **settings)
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert isinstance(caught.value.body, dict) and caught.value.body["type"]
    with pytest.raises(kind):
        list(chat(client, stream=True, **settings))


def test_who_has_no_key(door: Door) -> None:
    with (
        openai.OpenAI(base_url=f"{door.address}/v1", api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        chat(stranger)


def test_exact_fields(door: Door) -> None:
    """What OpenAI's reference lists, and nothing that it does not."""
    key = door.key("fields")
    body = {"model": "demo", "messages": HELLO, "temperature": 0}
    answer = door.ask("POST", "/v1/chat/completions", body, key).json
    assert answer.keys() == {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"}
    assert answer["choices"][0].keys() == {"index", "message", "logprobs", "finish_reason"}
    assert answer["choices"][0]["message"].keys() == {"role", "content", "refusal"}
    assert answer["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
    streamed = door.ask("POST", "/v1/chat/completions", {**body, "stream": True}, key)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    lines = streamed.body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert {"usage"} & chunks[0].keys() == set()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[1]["choices"][0]["delta"].keys() == {"content"}
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def test_a_model_that_breaks_is_loaded_again(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model="words", prompt="abc" + fake.BREAKS, temperature=0)
    assert caught.value.code == "serve.model-failed"
    assert client.completions.create(model="words", prompt="abc", temperature=0).choices[0].text == "abc"


def test_curl(door: Door) -> None:
    """As docs/serving.md has it."""
    curl = shutil.which("curl") or pytest.skip("there is no curl")
    command = [curl, "-sS", "--max-time", "60", f"{door.address}/v1/chat/completions"]
    command += ["-H", f"Authorization: Bearer {door.key('curl')}", "-H", "Content-Type: application/json"]
    asked = '{"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0'
    whole = subprocess.run([*command, "-d", asked + "}"], capture_output=True, text=True, check=True)
    assert "Hello" in json.loads(whole.stdout)["choices"][0]["message"]["content"]
    streamed = subprocess.run(
        [*command, "-N", "-d", asked + ', "stream": true}'], capture_output=True, text=True, check=True
    )
    assert streamed.stdout.endswith("data: [DONE]\n\n")
