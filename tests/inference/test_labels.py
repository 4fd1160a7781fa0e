"""Labels: the probabilities of a network, in order, for images in any number and form."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shuyuan import loaded, pipeline
from shuyuan.data import ImageFacts
from shuyuan.data.pixels import fitted
from shuyuan.errors import DataError, ShuyuanError
from shuyuan.inference import Labeller, labels
from shuyuan.loaded import LoadedRun
from shuyuan.progress import Progress
from shuyuan.runs import Run
from tests.data.pictures import encoded, image_folder, pictured
from tests.runs import shuyuan

NAMES = ("black", "grey", "white")


class Brightness(nn.Module):
    """Tells images by their mean: a network without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.context = SimpleNamespace(labels=NAMES, multi_label=False), 0

    def forward(self, images_BCHW: Tensor) -> Tensor:
        assert images_BCHW.dtype == torch.uint8
        mean_B1 = images_BCHW.float().flatten(1).mean(1, keepdim=True)
        return -(mean_B1 - torch.tensor([0.0, 127.0, 255.0])).abs() / 10


def even(value: int, *shape: int) -> Any:
    return np.full(shape, value, np.uint8)


def test_images_are_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "BATCH", 3)
    labeller: Any = Labeller(Brightness())  # type: ignore[arg-type]
    told = list(labeller.label_images(even(value, 1, 4, 4) for value in (0, 255, 120, 10, 250, 130, 0)))
    assert [next(iter(each)) for each in told] == [NAMES[number] for number in (0, 2, 1, 0, 2, 1, 0)]
    for each in told:
        assert sum(each.values()) == pytest.approx(1)
        assert sorted(each.values(), reverse=True) == list(each.values())
    assert list(labeller.label_images([])) == []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of images with a made-up model."""
    folder = image_folder(tmp_path / "pictures", dict.fromkeys(NAMES, 20), (6, 5, 3))
    recipe = pictured(folder, validation=0.3)
    with pipeline.begin(recipe, "prepare", out=tmp_path / "run", progress=Progress()) as job:
        pipeline.prepare(job)
        job.store.write("model/config.json", b"{}")
    monkeypatch.setattr(loaded, "load_writer", lambda *_: Brightness())
    return Run(tmp_path / "run").path


def test_a_loaded_run_takes_paths_and_arrays(run: Path, tmp_path: Path) -> None:
    loaded = LoadedRun(run)
    photograph = tmp_path / "large.jpg"
    photograph.write_bytes(encoded(even(250, 40, 60, 3), "JPEG"))
    given = [
        photograph,
        str(photograph),
        even(0, 6, 5),
        even(127, 6, 5, 1),
        even(255, 6, 5, 3),
        even(3, 99, 2),
    ]
    told = [next(iter(each)) for each in loaded.classify(given)]
    assert told == ["white", "white", "black", "grey", "white", "black"]
    with pytest.raises(ShuyuanError, match=r"inference\.no-text"):
        loaded.generate("Once")


def test_an_array_is_fitted_as_the_records_were(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        Brightness, "forward", lambda self, images: seen.append(images.numpy()) or torch.zeros(len(images), 3)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    list(LoadedRun(run).classify([pixels]))
    assert np.array_equal(seen[0][0], fitted(pixels, ImageFacts(6, 5, 3)))


@pytest.mark.parametrize(
    "given",
    [
        even(0, 4, 4, 2),
        even(0, 4),
        even(0, 0, 4),
        np.zeros((4, 4)),
        "missing.png",
        ".",
        "\0",
    ],
)
def test_what_is_no_image_is_refused(run: Path, given: Any) -> None:
    with pytest.raises(DataError, match=r"data\.unreadable-image"):
        list(LoadedRun(run).classify([given]))


def test_the_command(run: Path, tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 255)):
        (tmp_path / f"{name}.png").write_bytes(encoded(even(value, 30, 20)))
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    told = shuyuan("classify", run, *paths, "--json").json["images"]
    assert [each["label"] for each in told] == ["black", "white"]
    assert [each["image"] for each in told] == paths
    assert told[0]["probabilities"]["black"] == told[0]["probability"] > 0.9
    lines = shuyuan("classify", run, stdin="\n".join(paths)).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["black", "white"]
    (tmp_path / "broken.png").write_bytes(b"broken")
    outcome = shuyuan("classify", run, tmp_path / "broken.png")
    assert outcome.status == 1
    assert "images that cannot be read" in outcome.stderr
