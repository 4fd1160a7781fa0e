"""What can be done to a model, and the names that this has in `compressed/` and in every table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from ..recipe import Compress, Pruning, Rounding

_BITS = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class Variant:
    """One way to make a model smaller.

    Args:
        bits: of a weight: 32, 8 or 4.
        pruned: share of the weights that are set to zero.
        shrunk: share of the heads and channels that are taken out.
        shortened: share of the blocks that are taken out.
        rounding: how 4 bits are chosen: "nearest", or "gptq" by the model's own inputs; "auto": gptq where that can be.
        pruning: how weights to leave out are chosen: by "magnitude", or by the model's inputs too, "wanda" and "sparsegpt";
            "gradual": by magnitude, little by little in the training that follows; "auto": sparsegpt where that can be.
        recover: how long the model is trained after pruning, such as "200 steps"; "": not at all.
    """

    bits: int = 32
    pruned: float = 0.0
    shrunk: float = 0.0
    shortened: float = 0.0
    rounding: Rounding = "auto"
    pruning: Pruning = "auto"
    recover: str = ""

    @property
    def name(self) -> str:
        """Such as "int8", "pruned-50" or "pruned-50-int4"; a method that was asked for stands behind what it does."""
        parts = [f"shrunk-{100 * self.shrunk:g}"] if self.shrunk else []
        parts += [f"shortened-{100 * self.shortened:g}"] if self.shortened else []
        parts += [f"pruned-{100 * self.pruned:g}"] if self.pruned else []
        parts += [self.pruning] if self.pruned and self.pruning != "auto" else []
        parts += ["recovered"] if self.recover else []
        parts += [f"int{self.bits}"] if self.bits < 32 else []
        return "-".join(parts + ([self.rounding] if self.bits == 4 and self.rounding != "auto" else []))

    @property
    def structured(self) -> bool:
        """Whether whole parts are taken out, so that what is left is an ordinary model."""
        return self.shrunk > 0 or self.shortened > 0

    def needs_records(self) -> bool:
        """Whether a method that was asked for looks at what the model computes."""
        by_inputs = self.pruned > 0 and self.pruning in ("wanda", "sparsegpt")
        return by_inputs or self.structured or (self.bits == 4 and self.rounding == "gptq")

    def gains_by_records(self) -> bool:
        """Whether records would make it better."""
        best = self.with_records(True)
        return best.needs_records()

    def with_records(self, there: bool) -> Variant:
        """The variant with the methods that "auto" stands for, with records or without.

        Args:
            there: whether texts are there to calibrate by.
        """
        rounding: Rounding = "gptq" if there else "nearest"
        pruning: Pruning = "sparsegpt" if there else "magnitude"
        return replace(
            self,
            rounding=rounding if self.rounding == "auto" else self.rounding,
            pruning=pruning if self.pruning == "auto" else self.pruning,
        )


def wanted(compress: Compress | None) -> list[Variant]:
    """The variants that a recipe's [compress] table asks for: each by itself, and each rounding of what was shrunk, shortened or pruned.

    Args:
        compress: the recipe's table; None where it has none, which asks for nothing.
    """
    if compress is None:
        return []
    again = compress.recover or ""
    bases = [Variant()]
    bases += [Variant(shrunk=share, recover=again) for share in compress.shrunk]
    bases += [Variant(shortened=share, recover=again) for share in compress.shortened]
    bases += [
        Variant(pruned=share, pruning=pruning, recover=again)
        for share, pruning in product(compress.shares, compress.prunings)
    ]
    bits: list[tuple[int, Rounding]] = [(32, "auto")]
    for kind in compress.kinds:
        methods: list[Rounding] = compress.roundings if kind == "int4" else ["auto"]
        bits += [(_BITS[kind], method) for method in methods]
    made = [replace(base, bits=each, rounding=rounding) for base in bases for each, rounding in bits]
    return [variant for variant in made if variant != Variant()]
