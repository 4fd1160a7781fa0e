"""Weights in fewer bytes: what is given back is as near as the bits allow, and nothing unsound is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from shuyuan.errors import ShuyuanError
from shuyuan.models.packed import GROUP, Kind, pack, unpack

Floats = NDArray[np.float32]
SHAPES = array_shapes(min_dims=1, max_dims=4, max_side=9)
WEIGHTS = SHAPES.flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-8, 8, width=32, allow_subnormal=False))
)


def back(weight: Floats, bits: int, mask: NDArray[np.bool_] | None = None) -> Floats:
    kind, parts = pack(weight, bits, mask)
    assert kind == Kind.from_json("w", kind.to_json(), "config.json")
    return unpack("w", kind, parts, "model.safetensors")


def random(*shape: int) -> Floats:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@given(WEIGHTS, st.sampled_from((4, 8, 32)), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_weight_comes_back_as_near_as_its_codes_lie(weight: Floats, bits: int, chance: Any) -> None:
    mask = np.array([chance.random() < 0.6 for _ in range(weight.size)], np.bool_).reshape(weight.shape)
    kept = np.where(mask, weight, 0)
    for given_, found in ((weight, back(weight, bits)), (kept, back(kept, bits, mask))):
        assert found.dtype == np.float32 and found.shape == weight.shape
        rows = given_.reshape(len(given_), -1)
        if bits == 32:
            step = np.zeros(len(rows), np.float32)
        elif bits == 8:
            step = np.abs(rows).max(1) / 127
        else:  # float16 scales: a little more at the ends
            step = (np.maximum(rows.max(1), 0) - np.minimum(rows.min(1), 0)) / 15 * 1.02
        error = np.abs(found - given_).reshape(rows.shape)
        assert (error <= step[:, None] * 0.5 + 1e-6).all()


@given(WEIGHTS, st.sampled_from((4, 8, 32)))
@settings(deadline=None)
def test_zero_stays_zero_and_what_was_rounded_is_rounded_once(weight: Floats, bits: int) -> None:
    weight.reshape(-1)[::2] = 0
    once = back(weight, bits)
    assert (once.reshape(-1)[::2] == 0).all()
    if bits != 4:  # the ends of a group of four bits move with the first rounding
        np.testing.assert_allclose(back(once, bits), once, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8, 32])
def test_zeros_that_are_left_out_take_no_place(bits: int) -> None:
    weight = random(64, 256)
    mask = np.abs(weight) > 1.0
    whole, sparse = (sum(part.nbytes for part in pack(weight, bits, m)[1].values()) for m in (None, mask))
    scales = {4: 64 * 4 * 3, 8: 64 * 4, 32: 0}[bits]
    assert sparse == -(-bits * int(mask.sum()) // 8) + weight.size // 8 + scales
    assert whole == bits * weight.size // 8 + scales


def test_rows_are_rounded_by_themselves_and_groups_too() -> None:
    weight = random(4, 2 * GROUP)
    loud = weight.copy()
    loud[0] *= 1000
    np.testing.assert_array_equal(back(loud, 8)[1:], back(weight, 8)[1:])
    loud = weight.copy()
    loud[:, :GROUP] *= 1000
    np.testing.assert_array_equal(back(loud, 4)[:, GROUP:], back(weight, 4)[:, GROUP:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_no_sound_model_holds_is_refused(value: float) -> None:
    weight = random(4, 4)
    weight[1, 2] = value
    with pytest.raises(ShuyuanError, match="not-finite"):
        pack(weight, 8)


def test_empty_and_constant_weights_are_no_trouble() -> None:
    for weight in (np.zeros((3, 70), np.float32), np.full((3, 70), 0.25, np.float32), -np.ones((1, 1), "f4")):
        for bits in (4, 8):
            np.testing.assert_allclose(back(weight, bits), weight, rtol=2e-3)
    assert (back(random(3, 3), 4, np.zeros((3, 3), np.bool_)) == 0).all()


# ---- what is not sound -----------------------------------------------------------------------------------------------

Parts = dict[str, NDArray[Any]]
BROKEN: dict[str, Callable[[Parts], Any]] = {
    "no scale": lambda parts: parts.pop(".scale"),
    "scale not finite": lambda parts: parts[".scale"].__setitem__(0, np.nan),
    "scale of one row": lambda parts: parts.update({".scale": parts[".scale"][:1]}),
    "scale of another type": lambda parts: parts.update({".scale": parts[".scale"].astype(np.float64)}),
    "no codes": lambda parts: parts.pop(next(name for name in parts if "int" in name)),
    "codes cut": lambda parts: parts.update({n: part[:-1] for n, part in parts.items() if "int" in n}),
    "codes of another type": lambda parts: parts.update(
        {n: part.astype(np.int32) for n, part in parts.items() if "int" in n}
    ),
}
SPARSE_BROKEN: dict[str, Callable[[Parts], Any]] = {
    "no mask": lambda parts: parts.pop(".mask"),
    "mask cut": lambda parts: parts.update({".mask": parts[".mask"][:-1]}),
    "mask marks more": lambda parts: parts[".mask"].__setitem__(0, 255 - parts[".mask"][0]),
    "mask behind the end": lambda parts: parts[".mask"].__setitem__(-1, 255),
}


@pytest.mark.parametrize("name", BROKEN | SPARSE_BROKEN)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sparse", [False, True])
def test_broken_parts_are_named(name: str, bits: int, sparse: bool) -> None:
    if name in SPARSE_BROKEN and not sparse:
        pytest.skip("there is no mask")
    weight = random(5, 70)
    kind, parts = pack(weight, bits, np.abs(weight) > 0.5 if sparse else None)
    broken: Parts = {ending: part.copy() for ending, part in parts.items()}
    (BROKEN | SPARSE_BROKEN)[name](broken)
    with pytest.raises(ShuyuanError, match="bad-compressed") as error:
        unpack("layers.0.w", kind, broken, "model.safetensors")
    assert "layers.0.w" in error.value.what and error.value.where == "model.safetensors"


def test_zeros_beyond_the_codes_are_refused() -> None:
    kind, parts = pack(random(2, 8), 4)
    parts[".zero"][0, 0] = 16
    with pytest.raises(ShuyuanError, match="zero"):
        unpack("w", kind, parts, "x")


SOUND = Kind((4, 8), 8, False).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 3}, {"bits": True}, {"bits": 8.0}, {"bits": None}, {"shape": []}, {"shape": [0, 4]}, {"shape": [-1]},
        {"shape": [True]}, {"shape": "4"}, {"shape": [2**30, 2**30]}, {"shape": [1] * 9}, {"sparse": 1}, {"sparse": None},
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ShuyuanError, match="bad-compressed"):
        Kind.from_json("w", SOUND | change, "config.json")
    for other in (None, [], "int8"):
        with pytest.raises(ShuyuanError, match="bad-compressed"):
            Kind.from_json("w", other, "config.json")


def test_a_kind_says_itself() -> None:
    kind = Kind((3, 4, 5), 4, True)
    assert dataclasses.replace(kind, bits=8).rows == (3, 20) and kind.groups == 1
