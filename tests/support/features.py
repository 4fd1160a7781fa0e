"""The features of docs/support.md: for each a check of a tiny run, and the families that do without it, with the reason.

A check fails where the table says yes and the feature is not there; where it says no, the test asks for the feature all the
same and wants a refusal (test_support.py), so that the table can claim neither too much nor too little.
"""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import shuyuan
from shuyuan import pipeline
from shuyuan.errors import Interrupted, VaultError
from shuyuan.progress import Stop
from shuyuan.tasks import task_named
from shuyuan.train import joined
from shuyuan.vault import OpenStore
from tests.models.hub_folders import written
from tests.runs import Outcome, text_of
from tests.runs import shuyuan as command
from tests.serve.running import serving, text_of_events
from tests.train.parts import StopAt

from .families import Family, texts

Check = Callable[[Family, Path], None]
KEY = "env:SHUYUAN_TEST_KEY"


@dataclass(frozen=True)
class Feature:
    """One row of the table.

    Attributes:
        title: begins the row.
        check: makes a run and looks.
        without: families that do not have it, and why.
    """

    title: str
    check: Check
    without: dict[str, str] = field(default_factory=dict)


def main_task(family: Family) -> str:
    return "classification" if family.labels else "generation"


def ready(family: Family, folder: Path) -> Path:
    """A run that checks share; they only read it."""
    shared = folder.parent / f"ready-{family.title}"
    if not shared.exists():
        shared.mkdir()
        family.run(shared, main_task(family))
    return shared / "run"


# ---- tasks -----------------------------------------------------------------------------------------------------------


def generates(family: Family, folder: Path) -> None:
    family.run(folder, "generation")
    loaded = shuyuan.load(folder / "run")
    assert loaded.generate("line 1", max_tokens=6, seed=1) == loaded.generate("line 1", max_tokens=6, seed=1)


def classifies_text(task: str) -> Check:
    def check(family: Family, folder: Path) -> None:
        scores = family.run(folder, task, data=texts(folder))["scores"][task]["original"]
        assert 0 <= scores["validation.accuracy"] <= 1
        told = command("classify", folder / "run", "line 1", "--json").json["texts"][0]
        assert told["label"] in ("a", "b") and abs(sum(told["probabilities"].values()) - 1) < 1e-5

    return check


def answers(task: str, *arguments: str) -> Check:
    def check(family: Family, folder: Path) -> None:
        pytest.importorskip("sacrebleu")
        pytest.importorskip("rouge_score")
        scores = family.run(folder, task)["scores"][task]["original"]
        assert scores["validation.answers"] > 0 and scores["validation.bits_per_byte"] > 0
        verb, _ = task_named(task).command
        assert did(verb, folder / "run", *arguments, "--max-tokens", "4", "--json").json

    return check


def classifies_with_many(family: Family, folder: Path) -> None:
    lines = enumerate(text_of(120).splitlines())
    rows = [
        {"text": line, "label": [["a"], ["a", "b"], []][number % 3], "who": number % 40}
        for number, line in lines
    ]
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"source": str(folder / "many.jsonl"), "validation": 0.2}
    scores = family.run(folder, "classification", data=source)["scores"]["classification"]["original"]
    assert 0 <= scores["validation.micro_f1"] <= 1
    told = did("classify", folder / "run", "line 1", "--json").json["texts"][0]
    assert set(told["labels"]) <= {"a", "b"} == set(told["probabilities"])


def classifies_images(family: Family, folder: Path) -> None:
    summary = family.run(folder, "classification", data={"source": "digits"})
    assert 0 <= summary["scores"]["classification"]["original"]["validation.accuracy"] <= 1
    picture = pytest.importorskip("PIL.Image").new("L", (8, 8), 200)
    picture.save(folder / "grey.png")
    told = did("classify", folder / "run", folder / "grey.png", "--json").json["images"][0]
    assert told["label"] in map(str, range(10)) and abs(sum(told["probabilities"].values()) - 1) < 1e-5


# ---- training --------------------------------------------------------------------------------------------------------


def trains_with(**train: object) -> Check:
    def check(family: Family, folder: Path) -> None:
        summary = family.run(folder, main_task(family), train=train)
        assert summary["steps"] == 4 and summary["loss"]["train"] is not None

    return check


