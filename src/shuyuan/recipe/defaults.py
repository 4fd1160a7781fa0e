"""What a recipe gets where it says nothing, because of what it says elsewhere."""

from __future__ import annotations

from typing import Any

from .names import (
    FAMILY_KEYS,
    IMAGE_FAMILIES,
    LABELLED_TASKS,
    LONGEST,
    LONGEST_PROMPTED,
    NGRAM_CONTEXT,
    PROMPTED_BUDGET,
    PROMPTED_CONTEXT,
    PROMPTED_TASKS,
    PROMPTED_TOKENS,
    TASK_FIELDS,
)
from .tables import get


def filled(table: dict[str, Any]) -> dict[str, Any]:
    """The tables of a recipe with the defaults that follow from its task, its family and the model that it starts from."""
    start = get(table, "model.from") or get(table, "train.distill.from")
    if (
        isinstance(start, str)
        and "tokenizer" not in table
        and not start.endswith(".keras")
        and get(table, "model.family") not in IMAGE_FAMILIES
    ):
        table = table | {"tokenizer": {"from": start}}
    task, named = table.get("task"), table.get("data")
    if isinstance(task, str) and task in TASK_FIELDS and isinstance(named, dict):
        left_out = {key: column for key, column in TASK_FIELDS[task].items() if column is not None}
        table = table | {"data": left_out | named}
    if get(table, "model.family") in IMAGE_FAMILIES and isinstance(table.get("data"), dict):
        table = table | {"data": {"image": "image"} | table["data"]}
    if isinstance(model := table.get("model", {}), dict):
        table = _prompted_defaults(table, model)
        table = table | {"model": _family_defaults(table, table["model"])}
    return table


def _prompted_defaults(table: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The recipe with what tasks with prompts get where it says nothing of tokens and network: what learns most in minutes. A private
    run learns no vocabulary, and has bytes as ever."""
    shape = {"family", "from", "size", *(key for keys in FAMILY_KEYS.values() for key in keys)}
    task, train = table.get("task"), table.get("train", {})
    if task not in PROMPTED_TASKS or model.keys() & shape or "tokenizer" in table or table.get("privacy"):
        return table | {"model": model}
    context = PROMPTED_CONTEXT.get(str(task), LONGEST_PROMPTED)
    prompted: dict[str, Any] = {
        "tokenizer": PROMPTED_TOKENS,
        "model": {"size": "tiny", "context": context} | model,
    }
    if isinstance(train, dict):
        prompted["train"] = {"budget": PROMPTED_BUDGET} | train
    return table | prompted


def _family_defaults(table: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The [model] table with what texts with labels get where it says nothing."""
    own = {key for families, keys in FAMILY_KEYS.items() for key in keys if "ngrams" not in families}
    if table.get("task") in LABELLED_TASKS and not model.keys() & {"family", "from", *own}:
        model = model | {"family": "ngrams"}
    if model.get("family") != "ngrams":
        return model
    if "from" in model:
        return {"context": NGRAM_CONTEXT} | model
    kind = "bpe" if get(table, "tokenizer.from") else get(table, "tokenizer.kind") or "byte"
    return {"context": NGRAM_CONTEXT, "longest": LONGEST.get(str(kind), 1)} | model
