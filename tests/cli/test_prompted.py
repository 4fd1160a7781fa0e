"""Tasks with prompts through the command: from a file to a run, and from a text, stdin or a column to answers."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import shuyuan as library
from shuyuan import pipeline
from shuyuan.errors import RunError
from shuyuan.loaded import LoadedRun
from shuyuan.tasks import Answer
from tests.models.hub_folders import written
from tests.runs import Outcome, shuyuan

MODEL = {"layers": 1, "width": 32, "heads": 2, "hidden": 64, "context": 96}
TRAIN = {"budget": "4 steps", "batch_size": 8, "precision": "fp32", "evaluations": 1}
ROWS: dict[str, list[dict[str, Any]]] = {
    "translation": [{"source": f"number {n}", "target": f"数字{n}"} for n in range(60)],
    "summarization": [
        {"text": f"A text on {n}. It goes on and on.", "summary": f"On {n}"} for n in range(60)
    ],
    "question-answering": [
        {"question": f"What is {n}?", "context": f"{n} is {n * n}. So.", "answer": str(n * n)}
        for n in range(60)
    ],
    "chat": [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n + 1}!"}]}
        for n in range(60)
    ],
}


def table_of(folder: Path, task: str, **more: Any) -> dict[str, Any]:
    file = folder / f"{task}.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS[task]))
    data = {"source": str(file), "duplicates": "keep", "validation": 0.2}
    return {"task": task, "data": data, "model": dict(MODEL), "train": dict(TRAIN), **more}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny run of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in ROWS:
        pipeline.run(table_of(folder, task), out=folder / task)
    return {task: folder / task for task in ROWS}


def done(*arguments: str | Path, stdin: str | None = None) -> Outcome:
    outcome = shuyuan(*arguments, stdin=stdin)
    assert outcome.status == 0, outcome.stderr
    return outcome


@pytest.mark.parametrize("task", ROWS)
def test_a_run_tells_what_it_answers_beside_the_records(runs: dict[str, Path], task: str) -> None:
    summary = shuyuan("info", runs[task], "--json").json
    scores = summary["scores"][task]["original"]
    assert 0 < scores["validation.loss"] < 7
    assert scores["validation.bits_per_byte"] > 0 < scores["validation.bigram_loss"]
    samples = json.loads((runs[task] / "samples.json").read_text())
    answers = {row.get("target", row.get("summary", row.get("answer"))) for row in ROWS[task]}
    assert len(samples) == 3
    assert all(sample["answer"] for sample in samples)
    if task in ("summarization", "question-answering"):
        assert {sample["answer"] for sample in samples} <= answers
    assert "<html" in (runs[task] / "report.html").read_text()


@pytest.mark.parametrize("task", ["translation", "question-answering", "chat"])
def test_what_to_type_next_asks_what_was_held_out(runs: dict[str, Path], task: str) -> None:
    """The question itself, not the first words of the text before it, and the language to translate into."""
    last = done("run", runs[task]).stdout.rstrip().split("\n")[-1]
    asked = json.loads((runs[task] / "samples.json").read_text())[0]["asked"]
    assert asked and shlex.quote(asked) in last
    assert "LANGUAGE" not in last


def test_translate(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["translation"]
    asked = ("--to", "zh", "--max-tokens", "9")
    told = done("translate", run, "number 7", *asked, "--json").json
    assert told["to"] == "zh"
    assert told["translations"][0]["text"] == "number 7"
    by_call = library.load(run).translate("number 7", "zh", max_tokens=9)
    assert told["translations"][0]["translation"] == by_call
    assert done("translate", run, *asked, stdin="number 7\n").stdout.rstrip("\n") == by_call
    assert done("translate", run, "-", *asked, stdin="number 7").stdout.rstrip("\n") == by_call
    (tmp_path / "many.csv").write_text("id,words\n1,number 7\n2,number 8\n")
    many = done(
        "translate", run, "--input", tmp_path / "many.csv", "--column", "words", *asked, "--beams", "1"
    )
    assert len(many.stdout.splitlines()) == 2
    lines = done(
        "translate",
        run,
        "--input",
        runs["chat"].parent / "translation.jsonl",
        "--column",
        "source",
        *asked,
        "--beams",
        "1",
        "--json",
    ).json
    assert [pair["text"] for pair in lines["translations"]] == [row["source"] for row in ROWS["translation"]]


def test_summarize_and_answer(runs: dict[str, Path], tmp_path: Path) -> None:
    text = "A text on 3. " * 30
    told = done("summarize", runs["summarization"], text, "--max-tokens", "5", "--json").json
    assert told["summaries"][0]["text"] == text
    assert (
        library.load(runs["summarization"]).summarize(text, max_tokens=5) == told["summaries"][0]["summary"]
    )
    (tmp_path / "context.txt").write_text("3 is 9. So.")
    run, question = runs["question-answering"], "What is 3?"
    told = done(
        "answer", run, question, "--context", tmp_path / "context.txt", "--max-tokens", "5", "--json"
    ).json
    assert told.keys() == {"question", "answer", "found", "start"}
    assert library.load(run).answer(question, "3 is 9. So.", max_tokens=5).text == told["answer"]
    assert (
        done("answer", run, question, "--context", "-", "--max-tokens", "5", stdin="3 is 9. So.").stdout
        == told["answer"] + "\n"
    )
    assert "answer" in done("answer", run, question, "--json").json


def test_a_run_reads_the_passages_of_an_index(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("The canteen\n\nIt opens at noon.")
    (tmp_path / "faq.csv").write_text("question,answer\nwhen,now\n")
    done("index", tmp_path / "a.txt", "--out", tmp_path / "i")
    done("index", tmp_path / "faq.csv", "--answer", "answer", "--out", tmp_path / "faq")
    run, question = runs["question-answering"], "When opens the canteen?"
    told = done("answer", run, question, "--index", tmp_path / "i", "--max-tokens", "5", "--json").json
    assert told["answer"] is None or told["answer"] in told["passages"][0]["text"]

    def at_noon(self: LoadedRun, question: str, context: str, max_tokens: int) -> Answer:
        return Answer("noon", True, context.index("noon"))

    monkeypatch.setattr(LoadedRun, "answer", at_noon)
    source = done("answer", run, question, "--index", tmp_path / "i", "--json").json["source"]
    assert (source["text"], source["line"], source["start"], source["end"]) == ("noon", 3, 25, 29)
    outcome = shuyuan("answer", run, question, "--index", tmp_path / "faq", "--json")
    assert outcome.json["error"]["code"] == "retrieval.nothing-to-read"


def test_questions_and_beginnings_from_a_column(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text("id,question\n1,What is 3?\n2,What is 4?\n")
    (tmp_path / "context.txt").write_text("3 is 9. So.")
    run, few = runs["question-answering"], ("--max-tokens", "5")
    asked = ("answer", run, "--input", tmp_path / "asked.csv", "--context", tmp_path / "context.txt", *few)
    told = done(*asked, "--json").json["answers"]
    assert [each["question"] for each in told] == ["What is 3?", "What is 4?"]
    assert told[1]["answer"] == library.load(run).answer("What is 4?", "3 is 9. So.", max_tokens=5).text
    assert len(done(*asked).stdout.splitlines()) == 2
    assert shuyuan(*asked[:2], "What?", *asked[2:]).status == 2
    texts = ("generate", runs["chat"], "--input", tmp_path / "asked.csv", "--column", "question", *few)
    told = done(*texts, "--temperature", "0", "--json").json
    assert [each["prompt"] for each in told["texts"]] == ["What is 3?", "What is 4?"]
    alone = library.load(runs["chat"]).generate("What is 3?", max_tokens=5, temperature=0.0)
    assert told["texts"][0]["text"] == alone
    assert len(done(*texts).stdout.splitlines()) == 2
    assert shuyuan(*texts[:2], "What", *texts[2:], "--json").json["error"]["code"] == "data.two-inputs"


def test_chat_replies_once_to_an_argument_or_to_stdin(runs: dict[str, Path]) -> None:
    run, settings = runs["chat"], ("--max-tokens", "6", "--temperature", "0")
    told = done("chat", run, "7?", "--system", "Be brief.", *settings, "--json").json
    assert [message["role"] for message in told["messages"]] == ["system", "user", "assistant"]
    assert told["messages"][2]["content"] == told["reply"]
    said = done("chat", run, "--system", "Be brief.", *settings, stdin="7?\n").stdout.strip()
    assert said == told["reply"]
    messages = told["messages"][:2]
    assert library.load(run).chat(messages, max_tokens=6, temperature=0.0) == told["reply"]


def test_a_talk_at_a_terminal(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def reply(self: Any, messages: list[dict[str, str]], **_: Any) -> Any:
        asked.append([message["content"] for message in messages])
        if messages[-1]["content"] == "too long":
            raise RunError("x.y", "It is longer.", mend="Shorten it.")
        return iter(["so", "\x1b[1m"])

    lines = iter(["7?", "too long", " 8? ", "/quit"])
    monkeypatch.setattr("shuyuan.cli.chat._at_a_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    monkeypatch.setattr(LoadedRun, "reply", reply)
    said = done("chat", runs["chat"], "--system", "Be brief.").stdout
    assert asked == [
        ["Be brief.", "7?"],
        ["Be brief.", "7?", "so\x1b[1m", "too long"],
        ["Be brief.", "7?", "so\x1b[1m", "8?"],
    ]
    assert "It is longer. Shorten it." in said


def test_classify_reads_a_column_of_a_file(tmp_path: Path) -> None:
    rows = [{"text": f"{'good' if n % 2 else 'bad'} {n}", "label": str(n % 2)} for n in range(60)]
    (tmp_path / "reviews.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = {
        "task": "sentiment",
        "data": {"source": str(tmp_path / "reviews.jsonl")},
        "model": MODEL,
        "train": TRAIN,
    }
    pipeline.run(table, out=tmp_path / "run")
    told = done("classify", tmp_path / "run", "--input", tmp_path / "reviews.jsonl", "--json").json["texts"]
    assert [each["text"] for each in told] == [row["text"] for row in rows]
    refused = shuyuan("classify", tmp_path / "run", "good", "--input", tmp_path / "reviews.jsonl", "--json")
    assert refused.json["error"]["code"] == "data.two-inputs"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("translate", "translation", "hi", "--to", "fr"), "inference.other-language"),
        (("translate", "summarization", "hi", "--to", "zh"), "run.other-task"),
        (("summarize", "chat", "hi"), "run.other-task"),
        (("chat", "translation", "hi"), "run.other-task"),
        (("answer", "chat", "hi"), "run.other-task"),
        (("summarize", "summarization", " "), "data.no-input"),
        (("summarize", "summarization", "hi", "--input", "x.csv"), "data.two-inputs"),
        (("summarize", "summarization", "--input", "x.csv"), "data.missing"),
        (("translate", "translation", "hi", "--to", "zh", "--beams", "0"), "inference.bad-setting"),
        (("answer", "question-answering", "hi", "--context", "nowhere.txt"), "data.missing"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    runs: dict[str, Path], arguments: tuple[str, ...], code: str
) -> None:
    verb, task, *more = arguments
    outcome = shuyuan(verb, runs[task], *more, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (1, code)


def test_a_file_without_the_column_names_those_it_has(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "many.csv").write_text("id,words\n1,number 7\n")
    outcome = shuyuan("summarize", runs["summarization"], "--input", tmp_path / "many.csv", "--json")
    assert outcome.json["error"]["code"] == "data.no-column"
    assert outcome.json["error"]["where"].endswith("many.csv:2")
    assert "id, words" in outcome.json["error"]["mend"]


def test_the_folder_of_a_chat_opens_in_transformers_with_its_template(runs: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(runs["chat"] / "model"))
    messages = [{"role": "user", "content": "7?"}]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    loaded = library.load(runs["chat"])
    assert theirs == loaded.predictor.tokens(loaded.task.prompt(messages), 10)


def test_private_and_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "a passphrase for a test")
    more = {"privacy": {"epsilon": 8.0, "unit": "record"}, "vault": {"key": "env:SHUYUAN_TEST_KEY"}}
    summary = pipeline.run(table_of(tmp_path, "translation", **more), out=tmp_path / "run")
    assert summary["privacy"]["units"] == pytest.approx(48, abs=12)
    assert summary["privacy"]["epsilon"] <= 8.0
    text = (tmp_path / "run/report.html").read_text()
    assert "数字" not in text
    done("translate", tmp_path / "run", "number 7", "--to", "zh", "--max-tokens", "5")
    assert not any(
        "数字".encode() in file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("translation", "pairs.csv"),
        ("summarization", "articles.csv"),
        ("question-answering", "questions.json"),
        ("chat", "chat.jsonl"),
    ],
)
def test_the_ready_recipes_take_their_file_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ROWS[name]
    if file.endswith(".csv"):
        with Path(file).open("w", newline="") as out:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif file.endswith(".json"):
        asked = [
            {"title": "t", "paragraphs": [{"context": row["context"], "qas": [
                {"question": row["question"], "answers": [{"text": row["answer"], "answer_start": 0}]}]}]}
            for row in rows
        ]  # fmt: skip
        Path(file).write_text(json.dumps({"data": asked}))
    else:
        Path(file).write_text("\n".join(map(json.dumps, rows)))
    small = ["model.layers=1", "model.width=32", "model.context=64", "train.budget=2 steps", "train.batch_size=4",
             "data.duplicates=keep", "data.validation=0.2", "tokenizer.vocab_size=300"]  # fmt: skip
    changes = [word for change in small for word in ("--set", change)]
    told = done("run", name, *changes, "--json").json
    assert (told["status"], told["task"]) == ("complete", name)
    assert told["scores"][name]["original"]["validation.answers"] > 0


def test_one_run_for_several_tasks(tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    rows = [{"task": task} | row for task in ROWS for row in ROWS[task]]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    data = {"source": str(file), "duplicates": "keep", "validation": 0.2}
    run = tmp_path / "run"
    pipeline.run({"task": "mixed", "data": data, "model": dict(MODEL), "train": dict(TRAIN)}, out=run)
    scores = shuyuan("info", run, "--json").json["scores"]["mixed"]["original"]
    names = ("translation_bleu_en_zh", "summarization_rouge_l", "question_answering_f1", "chat_chrf")
    for name in names:
        assert f"validation.{name}" in scores and f"validation.baseline_simple_{name}" in scores
    page = (run / "report.html").read_text()
    assert "question answering: F1" in page and "translation: BLEU" in page
    few = ("--max-tokens", "4", "--json")
    assert done("translate", run, "number 7", "--to", "zh", *few).json["translations"]
    assert done("summarize", run, "A text.", *few).json["summaries"]
    assert "answer" in done("answer", run, "What is 3?", *few).json
    assert "reply" in done("chat", run, "3?", *few).json
    assert shuyuan("generate", run, "3", "--title").status == 1
    (tmp_path / "own.jsonl").write_text(json.dumps(ROWS["summarization"][0]))
    own = done("evaluate", run, "--data", tmp_path / "own.jsonl", "--task", "summarization", "--json").json
    assert own["task"] == "summarization" and 0 <= own["scores"]["rouge_l"] <= 1
    done("evaluate", run, "--data", file, "--limit", "8", "--json")


def test_replies_to_many_messages_of_a_file(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text("question\n3?\n4?\n5?\n")
    asked = (
        "--input",
        tmp_path / "asked.csv",
        "--column",
        "question",
        "--max-tokens",
        "6",
        "--system",
        "Be brief.",
    )
    told = done("chat", runs["chat"], *asked, "--temperature", "0", "--json").json["replies"]
    assert [each["message"] for each in told] == ["3?", "4?", "5?"]
    for each in told:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": each["message"]}]
        assert library.load(runs["chat"]).chat(messages, max_tokens=6, temperature=0.0) == each["reply"]
    lines = done("chat", runs["chat"], *asked, "--temperature", "0").stdout.splitlines()
    assert len(lines) == 3
    assert shuyuan("chat", runs["chat"], "hi", *asked).status == 1


def test_a_model_that_talks_already_is_tuned_by_the_ready_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    written("qwen3", tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    special = json.loads((tmp_path / "model/tokenizer.json").read_text())["added_tokens"][0]["content"]
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps({"eos_token": special}))
    monkeypatch.chdir(tmp_path)
    Path("chat.jsonl").write_text("\n".join(map(json.dumps, ROWS["chat"])))
    small = ("--set", "model.context=64", "--set", "train.budget=2 steps", "--set", "data.validation=0.2")
    told = done("run", "instruct", *small, "--json").json
    assert (told["status"], told["task"]) == ("complete", "chat")
    done("chat", "runs/instruct", "3?", "--max-tokens", "4")


def test_a_text_is_written_to_a_title(tmp_path: Path) -> None:
    rows = [{"head": f"On {n}", "text": f"A text on {n}. It goes on."} for n in range(60)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(tmp_path / "texts.jsonl"), "title": "head", "duplicates": "keep"}
    run = tmp_path / "run"
    pipeline.run({"data": data, "model": dict(MODEL), "train": dict(TRAIN)}, out=run)
    told = done("generate", run, "On 7", "--title", "--max-tokens", "8", "--json").json
    assert told["prompt"] == "On 7\n\n"
    assert library.load(run).write("On 7", max_tokens=8, seed=1) == told["text"]
    (tmp_path / "heads.txt").write_text("On 7\nOn 8\n")
    many = done("generate", run, "--input", tmp_path / "heads.txt", "--title", "--max-tokens", "8", "--json")
    assert [each["prompt"] for each in many.json["texts"]] == ["On 7\n\n", "On 8\n\n"]
