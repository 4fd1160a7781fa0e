"""What can be done to a model, and the names that this has in `compressed/` and in every table."""

from __future__ import annotations

from dataclasses import dataclass

from ..recipe import Compress

_BITS = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class Variant:
    """One way to make a model smaller.

    Args:
        bits: of a weight: 32, 8 or 4.
        pruned: share of the weights that are set to zero.
    """

    bits: int = 32
    pruned: float = 0.0

    @property
    def name(self) -> str:
        """Such as "int8", "pruned-50" or "pruned-50-int4"."""
        parts = [f"pruned-{100 * self.pruned:g}"] if self.pruned else []
        return "-".join(parts + ([f"int{self.bits}"] if self.bits < 32 else []))


def wanted(compress: Compress | None) -> list[Variant]:
    """The variants that a recipe's [compress] table asks for: each by itself, and each rounding of what was pruned."""
    if compress is None:
        return []
    shares = [0.0, *compress.shares]
    bits = [32, *(_BITS[kind] for kind in compress.kinds)]
    return [Variant(each, share) for share in shares for each in bits if share or each < 32]
