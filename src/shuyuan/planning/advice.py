"""What to change when a run does not fit: the nearest settings that do, each with its figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..recipe import NGRAM_SIZES, RNN_SIZES, SIZES, Recipe
from ..train.resolve import divisors
from .memory import Interval

GIB = 2**30
Peak = Callable[[Recipe], Interval]


def to_fit(recipe: Recipe, memory_bytes: int, peak: Peak) -> list[str]:
    """One sentence for each single setting that makes the run fit, at the value nearest to what was asked.

    Args:
        recipe: with batch size, micro batch and precision filled in.
        memory_bytes: what there is.
        peak: predicts a recipe's memory.

    Returns:
        At least one sentence. Where no single setting is enough, the smallest model tells how far away it is.
    """
    found = []
    options_of = (_micro_batches, _image_sizes) if recipe.images else (_micro_batches, _contexts, _sizes)
    for options in (each(recipe) for each in options_of):
        nearest = _first_fitting(recipe, options, memory_bytes, peak)
        if nearest:
            found.append(nearest)
    if found:
        return found
    smallest: dict[str, int | str] = {"model.size": "tiny", "model.context": 64, "train.micro_batch": 1}
    if recipe.images:
        smallest = {"model.size": "small", "train.micro_batch": 1}
    least = peak(_changed(recipe, smallest))
    verb = "brings" if least.high <= memory_bytes else "still takes"
    return [f"{_spelled(smallest)} {verb} the peak to {_gib(least.expected)} (at most {_gib(least.high)})."]


def _first_fitting(
    recipe: Recipe, options: Iterable[dict[str, int | str]], memory_bytes: int, peak: Peak
) -> str | None:
    for option in options:
        predicted = peak(_changed(recipe, option))
        if predicted.high <= memory_bytes:
            return f"{_spelled(option)} brings the peak to {_gib(predicted.expected)} (at most {_gib(predicted.high)})."
    return None


def _micro_batches(recipe: Recipe) -> Iterator[dict[str, int | str]]:
    """Smaller divisors of the batch, the largest first: the result stays the same, only slower."""
    batch_size, micro_batch = recipe.train.batch_size, recipe.train.micro_batch
    assert batch_size != "auto" and micro_batch != "auto"  # resolve.fill_in came first
    for size in reversed(divisors(batch_size)):
        if size < micro_batch:
            yield {"train.micro_batch": size}


def _contexts(recipe: Recipe) -> Iterator[dict[str, int | str]]:
    context = recipe.model.context // 2
    while context >= 64:
        yield {"model.context": context}
        context //= 2


def _sizes(recipe: Recipe) -> Iterator[dict[str, int | str]]:
    """Named sizes below the one asked for, the largest first."""
    if recipe.model.from_ is not None:
        return
    if recipe.model.family == "ngrams":
        numbers = NGRAM_SIZES[recipe.model.size]
        for size in sorted(NGRAM_SIZES, key=lambda name: -NGRAM_SIZES[name]):
            if NGRAM_SIZES[size] < numbers:
                yield {"model.size": size}
        return
    asked = recipe.model.shape()
    sizes = RNN_SIZES if recipe.model.family == "rnn" else SIZES
    for name, (layers, width) in sorted(sizes.items(), key=lambda size: -size[1][0] * size[1][1]):
        if layers * width**2 < asked["layers"] * asked["width"] ** 2:
            yield {"model.size": name}


def _image_sizes(recipe: Recipe) -> Iterator[dict[str, int | str]]:
    if recipe.model.from_ is None and recipe.model.size != "small":
        yield {"model.size": "small"}


def _changed(recipe: Recipe, change: dict[str, int | str]) -> Recipe:
    """The recipe with a change; a named size replaces all that the recipe says of the shape."""
    table = recipe.model_dump(by_alias=True, exclude_none=True)
    if "model.size" in change:
        for key in ("layers", "width", "heads", "kv_heads", "hidden"):
            table["model"].pop(key, None)
    return Recipe.model_validate(table).replace(**change)


def _spelled(change: dict[str, int | str]) -> str:
    parts = [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        for key, value in change.items()
    ]
    return " with ".join(parts)


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
