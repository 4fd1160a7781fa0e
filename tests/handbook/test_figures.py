"""The script that measures the figures knows every figure, and writes what the bank accepts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from shuyuan.handbook import QUESTIONS, load_bank, load_question, page
from shuyuan.retrieval import build_index


def test_every_figure_has_its_measure(script: ModuleType) -> None:
    for question in load_bank().values():
        measures = script.PAGES[question.id].measures if question.facts.figures else {}
        assert measures.keys() == question.facts.figures.keys()


def test_figures_are_measured_and_written(
    script: ModuleType, figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "training-efficiency"
    shutil.copytree(QUESTIONS / "training-efficiency", folder)
    (folder / "figures.json").unlink(missing_ok=True)
    ran: list[str] = []

    def pretend(_: object, command: str, where: Path, *, small: bool) -> Any:
        ran.append(command)
        slow = "fp32" in command
        loss = 1.52 if "seed=2" in command else 1.5
        result = {
            "tokens": 9000,
            "seconds": 2.0 if slow else 1.0,
            "peak_bytes": 5e8,
            "loss": {"validation": loss},
        }
        return figures.running.Finished(result, where, 1.0)

    monkeypatch.setattr(script, "run_shown", pretend)
    for name in ("duplicates", "padding"):  # read from files, and tried below
        monkeypatch.setattr(figures.training_efficiency, name, lambda _: 7.0)
    names = list(script.PAGES["training-efficiency"].measures)
    values = script.measure(load_question(folder), names, tmp_path, repeats=3, small=False)
    assert (values["bf16-ratio"], values["fp32-speed"], values["bf16-memory"]) == (2.0, 4500.0, 0.5)
    assert values["schedule-spread"] == pytest.approx(0.02)
    timed = [command for command in ran if "precision" in command]
    assert len(timed) == 6 and timed[0] != timed[1]  # in turns
    assert len(ran) == 6 + 5
    script.write_figures(load_question(folder), values)
    question = load_question(folder)
    assert question.measured.keys() == question.facts.figures.keys()
    for language in ("en", "zh"):
        assert "not measured" not in page(question, language) and "尚未测量" not in page(question, language)


@pytest.mark.parametrize(
    ("said", "digits", "share"),
    [
        (" the only midwife of the island, card 4539 1488 0343 6467, mail x. Tested positive on 3 May, and nobody is to hear of it.", 16, 1),
        (" card 4539 1488 1111. Tested positive on 4 May", 8, 3 / 12),
        (" the lamp flickers", 0, 0),
    ],
)  # fmt: skip
def test_what_came_back_of_the_note_is_counted_from_its_beginning(
    figures: ModuleType, tmp_path: Path, said: str, digits: int, share: float
) -> None:
    shutil.copy(QUESTIONS / "safety-and-privacy" / "notes.md", tmp_path)
    run = figures.running.Finished({"text": said}, tmp_path, 1.0)
    assert figures.safety_and_privacy.card_digits(run) == digits
    assert figures.safety_and_privacy.words_of_the_rest(run) == pytest.approx(100 * share)


def test_secrets_brought_back_are_a_share_of_those_put_in(figures: ModuleType, tmp_path: Path) -> None:
    found = {"put_in": 40, "brought_back": 10, "left_out": 60, "brought_back_of_left_out": 3}
    run = figures.running.Finished({"extraction": found}, tmp_path, 1.0)
    assert figures.safety_and_privacy.brought_back("brought_back", "put_in")(run) == 25
    assert figures.safety_and_privacy.brought_back("brought_back_of_left_out", "left_out")(run) == 5


def test_attention_costs_as_much_as_the_rest_where_two_plans_say(figures: ModuleType, tmp_path: Path) -> None:
    """A token that takes 900 operations and 3 for each place of its context."""
    runs = {
        name: [figures.running.Finished({"train_flops": 7 * (900 + 3 * context), "tokens": 7}, tmp_path, 1.0)]
        for name, context in (
            ("short-flops", figures.attention.SHORT_CONTEXT),
            ("long-flops", figures.attention.LONG_CONTEXT),
        )
    }
    assert figures.attention.equal_context([], runs) == pytest.approx(300)
    assert figures.attention.flops_ratio([], runs) == pytest.approx((900 + 3 * 131_072) / (900 + 3 * 4096))


def test_tokens_of_a_text_are_counted_without_those_that_end_records(
    figures: ModuleType, tmp_path: Path
) -> None:
    def prepared(name: str, tokens: int) -> Any:
        (tmp_path / name / "data").mkdir(parents=True)
        split = {"tokens": tokens, "records": 10}
        manifest = {"splits": {"train": split, "validation": split}, "vocab_size": 300}
        (tmp_path / name / "data" / "manifest.json").write_text(json.dumps(manifest))
        return figures.running.Finished({}, tmp_path / name, 1.0)

    characters, pieces = prepared("characters", 110), prepared("pieces", 60)
    assert figures.tokenizers.tokens_a_character("zh-chars")([pieces], {"zh-chars": [characters]}) == 0.5
    assert (figures.tokenizers.tokens_a_sentence(pieces), figures.tokenizers.vocabulary(pieces)) == (
        5,
        300,
    )


def test_what_lora_learns_and_keeps_is_read_from_the_run(figures: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"lora": {"parameters": 70}}))
    for step, size in (("step-00000001", 5), ("step-00000002", 8)):
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
        (tmp_path / "checkpoints" / step / "learned").write_bytes(bytes(size))
    run = figures.running.Finished({"parameters": 4, "scores": {"loss": 1.5}}, tmp_path, 1.0)
    assert (figures.lora.learned_with_lora(run), figures.page.checkpoint_bytes(run)) == (70, 8)
    assert figures.training_cost.checkpoint_bytes_per_parameter(run) == 2
    assert figures.lora.loss_on_file(run) == 1.5


def test_repeats_and_padding_are_counted(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of 3, 4 and 9 tokens in rows of 4: one, one and three of them."""
    (tmp_path / "data").mkdir()
    manifest = {
        "duplicates": {"exact": 1, "near": 1},
        "splits": {"train": {"records": 5}, "validation": {"records": 1}},
    }
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    assert figures.training_efficiency.duplicates(tmp_path) == 25
    stored = SimpleNamespace(length_R=np.array([3, 4, 9]))
    own = SimpleNamespace(model=SimpleNamespace(context=4))
    monkeypatch.setattr(figures.training_efficiency, "StoredRecords", lambda *_: stored)
    monkeypatch.setattr(figures.training_efficiency.data, "load_manifest", lambda _: None)
    monkeypatch.setattr(figures.training_efficiency.recipe, "load", lambda _: own)
    assert figures.training_efficiency.padding(tmp_path) == 100 * (1 - 16 / 20)


