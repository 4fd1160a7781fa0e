"""Networks for images in the plan: what is kept is what autograd keeps, and the sum is what a process takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shuyuan.data import ImageFacts, Manifest, Split
from shuyuan.models.cnn import image_classifier
from shuyuan.models.image_config import BODIES, ImageConfig
from shuyuan.planning import plan
from shuyuan.planning.cost import block_matrix_parameters, optimizer_bytes
from shuyuan.planning.images import train_flops_per_image, unit_gradient_bytes
from shuyuan.recipe import Train
from shuyuan.train.optimizers import Optimizers

from .parts import CPU, GPU, RATES, SMALL_CPU, make_recipe
from .test_memory import RUN

LABELS = tuple("0123456789")


def config_of(size: str, height: int = 28, width: int = 28, channels: int = 1) -> ImageConfig:
    return ImageConfig(height, width, channels, LABELS, *BODIES[size])


def recipe_of(**tables: Any) -> Any:
    table = {"data": {"source": "pictures", "labels": list(LABELS)}, "task": "classification"}
    return make_recipe(**table | {"model": {"family": "cnn"}} | tables)


def manifest_of(records: int = 50_000, side: int = 28, channels: int = 1) -> Manifest:
    splits = {
        name: Split(count, count, count, 0, [])
        for name, count in (("train", records), ("validation", records // 10))
    }
    return Manifest(splits, 0, None, labels=list(LABELS), image=ImageFacts(side, side, channels))


def kept_bytes(config: ImageConfig, precision: str, count: int) -> int:
    """What autograd keeps between forward and backward, without the model's own weights."""
    model = image_classifier(config)
    images = torch.zeros((count, config.channels, config.height, config.width), dtype=torch.uint8)
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no address is used twice
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        loss = model.loss(images, torch.zeros((count, 1), dtype=torch.int64))
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    assert loss.requires_grad
    return sum(size for address, (size, _) in kept.items() if address not in own)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (50, 34, 3), (100, 70, 3)])
@pytest.mark.parametrize("size", ["textbook", "small"])
def test_activations_are_what_autograd_keeps(size: str, shape: tuple[int, int, int], precision: str) -> None:
    config = config_of(size, *shape)
    number = 4 if precision == "fp32" else 2
    copies = 2 * block_matrix_parameters(config) if precision == "bf16" else 0
    counted = 5 * config.kept_bytes(number) + copies
    assert counted == pytest.approx(kept_bytes(config, precision, 5), rel=0.02)


def test_operations_are_those_of_the_textbook() -> None:
    """28 x 28 places of 32 kernels of 9, then 6272 x 128 and 128 x 10; six operations a number in training."""
    products = 28 * 28 * 32 * 9 + 32 * 14 * 14 * 128 + 128 * 10
    assert train_flops_per_image(config_of("textbook")) == 6 * products


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("size", ["textbook", "small"])
def test_optimizer_bytes_are_those_of_the_real_state(optimizer: Any, size: str) -> None:
    config = config_of(size)
    tensors = Optimizers(image_classifier(config), optimizer, 0.1).tensors().values()
    real = sum(tensor.nbytes for tensor in tensors if tensor.ndim)  # without the few scalars that count steps
    assert optimizer_bytes(config, Train(optimizer=optimizer)) == real


def test_the_plan_counts_images() -> None:
    found = plan(recipe_of(train={"budget": "30 steps", "batch_size": 100}), CPU, RATES, manifest_of())
    assert found.parameters == sum(w.numel() for w in image_classifier(config_of("small")).parameters())
    assert found.tokens == 3000
    assert found.train_flops == 3000 * train_flops_per_image(config_of("small"))
    epochs = plan(recipe_of(train={"budget": "2 epochs", "batch_size": 100}), CPU, RATES, manifest_of())
    assert epochs.tokens == 100_000
    on_gpu = plan(recipe_of(train={"budget": "2 epochs"}), GPU, RATES, manifest_of())
    assert "CUDA context" in on_gpu.items and "Python and torch" not in on_gpu.items