def trains_on_two_ranks(family: Family, folder: Path) -> None:
    """This process leads, and another follows, which is told of no run."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    meeting = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    follower = subprocess.Popen(
        [sys.executable, "-m", "shuyuan", "train", "nothing"],
        env=os.environ | meeting | {"RANK": "1"},
        stderr=subprocess.PIPE,
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (meeting | {"RANK": "0"}).items():
                patch.setenv(name, value)
            with joined(Stop()):
                trains_with()(family, folder)
        started = OpenStore(folder / "run", writable=False).journal("metrics.jsonl").entries()
        assert [line["ranks"] for line in started if line["event"] == "train.start"] == [2]
    finally:
        _, errors = follower.communicate(timeout=300)
        assert follower.returncode == 0, errors


def resumes(family: Family, folder: Path) -> None:
    """Broken off after the second step and gone on with, it ends at the same bits."""
    for name in ("whole", "broken"):
        (folder / name).mkdir()
    family.run(folder / "whole", main_task(family))
    stop = Stop()
    broken = folder / "broken"
    recipe = family.recipe(broken, main_task(family))
    if "from" in recipe["model"]:
        recipe["model"]["from"] = str(folder / "whole/base")
    recipe["data"] = family.recipe(folder / "whole", main_task(family))["data"]
    with suppress(Interrupted):
        pipeline.run(recipe, out=broken / "run", progress=StopAt(stop, 2), stop=stop)
    assert not (broken / "run/model").exists()
    pipeline.run(recipe, out=broken / "run")
    files = sorted(file.name for file in (folder / "whole/run/model").iterdir() if file.name != "README.md")
    assert [(broken / "run/model" / name).read_bytes() for name in files] == [
        (folder / "whole/run/model" / name).read_bytes() for name in files
    ]


def starts_from_a_run(family: Family, folder: Path) -> None:
    again = family.recipe(folder, main_task(family))
    again["model"] = {key: family.model[key] for key in ("family", "context") if key in family.model}
    again["model"] |= {"from": str(ready(family, folder))}
    assert pipeline.run(again, out=folder / "again")["steps"] == 4


def adapts(family: Family, folder: Path) -> None:
    table = family.recipe(folder, main_task(family), train={"lora": {"rank": 2}})
    if not family.kind:
        table["model"] = {"context": 32, "from": str(ready(family, folder))}
    assert pipeline.run(table, out=folder / "adapted")["steps"] == 4


def adapts_beside_codes(family: Family, folder: Path) -> None:
    for base in ("int8", "int4"):
        table = family.recipe(folder, main_task(family), train={"lora": {"rank": 2, "base": base}})
        if family.kind:  # not GPT-2, whose matrices are Conv1D
            written("llama", folder / "llama")
            table["model"]["from"] = str(folder / "llama")
        else:
            table["model"] = {"context": 32, "from": str(ready(family, folder))}
        assert pipeline.run(table, out=folder / base)["steps"] == 4


def learns_from_a_teacher(family: Family, folder: Path) -> None:
    table = family.recipe(folder, main_task(family))
    table["train"]["distill"] = {"from": str(ready(family, folder))}
    scores = pipeline.run(table, out=folder / "student")["scores"][main_task(family)]
    assert scores.keys() == {"original", "teacher"}


# ---- promises --------------------------------------------------------------------------------------------------------


def seals(family: Family, folder: Path) -> None:
    summary = family.run(folder, main_task(family), vault={"key": KEY})
    assert summary["sealed"] and command("verify", folder / "run", "--json").json["ok"]
    (folder / "other").write_text("another key")
    with pytest.raises(VaultError):
        shuyuan.load(folder / "run", key=f"file:{folder / 'other'}")


def is_private_with(**train: object) -> Check:
    def check(family: Family, folder: Path) -> None:
        privacy = {"epsilon": 8.0, "unit": "record"}
        summary = family.run(folder, main_task(family), privacy=privacy, train=train)
        assert 7 < summary["privacy"]["epsilon"] <= 8
        verified = command("verify", folder / "run", "--json").json
        assert verified["ok"] and abs(verified["epsilon_recomputed"] - summary["privacy"]["epsilon"]) < 1e-6

    return check


def is_audited(family: Family, folder: Path) -> None:
    family.run(folder, main_task(family), audit={"canaries": 8}, data={"duplicates": "exact"})
    found = did("audit", folder / "run", "--json").json
    assert found["canaries"] == 8 and 0 <= found["epsilon_lower"] <= 50


def is_planned(family: Family, folder: Path) -> None:
    plan = shuyuan.plan(family.recipe(folder, main_task(family)))
    assert (
        plan["fits"]
        and plan["peak_bytes"]["low"] <= plan["peak_bytes"]["expected"] <= plan["peak_bytes"]["high"]
    )
    summary = command("info", ready(family, folder), "--json").json
    assert abs(summary["parameters"] - plan["parameters"]) <= 0.01 * plan["parameters"]


def is_reported(family: Family, folder: Path) -> None:
    run = ready(family, folder)
    assert "<svg" in (run / "report.html").read_text()
    assert (run / "model/README.md").read_text().startswith("---")


# ---- afterwards ------------------------------------------------------------------------------------------------------


def exports(kind: str, task: str = "") -> Check:
    def check(family: Family, folder: Path) -> None:
        if task and task != main_task(family):
            family.run(folder, task)
        run = folder / "run" if (folder / "run").exists() else ready(family, folder)
        did("export", run, "--to", folder / "out", "--as", kind)
        assert any((folder / "out").iterdir())

    return check


def serves(family: Family, folder: Path) -> None:
    with serving(folder / "state", ready(family, folder)) as door:
        key = door.key()
        if family.labels:
            record = {"image": digit()} if family.images else {"text": "red fox"}
            answer = door.ask("POST", "/v1/classify", {"model": "run", **record}, key)
            assert sum(answer.json["labels"][0]["probabilities"].values()) == pytest.approx(1)
            return
        body = {"model": "run", "prompt": "the red fox", "temperature": 0, "max_tokens": 8}
        whole = door.ask("POST", "/v1/completions", body, key).json["choices"][0]["text"]
        streamed = door.ask("POST", "/v1/completions", {**body, "stream": True}, key).body.decode()
        assert text_of_events(streamed) == whole


def digit() -> str:
    """An image of the size of the built-in digits, as base64."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def compresses(variant: str, **how: object) -> Check:
    def check(family: Family, folder: Path) -> None:
        summary = family.run(folder, main_task(family), compress=how)
        sizes = {name: facts["bytes"] for name, facts in summary["variants"].items()}
        assert sizes.keys() == {"original", variant} and sizes[variant] < sizes["original"]
        scores = summary["scores"][main_task(family)]
        assert scores.keys() == sizes.keys() and scores[variant]["validation.loss"] > 0
        loaded = shuyuan.load(folder / "run", variant=variant)
        if not family.labels:
            assert isinstance(loaded.generate("line 1", max_tokens=4, seed=1), str)

    return check


