"""Models of transformers under every method, those too whose matrices are stored the other way round (GPT-2)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shuyuan import pipeline
from shuyuan.compress import calibrated
from shuyuan.compress.prune import largest
from shuyuan.models import hub, inner_matrices, pack
from shuyuan.models.packed import unpack
from shuyuan.progress import Progress
from tests.models.hub_folders import CAUSAL, written
from tests.support.families import FAMILIES

KINDS = [*CAUSAL, "bert"]
RECORDS = [np.random.default_rng(n).integers(0, 250, (1, 40)) for n in range(16)]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    written(request.param, folder)
    labels = ["a", "b", "c"] if request.param == "bert" else []
    return hub.load_folder(folder, labels).eval()


def weights(model: Any) -> dict[str, Any]:
    return {name: weight.detach() for name, weight in model.to_hub()[1].items()}


@torch.no_grad()
def error(changed: Any, model: Any) -> float:
    """Of what the blocks compute: the mean squared error of the logits."""
    found = [(changed(each) - model(each)).square().mean() for each in map(torch.from_numpy, RECORDS)]
    return float(torch.stack(found).mean())


@torch.no_grad()
def by_weights(model: Any, change: Any) -> Any:
    """The model with each inner matrix changed by itself."""
    other = copy.deepcopy(model)
    for name in inner_matrices(model):
        weight = weights(other)[name]
        weight.copy_(torch.from_numpy(change(weight.numpy())))
    return other


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_every_matrix_is_pruned_by_what_it_reads(method: str, model: Any) -> None:
    inner, pruned = inner_matrices(model), copy.deepcopy(model)
    masks = calibrated.prune(pruned, inner, 0.5, method, RECORDS, Progress())
    assert masks.keys() == inner
    for name, weight in weights(pruned).items():
        if name in inner:
            assert masks[name].shape == weight.shape
            assert masks[name].mean() == pytest.approx(0.5, abs=0.02), name
            assert (weight.numpy()[~masks[name]] == 0).all()
        else:
            assert (weight == weights(model)[name]).all()
    alone = by_weights(model, lambda weight: weight * largest(weight, 0.5))
    assert error(pruned, model) < (1.2 if method == "wanda" else 0.9) * error(alone, model)


def test_every_matrix_is_rounded_by_what_it_reads_and_stored_as_it_is(model: Any) -> None:
    inner, rounded = inner_matrices(model), copy.deepcopy(model)
    grids = calibrated.round_to_grids(rounded, inner, {}, RECORDS, Progress())
    assert grids.keys() == inner
    for name in inner:
        weight = weights(rounded)[name].numpy()
        again = unpack(name, *pack(weight, 4, grid=grids[name]), "")
        np.testing.assert_allclose(again, weight, atol=1e-6)

    def nearest(weight: Any) -> Any:
        return unpack("w", *pack(weight, 4), "")

    assert error(rounded, model) < 0.9 * error(by_weights(model, nearest), model)


def test_a_transposed_wanda_weighs_inputs_and_not_outputs(tmp_path: Path) -> None:
    """An input that is made loud keeps all of its weights: it is a row of GPT-2's matrices, and a column of others'."""
    written("gpt2", tmp_path)
    model = hub.load_folder(tmp_path)
    with torch.no_grad():
        weights(model)["transformer.h.0.ln_2.weight"][5] = 1000.0
    masks = calibrated.prune(model, inner_matrices(model), 0.25, "wanda", RECORDS, Progress())
    mask = masks["transformer.h.0.mlp.c_fc.weight"]
    assert (~mask).sum() == round(0.25 * mask.size)
    assert mask[5].all() and not mask[:, 5].all()


@pytest.mark.parametrize("task", ["generation", "classification"])
def test_a_run_of_such_a_model_has_every_method(task: str, tmp_path: Path) -> None:
    """GPT-2 writes, BERT tells labels: with recovery, gradual pruning, and two methods one after the other."""
    asked: dict[str, Any] = {
        "quantize": "int4",
        "prune": 0.5,
        "pruning": ["wanda", "sparsegpt", "gradual", "magnitude"],
        "recover": "2 steps",
    }
    summary = FAMILIES["hub"].run(tmp_path, task, compress=asked)
    names = {f"pruned-50-{method}-recovered" for method in asked["pruning"]}
    assert summary["variants"].keys() == {"original", "int4"} | names | {f"{name}-int4" for name in names}
    assert all(np.isfinite(each["loss"]) for each in summary["variants"].values())
    with pipeline.look(tmp_path / "run") as job:
        for name in names:
            assert "left out" in job.store.read(f"compressed/{name}/README.md").decode()
