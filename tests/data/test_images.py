"""Images: every record exactly once an epoch, whole, with its class; prepared under the same laws as text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan import vault
from shuyuan.data import (
    ImageFacts,
    Images,
    Manifest,
    Split,
    UnitRows,
    open_split,
    prepare,
    stored,
    survey,
)
from shuyuan.data.shards import write_image_shard
from shuyuan.errors import DataError, MachineError, RecipeError
from shuyuan.progress import Progress
from shuyuan.runs import Run
from shuyuan.vault import OpenStore

from .parts import Listener, prepared
from .pictures import images_in, pictured

CLASSES = 3


class Made(NamedTuple):
    """A split of images: record n has the pixels n, n + 1, n + 2, … , the class n % 3 and the owner n // 2."""

    store: OpenStore
    manifest: Manifest
    images_RCHW: Any


def made(folder: Path, count: int, shape: tuple[int, int, int], shards: int = 2) -> Made:
    store, image = OpenStore(folder), ImageFacts(shape[1], shape[2], shape[0])
    images = (np.arange(count)[:, None] + np.arange(image.bytes)).astype(np.uint8)
    written = []
    for number, part in enumerate(np.array_split(np.arange(count), min(shards, count))):
        name = f"data/train-{number:05d}.shard"
        labels, owners = (part % CLASSES).astype(np.uint16), (part // 2).astype(np.uint64)
        written.append(write_image_shard(store, name, images[part].reshape(-1), owners, labels))
    split = Split(count, -(-count // 2), count, 0, written)
    manifest = Manifest({"train": split}, 0, None, labels=["a", "b", "c"], image=image)
    return Made(store, manifest, images.reshape(count, *shape))


COUNTS = st.integers(1, 40)
SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=40, deadline=None)
@given(COUNTS, SHAPES, st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_every_record_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, count: int, shape: Any, batch_size: int, seed: int
) -> None:
    store, manifest, images_RCHW = made(tmp_path_factory.mktemp("run"), count, shape)
    images = open_split(store, manifest, "train", 256)
    assert isinstance(images, Images)
    assert (images.count, images.tokens, images.cut) == (count, count, 0)
    assert images.counts == np.bincount(np.arange(count) % CLASSES, minlength=CLASSES).tolist()
    seen = []
    for step in range(-(-2 * count // batch_size)):
        images_BCHW, targets_B1 = images.batch(step, batch_size, seed)
        assert (images_BCHW.dtype, targets_B1.dtype) == (np.uint8, np.int64)
        assert (images_BCHW.shape, targets_B1.shape) == ((batch_size, *shape), (batch_size, 1))
        for image, target in zip(images_BCHW, targets_B1[:, 0].tolist(), strict=True):
            number = int(image.flat[0])
            assert np.array_equal(image, images_RCHW[number])
            assert target == number % CLASSES
            seen.append(number)
    assert sorted(seen[:count]) == sorted(seen[count : 2 * count]) == list(range(count))
    in_order = np.concatenate([images for images, _ in images.in_order(batch_size)])
    assert np.array_equal(in_order, images_RCHW)


def test_a_batch_is_pure_and_the_cache_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest, _ = made(tmp_path, 60, (3, 4, 5), shards=4)
    cached = Images(store, manifest, "train")
    monkeypatch.setattr(stored, "CACHED_BYTES", 0)
    read = Images(store, manifest, "train")
    assert cached._records._held
    assert not read._records._held
    for step in (5, 0, 123, 5):
        for one, other in zip(cached.batch(step, 6, seed=3), read.batch(step, 6, seed=3), strict=True):
            assert (one == other).all()
    assert not np.array_equal(cached.batch(0, 59, seed=3)[0], cached.batch(0, 59, seed=4)[0])


@settings(max_examples=30, deadline=None)
@given(COUNTS, SHAPES, st.data())
def test_what_a_unit_gives_does_not_depend_on_the_others(
    tmp_path_factory: pytest.TempPathFactory, count: int, shape: Any, data: st.DataObject
) -> None:
    store, manifest, images_RCHW = made(tmp_path_factory.mktemp("run"), count, shape)
    units = UnitRows(store, manifest, 256, "owner", 2)
    assert units.count == -(-count // 2)
    asked = data.draw(st.lists(st.integers(0, units.count - 1), unique=True))
    together = units.rows(np.array(asked, np.int64), np.random.default_rng(0))
    assert together.inputs_NT.shape == (len(together.unit_N), *shape)
    assert together.targets_NT.shape == (len(together.unit_N), 1)
    assert (together.inputs_NT.dtype, together.targets_NT.dtype) == (np.uint8, np.int64)
    for place, unit in enumerate(asked):
        here = together.unit_N == place
        own = [number for number in (2 * unit, 2 * unit + 1) if number < count]
        assert np.array_equal(together.inputs_NT[here], images_RCHW[own])
        assert together.targets_NT[here, 0].tolist() == [number % CLASSES for number in own]


def test_a_shard_of_text_holds_no_images(tmp_path: Path) -> None:
    store, manifest, _ = made(tmp_path, 4, (1, 2, 2))
    text = Manifest(manifest.splits, 300, None, labels=manifest.labels)
    with pytest.raises(DataError, match="it holds images"):
        stored.StoredRecords(store, text, "train")
    larger = Manifest(manifest.splits, 0, None, labels=manifest.labels, image=ImageFacts(2, 3, 1))
    with pytest.raises(DataError, match="its pixels do not fit"):
        Images(store, larger, "train")


# ---- the built-in digits -------------------------------------------------------------------------------------------


def digits() -> tuple[Any, list[str]]:
    found = pytest.importorskip("sklearn.datasets").load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8), list(map(str, found.target))


def test_digits_are_prepared_whole(tmp_path: Path) -> None:
    images_RHW, labels = digits()
    manifest, store = prepared(tmp_path, pictured("digits", test=0.1))
    assert manifest.labels == list("0123456789")
    assert manifest.image == ImageFacts(8, 8, 1)
    assert (manifest.tokenizer, manifest.vocab_size, manifest.text_bytes) == (None, 0, 0)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert not store.exists("data/tokenizer.json")
    expected = {image.tobytes(): label for image, label in zip(images_RHW, labels, strict=True)}
    found = {}
    for split, facts in manifest.splits.items():
        images_RCHW, named = images_in(store, manifest, split)
        assert len(images_RCHW) == facts.records == facts.tokens > 100
        found |= {image.tobytes(): label for image, label in zip(images_RCHW, named, strict=True)}
    assert found == expected


def test_prepared_again_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = pictured("digits")
    manifest, store = prepared(tmp_path / "one", recipe)
    before = {name: store.read(name) for name in store.names("data/")}
    assert prepare(recipe, store, Progress()) == manifest
    assert {name: store.read(name) for name in store.names("data/")} == before
    with pytest.raises(DataError, match=r"data\.other-settings"):
        prepare(pictured("digits", image_size=16), store, Progress())
    monkeypatch.setattr(survey, "HELD_BYTES", 0)  # read again instead of kept
    other, _ = prepared(tmp_path / "two", recipe)
    assert other.splits == manifest.splits


def test_a_sealed_run_holds_the_same_images_and_shows_none(tmp_path: Path) -> None:
    recipe = pictured("digits")
    manifest, store = prepared(tmp_path / "open", recipe)
    key = f"file:{vault.write_key_file(tmp_path / 'keys' / 'test.key')}"
    with vault.open_store(Run(tmp_path / "sealed"), key, create=True) as sealed:
        other = prepare(recipe, sealed, Progress())
        for split in manifest.splits:
            one, same = images_in(sealed, other, split), images_in(store, manifest, split)
            assert np.array_equal(one[0], same[0])
            assert one[1] == same[1]
    assert other.fingerprint != manifest.fingerprint  # keyed
    needles = [image.tobytes() for image in images_in(store, manifest, "train")[0][:20]]
    for file in (tmp_path / "sealed").rglob("*"):
        assert not file.is_file() or not any(needle in file.read_bytes() for needle in needles)


def test_without_the_library_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MachineError) as caught:
        prepared(tmp_path, pictured("digits"))
    assert "pip install 'shuyuan[images]'" in caught.value.mend


def test_another_size_and_colour(tmp_path: Path) -> None:
    listener = Listener()
    recipe = pictured("digits", image_size=[12, 10], channels=3)
    manifest, store = prepared(tmp_path, recipe, listener)
    assert manifest.image == ImageFacts(12, 10, 3)
    images_RCHW, _ = images_in(store, manifest, "validation")
    assert images_RCHW.shape[1:] == (3, 12, 10)
    assert np.array_equal(images_RCHW[:, 0], images_RCHW[:, 2])
    assert manifest.changed == 1797
    assert "1,797 images had another size than 12x10" in listener.said["data.resized"]


def test_what_does_nothing_for_images_is_said(tmp_path: Path) -> None:
    listener = Listener()
    prepared(tmp_path / "one", pictured("digits"), listener)
    assert "data.no-effect" not in listener.said
    recipe = pictured("digits", mask=["email"], min_chars=5, tokenizer={"kind": "char"})
    prepared(tmp_path / "two", recipe, listener)
    assert listener.said["data.no-effect"].startswith(
        "data.mask and data.min_chars and tokenizer do nothing here"
    )


# ---- privacy -------------------------------------------------------------------------------------------------------


PRIVATE = {"epsilon": 3.0, "unit": "record"}


def test_private_labels_are_named_and_copies_stay(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.labels"):
        pictured("digits", privacy=PRIVATE)
    recipe = pictured("digits", privacy=PRIVATE, labels=list("0123456789"))
    manifest, store = prepared(tmp_path, recipe)
    assert manifest.labels == list("0123456789")
    assert isinstance(open_split(store, manifest, "train", 8), Images)


# ---- the recipe ----------------------------------------------------------------------------------------------------


def test_what_a_recipe_of_images_may_not_say() -> None:
    def refusal(**tables: Any) -> str:
        with pytest.raises(RecipeError) as caught:
            pictured("digits", **tables)
        return str(caught.value)

    for size in (0, 5000, [3], [3, 3, 3], [0, 4]):
        assert "`data.image_size` must be one number" in refusal(image_size=size)
    for channels in (0, 2, 4):
        assert "`data.channels` must be 1" in refusal(channels=channels)
    assert "`data.label` names the column of the image" in refusal(label="image")
    with pytest.raises(RecipeError, match=r'task = "classification"'):
        pictured("digits").replace(task="generation")
    assert 'image = "image"' in pictured("digits").as_toml()
    for key, value in {"image": "x", "image_size": 8, "channels": 1}.items():
        with pytest.raises(RecipeError, match="reads no images"):
            pictured("digits").replace(**{f"data.{key}": value, "model.family": "transformer"})


def test_text_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, pictured("stdlib"))
    assert caught.value.code == "data.holds-text"
