"""Scores of labels: each held-out record counts once, and what stands behind the scores is written beside them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shuyuan import evaluate
from shuyuan.evaluate import scores
from shuyuan.progress import Progress
from tests.data.parts import prepared
from tests.data.pictures import encoded, images_in, pictured

NAMES = ("black", "grey", "white")


class Brightness(nn.Module):
    """Tells images by their mean, and takes what is a little grey for black."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.context = SimpleNamespace(labels=NAMES, multi_label=False), 0

    def forward(self, images_BCHW: Tensor) -> Tensor:
        mean_B1 = images_BCHW.float().flatten(1).mean(1, keepdim=True)
        return -(mean_B1 - torch.tensor([0.0, 150.0, 255.0])).abs() / 10


def test_every_held_out_image_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for name, low, high in (("black", 0, 40), ("grey", 40, 110), ("white", 215, 256)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(60):
            pixels = np.full((4, 4), random.integers(low, high), np.uint8)
            pixels[0, 0] = number  # no two are the same
            (tmp_path / "images" / name / f"{number}.png").write_bytes(encoded(pixels))
    recipe = pictured(tmp_path / "images", validation=0.3, test=0.2)
    recipe = recipe.replace(**{"train.micro_batch": 8, "train.precision": "fp32"})
    manifest, store = prepared(tmp_path / "run", recipe)
    store.write("model/config.json", b"{}")
    monkeypatch.setattr(scores, "load_network", lambda store, name: Brightness())
    found = evaluate.evaluate(recipe, store, manifest, Progress())["classification"]["original"]
    told = store.read_json("labels.json")["original"]
    assert told.keys() == {"validation", "test"}
    for split in told:
        images_RCHW, labels = images_in(store, manifest, split)
        means = images_RCHW.reshape(len(labels), -1).mean(1)
        said = [NAMES[int(np.abs(mean - np.array([0, 150, 255])).argmin())] for mean in means]
        right = [one == other for one, other in zip(said, labels, strict=True)]
        assert found[f"{split}.accuracy"] == pytest.approx(np.mean(right))
        assert 0.5 < found[f"{split}.accuracy"] < 1
        assert found[f"{split}.majority_accuracy"] < 0.5
        assert [each["records"] for each in told[split]["classes"]] == [labels.count(name) for name in NAMES]
        matrix = np.array(told[split]["confusion"])
        assert matrix[1, 0] == sum(
            (one, other) == ("grey", "black") for one, other in zip(labels, said, strict=True)
        )
        assert matrix.sum() == len(labels) == sum(each["records"] for each in told[split]["calibration"])
    for sample in store.read_json("samples.json"):
        assert sample["prompt"] == "An image of validation"
        assert "label: " in sample["text"]
