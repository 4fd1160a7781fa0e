"""Arrays of .npz files: read row by row, in any layout that is meant, or refused by name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shuyuan.data import ImageFacts
from shuyuan.errors import DataError

from .parts import prepared
from .pictures import pictured
from .test_image_sources import refusal, rows_of

LAYOUTS = st.sampled_from(["grey", "last", "first"])


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(4, 7), st.integers(4, 7), st.sampled_from([1, 3])).flatmap(
        lambda shape: arrays(np.uint8, shape)
    ),
    LAYOUTS,
    st.sampled_from([("images", "labels"), ("x", "y"), ("image", "label")]),
    st.booleans(),
)
def test_arrays_come_back(
    tmp_path_factory: pytest.TempPathFactory, images_RHWC: Any, layout: str, names: Any, packed: bool
) -> None:
    file = tmp_path_factory.mktemp("npz") / "a.npz"
    if layout == "grey":
        images_RHWC = images_RHWC[:, :, :, :1]
    written = {"grey": images_RHWC[..., 0], "last": images_RHWC, "first": images_RHWC.transpose(0, 3, 1, 2)}[
        layout
    ]
    labels = np.arange(len(images_RHWC))[:, None]  # as CIFAR's and MedMNIST's come
    save = np.savez_compressed if packed else np.savez
    save(file, **{names[0]: np.ascontiguousarray(written), names[1]: labels})
    rows, _ = rows_of(file)
    found = np.array([np.asarray(row.values["image"]).reshape(images_RHWC.shape[1:]) for row in rows])
    assert np.array_equal(found, images_RHWC)
    assert [row.values["label"] for row in rows] == labels[:, 0].tolist()


def test_arrays_are_named_by_the_recipe(tmp_path: Path) -> None:
    file, random = tmp_path / "mnist.npz", np.random.default_rng(0)
    np.savez(
        file,
        x_train=random.integers(0, 256, (40, 4, 4), np.uint8),
        y_train=np.array(["no", "yes"] * 20),
        who=np.arange(40) // 2,
        x_test=np.zeros((3, 9, 9), np.uint8),
    )
    error = refusal(file)
    assert error.code == "data.no-array"
    assert "x_train" in error.mend
    recipe = pictured(file, image="x_train", label="y_train", owner="who")
    manifest, _ = prepared(tmp_path / "run", recipe)
    assert manifest.image == ImageFacts(4, 4, 1)
    assert manifest.labels == ["no", "yes"]
    assert sum(split.owners for split in manifest.splits.values()) == 20


IMAGES, LABELS = np.zeros((4, 6, 6), np.uint8), np.arange(4)


@pytest.mark.parametrize(
    ("images", "labels", "code"),
    [
        (IMAGES.astype(np.float32), LABELS, "data.bad-npz"),
        (IMAGES.astype(np.int16), LABELS, "data.bad-npz"),
        (np.zeros((4, 6), np.uint8), LABELS, "data.bad-npz"),
        (np.zeros((4, 6, 6, 4), np.uint8), LABELS, "data.bad-npz"),
        (np.zeros((4, 3, 6, 6, 3), np.uint8), LABELS, "data.bad-npz"),
        (np.asfortranarray(np.ones((4, 6, 6), np.uint8)), LABELS, "data.bad-npz"),
        (np.uint8(3), LABELS, "data.bad-npz"),
        (np.zeros((4, 0, 6), np.uint8), LABELS, "data.image-size"),
        (IMAGES, LABELS[:3], "data.counts-differ"),
        (IMAGES, np.eye(4, dtype=np.int64), "data.bad-npz"),
        (IMAGES, LABELS / 2, "data.bad-npz"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, images: Any, labels: Any, code: str) -> None:
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    error = refusal(tmp_path / "a.npz")
    assert (error.code, error.where) == (code, str(tmp_path / "a.npz"))


def test_what_is_cut_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, images=IMAGES, labels=LABELS)
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[:-30], whole[:100]):
        file.write_bytes(content)
        assert refusal(file).code == "data.damaged"
    at = whole.index(b"\0" * 144) + 70  # among the pixels
    file.write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    assert refusal(file).code == "data.damaged"  # by the archive's checksum


def test_a_row_too_few_or_too_many(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", images=IMAGES, labels=LABELS)
    for change in (lambda content: content[:-8], lambda content: content + b"\0" * 8):
        with (
            zipfile.ZipFile(tmp_path / "whole.npz") as whole,
            zipfile.ZipFile(tmp_path / "a.npz", "w") as other,
        ):
            other.writestr("images.npy", whole.read("images.npy"))
            other.writestr("labels.npy", change(whole.read("labels.npy")))
        assert refusal(tmp_path / "a.npz").code == "data.damaged"


def test_an_npz_is_no_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(DataError):
        prepared(tmp_path / "run", pictured("digits").replace(**{"data.source": str(tmp_path / "a.npz")}))
