"""A student and its teacher: what the loss is, that a run is planned, resumed and scored, and what privacy refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shuyuan import pipeline
from shuyuan.errors import Interrupted, PrivacyError, RecipeError, TrainError
from shuyuan.models import Transformer, hub
from shuyuan.progress import Stop
from shuyuan.recipe import Distill, load
from shuyuan.train.distill import Distillation
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES

SHAPE = {"layers": 2, "width": 64, "heads": 2, "context": 32}
SMALL = {"layers": 1, "width": 32, "heads": 2, "context": 32}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that others learn from; tests only read it."""
    folder = tmp_path_factory.mktemp("teacher")
    FAMILIES["transformer"].run(folder, "generation", model=SHAPE)
    return folder / "run"


def student(folder: Path, teacher: Path, **changes: Any) -> dict[str, Any]:
    """A recipe on the same records, whose tokenizer is left out."""
    train = {"distill": {"from": str(teacher)} | changes.pop("distill", {})}
    table = FAMILIES["transformer"].recipe(folder, "generation", model=SMALL, train=train, **changes)
    table.pop("tokenizer", None)
    return table


def test_the_loss_is_that_of_records_and_teacher_by_their_shares(teacher: Path) -> None:
    taught = hub.load_folder(teacher)
    own = Transformer(taught.config, seed=3)
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(0, 256, (3, 12), generator=generator)
    targets_BT = tokens_BT.roll(-1, 1)
    targets_BT[1, 5:] = -100
    kept = targets_BT >= 0
    with torch.no_grad():
        mine, theirs = own(tokens_BT)[kept], taught(tokens_BT)[kept]
    hard = F.cross_entropy(mine, targets_BT[kept], reduction="sum")
    for temperature, share in ((1.0, 1.0), (2.0, 0.5), (4.0, 0.1)):
        wanted = F.softmax(theirs / temperature, -1)
        apart = (wanted * (wanted.log() - F.log_softmax(mine / temperature, -1))).sum()
        found = Distillation(
            own, Distill(from_=str(teacher), temperature=temperature, share=share), "cpu"
        ).loss(tokens_BT, targets_BT)
        torch.testing.assert_close(found, (1 - share) * hard + share * temperature**2 * apart)
    same = Distillation(taught, Distill(from_=str(teacher), share=1.0), "cpu").loss(tokens_BT, targets_BT)
    assert abs(same.item()) < 1e-3, "a model has nothing to learn from itself"


def test_a_student_that_listens_alone_comes_nearer_to_its_teacher(teacher: Path, tmp_path: Path) -> None:
    tokens_BT = torch.from_numpy(np.random.default_rng(2).integers(32, 122, (4, 32)))
    with torch.no_grad():
        theirs = hub.load_folder(teacher)(tokens_BT).log_softmax(-1)
    far = {}
    for share in (0.01, 1.0):
        table = student(tmp_path, teacher, distill={"share": share, "temperature": 1.0})
        table["train"] |= {"budget": "30 steps", "learning_rate": 0.01, "evaluations": 0}
        with pipeline.begin(table, "train", out=tmp_path / f"run-{share}") as job:
            for stage in (pipeline.make_plan, pipeline.prepare, pipeline.train_model):
                stage(job)
        with torch.no_grad():
            mine = hub.load_folder(tmp_path / f"run-{share}")(tokens_BT).log_softmax(-1)
        far[share] = float((theirs.exp() * (theirs - mine)).sum(-1).mean())
    assert far[1.0] < 0.8 * far[0.01]


def test_planned_scored_beside_the_teacher_and_told(teacher: Path, tmp_path: Path) -> None:
    table = student(tmp_path, teacher)
    summary = pipeline.run(table, out=tmp_path / "run")
    scores = summary["scores"]["generation"]
    theirs = json.loads((teacher / "scores.json").read_text())["generation"]["original"]
    assert list(scores) == ["original", "teacher"] and list(summary["variants"]) == ["original"]
    assert scores["teacher"]["validation.loss"] == pytest.approx(theirs["validation.loss"], rel=1e-6)
    assert "learned from the model run too" in (tmp_path / "run/model/README.md").read_text()
    plans = []
    for name in ("taught", "alone"):
        (tmp_path / f"{name}.toml").write_text(pipeline.locate(table)[1].as_toml())
        plans.append(command("plan", tmp_path / f"{name}.toml", "--on", "h100", "--json").json)
        table["train"].pop("distill", None)
    taught, alone = plans
    assert taught["items"]["teacher"] == 4 * hub.load_folder(teacher).config.parameters
    assert "teacher" not in alone["items"]
    assert taught["peak_bytes"]["expected"] > alone["peak_bytes"]["expected"]
    assert taught["seconds"]["expected"] > alone["seconds"]["expected"]
    assert (
        command("evaluate", tmp_path / "run", "--json").json["scores"]["generation"].keys() == scores.keys()
    )


