"""Settings of a recipe that have no effect beside its others: said before any work, never silently passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .names import LABELLED_TASKS
from .section import Section

if TYPE_CHECKING:
    from .whole import Recipe

_SHAPE = ("size", "layers", "width", "heads", "kv_heads", "hidden", "tied")


def idle(recipe: Recipe) -> list[str]:
    """What the recipe sets and nothing obeys, one sentence a reason; a key that has its default is not set.

    Args:
        recipe: as asked.
    """
    return [
        f"{' and '.join(keys)} {'do' if keys[1:] else 'does'} nothing: {why}." for keys, why in _idle(recipe)
    ]


def _idle(recipe: Recipe) -> Iterator[tuple[list[str], str]]:
    """(keys, why), where there are such keys."""
    for keys, why in (
        _of_tokens(recipe),
        _of_the_network(recipe),
        *_of_training(recipe),
        _of_the_report(recipe),
    ):
        if keys:
            yield keys, why
    if recipe.privacy is not None:
        yield from _of_privacy(recipe)


def _of_tokens(recipe: Recipe) -> tuple[list[str], str]:
    tokens = recipe.tokenizer
    if tokens.from_ is not None:
        return _changed("tokenizer", tokens, "kind", "vocab_size"), "tokenizer.from names the one to use"
    size = _changed("tokenizer", tokens, "vocab_size") if tokens.kind != "bpe" else []
    return size, f'a tokenizer of the kind "{tokens.kind}" has the entries that it has'


def _of_the_network(recipe: Recipe) -> tuple[list[str], str]:
    model = recipe.model
    if model.from_ is not None:
        return _changed("model", model, *_SHAPE), "the model to start from has its own shape"
    both = model.layers is not None and model.width is not None
    return _changed("model", model, "size") if both else [], "layers and width are given"


def _of_training(recipe: Recipe) -> Iterator[tuple[list[str], str]]:
    train = recipe.train
    if train.schedule != "wsd":
        yield _changed("train", train, "decay"), f"the schedule {train.schedule} does not read it; wsd does"
    if train.steps is not None and not recipe.resolved:
        yield _changed("train", train, "budget"), f"train.steps = {train.steps} rules"


def _of_the_report(recipe: Recipe) -> tuple[list[str], str]:
    idle = recipe.report.open and recipe.vault is None
    return ["report.open"] if idle else [], "the run is not sealed, and its report lies in the clear anyway"


def _of_privacy(recipe: Recipe) -> Iterator[tuple[list[str], str]]:
    privacy = recipe.privacy
    assert privacy is not None
    if cut := _changed("train", recipe.train, "grad_clip"):
        yield cut, "private training clips each unit instead, to privacy.clip"
    if privacy.unit == "record" and privacy.records_per_unit > 1:
        yield ["privacy.records_per_unit"], "a unit is one record"
    needless = {
        "tokenizer": recipe.tokenizer.from_ is not None or recipe.tokenizer.kind == "byte",
        "plateau": recipe.train.schedule != "plateau",
        "labels": recipe.task not in LABELLED_TASKS or recipe.data.labels is not None,
    }
    for leak in privacy.allow:
        if needless.get(leak):
            yield (
                [f'"{leak}" in privacy.allow'],
                "the recipe has no such leak, and the guarantee would list it",
            )


def _changed(table: str, section: Section, *keys: str) -> list[str]:
    """Those of the keys that have another value than their default."""
    fields = type(section).model_fields
    return [f"{table}.{key}" for key in keys if getattr(section, key) != fields[key].default]