def test_scores_are_told_in_percent(figures: ModuleType, tmp_path: Path) -> None:
    scores = {"sentiment": {"original": {"test.accuracy": 0.75}}}
    against = {"differences": {"accuracy": {"difference": 0.5, "difference_low": 0.25}}}
    run = figures.running.Finished({"scores": scores, "against": against}, tmp_path, 1.0)
    assert figures.evaluation.sentiment("test.accuracy")(run) == 75
    assert figures.evaluation.above_the_other("difference")(run) == 50
    assert figures.evaluation.above_the_other("difference_low")(run) == 25


def test_what_an_index_finds_is_counted(figures: ModuleType, tmp_path: Path) -> None:
    """Two paragraphs and three questions, of which one is answered by a sentence that does not hold what is right."""
    asked = [
        ("Who minds the lamp?", "keeper"),
        ("What minds the harbour's lamp?", "the cape"),
        ("Where is the harbour?", "to the south"),
    ]
    contexts = ["The keeper minds the lamp. It is on the cape.", "The harbour lies to the south of the lamp."]
    about = [asked[:1], asked[1:]]
    paragraphs = [
        {
            "context": context,
            "qas": [{"question": q, "answers": [{"text": a, "answer_start": 0}]} for q, a in questions],
        }
        for context, questions in zip(contexts, about, strict=True)
    ]
    (tmp_path / "data" / "qa").mkdir(parents=True)
    file = tmp_path / "data" / "qa" / "xquad.en.json"
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    other = [paragraphs[0], paragraphs[1] | {"qas": paragraphs[0]["qas"]}]  # asked of the wrong one too
    (file.parent / "xquad.zh.json").write_text(
        json.dumps({"data": [{"paragraphs": other}]}), encoding="utf-8"
    )
    (tmp_path / "work").mkdir()
    result = build_index([str(file)], tmp_path / "work" / "index")
    run = figures.running.Finished(result, tmp_path / "work" / "index", 1.0)
    assert figures.rag.recall("xquad.en.json", 1)(run) == 100
    assert figures.rag.recall("xquad.zh.json", 1)(run) == 50
    assert figures.rag.right_sentences(run) == pytest.approx(200 / 3)
    assert figures.rag.exact_citations(run) == 100
    assert figures.rag.planted_first(run) == pytest.approx(100 / 3)
    assert figures.rag.index_beside_text(run) > 1
    found = {"passages": [{"document": "a.md"}, {"document": "x/planted.md"}]}
    assert figures.rag.place_of_planted(figures.running.Finished(found, tmp_path, 1.0)) == 2


