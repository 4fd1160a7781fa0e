"""What a recurrent model needs, foretold: exact where it can be, and lawful where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan.planning import plan
from shuyuan.planning.rnn import flops_per_token

from ..models.recurrent_models import build, shape, tf
from ..runs import text_of
from .parts import CPU, RATES, make_manifest, make_recipe

RNN: dict[str, Any] = {"family": "rnn", "layers": 1, "width": 256, "context": 64}


def planned(model: dict[str, Any] | None = None, tokens: int = 1_000_000, **tables: Any) -> dict[str, Any]:
    recipe = make_recipe(model=RNN | (model or {}), **tables)
    return plan(recipe, CPU, RATES, make_manifest(tokens)).to_json()


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple"])
def test_operations_are_three_times_what_tensorflow_counts_of_a_forward_pass(cell: str) -> None:
    config = shape(cell, layers=2, width=32)
    plain = build(config)
    tokens = tf.TensorSpec((1, config.context), tf.int32)
    unrolled = tf.function(lambda x: _unrolled(plain, x)).get_concrete_function(tokens)
    counted = sum(
        2 * int(np.prod(node.inputs[0].shape)) * int(node.inputs[1].shape[-1])
        for node in unrolled.graph.get_operations()
        if node.type == "MatMul"
    )
    assert 3 * counted == config.context * flops_per_token(config)


def _unrolled(plain: Any, tokens: Any) -> Any:
    """The same model with its loops written out, so that every product is a node."""
    x = plain.layers[0](tokens)
    for layer in plain.layers[1:-1]:
        states = layer.cell.get_initial_state(batch_size=1)
        outputs = []
        for place in range(x.shape[1]):
            out, states = layer.cell(x[:, place], states)
            outputs.append(out)
        x = tf.stack(outputs, 1)
    return tf.matmul(tf.reshape(x, (-1, x.shape[-1])), plain.layers[-1].kernel)


def test_the_fields_are_those_of_every_plan() -> None:
    found = planned()
    assert sum(found["items"].values()) == found["peak_bytes"]["expected"]
    assert found["items"]["Python and TensorFlow"] > 600 << 20
    assert found["seconds"]["low"] < found["seconds"]["expected"] < found["seconds"]["high"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_more_of_anything_takes_more_of_what_it_should() -> None:
    small = planned(train={"budget": "100 steps", "batch_size": 64})
    for changes in ({"width": 512}, {"layers": 2}, {"context": 128}):
        large = planned(changes, train={"budget": "100 steps", "batch_size": 64})
        for key in ("peak_bytes", "seconds"):
            assert large[key]["expected"] > small[key]["expected"], (changes, key)
    gru, simple = ({"cell": cell} for cell in ("gru", "simple"))
    assert planned(simple)["parameters"] < planned(gru)["parameters"] < planned()["parameters"]


def test_one_token_of_a_window_needs_a_window_for_each_token() -> None:
    every = planned(train={"budget": "1 epochs", "batch_size": 64})
    last = planned({"predict": "last"}, train={"budget": "1 epochs", "batch_size": 64})
    assert last["seconds"]["expected"] > 20 * every["seconds"]["expected"]


def test_privacy_takes_memory_for_the_units_gradients() -> None:
    private = planned(
        privacy={"epsilon": 8.0, "unit": "record"}, train={"budget": "100 steps", "batch_size": 64}
    )
    plain = planned(train={"budget": "100 steps", "batch_size": 64})
    assert private["items"]["gradients of units"] > 10 << 20
    assert private["peak_bytes"]["expected"] > plain["peak_bytes"]["expected"]
    assert private["privacy"]["epsilon"] <= 8.0


def test_a_plan_of_a_keras_file_loads_no_tensorflow(tmp_path: Path) -> None:
    build(shape(vocab_size=257)).save(tmp_path / "mine.keras")
    (tmp_path / "notes.txt").write_text(text_of(50))
    table = {"data": {"source": str(tmp_path / "notes.txt")}, "model": {"family": "rnn", "from": str(tmp_path / "mine.keras"), "context": 32}}  # fmt: skip
    code = (
        "import sys, json, shuyuan\n"
        f"found = shuyuan.plan({table!r})\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "print(found['parameters'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) == shape(vocab_size=257).parameters


# ---- against the process -------------------------------------------------------------------------------------------

RUN = """
import json, sys
from pathlib import Path
from shuyuan import pipeline
folder = Path(sys.argv[1])
recipe = {"data": {"source": str(folder / "notes.txt"), "record": "line"}, **json.loads(sys.argv[2])}
with pipeline.begin(recipe, "run", out=folder / "run") as job:
    pipeline.everything(job)
    print(json.dumps(job.store.read_json(pipeline.PLAN_FILE)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is measured on Linux")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": 512},
        {"cell": "gru", "layers": 2},
        {"cell": "simple", "width": 64, "predict": "last"},
        {"width": 128, "privacy": True},
    ],
)
def test_the_peak_is_within_a_tenth_of_what_happens(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "notes.txt").write_text(text_of(20_000), encoding="utf-8")
    private = {"privacy": {"epsilon": 8.0, "unit": "record"}} if changes.pop("privacy", False) else {}
    table = {"model": RNN | changes, "train": {"budget": "12 steps", "evaluations": 1}} | private
    done = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path, json.dumps(table)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    measured, expected = found["measured"]["peak_bytes"], found["peak_bytes"]["expected"]
    assert abs(measured - expected) < 0.1 * measured, (measured >> 20, found["items"])
