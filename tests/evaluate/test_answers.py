"""Answers to held-out prompts: the cases are the records', the baselines look at training records alone, files of one's own."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from shuyuan import pipeline
from shuyuan.data import Manifest, Split, TokenizerFacts, load_manifest, load_tokenizer
from shuyuan.errors import DataError, RunError
from shuyuan.evaluate.predictions import Judged, by_split
from shuyuan.evaluate.prompted import cases_of, prompts_to_answer
from shuyuan.evaluate.slices import SLICES, by_length
from shuyuan.tasks import Summarization, Translation
from shuyuan.tasks.prompted import case_of
from shuyuan.vault import OpenStore
from tests.cli.test_prompted import ROWS, table_of
from tests.runs import shuyuan


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("answers")
    for task in ("translation", "chat"):
        pipeline.run(table_of(folder, task), out=folder / task)
    rows = [{"text": f"{'good' if n % 2 else 'bad'} {n}", "label": str(n % 2)} for n in range(60)]
    (folder / "sentiment.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(folder / "sentiment.jsonl")}
    pipeline.run(table_of(folder, "chat") | {"task": "sentiment", "data": data}, out=folder / "sentiment")
    return {task: folder / task for task in ("translation", "chat", "sentiment")}


def test_stored_rows_are_the_cases_of_their_records(runs: dict[str, Path]) -> None:
    with pipeline.look(runs["translation"]) as job:
        manifest = load_manifest(job.store)
        assert manifest is not None
        cases = cases_of(job.recipe, job.store, manifest, "train", 10_000)
        tokenizer = load_tokenizer(job.store)
    sources = {row["source"]: row["target"] for row in ROWS["translation"]}
    assert len(cases) == manifest.splits["train"].rows
    for case in cases:
        (text,) = case.texts
        there = case.asks == "en>zh: "
        right = sources[text] if there else next(one for one, other in sources.items() if other == text)
        assert case.right == [right]
        assert tokenizer.decode(case.prompt) == f"{'en>zh' if there else 'zh>en'}: {text}\n"
        example = Translation().examples({"s": text, "t": right}, {"source_text": "s", "target": "t"}, "")[0]
        own = case_of(example, [right])
        assert (own.texts, own.asks, own.right) == (case.texts, case.asks, case.right)


def test_of_a_chat_the_last_reply_is_asked_for(tmp_path: Path) -> None:
    talks = [
        {"messages": [{"role": "system", "content": "S"}] + [
            {"role": who, "content": f"{who[0]}{turn} {n}"} for turn in range(2) for who in ("user", "assistant")]}
        for n in range(40)
    ]  # fmt: skip
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)))
    table = table_of(tmp_path, "chat")
    table["data"] |= {"source": str(tmp_path / "talks.jsonl")}
    store = OpenStore(tmp_path / "run")
    recipe = pipeline.locate(table)[1]
    from shuyuan.data import prepare
    from shuyuan.progress import Progress

    manifest = prepare(recipe, store, Progress())
    for case in cases_of(recipe, store, manifest, "train", 5):
        number = case.texts[1].split()[1]
        assert case.texts == ["S", f"u0 {number}", f"a0 {number}", f"u1 {number}"]
        assert case.right == [f"a1 {number}"]


def test_scores_of_a_run_stand_beside_baselines_and_in_a_file_of_their_own(runs: dict[str, Path]) -> None:
    scores = json.loads((runs["translation"] / "scores.json").read_text())["translation"]["original"]
    for name in ("bleu_en_zh", "chrf_zh_en"):
        low, value, high = (scores[f"validation.{name}{end}"] for end in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 100
        assert 0 <= scores[f"validation.baseline_memory_{name}"] <= 100
    details = json.loads((runs["translation"] / "answers.json").read_text())["original"]["validation"]
    assert details["measure"] == "chrf"
    assert [each["slice"] for each in details["slices"]] == list(SLICES)
    assert sum(each["records"] for each in details["slices"]) == scores["validation.answers"]
    worst = [each["score"] for each in details["worst"]]
    assert len(worst) == 5 and worst == sorted(worst)


def test_behind_the_scores_of_labels_stand_slices_and_the_errors_it_was_surest_of(
    runs: dict[str, Path],
) -> None:
    scores = json.loads((runs["sentiment"] / "scores.json").read_text())["sentiment"]["original"]
    found = json.loads((runs["sentiment"] / "labels.json").read_text())["original"]["validation"]
    assert found["measure"] == "accuracy"
    assert [each["by"] for each in found["slices"]] == ["length"] * 3 + ["label"] * 2
    for by in ("length", "label"):
        there = [each for each in found["slices"] if each["by"] == by]
        mean = sum(each["mean"] * each["records"] for each in there) / sum(each["records"] for each in there)
        assert mean == pytest.approx(scores["validation.accuracy"])
    assert (
        scores["validation.macro_f1_low"]
        <= scores["validation.macro_f1"]
        <= scores["validation.macro_f1_high"]
    )
    errors = [each["score"] for each in found["worst"]]
    assert errors == sorted(errors) and all(error <= 0.5 for error in errors)
    assert all(each["answer"] != each["right"] and each["prompt"] for each in found["worst"])
    assert (not errors) == (scores["validation.accuracy"] == 1)


def test_two_runs_are_compared_where_every_record_is_right_or_wrong(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    file = own(
        tmp_path,
        ["text", "label", "who"],
        [[f"good {n}", "1", "ann" if n < 8 else str(n)] for n in range(12)],
    )
    found = pipeline.evaluate_file(
        runs["sentiment"], file, against=runs["sentiment"], columns={"owner": "who"}
    )
    assert found["against"]["differences"] == {
        "accuracy": {"difference": 0, "difference_low": 0, "difference_high": 0, "p_value": 1}
    }
    assert [(each["slice"], each["records"]) for each in found["slices"] if each["by"] == "owner"] == [
        ("few", 4), ("many", 8),
    ]  # fmt: skip
    assert "ann" not in str(found["slices"])
    with pytest.raises(RunError, match=r"run\.other-task"):
        pipeline.evaluate_file(runs["sentiment"], file, against=runs["chat"])


def test_held_out_splits_alone_are_answered() -> None:
    split = Split(10, 10, 900, 1, [], rows=10, learned=50)
    facts = TokenizerFacts("byte", "", 256, None)
    splits = {"train": split, "validation": split, "test": replace(split, rows=0)}
    asked = []

    def score(name: str) -> Judged:
        asked.append(name)
        return {"answers": 10.0}, {}, []

    for manifest in (Manifest(splits, 257, facts), Manifest(splits | {"test": split}, 257, facts)):
        metrics, details, _ = by_split(manifest, score)
        assert set(details) == {name.partition(".")[0] for name in metrics}
    assert asked == ["validation", "validation", "test"]


def test_a_large_model_answers_fewer_prompts() -> None:
    split = Split(1000, 1000, 90_000, 1, [], rows=1000, learned=50_000)
    assert [prompts_to_answer(size, split) for size in (2_000_000, 600_000_000, 7_000_000_000)] == [
        200,
        66,
        20,
    ]


def test_slices_are_thirds_by_length() -> None:
    found = by_length([5, 1, 3, 2, 4, 6], [0.5, 0.1, 0.3, 0.2, 0.4, 0.6])
    assert [(each["from"], each["to"], each["records"]) for each in found] == [
        (1, 2, 2),
        (3, 4, 2),
        (5, 6, 2),
    ]
    assert [each["mean"] for each in found] == pytest.approx([0.15, 0.35, 0.55])
    assert len(by_length([7], [1.0])) == 1


# ---- a file of one's own -------------------------------------------------------------------------------------------


def own(folder: Path, header: list[str], rows: list[list[str]]) -> Path:
    with (folder / "own.csv").open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])
    return folder / "own.csv"


def test_a_file_is_scored_with_intervals_and_slices(runs: dict[str, Path], tmp_path: Path) -> None:
    file = own(tmp_path, ["en", "zh"], [[f"number {n}", f"数字{n}"] for n in range(70, 79)])
    asked = (
        "evaluate",
        runs["translation"],
        "--data",
        file,
        "--column",
        "source_text=en",
        "--column",
        "target=zh",
    )
    told = shuyuan(*asked, "--json").json
    assert (told["task"], told["records"], told["skipped"]) == ("translation", 18, {})
    assert told["scores"].keys() >= {"bleu_en_zh", "bleu_en_zh_low", "chrf_zh_en_high"}
    assert len(told["slices"]) == 3 and len(told["worst"]) == 5
    shown = shuyuan(*asked)
    assert shown.status == 0 and "bleu_en_zh" in shown.stdout and "bleu_en_zh_low" not in shown.stdout
    few = shuyuan(*asked, "--limit", "5", "--json").json
    assert few["records"] == 5


def test_what_the_model_cannot_see_is_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    rows = [[f"number {n}", f"数字{n}"] for n in range(3)] + [["word " * 60, "词"], ["x" * 80, "x" * 90]]
    told = pipeline.evaluate_file(runs["translation"], own(tmp_path, ["source", "target"], rows))
    assert told["records"] == 8
    assert told["skipped"] == {"records whose prompt does not fit 96 tokens": 2}
    with pytest.raises(DataError, match="2 records whose prompt does not fit"):
        pipeline.evaluate_file(
            runs["translation"], own(tmp_path, ["source", "target"], [["x" * 300, "y" * 300]])
        )


def test_labels_of_a_file_are_scored(runs: dict[str, Path], tmp_path: Path) -> None:
    file = own(tmp_path, ["text", "label"], [[f"good {n}", "1"] for n in range(5)] + [["bad", ""]])
    told = pipeline.evaluate_file(runs["sentiment"], file)
    assert (told["records"], told["measure"]) == (5, "accuracy")
    assert 0 <= told["scores"]["accuracy_low"] <= told["scores"]["accuracy"]
    strange = own(tmp_path, ["text", "label"], [["good", "7"], ["bad", "0"]])
    with pytest.raises(DataError, match=r"label of record 1 is none of: 0, 1"):
        pipeline.evaluate_file(runs["sentiment"], strange)


def test_a_model_may_be_asked_for_another_task(runs: dict[str, Path], tmp_path: Path) -> None:
    file = own(tmp_path, ["text", "summary"], [[f"A long text. {n}", f"A {n}"] for n in range(6)])
    told = pipeline.evaluate_file(runs["chat"], file, task="summarization")
    assert told["scores"].keys() >= {"rouge_l", "baseline_lead_rouge_l"}
    texts = pipeline.evaluate_file(runs["chat"], file, task="generation")
    assert texts["scores"]["bits_per_byte"] > 0
    assert texts["scores"]["bits_per_byte_of_a_record_low"] <= texts["scores"]["bits_per_byte_of_a_record"]
    with pytest.raises(RunError, match="no head for summarization"):
        pipeline.evaluate_file(runs["sentiment"], file, task="summarization")
    with pytest.raises(RunError, match=r"no head for sentiment"):
        pipeline.evaluate_file(runs["chat"], own(tmp_path, ["text", "label"], [["a", "1"]]), task="sentiment")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--data", "nowhere.csv"), 1, "data.missing"),
        (("--data", "own.csv"), 1, "data.no-column"),
        (("--data", "own.csv", "--column", "sumary=b"), 1, "recipe.unknown-key"),
        (("--data", "own.csv", "--column", "x"), 2, "FIELD=NAME"),
        (("--task", "chat"), 2, "no effect without --data"),
        (
            ("--data", "own.csv", "--column", "source_text=a", "--column", "target=b", "--limit", "0"),
            2,
            "limit",
        ),
    ],
)
def test_what_cannot_be_scored_is_said(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    told: str,
) -> None:
    own(tmp_path, ["a", "b"], [["one", "一"]])
    monkeypatch.chdir(tmp_path)
    outcome = shuyuan("evaluate", runs["translation"], *arguments)
    assert outcome.status == status
    assert told in outcome.stderr


def test_an_empty_file_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    file = own(tmp_path, ["source", "target"], [["number 1", ""]])
    with pytest.raises(DataError, match="1 records without target"):
        pipeline.evaluate_file(runs["translation"], file)
    assert Summarization.measure == "rouge_l"
