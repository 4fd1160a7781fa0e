"""The peak of a whole run whose rows have many widths: what it takes, and what is planned before anything is prepared."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import shuyuan
from shuyuan.planning.memory import SHAPES_BYTES, peak_memory
from shuyuan.train.parts import typical_parts

from .parts import CPU, make_manifest, make_recipe
from .test_memory import RUN, shape

WORDS = [
    "the",
    "number",
    "of",
    "this",
    "line",
    "is",
    "known",
    "to",
    "all",
    "who",
    "ask",
    "for",
    "it",
    "twice",
    "a",
    "day",
]


def texts(count: int) -> list[str]:
    """Of many lengths, the longest sixty times the shortest."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 60))) for _ in range(count)]


def chats(folder: Path) -> dict[str, Any]:
    with (folder / "chats.jsonl").open("w") as file:
        for number, text in enumerate(texts(400)):
            said = [("user", f"{number}: {text}"), ("assistant", text[: len(text) // 2 + 1])]
            messages = [{"role": role, "content": content} for role, content in said]
            file.write(json.dumps({"messages": messages}) + "\n")
    return {"task": "chat", "data": {"source": str(folder / "chats.jsonl")}}


def labelled(folder: Path) -> dict[str, Any]:
    rows = [f"{number} {text},{number % 2}" for number, text in enumerate(texts(400))]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]))
    data = {"source": str(folder / "texts.csv"), "labels": ["0", "1"]}
    return {"task": "classification", "tokenizer": {"kind": "byte"}, "data": data}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is measured on Linux")
@pytest.mark.parametrize("made", [chats, labelled])
def test_the_peak_of_rows_of_many_widths(made: Any, tmp_path: Path) -> None:
    table = made(tmp_path) | {
        "model": {"family": "transformer", "size": "tiny", "context": 256},
        "train": {"budget": "12 steps", "batch_size": 16, "precision": "bf16"},
    }
    command = [sys.executable, "-c", RUN, str(tmp_path), json.dumps(table)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    plan = json.loads(out.splitlines()[-1])
    measured, peak = plan["measured"]["peak_bytes"], plan["peak_bytes"]
    assert peak["low"] <= measured <= peak["high"]
    assert peak["expected"] == pytest.approx(measured, rel=0.2)


def test_torch_is_told_to_keep_few_shapes() -> None:
    """Before it loads, and unless the user says otherwise."""
    assert shuyuan.__name__ and int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) <= 256
    told = "import os, shuyuan; print(os.environ['LRU_CACHE_CAPACITY'])"
    for given, kept in (({}, "128"), ({"LRU_CACHE_CAPACITY": "9"}, "9")):
        clean = {name: value for name, value in os.environ.items() if name != "LRU_CACHE_CAPACITY"}
        command = [sys.executable, "-c", told]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=clean | given).stdout
        assert out.strip() == kept


def test_shapes_are_counted_where_rows_have_many_widths_in_half_precision() -> None:
    config = shape(labels=("bad", "good"))
    manifest = make_manifest(200_000)
    for labels, precision, counted in (
        (["bad", "good"], "bf16", SHAPES_BYTES),
        ([], "bf16", None),
        (["bad", "good"], "fp32", None),
    ):
        recipe = make_recipe(train={"batch_size": 16, "micro_batch": 16, "precision": precision})
        found = peak_memory(recipe, config, CPU, _labelled(manifest, labels)).items
        assert found.get("shapes") == counted


def test_labelled_texts_are_planned_as_wide_as_their_mean_lets_expect() -> None:
    """A hundred tokens a record on average: few of 64 are wider than three times that, and most are narrower."""
    recipe = make_recipe(model={"context": 1024}, train={"batch_size": 64, "micro_batch": 64})
    manifest = _labelled(make_manifest(200_000), ["bad", "good"])
    parts = typical_parts(recipe, manifest)
    assert 250 < max(part.width for part in parts) < 400
    assert sum(part.rows for part in parts) >= 64
    assert sum(part.rows * part.width for part in parts) < 2 * 64 * 100
    private = recipe.replace(**{"privacy.noise_multiplier": 1.0, "privacy.unit": "record"})
    assert {part.width for part in typical_parts(private, manifest)} == {1024}


def _labelled(manifest: Any, labels: list[str]) -> Any:
    return replace(manifest, labels=labels)
