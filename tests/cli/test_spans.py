"""From an encoder and questions in SQuAD's format to a model that points to answers: learned, asked, scored, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shuyuan import load, pipeline
from shuyuan.errors import Interrupted, RunError
from shuyuan.progress import Stop
from tests.runs import shuyuan
from tests.span_runs import questions, recipe
from tests.train.parts import StopAt

transformers = pytest.importorskip("transformers")
TEXT = "so it went and the hat is green. then " + "they said it was there " * 8 + "."
ASKS = "What colour is the hat ?"


def scores_of(run: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run / "scores.json").read_text())["question-answering"]["original"]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spans")
    table = recipe(folder, questions(400), data={"owner": "who"}, compress={"quantize": ["int8", "int4"]})
    pipeline.run(table, out=folder / "run")
    return folder / "run"


def test_answers_are_learned_and_scored(run: Path) -> None:
    scores = scores_of(run)
    assert scores["validation.exact_match"] > 0.9 > 0.2 > scores["validation.baseline_sentence_exact_match"]
    assert scores["validation.f1_low"] <= scores["validation.f1"] <= scores["validation.f1_high"]
    assert scores["validation.loss"] < 0.2
    details = json.loads((run / "answers.json").read_text())["original"]["validation"]
    assert details["measure"] == "f1" and {each["by"] for each in details["slices"]} >= {"length"}
    page = (run / "report.html").read_text()
    assert "Exact match" in page and "pointed" not in page
    card = (run / "model/README.md").read_text()
    assert "AutoModelForQuestionAnswering" in card and "pipeline_tag: question-answering" in card


def test_a_question_is_answered_with_its_place_or_that_it_is_not_there(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "other.txt").write_text("they said so and it went.")
    asked = ("answer", run, ASKS, "--json", "--context")
    found = shuyuan(*asked, tmp_path / "text.txt").json
    assert found == {"question": ASKS, "answer": "green", "found": True, "start": TEXT.index("green")}
    for variant in ("int8", "int4"):
        assert shuyuan(*asked, tmp_path / "text.txt", "--variant", variant).json["answer"] == "green"
    assert shuyuan("answer", run, ASKS, "--context", tmp_path / "text.txt").stdout == "green\n"
    nothing = shuyuan(*asked, tmp_path / "other.txt").json
    assert (nothing["answer"], nothing["found"], nothing["start"]) == ("not in the text", False, None)
    loaded = load(run)
    answers = list(loaded.answers([ASKS, ASKS], TEXT))
    assert [each.text for each in answers] == ["green", "green"]
    span = loaded.reader()(ASKS, ["they said so", TEXT])
    assert span is not None and span.context == 1 and TEXT[span.start : span.end] == "green"
    assert loaded.reader()(ASKS, ["they said so"]) is None
    with pytest.raises(RunError, match=r"run\.no-context"):
        loaded.answer(ASKS)
    outcome = shuyuan("generate", run, "so")
    assert outcome.status == 1 and "shuyuan answer" in outcome.stderr


def test_transformers_opens_it_and_points_to_the_same_place(run: Path, tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "model"
    assert shuyuan("export", run, "--to", folder).status == 0
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    text = TEXT[:60]
    given = tokenizer(
        ASKS, text, return_tensors="pt", return_offsets_mapping=True, return_token_type_ids=True
    )
    offsets = given.pop("offset_mapping")[0]
    with torch.no_grad():
        said = theirs(**given)
    start, end = int(said.start_logits.argmax()), int(said.end_logits.argmax())
    assert text[offsets[start][0] : offsets[end][1]] == "green" == load(run).answer(ASKS, text).text


def test_a_file_is_scored_beside_another_run(run: Path, tmp_path: Path) -> None:
    rows = questions(40, seed=9)
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    other = tmp_path / "other"
    pipeline.run(recipe(tmp_path, questions(60), train={"budget": "1 steps"}), out=other)
    found = shuyuan("evaluate", run, "--data", tmp_path / "own.jsonl", "--against", other, "--json").json
    assert found["records"] == 40 and found["scores"]["exact_match"] > 0.9
    assert {each["by"] for each in found["slices"]} == {"length", "owner"}, (
        "the last owner has one record alone"
    )
    apart = found["against"]["differences"]
    assert apart.keys() == {"exact_match", "f1"}
    gain = found["scores"]["exact_match"] - found["against"]["scores"]["exact_match"]
    assert apart["exact_match"]["difference"] == pytest.approx(gain) and gain > 0.3
    assert apart["exact_match"]["p_value"] < 1e-3
    shown = shuyuan("evaluate", run, "--data", tmp_path / "own.jsonl", "--against", other).stdout
    assert "on the same records" in " ".join(shown.split()) and "exact_match" in shown
    assert shuyuan("evaluate", run, "--against", other).status == 2


def test_it_goes_on_bit_for_bit_and_from_another_run(tmp_path: Path) -> None:
    table = recipe(tmp_path, questions(60), train={"budget": "6 steps", "checkpoint_every": "2 steps"})
    pipeline.run(table, out=tmp_path / "run")
    stop = Stop()
    with (
        pytest.raises(Interrupted),
        pipeline.begin(table, "train", out=tmp_path / "stopped", progress=StopAt(stop, 3), stop=stop) as job,
    ):
        pipeline.everything(job)
    assert shuyuan("run", tmp_path / "stopped").status == 0
    first, second = (tmp_path / name / "model/model.safetensors" for name in ("run", "stopped"))
    assert first.read_bytes() == second.read_bytes()
    shutil.rmtree(tmp_path / "base")
    found = load(tmp_path / "run").answer(ASKS, TEXT)  # what it starts from is no longer needed
    assert found.text in (TEXT[found.start or 0 :][: len(found.text)], "not in the text")
    again = table | {"model": {"from": str(tmp_path / "run"), "context": 64}, "train": {"budget": "1 steps"}}
    pipeline.run(again, out=tmp_path / "again")
    assert scores_of(tmp_path / "again")["validation.answers"] > 0


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_privately_and_sealed(tmp_path: Path, lora: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "correct horse battery staple")
    train = {"budget": "3 steps", "batch_size": 8} | ({"lora": lora} if lora else {})
    table = recipe(
        tmp_path,
        questions(120, fillers=40),
        train=train,
        data={"owner": "who", "duplicates": "exact"},
        privacy={"epsilon": 8.0, "records_per_unit": 2},
        vault={"key": "env:SHUYUAN_TEST_KEY"},
    )
    summary = pipeline.run(table, out=tmp_path / "run")
    assert 7 < summary["privacy"]["epsilon"] <= 8
    assert shuyuan("verify", tmp_path / "run", "--json").json["ok"]
    assert "green" not in (tmp_path / "run/report.html").read_text()
