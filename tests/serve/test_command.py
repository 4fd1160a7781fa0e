"""`shuyuan serve` itself, with a real run: what it answers is what the other verbs answer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

import shuyuan as library
from tests.runs import shuyuan, write_recipe
from tests.serve.running import serving, text_of_events
from tests.serve.test_isolation import begin, cut

KEY = "correct horse battery staple"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny sealed run with a variant."""
    folder = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHUYUAN_TEST_KEY", KEY)
        recipe = write_recipe(folder, sealed=True, compress='quantize = "int8"')
        outcome = shuyuan("run", recipe, "--out", folder / "tiny", "--json")
        assert outcome.status == 0, outcome.stderr
        yield folder / "tiny"


def test_the_same_text_as_from_the_command(sealed: Path, tmp_path: Path) -> None:
    with serving(tmp_path, sealed) as door:
        key = door.key()
        models = [each["id"] for each in door.ask("GET", "/v1/models", key=key).json["data"]]
        assert models == ["tiny", "tiny:int8"]
        for model, variant in (("tiny", "original"), ("tiny:int8", "int8")):
            settings = {"temperature": 0.7, "seed": 5, "top_k": 5}
            body = {"model": model, "prompt": "line 7: the", "max_tokens": 12, **settings}
            told = door.ask("POST", "/v1/completions", body, key).json["choices"][0]["text"]
            run = library.load(sealed, variant=variant)
            assert told == run.generate("line 7: the", max_tokens=12, **settings)
        long = door.ask("POST", "/v1/completions", {"model": "tiny", "prompt": "fox " * 30}, key)
        assert (long.status, long.code) == (400, "serve.too-long")


def test_logprobs_of_a_real_model(sealed: Path, tmp_path: Path) -> None:
    with serving(tmp_path, sealed) as door:
        body = {"model": "tiny", "prompt": "line", "max_tokens": 5, "temperature": 0, "logprobs": 3}
        told = door.ask("POST", "/v1/completions", body, door.key()).json["choices"][0]["logprobs"]
        assert len(told["tokens"]) == 5
        for drawn, top in zip(told["token_logprobs"], told["top_logprobs"], strict=True):
            assert drawn <= 0 and drawn == pytest.approx(
                max(top.values()), abs=1e-4
            )  # the likeliest is drawn


def test_many_at_once_get_what_each_gets_alone(sealed: Path, tmp_path: Path) -> None:
    """Also beside some that go away in the middle."""
    with serving(tmp_path, sealed) as door:
        keys = [door.key(f"user-{number}") for number in range(6)]

        def ask(number: int) -> str:
            body = {"model": "tiny", "prompt": f"line {number}: the", "seed": number, "max_tokens": 16}
            key = keys[number % 6]
            if number % 5 == 4:
                cut(begin(door, key, "tiny", "line"), hard=True)
            streamed = door.ask("POST", "/v1/completions", {**body, "stream": True}, key).body.decode()
            return text_of_events(streamed)

        alone = [ask(number) for number in range(18)]
        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(ask, range(18))) == alone
        model = door.server.shelf.find("tiny")
        door.wait(lambda: model.users == 0)
        assert model.line.free == model.line.places


def test_the_page_of_a_run(sealed: Path, tmp_path: Path) -> None:
    with serving(tmp_path, sealed) as door:
        key = door.key("reader", "auditor")
        first, second = door.ask("GET", "/admin/runs", key=key).json["runs"]
        assert (first["model"], second["variant"], first["task"]) == ("tiny", "int8", "generation")
        assert 0 < second["bytes"] < first["bytes"] and not first["loaded"]
        page = door.ask("GET", "/admin/runs/tiny/report", key=key)
        assert page.body == (sealed / "report.html").read_bytes()
        assert page.headers["content-type"].startswith("text/html")
        assert "script" not in page.headers["content-security-policy"]
        assert door.ask("GET", "/admin/runs/nothing/report", key=key).code == "serve.no-model"


@pytest.mark.slow
def test_the_process(sealed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shuyuan", "serve", str(sealed), "--port", "0", "--state", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "Serving at" in line:
                break
        (key,) = re.findall(r"sk-[0-9a-f]{16}-\S{43}", said)
        (address,) = re.findall(r"http://\S+", said.splitlines()[-1])
        with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as client:
            answer = client.completions.create(model="tiny", prompt="line 7:", max_tokens=6)
            assert answer.usage is not None and answer.usage.completion_tokens > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert shuyuan("verify", tmp_path, "--json").json["ok"]


def test_what_cannot_be_served(sealed: Path, tmp_path: Path) -> None:
    state = ("--state", tmp_path, "--json")
    for arguments, code in (
        ([tmp_path / "nothing"], "run.not-a-run"),
        ([sealed, sealed], "serve.same-name"),
        ([sealed, "--memory", "0.0000001"], "serve.no-memory"),
        ([sealed, "--tls-cert", sealed], "serve.half-tls"),
        ([sealed, "--guard", tmp_path / "nothing.toml"], "serve.bad-guard"),
        ([sealed, "--host", "203.0.113.7"], "serve.cannot-listen"),
    ):
        outcome = shuyuan("serve", *arguments, *state)
        assert outcome.status == 1
        assert outcome.json["error"]["code"] == code