def test_a_student_whose_teacher_is_gone_is_scored_alone_and_says_so(teacher: Path, tmp_path: Path) -> None:
    there = shutil.copytree(teacher, tmp_path / "there")
    run = tmp_path / "run"
    table = student(tmp_path, there)
    table["tokenizer"] = {"kind": "byte"}
    pipeline.run(table, out=run)
    shutil.rmtree(there)
    again = command("evaluate", run, "--json")
    assert "teacher is not scored" in again.stderr and again.json["scores"]["generation"].keys() == {
        "original"
    }


def test_interrupted_it_ends_where_it_would_have_and_knows_its_teacher(teacher: Path, tmp_path: Path) -> None:
    teacher = shutil.copytree(teacher, tmp_path / "there")
    table = student(tmp_path, teacher)
    table["train"] |= {"budget": "6 steps", "checkpoint_every": "2 steps"}
    pipeline.run(table, out=tmp_path / "whole")

    class After(Stop):
        """Asked to stop while step 3 is made."""

        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked == 3

    with pytest.raises(Interrupted):
        pipeline.run(table, out=tmp_path / "cut", stop=After())
    weights = teacher / "model/model.safetensors"
    as_it_was = weights.read_bytes()
    weights.write_bytes(as_it_was[:-1] + bytes([as_it_was[-1] ^ 1]))
    with pytest.raises(TrainError, match="The teacher has changed"):
        pipeline.run(table, out=tmp_path / "cut")
    weights.write_bytes(as_it_was)
    pipeline.run(table, out=tmp_path / "cut")
    one, other = ((tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


@pytest.mark.parametrize("change", [{"vocab": 300}, {"context": 64}])
def test_a_teacher_of_other_tokens_or_a_shorter_context_is_refused(
    change: dict[str, int], teacher: Path
) -> None:
    from dataclasses import replace

    config = hub.load_folder(teacher).config
    changed = {"vocab": "vocab_size", "context": "context"}
    own = Transformer(replace(config, **{changed[key]: value for key, value in change.items()}))
    with pytest.raises(TrainError, match="cannot teach this model"):
        Distillation(own, Distill(from_=str(teacher)), "cpu")


def test_labels_that_are_told_one_by_one_have_no_teacher(tmp_path: Path) -> None:
    run = tmp_path / "run"
    FAMILIES["transformer"].run(tmp_path, "classification")
    config = run / "model/config.json"
    table = json.loads(config.read_text()) | {"problem_type": "multi_label_classification"}
    config.write_text(json.dumps(table))
    with pytest.raises(TrainError, match="told by itself"):
        Distillation(hub.load_folder(run), Distill(from_=str(run)), "cpu")


def test_a_private_run_has_no_teacher(teacher: Path, tmp_path: Path) -> None:
    table = student(tmp_path, teacher, privacy={"epsilon": 8.0, "unit": "record"})
    with pytest.raises(RecipeError, match="does not listen to a teacher"):
        pipeline.locate(table)


def test_what_a_private_teacher_protects_is_not_learned_from_and_the_ledger_names_it(
    teacher: Path, tmp_path: Path
) -> None:
    private = shutil.copytree(teacher, tmp_path / "private")
    recipe = load(private / "recipe.toml")
    asked = {"epsilon": 8.0, "unit": "record"}
    (private / "recipe.toml").write_text(recipe.replace(privacy=asked).as_toml())
    table = student(tmp_path, private)
    same = table | {"data": {**table["data"], "source": recipe.data.source}}
    renamed = same | {"data": {**same["data"], "id": "another-name"}}
    for one in (same, renamed, table | {"data": {**table["data"], "id": recipe.data.id}}):
        with pytest.raises(PrivacyError, match="would learn from them directly"):
            pipeline.run(one, out=tmp_path / "same")
        shutil.rmtree(tmp_path / "same")
    pipeline.run(table, out=tmp_path / "public")
    command("train", tmp_path / "public")
    lines = [json.loads(line) for line in (tmp_path / "public/ledger.jsonl").read_text().splitlines()]
    noted = [line for line in map(str, lines) if "distilled" in line]
    assert len(noted) == 1 and "costs no" in noted[0] and str(recipe.data.id) in noted[0]
    assert command("verify", tmp_path / "public", "--json").json["ok"]
