"""Which variant is wanted: the smallest that is good enough, or the best that is small enough."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import RecipeError, RunError
from ..runs import ORIGINAL
from .variant import Variant

# What is tried where nothing else is asked for, from the nearest to the smallest.
USUAL = (Variant(8), Variant(4), Variant(8, 0.5), Variant(4, 0.5))


@dataclass(frozen=True)
class Target:
    """What a variant has to reach.

    Attributes:
        what: "loss": at most so much of the original's; "size": the same of its bytes.
        most: the share: 1.01 is one percent more.
    """

    what: Literal["loss", "size"]
    most: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads "loss +1%" or "size 25%".

        Args:
            text: as after `--target`.

        Raises:
            RecipeError: it is neither.
        """
        found = re.fullmatch(r"\s*(?:loss\s*\+\s*(?P<loss>[\d.]+)|size\s+(?P<size>[\d.]+))\s*%\s*", text)
        try:
            more, size = (None if found is None else found[name] for name in ("loss", "size"))
            if more is not None and 0 <= float(more) < 1e4:
                return cls("loss", 1 + float(more) / 100)
            if size is not None and 0 < float(size) < 1e4:
                return cls("size", float(size) / 100)
        except ValueError:
            pass
        raise RecipeError(
            "compress.bad-target",
            f"`{text[:40]}` says nothing that a variant could reach.",
            where="--target",
            mend='Write "loss +1%" for the smallest whose loss is at most so much higher, or "size 25%" for the best of that size.',
        )

    def pick(self, variants: Mapping[str, Mapping[str, Any]]) -> str:
        """The name of the variant that reaches it best.

        Args:
            variants: {name: {bytes, loss}}, the original among them.

        Raises:
            RunError: none reaches it; it names the one that comes nearest.
        """
        whole = variants[ORIGINAL]
        measured = {
            name: {"loss": each["loss"] / whole["loss"], "size": each["bytes"] / whole["bytes"]}
            for name, each in variants.items()
            if each["loss"] is not None and whole["loss"]
        }
        other: Literal["loss", "size"] = "size" if self.what == "loss" else "loss"
        reach = [name for name, each in measured.items() if each[self.what] <= self.most]
        if reach:
            return min(reach, key=lambda name: (measured[name][other], measured[name][self.what]))
        nearest = min(measured, key=lambda name: measured[name][self.what], default=ORIGINAL)
        share = f", {measured[nearest][self.what]:.1%} of the original's" if nearest in measured else ""
        raise RunError(
            "compress.no-variant",
            f"No variant reaches a {self.what} of {self.most:.1%}; the nearest is {nearest}{share}.",
            where="--target",
            mend="Ask for less, or make smaller ones with --quantize, --prune, --shrink and --shorten.",
        )