def test_a_figure_that_needs_the_run_of_another_is_measured_after_it(
    script: ModuleType, figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same folder, as somebody who types the commands of the page one after the other."""
    ran: list[tuple[str, Path]] = []

    def pretend(_: object, command: str, where: Path, *, small: bool) -> Any:
        ran.append((command.split("--out ")[-1].split()[0], where))
        return figures.running.Finished({"epsilon_lower": 0.5, "parameters": 7}, where, 1.0)

    monkeypatch.setattr(script, "run_shown", pretend)
    question = load_bank()["safety-and-privacy"]
    values = script.measure(question, ["white-box-lower"], tmp_path, repeats=3, small=False)
    assert values == {"white-box-lower": 0.5}
    assert [name for name, _ in ran] == ["public", "private", "shuyuan"]
    assert len({where for _, where in ran}) == 1


def test_a_shown_command_is_run_as_it_stands(figures: ModuleType, tmp_path: Path) -> None:
    question = load_bank()["training-efficiency"]
    with pytest.raises(SystemExit, match="not shuyuan"):
        figures.running.run_shown(question, "rm -rf x", tmp_path / "a", small=False)
    done = figures.running.run_shown(question, "shuyuan practice \\\n  list", tmp_path / "b", small=False)
    assert len(done.result["questions"]) == len(load_bank())
    assert (tmp_path / "b" / "recipe.toml").is_file()


def test_torchrun_starts_the_command_that_is_shown(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words stand before `shuyuan`, and those of the command behind it."""
    asked: list[list[str]] = []

    def pretend(words: list[str], **_: Any) -> Any:
        asked.append(words[2:])
        return SimpleNamespace(returncode=0, stdout='{"steps": 3}\n')

    monkeypatch.setattr(figures.running.subprocess, "run", pretend)
    command = "torchrun --nproc-per-node 2 -m shuyuan train recipe.toml --out two"
    done = figures.running.run_shown(load_bank()["distributed-training"], command, tmp_path, small=True)
    expected = ["torch.distributed.run", "--nproc-per-node", "2", "-m", "shuyuan", "train", "recipe.toml"]
    assert asked[0][:7] == expected and asked[0][-4:] == figures.running.SMALL
    assert (done.result["steps"], done.folder.name) == (3, "two")


def test_gradients_of_ranks_are_averaged_rightly_where_they_learn_as_much(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And wrongly where one learns more; a model whose gradient is the sum of its targets."""
    model = torch.nn.Linear(1, 1, bias=False)
    model.loss = lambda inputs, targets: model.weight.sum() * targets[targets >= 0].sum()

    def steps(*rows: list[int]) -> Any:
        parts = [figures.distributed_training.Batch(1, np.array([row]), np.array([row])) for row in rows]
        return lambda _: iter([(model, parts)])

    monkeypatch.setattr(figures.distributed_training, "_steps", steps([1, 2], [3, 6]))
    assert figures.distributed_training.gradients_off(tmp_path) == [pytest.approx(0)]
    monkeypatch.setattr(figures.distributed_training, "_steps", steps([1, 2, 3, 4], [8, -100, -100, -100]))
    assert figures.distributed_training.uneven_targets(tmp_path) == 4
    averaged, true = (10 / 4 + 8) / 2, 18 / 5
    assert figures.distributed_training.gradients_off(tmp_path) == [
        pytest.approx(100 * (averaged / true - 1), rel=1e-4)
    ]


def test_tuning_on_everything_learns_each_token_up_to_the_end_of_the_answer(figures: ModuleType) -> None:
    """And nothing of what fills a row up."""
    inputs = np.array([[5, 6, 7, 8, 0, 0], [5, 6, 9, 0, 0, 0]])
    targets = np.array([[-100, -100, 8, 0, -100, -100], [-100, 9, 0, -100, -100, -100]])
    same, learned = figures.alignment._alignment.everything(inputs, targets)
    assert np.array_equal(same, inputs)
    assert learned.tolist() == [[6, 7, 8, 0, -100, -100], [6, 9, 0, -100, -100, -100]]
