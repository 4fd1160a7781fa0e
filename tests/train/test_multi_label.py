"""Records with any number of labels, from a file to what is said of a text: losses, targets, private steps, and the run's folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import shuyuan
from shuyuan import pipeline
from shuyuan.data import NOTHING, UnitRows, open_split, prepare
from shuyuan.errors import DataError, RecipeError
from shuyuan.models.functions import label_losses
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from shuyuan.train.backend import Batch, learned
from shuyuan.train.micro_batches import micro_batches
from shuyuan.vault import OpenStore
from tests.runs import shuyuan as command

KINDS = {"food": "soup", "room": "bed", "staff": "waiter"}


def rows(count: int = 120) -> list[dict[str, Any]]:
    """Texts that name what they are about: nothing, or one or more of three things."""
    random = np.random.default_rng(0)
    told = []
    for number in range(count):
        own = [kind for kind in KINDS if random.random() < 0.4]
        told.append({"text": " ".join([f"{number}", *(KINDS[kind] for kind in own)]), "label": own})
    return told


def table(folder: Path, **data: Any) -> dict[str, Any]:
    source = folder / "multi.jsonl"
    source.write_text("\n".join(map(json.dumps, rows())))
    data = {"source": str(source), "validation": 0.3, "duplicates": "keep", **data}
    train = {
        "budget": "150 steps",
        "batch_size": 16,
        "precision": "fp32",
        "learning_rate": 0.02,
        "evaluations": 2,
    }
    return {
        "task": "classification",
        "data": data,
        "train": train,
        "model": {"family": "ngrams", "size": "tiny", "context": 32},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multi")
    pipeline.run(table(folder) | {"compress": {"quantize": "int8"}}, out=folder / "run")
    return folder / "run"


def test_each_label_costs_by_itself_and_filled_rows_nothing() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64).float()
    has = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [NOTHING] * 3])[:, None]
    losses = label_losses(logits, has)
    assert losses.shape == (4, 1) and losses[3] == 0
    expected = F.binary_cross_entropy_with_logits(logits[:3], has[:3, 0].float(), reduction="none").sum(1)
    torch.testing.assert_close(losses[:3, 0], expected)
    assert learned(has).tolist() == [[True], [True], [True], [False]]


def test_parts_of_a_batch_keep_the_labels_of_their_rows() -> None:
    """Also where there are as many labels as tokens, which is no target for each token."""
    random = np.random.default_rng(0)
    tokens = np.where(np.arange(32) < np.array([32, 3, 9, 30, 2, 17])[:, None], 5, -1)
    has = random.integers(0, 2, (6, 1, 32))
    parts = list(micro_batches(Batch(0, tokens, has), 3))
    assert len(parts) > 1
    inside = [learned(part.targets_BT)[:, 0] for part in parts]
    lengths = np.concatenate(
        [(part.inputs_BT >= 0).sum(1)[there] for part, there in zip(parts, inside, strict=True)]
    )
    found = np.concatenate([part.targets_BT[there] for part, there in zip(parts, inside, strict=True)])
    own = {int((row >= 0).sum()): labels for row, labels in zip(tokens, has, strict=True)}
    assert sorted(lengths) == sorted(own)
    assert all((own[int(length)] == labels).all() for length, labels in zip(lengths, found, strict=True))


def test_every_record_comes_out_with_its_labels(tmp_path: Path) -> None:
    recipe, store = from_table(table(tmp_path)), OpenStore(tmp_path / "run")
    manifest = prepare(recipe, store, Progress())
    assert manifest.multi_label and manifest.labels == sorted(KINDS)
    found = []
    for split in ("train", "validation"):
        records = open_split(store, manifest, split, 32)
        (inputs, targets) = next(records.in_order(1000))
        assert records.counts == targets[:, 0].sum(0).tolist()
        for row, has in zip(inputs, targets[:, 0], strict=True):
            text = bytes(row[(row >= 0) & (row < 256)].tolist()).decode()
            found.append((text, [manifest.labels[place] for place in np.flatnonzero(has)]))
    assert sorted(found) == sorted((row["text"], sorted(row["label"])) for row in rows())
    units = UnitRows(store, manifest, 32, "record", 1)
    assert units.rows(np.array([], np.int64), np.random.default_rng(0)).targets_NT.shape == (0, 1, 3)
    assert units.rows(np.arange(units.count), np.random.default_rng(0)).targets_NT.sum() == sum(
        open_split(store, manifest, "train", 32).counts
    )


def test_a_table_says_what_divides_labels_and_gives_the_same_records(tmp_path: Path) -> None:
    recipes = {"lists": from_table(table(tmp_path))}
    with (tmp_path / "multi.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["text", "label"], *([row["text"], "; ".join(row["label"])] for row in rows())]
        )
    recipes["divided"] = from_table(table(tmp_path, label_separator=";") | {})
    recipes["divided"] = recipes["divided"].replace(**{"data.source": str(tmp_path / "multi.csv")})
    found = {}
    for name, recipe in recipes.items():
        store = OpenStore(tmp_path / name)
        manifest = prepare(recipe, store, Progress())
        found[name] = [open_split(store, manifest, split, 32).counts for split in manifest.splits]
    assert found["lists"] == found["divided"]


def test_scores_report_and_variants(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())["classification"]
    own = scores["original"]
    assert own["validation.micro_f1"] > 0.95 > own["validation.majority_micro_f1"]
    assert own["validation.hamming_loss"] < 0.05
    assert scores["int8"]["validation.agreement"] > 0.95
    told = json.loads((run / "labels.json").read_text())["original"]["validation"]
    assert told["measure"] == "record_f1" and told["confusion"] is None
    assert [each["label"] for each in told["classes"]] == sorted(KINDS)
    assert {each["by"] for each in told["slices"]} == {"length", "label"}
    page = (run / "report.html").read_text()
    assert "F1 of all decisions" in page and "F1 of a record" in page
    assert json.loads((run / "model/config.json").read_text())["problem_type"] == "multi_label_classification"


def test_a_text_gets_all_its_labels_or_none(run: Path) -> None:
    loaded = shuyuan.load(run)
    both, nothing = loaded.classify(["7 soup waiter", "8"])
    assert loaded.multi_label and min(both["food"], both["staff"]) > 0.5 > max(
        both["room"], *nothing.values()
    )
    told = command("classify", run, "7 soup waiter", "8", "--json").json["texts"]
    assert [sorted(each["labels"]) for each in told] == [["food", "staff"], []]
    assert command("classify", run, "8").stdout == "-\t-\t8\n"
    everything = command("classify", run, "8", "--threshold", "0", "--json").json["texts"][0]
    assert sorted(everything["labels"]) == sorted(KINDS)


def test_a_file_of_ones_own_is_scored(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, rows(40))))
    found = pipeline.evaluate_file(run, file, against=run)
    assert found["measure"] == "record_f1" and found["scores"]["micro_f1"] > 0.9
    assert found["against"]["differences"].keys() == {"record_f1", "exact_labels"}
    file.write_text(json.dumps({"text": "x", "label": ["food", "wine"]}))
    with pytest.raises(DataError, match="label of record 1 is none of"):
        pipeline.evaluate_file(run, file)


def test_a_private_run_is_told_by_its_recipe(tmp_path: Path) -> None:
    """Neither names nor whether there are several are looked for in the records."""
    privacy = {"privacy": {"epsilon": 8.0, "unit": "record"}}
    steps = {"train": {"budget": "3 steps", "batch_size": 8, "precision": "fp32"}}
    made = table(tmp_path, labels=sorted(KINDS)) | privacy | steps
    with pytest.raises(DataError, match=r"data\.several-labels"):
        pipeline.run(made, out=tmp_path / "refused")
    made["data"]["multi_label"] = True
    assert pipeline.run(made, out=tmp_path / "run")["privacy"]["epsilon"] <= 8.0
    assert shuyuan.load(tmp_path / "run").multi_label


@pytest.mark.parametrize(
    ("family", "data", "what"),
    [
        ("rnn", {"multi_label": True}, "multi_label"),
        ("cnn", {"label_separator": ";"}, "label_separator"),
        ("ngrams", {"multi_label": False, "label_separator": ";"}, "label_separator"),
    ],
)
def test_what_does_not_go_together_is_refused(family: str, data: dict[str, Any], what: str) -> None:
    model = {"family": family} | ({"size": "textbook"} if family == "cnn" else {})
    with pytest.raises(RecipeError, match=f"data.{what}"):
        from_table({"task": "classification", "data": {"source": "a.csv", **data}, "model": model})


def test_without_anything_to_tell_there_is_no_run(tmp_path: Path) -> None:
    made = table(tmp_path)
    Path(made["data"]["source"]).write_text(
        "\n".join(json.dumps({"text": f"t {n}", "label": []}) for n in range(60))
    )
    with pytest.raises(DataError, match="have no label"):
        prepare(from_table(made), OpenStore(tmp_path / "run"), Progress())
