"""Decoding: an image becomes what a viewer shows, in one shape, or a counted reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shuyuan.data.pixels import Fitter, decoded, fitted, image_field, shape_of
from shuyuan.data.sources import ImageFacts
from shuyuan.errors import DataError

from .pictures import encoded

RED, WHITE = [255, 0, 0], [255, 255, 255]
SIDES = st.integers(1, 12)


def seen(content: bytes) -> Any:
    """The pixels of an image that can be read."""
    skipped: Counter[str] = Counter()
    pixels = decoded(content, skipped)
    assert pixels is not None, skipped
    assert not skipped
    assert pixels.dtype == np.uint8
    return pixels


def left_out(content: bytes) -> Counter[str]:
    skipped: Counter[str] = Counter()
    assert decoded(content, skipped) is None
    return skipped


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 1000), st.sampled_from(["PNG", "BMP", "WEBP"]))
def test_lossless_images_come_back(height: int, width: int, channels: int, seed: int, kind: str) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    found = seen(encoded(image, kind, **options))
    assert np.array_equal(found if kind != "WEBP" else found[:, :, :channels], pixels)


def test_jpeg() -> None:
    pixels = np.full((16, 16, 3), [200, 30, 90], np.uint8)
    assert np.abs(seen(encoded(pixels, "JPEG")).astype(int) - pixels).max() <= 4
    assert seen(encoded(pixels[:, :, 0], "JPEG")).shape == (16, 16, 1)


def test_a_turned_photograph_is_turned_back() -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side
    upright = seen(encoded(pixels, "JPEG", exif=exif))
    assert upright.shape == (16, 8, 3)
    assert upright[:6].max() < 30
    assert upright[10:].min() > 225


def test_what_is_transparent_is_on_white() -> None:
    clear = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [255, 0, 0, 128]]], np.uint8)
    found = seen(encoded(clear))[0].tolist()
    assert found[:2] == [WHITE, RED]
    assert found[2] == [255, 127, 127]
    grey = Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA")
    assert seen(encoded(grey))[0].tolist() == [[255], [10]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert seen(encoded(palette))[0].tolist() == [RED, [0, 0, 255]]
    assert seen(encoded(palette, transparency=1))[0].tolist() == [RED, WHITE]


def test_other_depths() -> None:
    deep = np.array([[0, 255, 256, 40_000, 65_535]], np.uint16)
    assert seen(encoded(deep))[0, :, 0].tolist() == [0, 0, 1, 156, 255]
    assert seen(encoded(Image.fromarray(np.array([[True, False]]))))[0, :, 0].tolist() == [255, 0]
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(seen(encoded(inks, "JPEG"))[0, 0].astype(int) - RED).max() < 20


def test_broken_images_are_counted() -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    for content in (b"", b"no image", whole[:40], whole[: len(whole) // 2], whole[:60] + b"\0" * 600):
        assert left_out(content) == {"images that cannot be read": 1}
    photograph = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), "JPEG")
    assert left_out(photograph[: len(photograph) // 2]) == {"images that cannot be read": 1}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "WEBP"]), st.data())
def test_whatever_the_bytes_are(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    skipped: Counter[str] = Counter()
    pixels = decoded(bytes(content), skipped)
    if pixels is None:
        assert sum(skipped.values()) == 1
    else:
        assert not skipped
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] in (1, 3)


def test_other_formats_are_not_read() -> None:
    for kind in ("GIF", "TIFF", "PPM", "ICO"):
        assert left_out(encoded(np.zeros((16, 16, 3), np.uint8), kind)) == {"images that cannot be read": 1}


# ---- one shape -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.sampled_from([1, 3]), SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 255))
def test_an_even_image_stays_even(
    h: int, w: int, c: int, height: int, width: int, channels: int, value: int
) -> None:
    image = ImageFacts(height, width, channels)
    found = fitted(np.full((h, w, c), value, np.uint8), image)
    assert found.shape == image.shape
    assert (found == value).all()


def test_the_channels_come_first() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    fitter = Fitter(ImageFacts(2, 3, 3))
    assert fitter(pixels) == pixels.transpose(2, 0, 1).tobytes()
    assert fitter.changed == 0
    assert shape_of(pixels) == ImageFacts(2, 3, 3)


def test_shrinking_averages() -> None:
    pixels = np.zeros((8, 8, 1), np.uint8)
    pixels[::2] = 255  # stripes: taking each second row would show one of them
    fitter = Fitter(ImageFacts(2, 2, 1))
    small = np.frombuffer(fitter(pixels), np.uint8)
    assert (np.abs(small.astype(int) - 127) < 25).all()
    assert fitter.changed == 1


def test_colour_to_grey_is_luminance() -> None:
    pixels = np.array([[RED, [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert fitted(pixels, ImageFacts(1, 3, 1))[0, 0].tolist() == [76, 150, 29]


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        image_field({"image": [1, 2]}, "image", "a.jsonl:3", Counter())
    assert (caught.value.code, caught.value.where) == ("data.not-an-image", "a.jsonl:3")
    with pytest.raises(DataError, match=r"data\.no-column"):
        image_field({"picture": b""}, "image", "a.jsonl:3", Counter())