def test_the_plan_says_what_privacy_will_cost() -> None:
    private = {"privacy": {"epsilon": 3.0, "unit": "record"}}
    train = {"budget": "60 steps", "batch_size": 512, "micro_batch": 128, "precision": "bf16"}
    found = plan(recipe_of(train=train, **private), CPU, RATES, manifest_of())
    assert found.privacy is not None and found.privacy["sampling_rate"] == 512 / 50_000
    assert found.items["gradients of units"] == 128 * unit_gradient_bytes(config_of("small"), "bf16")
    plain = plan(recipe_of(train=train), CPU, RATES, manifest_of())
    assert found.seconds.expected > plain.seconds.expected


def test_a_run_that_cannot_fit_is_told_what_would() -> None:
    train = {"budget": "2 steps", "batch_size": 64, "micro_batch": 64, "precision": "fp32"}
    large = manifest_of(100, 512, 3)
    found = plan(recipe_of(model={"family": "cnn", "size": "medium"}, train=train), SMALL_CPU, RATES, large)
    assert not found.fits
    assert any("train.micro_batch = " in line for line in found.advice)
    assert not any("context" in line or "tiny" in line for line in found.advice)


def test_a_source_is_counted_before_it_is_prepared(tmp_path: Path) -> None:
    images, labels = np.zeros((40, 6, 5), np.uint8), np.arange(40) % 4
    np.savez(tmp_path / "pictures.npz", images=images, labels=labels)
    table = {"source": str(tmp_path / "pictures.npz"), "validation": 0.25, "labels": list("0123")}
    found = plan(recipe_of(data=table, train={"budget": "3 epochs", "batch_size": 10}), CPU, RATES, None)
    assert found.tokens == 90
    assert any("40 images" in note for note in found.notes)


def test_a_source_on_the_hub_is_not_asked() -> None:
    table = {"source": "hf:org/name", "labels": ["a", "b"]}
    found = plan(recipe_of(data=table, train={"budget": "10 steps"}), CPU, RATES, None)
    assert any("unknown before it is fetched" in note for note in found.notes)


# ---- against the process -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is measured on Linux")
@pytest.mark.parametrize(
    ("size", "train", "privacy"),
    [
        pytest.param(
            "small",
            {"batch_size": 1024, "micro_batch": 1024, "precision": "fp32"},
            None,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "textbook",
            {"batch_size": 256, "micro_batch": 256, "precision": "bf16"},
            None,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "small", {"batch_size": 512, "micro_batch": 512, "precision": "bf16"}, 8.0, marks=pytest.mark.slow
        ),
        pytest.param(
            "small", {"batch_size": 512, "micro_batch": 256, "precision": "fp32"}, 8.0, marks=pytest.mark.slow
        ),
    ],
)
def test_the_peak_is_what_a_real_run_takes(
    size: str, train: dict[str, Any], privacy: float | None, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6000, 28, 28), np.uint8)
    np.savez(tmp_path / "pictures.npz", images=images, labels=random.integers(0, 10, 6000))
    recipe = {
        "task": "classification",
        "data": {"source": str(tmp_path / "pictures.npz"), "labels": list(LABELS), "duplicates": "keep"},
        "model": {"family": "cnn", "size": size},
        "train": {"budget": "4 steps", "evaluations": 1} | train,
    } | ({"privacy": {"epsilon": privacy, "unit": "record"}} if privacy else {})
    command = [sys.executable, "-c", RUN, str(tmp_path), json.dumps(recipe)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(out.splitlines()[-1])
    measured, peak = found["measured"]["peak_bytes"], found["peak_bytes"]
    assert peak["low"] <= measured <= peak["high"]
    assert peak["expected"] == pytest.approx(measured, rel=0.10)
