"""Shuyuan: train, protect, shrink and use models on your own records, on hardware you own.

    import shuyuan

    shuyuan.plan("recipe.toml")                      # memory, time, storage, before anything is spent
    shuyuan.run("recipe.toml")                       # everything the recipe asks for
    shuyuan.load("runs/demo").generate("Once upon")  # use the model

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# GNU OpenMP's threads wait for each other by spinning, by default for so long that one busy neighbour on the machine makes a
# training step many times slower; 5000 turns cost about 3 % on a quiet machine (docs/lab-notes.md). Read when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# huggingface_hub tells the hub which libraries and tools surround it, and asks it for a list of tools to look for.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .pipeline import LoadedRun
    from .progress import Progress
    from .recipe import Recipe

__version__ = "0.1.0"
__all__ = ["load", "plan", "run"]


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
    """Memory, time, storage and price of a recipe on this machine, as `shuyuan plan --json` prints them."""
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
    """
    from .pipeline import LoadedRun

    return LoadedRun(run, key, variant=variant)
