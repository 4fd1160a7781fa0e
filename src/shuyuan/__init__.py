"""Shuyuan: train, protect, shrink and use models on your own records, on hardware you own.

    import shuyuan

    shuyuan.plan("recipe.toml")                      # memory, time, storage, before anything is spent
    shuyuan.run("recipe.toml")                       # everything the recipe asks for
    shuyuan.load("runs/demo").generate("Once upon")  # use the model
    shuyuan.index(["notes"], "notes.index")          # documents, or known answers, that can be asked
    shuyuan.open_index("notes.index").search("Who may see this?")

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

# GNU OpenMP's threads wait for each other by spinning, by default for so long that one busy neighbour on the machine makes a
# training step many times slower; 5000 turns cost about 3 % on a quiet machine (docs/lab-notes.md). Read when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# oneDNN, and torch's bridge to it, keep what they prepared for the last 1024 shapes, some 0.4 MB each: batches of rows of many
# widths then take hundreds of megabytes more, step by step; kept for too few, they prepare it anew in each step, which takes a
# quarter of it (docs/lab-notes.md). Read when torch loads.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
os.environ.setdefault("LRU_CACHE_CAPACITY", "128")
# huggingface_hub tells the hub which libraries and tools surround it, and asks it for a list of tools to look for.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .loaded import LoadedRun
    from .progress import Progress
    from .recipe import Recipe
    from .retrieval import Index

__all__ = ["index", "load", "open_index", "plan", "run"]


def __getattr__(name: str) -> Any:
    """`shuyuan.privacy`, for people with their own PyTorch loop, without a second import."""
    if name == "privacy":
        return import_module(".privacy", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(
    recipe: str | Path | Recipe | dict[str, Any],
    out: str | Path | None = None,
    progress: Progress | None = None,
    model: Any = None,
) -> dict[str, Any]:
    """Everything the recipe asks for; what is done already is not done again.

    Args:
        recipe: a TOML file, a run folder, a `Recipe`, or the same as nested tables.
        out: the run folder; default runs/NAME.
        progress: hears about stages and figures; default: silence.
        model: a Keras model to start from, or a function that makes one; a run that has begun goes on from the weights that it
            began with. It is kept beside the run's folder, in the clear.

    Returns:
        The run's summary, as `shuyuan run --json` prints it.

    Raises:
        ShuyuanError: with a stable code, what is wrong and how to mend it.
    """
    from . import pipeline

    return pipeline.run(recipe, out=out, progress=progress, model=model)


def plan(recipe: str | Path | Recipe | dict[str, Any]) -> dict[str, Any]:
    """Memory, time, storage and price of a recipe on this machine, as `shuyuan plan --json` prints them.

    Args:
        recipe: a TOML file, the name of one that comes with Shuyuan, a run folder, a `Recipe`, or the same as nested tables.

    Returns:
        {parameters, train_flops, tokens, peak_bytes and seconds: {low, expected, high}, storage_bytes, price, fits, advice, privacy, …};
        numbers have the unit in their name, and nothing is spent.

    Raises:
        ShuyuanError: the recipe is refused, or its source is not there.
    """
    from . import pipeline
    from .progress import Progress

    _, checked = pipeline.locate(recipe)
    return pipeline.plan_for(checked, None, Progress())


def load(run: str | Path, key: str | None = None, variant: str = "original") -> LoadedRun:
    """A trained run, ready to generate.

    Args:
        run: the run folder.
        key: where the vault's key is ("env:NAME", "file:PATH", …); default: where the recipe says.
        variant: which variant of its model, such as "int8"; default: the trained model itself.

    Returns:
        The run, with its model in memory.

    Raises:
        RunError: the folder is no run, or has no such variant, or no model yet.
        VaultError: it does not open with this key, or was tampered with.

    Example:
        >>> shuyuan.load("runs/demo").generate("def main(", max_tokens=50)  # doctest: +SKIP
    """
    from .loaded import LoadedRun

    return LoadedRun(run, key, variant=variant)


def index(
    documents: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    text: str = "text",
    answer: str | None = None,
    coverage: float | None = None,
    accuracy: float | None = None,
    key: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Makes an index of documents, or of questions with their answers.

    Args:
        documents: files, folders or globs.
        out: the folder of the index.
        text: the column of tables that holds the text; with `answer`, the question.
        answer: the column that holds the answer; None for documents.
        coverage: with `answer`: the share of questions to answer; the others are handed over.
        accuracy: with `answer`: the share of answers that is to be right.
        key: where the vault's key is ("env:NAME", "file:PATH", …); default: the index lies in the clear.
        progress: hears about stages; default: silence.

    Returns:
        What `shuyuan index --json` prints.

    Raises:
        ShuyuanError: with a stable code, what is wrong and how to mend it.
    """
    from .retrieval import Columns, Wish, build_index

    sources = [documents] if isinstance(documents, str | Path) else documents
    wish = Wish(coverage, accuracy)
    columns = Columns(text, answer)
    return build_index(
        [str(each) for each in sources], out, columns=columns, wish=wish, key=key, progress=progress
    )


def open_index(path: str | Path, key: str | None = None) -> Index:
    """An index, ready to be searched.

    Args:
        path: the folder that `shuyuan index` made.
        key: where the vault's key is, if the index is sealed.

    Raises:
        RunError: the folder holds no index, or one that is not finished.
        DataError: the index was made by another version, or is damaged.
        VaultError: it does not open with this key, or was tampered with.
    """
    from .retrieval import Index

    return Index(path, key)
