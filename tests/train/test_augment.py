"""Augmentation: a pure function of its random numbers, and each kind does what its name says and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shuyuan.recipe import from_table
from shuyuan.train.augment import SHIFT, augmented, moved

KINDS = ("shift", "rotate", "flip")


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(count: int, height: int = 20, width: int = 30, channels: int = 3) -> NDArray[np.uint8]:
    return random(7).integers(0, 256, (count, channels, height, width), np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), unique=True), st.integers(0, 5), st.integers(1, 12), st.integers(1, 12)
)
def test_the_same_numbers_give_the_same_images_of_the_same_shape(
    kinds: list[str], count: int, height: int, width: int
) -> None:
    before = pictures(count, height, width)
    kept = before.copy()
    one, again = (augmented(before, kinds, random(3)) for _ in range(2))
    assert one.shape == before.shape and one.dtype == np.uint8
    assert np.array_equal(one, again) and np.array_equal(before, kept)


def test_nothing_named_changes_nothing() -> None:
    assert np.array_equal(augmented(pictures(4), [], random()), pictures(4))


def test_what_becomes_of_an_image_depends_on_no_other() -> None:
    before = pictures(4)
    other = before.copy()
    other[2] = 0
    one, two = (augmented(images, KINDS, random()) for images in (before, other))
    assert np.array_equal(one[[0, 1, 3]], two[[0, 1, 3]])


def test_flip_mirrors_left_and_right_about_half_of_the_images() -> None:
    before = pictures(200, 5, 7)
    after = augmented(before, ["flip"], random())
    mirrored = [np.array_equal(now, then[:, :, ::-1]) for then, now in zip(before, after, strict=True)]
    same = [np.array_equal(now, then) for then, now in zip(before, after, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 60 < sum(mirrored) < 140


def spot(height: int, width: int) -> NDArray[np.uint8]:
    """A bright spot in the middle of a dark image."""
    image = np.zeros((1, 1, height, width), np.uint8)
    image[0, 0, height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = 255
    return image


def centre(image_HW: NDArray[Any]) -> NDArray[np.float64]:
    weights = image_HW.astype(float)
    places = np.indices(weights.shape)
    return np.array([(places[axis] * weights).sum() / weights.sum() for axis in range(2)])


def test_shift_moves_by_at_most_a_tenth_of_height_and_width() -> None:
    before = np.repeat(spot(40, 80), 300, axis=0)
    after = augmented(before, ["shift"], random())
    way = np.array([centre(image[0]) - centre(before[0, 0]) for image in after])
    assert (np.abs(way) <= np.array([40, 80]) * SHIFT + 0.1).all()
    assert (np.abs(way).max(0) > np.array([40, 80]) * SHIFT * 0.9).all()


@pytest.mark.parametrize(("height", "width"), [(41, 41), (31, 61)])
def test_rotate_turns_about_the_middle_and_keeps_lengths(height: int, width: int) -> None:
    """A spot stays as far from the middle as it was, by an angle of at most 15 degrees; a sheared one would not."""
    before = np.zeros((200, 1, height, width), np.uint8)
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    top = 6
    before[:, 0, top - 1 : top + 2, width // 2 - 1 : width // 2 + 2] = 255
    after = augmented(before, ["rotate"], random())
    ways = np.array([centre(image[0]) - middle for image in after])
    angles = np.rad2deg(np.arctan2(ways[:, 1], -ways[:, 0]))
    assert np.allclose(np.linalg.norm(ways, axis=1), middle[0] - top, atol=0.3)
    assert 13 < np.abs(angles).max() < 15.5 and (angles < 0).any() and (angles > 0).any()


def test_only_images_are_augmented() -> None:
    text = from_table({"data": {"source": "stdlib"}})
    table = {"task": "classification", "data": {"source": "digits"}, "model": {"family": "cnn"}}
    images = from_table(table | {"train": {"augment": ["flip"]}})
    tokens = np.arange(12).reshape(3, 4)
    assert moved(tokens, text, random()) is tokens
    assert not np.array_equal(moved(pictures(9), images, random()), pictures(9))
