"""What kind of body the model to start from has, and so which of a task's outputs it is trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import missing_extra
from ..recipe import Recipe
from ..tasks.base import Output, Task
from ..vault import open_model_folder
from .snapshot import local_folder

CONFIG_FILE = "config.json"
# Which outputs a body can have a head for: a causal one writes, an encoder sees a whole text at once.
CAUSAL: tuple[Output, ...] = ("tokens", "labels")
ENCODER: tuple[Output, ...] = ("labels", "spans")


def output_of(task: Task, recipe: Recipe) -> Output:
    """The first of the task's outputs that the run's model can have a head for; where there is none, the task's first, which is
    refused when the model is made.

    Args:
        task: of the run.
        recipe: says what the model starts from.

    Raises:
        MachineError: transformers is not installed, and would have to say what the model is.
    """
    if len(task.outputs) == 1:
        return task.outputs[0]
    able = ENCODER if _starts_from_an_encoder(recipe) else CAUSAL
    return next((output for output in task.outputs if output in able), task.outputs[0])


def is_encoder(table: Mapping[str, Any]) -> bool:
    """Whether a config.json of an architecture that transformers computes is of an encoder: it was made to fill gaps.

    Args:
        table: content of the file.

    Raises:
        MachineError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise missing_extra("A model of another architecture than Qwen3", "huggingface") from None
    kind = str(table.get("model_type"))
    if kind not in transformers.CONFIG_MAPPING or table.get("is_decoder"):
        return False
    return transformers.CONFIG_MAPPING[kind] in transformers.MODEL_FOR_MASKED_LM_MAPPING


def _starts_from_an_encoder(recipe: Recipe) -> bool:
    place = recipe.model.from_
    path = (
        None if place is None or recipe.model.family != "transformer" else local_folder(place, weights=False)
    )
    if path is None or not path.is_dir():
        return False  # the model says so when it is opened
    with open_model_folder(path) as (store, name):
        file = f"{name}/{CONFIG_FILE}".removeprefix("/")
        try:
            table = json.loads(store.read(file)) if store.exists(file) else None
        except (ValueError, RecursionError):
            table = None
    return isinstance(table, dict) and table.get("model_type") != "qwen3" and is_encoder(table)
