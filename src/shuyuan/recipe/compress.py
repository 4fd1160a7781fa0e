"""The table [compress]: which smaller variants there shall be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from .budget import Budget
from .names import Pruning, Quantized, Rounding
from .section import Section


class Compress(Section):
    """Smaller variants of the trained model, each kept and scored beside it: leave the table out and there are none."""

    quantize: Quantized | list[Quantized] | None = Field(
        None,
        description="Weights as whole numbers: int8, int4, or both in a list. At 4 bits the embedding and the head have 8.",
    )
    prune: float | list[float] | None = Field(
        None,
        description="The share of the weights of each matrix that are left out: above 0 and below 1, or several in a "
        "list. With `quantize` there is also a variant that is pruned and rounded.",
    )
    shrink: float | list[float] | None = Field(
        None,
        description="The share of the heads and of the feed-forward channels that are taken out whole, of the family transformer: above 0 "
        "and below 1, or several in a list. The variant is an ordinary model, and faster.",
    )
    shorten: float | list[float] | None = Field(
        None,
        description="The share of the blocks that are taken out whole, of the family transformer: above 0 and below 1, or several in a "
        "list. The variant is an ordinary model of fewer layers, and faster.",
    )
    rounding: Rounding | list[Rounding] = Field(
        "auto",
        description="How int4 rounds: to the nearest code (nearest), or so that what the model computes changes least (gptq). auto is "
        "gptq where the model runs in PyTorch and there are records to look at. Several in a list make a variant each.",
    )
    pruning: Pruning | list[Pruning] = Field(
        "auto",
        description="Which weights are left out: the smallest (magnitude), those that add least to what the model computes (wanda), or "
        "those whose loss the others make good best (sparsegpt). auto is sparsegpt where `rounding` would be gptq. gradual takes out the "
        "smallest little by little while `recover` trains. Several in a list make a variant each.",
    )
    recover: str | None = Field(
        None,
        description='How long a pruned model is trained again, such as "200 steps" or "1 epochs", with what is left out held at zero. '
        "Left out: not at all.",
    )

    calibrate: str | None = Field(
        None,
        min_length=1,
        description="Records that methods look at, as `data.source`; for images a picture or a folder of some. Left out: training "
        "records; of a private run, texts that the model writes. Of a private run they must be public.",
    )

    @property
    def kinds(self) -> list[Quantized]:
        """What `quantize` lists."""
        return self.quantize if isinstance(self.quantize, list) else [self.quantize] if self.quantize else []

    @property
    def shares(self) -> list[float]:
        """What `prune` lists."""
        return self.prune if isinstance(self.prune, list) else [self.prune] if self.prune is not None else []

    @property
    def shrunk(self) -> list[float]:
        """What `shrink` lists."""
        return (
            self.shrink if isinstance(self.shrink, list) else [self.shrink] if self.shrink is not None else []
        )

    @property
    def shortened(self) -> list[float]:
        """What `shorten` lists."""
        if self.shorten is None:
            return []
        return self.shorten if isinstance(self.shorten, list) else [self.shorten]

    @property
    def roundings(self) -> list[Rounding]:
        """What `rounding` lists."""
        return self.rounding if isinstance(self.rounding, list) else [self.rounding]

    @property
    def prunings(self) -> list[Pruning]:
        """What `pruning` lists."""
        return self.pruning if isinstance(self.pruning, list) else [self.pruning]

    @model_validator(mode="after")
    def _something(self) -> Compress:
        for key, shares, what in (
            ("prune", self.shares, "weights"),
            ("shrink", self.shrunk, "heads and channels"),
            ("shorten", self.shortened, "blocks"),
        ):
            if not all(0 < share < 1 for share in shares):
                raise ValueError(f"{key}: must lie above 0 and below 1: the share of the {what} to leave out")
            if any(round(100 * share, 4) != round(100 * share) for share in shares):
                raise ValueError(f"{key}: must be whole percents, such as 0.5; the variant is named by them")
        if not (self.kinds or self.shares or self.shrunk or self.shortened):
            raise ValueError(
                'quantize: asks for nothing; write quantize = "int8", prune = 0.5, or take the table out'
            )
        self._check_recovery()
        named: dict[str, Sequence[Any]] = {
            "quantize": self.kinds,
            "prune": self.shares,
            "shrink": self.shrunk,
            "shorten": self.shortened,
            "rounding": self.roundings,
            "pruning": self.prunings,
        }
        for key, given in named.items():
            if len(set(given)) < len(given):
                raise ValueError(f"{key}: names the same thing twice")
            if not given and key in ("rounding", "pruning"):
                raise ValueError(f'{key}: names nothing; write "auto" or leave it out')
        for key, needs, there in (
            ("rounding", 'quantize = "int4"', "int4" in self.kinds), ("pruning", "a share as prune", bool(self.shares)),
        ):  # fmt: skip
            if named[key] != ["auto"] and not there:
                raise ValueError(f"{key}: has no effect without {needs}")
        return self

    def _check_recovery(self) -> None:
        if self.recover is not None:
            if not (self.shares or self.shrunk or self.shortened):
                raise ValueError("recover: has no effect without a share as prune, shrink or shorten")
            try:
                timed = Budget.parse(self.recover).unit == "seconds"
            except ValueError as error:
                raise ValueError(f"recover: {error}") from None
            if timed:
                raise ValueError('recover: must be steps, tokens or epochs, such as "200 steps"')
        elif "gradual" in self.prunings:
            raise ValueError(
                'pruning: "gradual" goes on while `recover` trains; say how long, such as recover = "200 steps"'
            )
