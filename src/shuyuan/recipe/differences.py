"""What one recipe asks otherwise than another; what was filled in is no difference."""

from __future__ import annotations

from typing import Any

from .data import Data
from .names import TASK_FIELDS, WITHOUT_TEXT
from .tables import flat
from .whole import Recipe

# What Shuyuan fills in before step 1: a recipe that leaves them open agrees with whatever was filled in.
RESOLVED_KEYS = (
    "data.id",
    "train.steps",
    "train.batch_size",
    "train.micro_batch",
    "train.precision",
    "train.optimizer",
    "train.learning_rate",
    "train.weight_decay",
)
PINNED_KEYS = (
    "model.from",
    "tokenizer.from",
    "train.distill.from",
)  # get the commit of a repository on the hub


def usual_columns(recipe: Recipe) -> dict[str, str | None]:
    """The column of each field that the task reads, as it is where a recipe leaves it out: another may be found in its place.

    Args:
        recipe: its task says which fields there are.
    """
    usual: dict[str, str | None] = (
        {} if recipe.task in WITHOUT_TEXT else {"text": Data.model_fields["text"].default}
    )
    return usual | {key: column for key, column in TASK_FIELDS[recipe.task].items() if key != "languages"}


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What `new` asks otherwise than `old`, one line a key.

    Args:
        old: as a run has it.
        new: as asked now; what it leaves open is no difference.
    """
    before = flat(old.model_dump(by_alias=True, exclude={"resolved"}))
    after = flat(new.model_dump(by_alias=True, exclude={"resolved"}))
    usual = {f"data.{key}": column for key, column in usual_columns(new).items()}
    lines = []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        left_open = (key in RESOLVED_KEYS and now in (None, "auto")) or (
            key in PINNED_KEYS and str(was).startswith(f"{now}@")
        )
        left_open = left_open or (key in usual and now == usual[key])
        if now != was and not left_open:
            lines.append(f"{key}: {_said(was)} there, {_said(now)} asked")
    return lines


def _said(value: Any) -> str:
    return "nothing" if value is None else repr(value)
