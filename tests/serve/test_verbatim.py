"""Answers that repeat a record are ended, and callers do not see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.errors import ServeError
from shuyuan.serve.audit_log import entries_of
from shuyuan.serve.verbatim import Verbatim, verbatim_of
from tests.runs import shuyuan, write_recipe
from tests.serve import fake
from tests.serve.running import running, text_of_events


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5),
    st.lists(st.integers(0, 3), max_size=8),
    st.integers(1, 5),
)
def test_exactly_the_spans_of_records_are_known(rows: list[list[int]], tokens: list[int], span: int) -> None:
    spans = {tuple(row[at : at + span]) for row in rows for at in range(len(row) - span + 1)}
    known = Verbatim([np.asarray(row, np.uint16) for row in rows], span)
    assert known.repeats(tokens) == (len(tokens) >= span and tuple(tokens[-span:]) in spans)


RECORD = "The patient in room seven is Mr. Zyzzogeton, and he pays in cash."


def test_an_answer_ends_before_the_span_does(tmp_path: Path) -> None:
    model = fake.model()
    model.verbatim = Verbatim([list(map(ord, RECORD))], 20)
    with running(tmp_path, [model]) as door:
        key = door.key()
        body = {"model": "demo", "prompt": f"Well. {RECORD} Yes.", "temperature": 0, "max_tokens": 200}
        answer = door.ask("POST", "/v1/completions", body, key)
        (choice,) = answer.json["choices"]
        assert choice["text"] == f"Well. {RECORD[:19]}"
        assert choice["finish_reason"] == "stop"
        assert answer.json["usage"]["completion_tokens"] == len(choice["text"]) + 1  # as if with an end token
        fine = door.ask("POST", "/v1/completions", {**body, "prompt": "A short one."}, key)
        assert fine.headers.keys() == answer.headers.keys()  # nothing tells the one from the other
        assert fine.json["choices"][0].keys() == choice.keys()
        streamed = door.ask("POST", "/v1/completions", {**body, "stream": True}, key).body.decode()
        assert text_of_events(streamed) == choice["text"]
        several = door.ask("POST", "/v1/completions", {**body, "prompt": [RECORD, "Fine."]}, key).json
        assert [each["text"] for each in several["choices"]] == [RECORD[:19], "Fine."]
        searched = {"model": "demo", "text": RECORD, "beams": 2, "max_tokens": 300}
        (summary,) = door.ask("POST", "/v1/summarize", searched, key).json["summaries"]
        assert RECORD[:19] in summary["summary"] and RECORD[:20] not in summary["summary"]
        door.wait(lambda: not door.runs["demo"].engine.active)
        figures = door.server.metrics.render().decode()
        assert "verbatim" not in figures
    told = [entry.get("verbatim") for entry in entries_of(tmp_path) if entry["event"] == "request"]
    assert told == [1, None, 1, 1, 1]


def test_the_records_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "correct horse battery staple")
    recipe = write_recipe(tmp_path, sealed=True)
    assert shuyuan("prepare", recipe, "--out", tmp_path / "run").status == 0
    known = verbatim_of(tmp_path / "run", None, 20)
    assert known is not None
    from shuyuan.data import load_tokenizer
    from shuyuan.pipeline import look

    with look(tmp_path / "run") as job:
        tokenizer = load_tokenizer(job.store)
    lines = (tmp_path / "notes.txt").read_text().splitlines()
    found = [known.repeats(tokenizer.encode(line)) for line in lines]
    assert 0.7 < sum(found) / len(found) < 0.9  # the training split; the validation split is unknown
    assert not known.repeats(tokenizer.encode("nothing that stands in any record of this run"))


def test_what_is_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, privacy='epsilon = 8.0\nunit = "record"')
    assert shuyuan("prepare", recipe, "--out", tmp_path / "run").status == 0
    with pytest.raises(ServeError, match=r"serve\.verbatim-private"):
        verbatim_of(tmp_path / "run", None, 50)
    with pytest.raises(ServeError, match=r"serve\.short-span"):
        verbatim_of(tmp_path / "run", None, 3)
