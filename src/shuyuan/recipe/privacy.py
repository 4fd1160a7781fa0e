"""The tables [privacy], [audit] and [vault]: what protects the records, and what measures it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from .names import Auto
from .section import Section


class Privacy(Section):
    """Differential privacy: leave the table out and training is not private, and every output says so."""

    epsilon: float | None = Field(
        None, gt=0, le=1000, description="ε: what the whole training may cost. Give it or `noise_multiplier`."
    )
    noise_multiplier: float | None = Field(
        None, gt=0, le=10_000, description="The noise's deviation over the clip; ε then follows from it."
    )
    delta: float | Auto = Field("auto", description="δ. auto: min(1e-5, 1/(10 · units)).")
    unit: Literal["owner", "record"] = Field(
        "owner", description="What is protected: an owner with all records, or one record."
    )
    clip: float | Auto = Field(
        1.0, description="The largest norm of one unit's part of a step. auto: each is brought to norm 1."
    )
    clipping: Literal["joint", "per-layer"] = Field(
        "joint",
        description="joint: one norm over all parameters. per-layer: one for each, which takes less memory.",
    )
    records_per_unit: int = Field(
        1,
        ge=1,
        le=1024,
        description="The most records that a unit gives to a step; all of them are clipped jointly.",
    )
    allow: list[Literal["tokenizer", "plateau", "labels", "scores", "tuning"]] = Field(
        [],
        description="Leaks accepted by name, which the guarantee does not cover and the ledger lists: a tokenizer learned "
        "from the records; a plateau schedule, which follows the validation loss; labels found in the records instead of "
        "named by `data.labels`; the model's scores on held-out records in the public report; tuning, settings chosen after "
        "looking at other runs on the same records.",
    )
    insecure_seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="For tests alone: sampling and noise follow from this number, which anybody can guess.",
    )

    @field_validator("delta")
    @classmethod
    def _a_chance(cls, delta: float | str) -> float | str:
        if isinstance(delta, float) and not 0 < delta < 1:
            raise ValueError("must lie between 0 and 1")
        return delta

    @field_validator("clip")
    @classmethod
    def _a_norm(cls, clip: float | str) -> float | str:
        if isinstance(clip, float) and not 0 < clip < 1e6:
            raise ValueError("must be above 0 and below a million")
        return clip

    @model_validator(mode="after")
    def _one_of_two(self) -> Privacy:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("epsilon: give it or noise_multiplier, one of the two")
        return self


class Audit(Section):
    """The one-run audit of privacy: what must be planted before training."""

    canaries: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Made-up records, each put into the training split by a fair secret coin; `shuyuan audit` asks the model "
        "which it has seen. 1000 can show an ε of up to about 6.",
    )


class Vault(Section):
    """Sealing: leave the table out and the run is open."""

    key: str = Field(description="Where the key is: env:NAME, file:PATH, prompt, or command:SHELL COMMAND.")

    @field_validator("key")
    @classmethod
    def _a_place(cls, key: str) -> str:
        if key != "prompt" and not re.fullmatch(r"(env|file|command):.+", key, re.DOTALL):
            raise ValueError(
                "must be env:NAME, file:PATH, prompt or command:SHELL COMMAND (never the key itself)"
            )
        return key
