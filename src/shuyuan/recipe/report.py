"""The table [report]: what a run shows of itself."""

from __future__ import annotations

from pydantic import Field

from .section import Section


class Report(Section):
    """What a run shows of itself."""

    open: bool = Field(
        False,
        description="Write the whole report in the clear although the run is sealed: losses, counts and samples too. "
        "For records that may be shown.",
    )
    tensorboard: bool = Field(
        False,
        description="Also write losses, learning rate, speed and ε as TensorBoard's event files, into the run's folder tensorboard, while "
        "it trains. Numbers alone, never texts; of a private run the learning rate and ε. They lie in the clear, so not of a sealed run.",
    )
