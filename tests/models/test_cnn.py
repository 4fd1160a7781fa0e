"""Networks for images: sizes that follow from the images, folders out and in, and nothing that one image tells of another."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import ImageFacts
from shuyuan.errors import ShuyuanError
from shuyuan.models import ImageClassifier, ImageConfig, hub, image_config_for
from shuyuan.models.cnn import Residual, Textbook, image_classifier
from shuyuan.models.image_config import LAST_SIDE
from shuyuan.recipe import Model
from shuyuan.vault import OpenStore

SIZES = ("textbook", "small", "medium")
LABELS = ("cat", "dog", "fox")


def config_of(size: str, height: int = 12, width: int = 9, channels: int = 3) -> ImageConfig:
    model = Model.model_validate({"family": "cnn", "size": size})
    return image_config_for(model, ImageFacts(height, width, channels), LABELS)


def images(config: ImageConfig, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (count, config.channels, config.height, config.width), generator=generator, dtype=torch.uint8
    )


def written(folder: Path, model: ImageClassifier) -> Path:
    with OpenStore(folder) as store, store.folder("model") as out:
        hub.save(out, model, None, "# A card\n")
    return folder / "model"


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["textbook", "small"]), st.integers(2, 70), st.integers(2, 70), st.sampled_from([1, 3])
)
def test_sizes_follow_from_the_images(size: str, height: int, width: int, channels: int) -> None:
    config = config_of(size, height, width, channels)
    model = image_classifier(config)
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == config.shapes
    assert sum(weight.numel() for weight in model.parameters()) == config.parameters
    logits = model(images(config, 2))
    assert logits.shape == (2, 3) and logits.dtype == torch.float32


def test_the_textbook_network_reads_32_maps_of_14_by_14_at_28_by_28() -> None:
    model = image_classifier(config_of("textbook", 28, 28, 1))
    assert isinstance(model, Textbook)
    assert tuple(model.conv.weight.shape) == (32, 1, 3, 3) and model.conv.padding == (1, 1)
    assert tuple(model.hidden.weight.shape) == (128, 32 * 14 * 14)
    x = torch.rand(2, 1, 28, 28)
    by_hand = torch.nn.Sequential(
        model.conv, torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), model.hidden, torch.nn.ReLU(), model.head
    )  # fmt: skip
    assert torch.equal(model(x), by_hand(x * 2 - 1))


@pytest.mark.parametrize("side", [1, 4, 8, 28, 32, 64, 224])
def test_the_head_reads_a_small_map_however_large_the_images_are(side: int) -> None:
    config = config_of("small", side, side)
    places = config.features // config.widths[-1]
    assert places == math.isqrt(places) ** 2 and places <= LAST_SIDE**2
    assert places >= min(side, 3) ** 2 or side < 3


@pytest.mark.parametrize("size", SIZES)
def test_no_image_changes_what_is_said_of_another(size: str) -> None:
    model = image_classifier(config_of(size)).train()
    some, others = images(model.config), images(model.config, 9)
    together = model(torch.cat([others, some]))
    assert torch.allclose(together[9:], model(some), atol=1e-5)
    assert not list(model.buffers()), "nothing is remembered from image to image"


def test_pixels_of_bytes_and_of_floats_are_the_same_and_scaled_by_no_data() -> None:
    model = image_classifier(config_of("small"))
    bytes_, seen = images(model.config), []
    handle = model.stages.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert torch.allclose(model(bytes_), model(bytes_ / 255), atol=1e-5)
    black, white = torch.zeros_like(bytes_), torch.full_like(bytes_, 255)
    model(black), model(white)
    handle.remove()
    assert (seen[2] == -1).all() and torch.allclose(seen[3], torch.ones(()))


@pytest.mark.parametrize("size", SIZES)
def test_losses_are_cross_entropies_and_nothing_is_learned_where_the_target_says_so(size: str) -> None:
    model = image_classifier(config_of(size))
    targets = torch.tensor([[2], [-100], [0], [1]])
    losses = model.losses(images(model.config), targets)
    wanted = torch.nn.functional.cross_entropy(
        model(images(model.config)), targets[:, 0], reduction="none", ignore_index=-100
    )
    assert losses.shape == (4, 1) and losses[1] == 0
    assert torch.allclose(losses[:, 0], wanted, atol=1e-5)
    assert torch.allclose(model.loss(images(model.config), targets), wanted.sum(), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_weights_follow_from_the_seed_alone(size: str) -> None:
    before = torch.get_rng_state()
    one, again, other = (image_classifier(config_of(size), seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_read(tmp_path: Path, size: str) -> None:
    model = image_classifier(config_of(size), seed=3)
    folder = written(tmp_path, model)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = hub.load_folder(folder)
    assert isinstance(loaded, Textbook if size == "textbook" else Residual)
    assert loaded.config == model.config and loaded.new == frozenset()
    assert torch.equal(loaded(images(model.config)), model(images(model.config)))


def test_other_labels_get_a_new_head_and_the_rest_stays(tmp_path: Path) -> None:
    model = image_classifier(config_of("small"), seed=3)
    folder = written(tmp_path, model)
    loaded = hub.load_folder(folder, ["ja", "nein"], seed=5)
    assert isinstance(loaded, Residual) and loaded.config.labels == ("ja", "nein")
    assert loaded.new == {"head.weight", "head.bias"}
    assert torch.equal(loaded.stages[0].conv.weight, model.stages[0].conv.weight)  # type: ignore[union-attr]
    again = hub.load_folder(folder, ["ja", "nein"], seed=5)
    assert torch.equal(again.head.weight, loaded.head.weight)  # type: ignore[union-attr]
    same = hub.load_folder(folder, list(LABELS), seed=5)
    assert torch.equal(same.head.weight, model.head.weight)  # type: ignore[union-attr]


def test_a_model_to_start_from_must_read_the_same_images(tmp_path: Path) -> None:
    folder = written(tmp_path, image_classifier(config_of("small")))
    start = Model.model_validate({"family": "cnn", "from": str(folder)})
    found = image_config_for(start, ImageFacts(12, 9, 3), ["a", "b"])
    assert found == replace(config_of("small"), labels=("a", "b"))
    with pytest.raises(ShuyuanError, match=r"12 x 9 pixels and 3 channels.*12 x 9 and 1") as caught:
        image_config_for(start, ImageFacts(12, 9, 1), ["a", "b"])
    assert caught.value.code == "models.other-images"


def test_families_do_not_start_from_each_other(tmp_path: Path) -> None:
    from shuyuan.models import config_for

    from .tiny import TINY, write_folder
    from .tiny import lively as transformer

    pictures = written(tmp_path / "cnn", image_classifier(config_of("small")))
    text = write_folder(tmp_path / "text", transformer(TINY))
    with pytest.raises(ShuyuanError, match="reads text, and the run has images"):
        image_config_for(
            Model.model_validate({"family": "cnn", "from": str(text)}), ImageFacts(12, 9, 3), LABELS
        )
    with pytest.raises(ShuyuanError, match="reads images, and the run has text"):
        config_for(Model.model_validate({"from": str(pictures)}), 257)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"widths": None}, "widths"),
    ({"widths": [16] * 20}, "widths"),
    ({"widths": [16, "many"]}, "`1` = many"),
    ({"widths": [12]}, "`widths`.*multiple of 8"),
    ({"hidden": 5}, "one stage"),
    ({"hidden": -1}, "`hidden`"),
    ({"residual": 10**6}, "`residual`"),
    ({"height": 10**9}, "`height`"),
    ({"channels": 0}, "`channels`"),
    ({"id2label": {}}, "`id2label`"),
]


@pytest.mark.parametrize(("change", "expected"), REFUSED)
def test_an_absurd_configuration_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ShuyuanError, match=expected) as caught:
        ImageConfig.from_hub(config_of("small").to_hub() | change, where="folder/config.json")
    assert caught.value.where == "folder/config.json"


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, image_classifier(config_of("small")))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"height": 30}))
    with pytest.raises(ShuyuanError, match=r"head\.weight has the shape") as caught:
        hub.load_folder(folder)
    assert caught.value.code == "models.other-tensors"


def test_the_textbook_network_cannot_halve_a_line() -> None:
    with pytest.raises(ShuyuanError, match="cannot be halved") as caught:
        config_of("textbook", 1, 28)
    assert caught.value.code == "models.small-images"
    assert config_of("small", 1, 1).features == 64


def test_it_continues_no_text() -> None:
    from shuyuan.models import open_slots

    with pytest.raises(ShuyuanError, match="tells classes apart"):
        open_slots(image_classifier(config_of("small")), 1, 8)
