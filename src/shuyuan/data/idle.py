"""Settings of a recipe that shape nothing of its records: said, never silently passed over."""

from __future__ import annotations

from ..progress import Progress
from ..recipe import Data, Recipe, Tokenizer
from .records import Records

_OF_TEXT = ("text", "record", "mask", "mask_patterns", "mask_names", "min_chars", "max_chars")
_OF_RECORDS = ("min_chars", "max_chars")


def say_what_does_nothing(recipe: Recipe, records: Records, progress: Progress) -> None:
    """Names the settings of a recipe that have no effect on such records."""
    if recipe.images:
        idle = [*_changed(recipe.data, _OF_TEXT), *(["tokenizer"] if recipe.tokenizer != Tokenizer() else [])]
        why = "these records are images"
    elif records.contiguous:
        idle = _changed(recipe.data, _OF_RECORDS)
        why = "a single text without data.record has no records to measure"
    else:
        idle = [] if records.plain else _changed(recipe.data, ("record",))
        why = "a row of these files is a record"
    if idle:
        progress.say(
            "data.no-effect", f"{' and '.join(idle)} {'do' if idle[1:] else 'does'} nothing here: {why}."
        )


def _changed(data: Data, keys: tuple[str, ...]) -> list[str]:
    return [f"data.{key}" for key in keys if getattr(data, key) != Data.model_fields[key].default]
