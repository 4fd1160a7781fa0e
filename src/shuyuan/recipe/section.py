"""What all tables of a recipe have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the recipe: unknown keys are refused, and nothing changes after it was read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, validate_default=True
    )
