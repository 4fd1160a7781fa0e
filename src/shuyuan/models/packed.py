"""Weights in fewer bytes: whole numbers with scales instead of floats, and nothing for weights that are zero.

A weight w, seen as R rows (its first axis) of C columns (all others), is stored in a safetensors file under these names:

    w                      float32, as it is
    w.int8 w.scale         signed bytes; float32, one for each row: weight = code · scale
    w.int4 w.scale w.zero  two codes from 0 to 15 a byte, the first in its low half; float16 and uint8, one for each row and
                           each GROUP columns: weight = (code - zero) · scale
    w.mask                 one bit a weight, low bits first, set where a weight is left: what holds numbers then holds those alone

config.json tells shape, bits and sparsity of each under `quantization_config`; the file has a name of its own, so that no other
program takes the codes for weights. Codes are stored plainly, never in the order that some kernel wants: that depends
on the processor.

Shapes: R rows, C columns, G groups of a row, N weights that are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError

GROUP = 64  # columns of a row that share a scale, at 4 bits
BITS = (4, 8, 32)
MOST_8, MOST_4 = 127, 15  # the largest codes
LARGEST = 1e5  # a weight of a sound model
Floats = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]


class Grid(NamedTuple):
    """To which numbers weights are rounded at 4 bits: (code - zero) · scale, for each row and each GROUP of its columns.

    Attributes:
        scale_RG: between neighbouring numbers; zero where all weights of the group are.
        zero_RG: the code of zero, 0 to 15.
    """

    scale_RG: NDArray[np.float16]
    zero_RG: NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """How one weight is stored.

    Args:
        shape: of the weight.
        bits: 32, 8 or 4.
        sparse: whether weights that are zero are left out.
    """

    shape: tuple[int, ...]
    bits: int = 32
    sparse: bool = False

    @property
    def rows(self) -> tuple[int, int]:
        """(R, C)."""
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def groups(self) -> int:
        """Groups of a row, at 4 bits."""
        return -(-self.rows[1] // GROUP)

    def parts(self, stored: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """What is stored for it: the ending of the name, the type and the shape.

        Args:
            stored: weights that are stored, N; all of them where it is not sparse.
        """
        R, G = self.rows[0], self.groups
        shape = (stored,) if self.sparse else self.shape
        parts: dict[str, tuple[str, tuple[int, ...]]] = {"": ("float32", shape)}
        if self.bits == 8:
            parts = {".int8": ("int8", shape), ".scale": ("float32", (R,))}
        if self.bits == 4:
            parts = {
                ".int4": ("uint8", (-(-stored // 2),)),
                ".scale": ("float16", (R, G)),
                ".zero": ("uint8", (R, G)),
            }
        if self.sparse:
            parts[".mask"] = ("uint8", (-(-math.prod(self.shape) // 8),))
        return parts

    def to_json(self) -> dict[str, Any]:
        """Its entry in config.json."""
        return {"shape": list(self.shape), "bits": self.bits, "sparse": self.sparse}

    @classmethod
    def from_json(cls, name: str, entry: Any, where: str) -> Kind:
        """Reads an entry of config.json.

        Args:
            name: of the weight.
            entry: as the file has it.
            where: name of the file, for errors.

        Raises:
            ShuyuanError: it names no known kind, or a shape that makes no sense.
        """
        shape = entry.get("shape") if isinstance(entry, dict) else None
        sound = (
            isinstance(shape, list)
            and 1 <= len(shape) <= 8
            and all(type(size) is int and 0 < size < 2**31 for size in shape)
            and math.prod(shape) < 2**40
            and entry.get("bits") in BITS
            and type(entry["bits"]) is int
            and type(entry.get("sparse")) is bool
        )
        if not sound:
            raise bad_packed(name, "config.json does not say how it is stored", where)
        return cls(tuple(shape or ()), entry["bits"], entry["sparse"])


def pack(
    weight: Floats, bits: int, mask: NDArray[np.bool_] | None = None, grid: Grid | None = None
) -> tuple[Kind, Arrays]:
    """A weight in fewer bytes, each number rounded to the nearest code.

    Args:
        weight: of one axis or more, outputs first.
        bits: 32, 8 or 4.
        mask: where a weight is left; it is zero everywhere else. None: everywhere.
        grid: of 4 bits. None: the one between the least and the largest weight of each group.

    Returns:
        How it is stored, and what, by the endings of the names.

    Raises:
        ShuyuanError: a weight is not finite, or too large.
    """
    if not np.isfinite(weight).all() or np.abs(weight).max(initial=0.0) > LARGEST:
        raise ShuyuanError(
            "models.not-finite",
            "A weight is not a finite number, or is larger than any sound one: the model cannot be compressed.",
            mend="Train it again with a lower learning rate.",
        )
    kind = Kind(weight.shape, bits, mask is not None)
    weight_RC = weight.reshape(kind.rows)
    arrays: dict[str, NDArray[Any]]
    if bits == 8:
        arrays = dict(zip((".int8", ".scale"), _to_int8(weight_RC), strict=True))
    elif bits == 4:
        grid = grid or grid_of(weight_RC)
        arrays = {".int4": _to_int4(weight_RC, grid), ".scale": grid.scale_RG, ".zero": grid.zero_RG}
    else:
        arrays = {"": weight_RC.astype(np.float32)}
    number = next(iter(arrays))
    stored = (
        arrays[number].reshape(weight.shape) if mask is None else arrays[number].reshape(weight.shape)[mask]
    )
    arrays[number] = _in_halves(stored) if bits == 4 else stored
    if mask is not None:
        arrays[".mask"] = np.packbits(mask, bitorder="little")
    return kind, arrays


def dense(name: str, kind: Kind, arrays: Arrays, where: str) -> Arrays:
    """What is stored, checked, with a code or number for every weight, seen as (R, C).

    Args:
        name: of the weight, for errors.
        kind: how it is stored.
        arrays: what is stored, by the endings of the names, of any type and shape.
        where: the file, for errors.

    Returns:
        By the endings of the names: the codes one a byte, (R, C), scales and zeros as they are stored; or the weights.

    Raises:
        ShuyuanError: something is missing, of another shape, or not finite.
    """
    mask = _mask(name, kind, arrays, where)
    stored = math.prod(kind.shape) if mask is None else int(mask.sum())
    for ending, (dtype, shape) in kind.parts(stored).items():
        found = arrays.get(ending)
        if found is None or found.dtype != dtype or found.shape != shape:
            raise bad_packed(name, f"`{name[:80]}{ending}` is missing or of another shape", where)
    for ending in ("", ".scale"):
        part = arrays.get(ending)
        if part is not None and not (
            np.isfinite(part).all() and float(np.abs(part).max(initial=0.0)) <= LARGEST
        ):
            raise bad_packed(
                name, f"`{name[:80]}{ending}` holds what is not a finite number, or too large a one", where
            )
    if ".scale" in arrays and arrays[".scale"].min(initial=0.0) < 0:
        raise bad_packed(name, f"`{name[:80]}.scale` is below zero", where)
    if kind.bits != 4:
        number = ".int8" if kind.bits == 8 else ""
        return {**arrays, number: _spread(arrays[number], mask, kind.rows)}
    if arrays[".zero"].max(initial=0) > MOST_4:
        raise bad_packed(name, f"`{name[:80]}.zero` holds more than {MOST_4}", where)
    codes_RC = _spread(_from_halves(arrays[".int4"], stored), mask, kind.rows)
    if mask is not None:
        gone_RC = ~mask.reshape(kind.rows)
        codes_RC[gone_RC] = np.repeat(arrays[".zero"], GROUP, 1)[:, : kind.rows[1]][gone_RC]
    return {**arrays, ".int4": codes_RC}


def unpack(name: str, kind: Kind, arrays: Arrays, where: str) -> Floats:
    """The weight again, as float32; what was rounded stays rounded. Arguments and errors as of `dense`."""
    return floats(kind, dense(name, kind, arrays, where))


def floats(kind: Kind, found: Arrays) -> Floats:
    """The weight again, of what `dense` gives."""
    weight_RC: Floats
    if kind.bits == 32:
        weight_RC = found[""]
    elif kind.bits == 8:
        weight_RC = found[".int8"].astype(np.float32)
        weight_RC *= found[".scale"][:, None]
    else:
        C = kind.rows[1]
        scale_RC = np.repeat(found[".scale"].astype(np.float32), GROUP, 1)[:, :C]
        zero_RC = np.repeat(found[".zero"], GROUP, 1)[:, :C]
        weight_RC = (found[".int4"].astype(np.float32) - zero_RC) * scale_RC
    return weight_RC.reshape(kind.shape)


# ---- the numbers -----------------------------------------------------------------------------------------------------


def _to_int8(weight_RC: Floats) -> tuple[NDArray[np.int8], Floats]:
    scale_R = np.abs(weight_RC).max(1, initial=0.0) / np.float32(MOST_8)
    codes_RC = np.rint(weight_RC / np.where(scale_R > 0, scale_R, 1)[:, None])
    return codes_RC.clip(-MOST_8, MOST_8).astype(np.int8), scale_R.astype(np.float32)


def grid_of(weight_RC: Floats) -> Grid:
    """Codes between the least and the largest weight of each group; zero is among them, and stays zero.

    Args:
        weight_RC: R rows of C columns, float32; the last group of a row may be shorter.
    """
    R, C = weight_RC.shape
    filled = np.pad(weight_RC, ((0, 0), (0, -C % GROUP)), mode="edge").reshape(R, -1, GROUP)
    least_RG = np.minimum(filled.min(2), 0)
    scale_RG = ((np.maximum(filled.max(2), 0) - least_RG) / MOST_4).astype(np.float16)
    # Scales that float16 rounds to zero stand for weights that are as good as zero.
    step_RG = np.where(scale_RG > 0, scale_RG, 1).astype(np.float32)
    return Grid(scale_RG, np.rint(-least_RG / step_RG).clip(0, MOST_4).astype(np.uint8))


def _to_int4(weight_RC: Floats, grid: Grid) -> NDArray[np.uint8]:
    C = weight_RC.shape[1]
    step_RG = np.where(grid.scale_RG > 0, grid.scale_RG, 1).astype(np.float32)
    step_RC, zero_RC = np.repeat(step_RG, GROUP, 1)[:, :C], np.repeat(grid.zero_RG, GROUP, 1)[:, :C]
    codes: NDArray[np.uint8] = (np.rint(weight_RC / step_RC) + zero_RC).clip(0, MOST_4).astype(np.uint8)
    return codes


def _in_halves(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pairs = np.pad(codes.reshape(-1), (0, codes.size % 2)).reshape(-1, 2)
    high: NDArray[np.uint8] = np.left_shift(pairs[:, 1], 4, dtype=np.uint8)
    return pairs[:, 0] | high


def _from_halves(pairs: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return np.stack((pairs & 15, pairs >> 4), 1).reshape(-1)[:count]


# ---- zeros -----------------------------------------------------------------------------------------------------------


def _mask(name: str, kind: Kind, arrays: Arrays, where: str) -> NDArray[np.bool_] | None:
    """Where weights are stored (all weights, in a row); None: everywhere."""
    if not kind.sparse:
        return None
    size = math.prod(kind.shape)
    found = arrays.get(".mask")
    if found is None or found.dtype != np.uint8 or found.shape != (-(-size // 8),):
        raise bad_packed(name, f"`{name[:80]}.mask` is missing or of another shape", where)
    bits = np.unpackbits(found, bitorder="little").astype(np.bool_)
    if bits[size:].any():
        raise bad_packed(name, f"`{name[:80]}.mask` marks more weights than there are", where)
    return bits[:size]


def _spread(stored: NDArray[Any], mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    if mask is None:
        return stored.reshape(shape)
    whole = np.zeros(mask.size, stored.dtype)
    whole[mask] = stored
    return whole.reshape(shape)


def bad_packed(name: str, why: str, where: str) -> ShuyuanError:
    """The error for a compressed weight that is not what it should be."""
    return ShuyuanError(
        "models.bad-compressed",
        f"The compressed weight {name[:80]} cannot be read: {why}.",
        where=where,
        mend="Remove the variant's folder and compress the run again.",
    )
