"""How long something may take, as people write it: "2 min", "300 steps", "5M tokens"."""

from __future__ import annotations

import re
from typing import ClassVar


class Budget:
    """A training budget: an amount of seconds, steps, tokens or epochs.

    Args:
        unit: "seconds", "steps", "tokens" or "epochs".
        amount: of these.
    """

    UNITS: ClassVar = {
        "s": ("seconds", 1), "sec": ("seconds", 1), "second": ("seconds", 1), "min": ("seconds", 60),
        "minute": ("seconds", 60), "h": ("seconds", 3600), "hour": ("seconds", 3600), "day": ("seconds", 86400),
        "step": ("steps", 1), "token": ("tokens", 1), "epoch": ("epochs", 1),
    }  # fmt: skip
    SCALES: ClassVar = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}

    def __init__(self, unit: str, amount: float) -> None:
        self.unit = unit
        self.amount = amount

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads an amount with its unit.

        Args:
            text: such as "2 min", "300 steps", "5M tokens" or "3 epochs".

        Raises:
            ValueError: it is no positive amount, or of another unit.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMbB]?)\s+([a-z]+?)s?\s*", text) or re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)()([a-z]+?)s?\s*", text
        )
        unit = cls.UNITS.get(found[3] if found[3] else "s") if found else None
        if found is None or unit is None or float(found[1]) == 0:
            raise ValueError(
                'must be a positive amount with its unit, such as "2 min", "300 steps" or "5M tokens"'
            )
        return cls(unit[0], float(found[1]) * cls.SCALES[found[2].lower()] * unit[1])