class RefusedError(Exception):
    """The command said no."""


def did(*arguments: str | Path) -> Outcome:
    """What the command gave back; raises where it refuses."""
    done = command(*arguments)
    if done.status in (1, 2):
        raise RefusedError(done.stderr)
    return done


NOT_TEXTS = {"cnn": "it reads images", "ngrams": "it tells labels apart, and writes nothing"}
UNSEEN = dict.fromkeys(("ngrams", "rnn"), "it has no matrices in PyTorch that multiply what it computes")


FEATURES = {
    "generation": Feature("generation", generates, NOT_TEXTS),
    "translation": Feature("translation", answers("translation", "a1", "--to", "zh"), NOT_TEXTS),
    "summarization": Feature("summarization", answers("summarization", "t1."), NOT_TEXTS),
    "question-answering": Feature("question answering", answers("question-answering", "q1"), NOT_TEXTS),
    "chat": Feature("chat", answers("chat", "q1"), NOT_TEXTS),
    "sentiment": Feature("sentiment", classifies_text("sentiment"), {"cnn": "it reads images"}),
    "text-classification": Feature(
        "classification of text", classifies_text("classification"), {"cnn": "it reads images"}
    ),
    "multi-label": Feature(
        "any number of labels a text",
        classifies_with_many,
        {"cnn": "it reads images", "rnn": "it tells one label"},
    ),
    "image-classification": Feature(
        "classification of images",
        classifies_images,
        dict.fromkeys(("transformer", "hub", "rnn", "ngrams"), "it reads text"),
    ),
    "fp32": Feature("float32", trains_with(precision="fp32")),
    "bf16": Feature("bfloat16 (mixed)", trains_with(precision="bf16")),
    **{
        schedule: Feature(f"schedule `{schedule}`", trains_with(schedule=schedule))
        for schedule in ("constant", "linear", "cosine", "wsd", "plateau")
    },
    "adamw": Feature("optimizer `adamw`", trains_with(optimizer="adamw")),
    "sgd": Feature("optimizer `sgd`", trains_with(optimizer="sgd")),
    "muon": Feature(
        "optimizer `muon`",
        trains_with(optimizer="muon"),
        {
            "rnn": "its kernels hold four matrices side by side",
            "ngrams": "it has no matrices inside blocks",
        },
    ),
    "activation-checkpointing": Feature(
        "activation checkpointing",
        trains_with(activation_checkpointing=True),
        dict.fromkeys(("cnn", "rnn", "ngrams"), "it has no blocks of a transformer"),
    ),
    "private-checkpointing": Feature(
        "activation checkpointing beside differential privacy",
        is_private_with(activation_checkpointing=True),
        dict.fromkeys(("cnn", "rnn", "ngrams"), "it has no blocks of a transformer"),
    ),
    "resume": Feature("resume, bit for bit", resumes),
    "from-a-run": Feature("start from another run", starts_from_a_run),
    "lora": Feature(
        "LoRA", adapts, dict.fromkeys(("cnn", "rnn", "ngrams"), "it is small enough to train whole")
    ),
    "lora-base": Feature(
        "LoRA beside a base of int8 or int4 (QLoRA), but for GPT-2's Conv1D",
        adapts_beside_codes,
        dict.fromkeys(("cnn", "rnn", "ngrams"), "it is small enough to train whole"),
    ),
    "teacher": Feature(
        "learn from a teacher",
        learns_from_a_teacher,
        {"ngrams": "it is small enough without a teacher", "rnn": "teachers are models of PyTorch"},
    ),
    "privacy": Feature("differential privacy", is_private_with()),
    "audit": Feature(
        "audit with canaries",
        is_audited,
        dict.fromkeys(("cnn", "ngrams"), "planted canaries are texts to continue"),
    ),
    "sealing": Feature("sealed from first to last", seals),
    "plan": Feature("plan", is_planned),
    "report": Feature("report and model card", is_reported),
    "huggingface": Feature(
        "export as a folder in Hugging Face's layout",
        exports("huggingface"),
        {"rnn": "Keras has a format of its own"},
    ),
    "keras": Feature(
        "export for Keras",
        exports("keras"),
        dict.fromkeys(("transformer", "hub", "cnn", "ngrams"), "it is PyTorch's"),
    ),
    "gguf": Feature(
        "export as GGUF",
        exports("gguf"),
        {
            "hub": "llama.cpp's own converter knows its layout",
            "rnn": "Keras has a format of its own",
            "cnn": "llama.cpp computes transformers that write",
            "ngrams": "llama.cpp computes transformers that write",
        },
    ),
    "onnx": Feature(
        "export as ONNX, of models that tell labels",
        exports("onnx", "classification"),
        {"rnn": "Keras has a format of its own"},
    ),
    "pruning": Feature("pruning, the smallest weights of each matrix", compresses("pruned-50", prune=0.5)),
    "by-inputs": Feature(
        "pruning by what the model computes (SparseGPT, Wanda)",
        compresses("pruned-50-sparsegpt", prune=0.5, pruning="sparsegpt"),
        UNSEEN,
    ),
    "recovery": Feature(
        "training after pruning, and pruning little by little",
        compresses("pruned-50-gradual-recovered", prune=0.5, pruning="gradual", recover="2 steps"),
        {"rnn": "what is pruned is trained again in PyTorch alone"},
    ),
    "shrinking": Feature(
        "whole heads and channels taken out",
        compresses("shrunk-50", shrink=0.5),
        dict.fromkeys(("hub", "cnn", "ngrams", "rnn"), "it has not the layout of Qwen3"),
    ),
    "shortening": Feature(
        "whole blocks taken out",
        compresses("shortened-50", shorten=0.5),
        dict.fromkeys(("hub", "cnn", "ngrams", "rnn"), "it has not the layout of Qwen3"),
    ),
    "int8": Feature("int8, weights alone", compresses("int8", quantize="int8")),
    "int4": Feature("int4, weights alone, embedding and head int8", compresses("int4", quantize="int4")),
    "gptq": Feature(
        "int4 by what the model computes (GPTQ)",
        compresses("int4-gptq", quantize="int4", rounding="gptq"),
        UNSEEN,
    ),
    "serve": Feature("serve", serves),
    "distributed": Feature(
        "a recipe on several processes (torchrun)",
        trains_on_two_ranks,
        {"rnn": "it is trained by one process"},
    ),
}
