"""`shuyuan run`: everything the recipe asks for; without a recipe, the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .frame import AsJson, Changes, Debug, Key, Out, frame

DEMO = Path(__file__).parents[1] / "recipes" / "demo.toml"


def run(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE|RUN]", help="Left out: the demo.")] = None,
    out: Out = None,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do everything the recipe asks for, from plan to report."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report

        screen = answer.screen
        with answer.leading():
            if recipe is None and key is None:
                _make_demo_key(changes, screen.show)
            with answer.begin(recipe or DEMO, "run", out, changes, key) as job:
                pipeline.everything(job)
                from . import closing  # what it loads is not to count in the memory of the work

                summary = report.summary(job.run, job.store)
                facts = closing.facts_of(job, summary)
        answer.give(summary, lambda: closing.show(screen.out, facts))


def _make_demo_key(changes: list[str] | None, say: Any) -> None:
    """The demo's key is made at its first run; any other recipe names a key that its owner made."""
    from .. import recipe as recipes
    from ..vault import write_key_file

    vault = recipes.load(DEMO, changes).vault
    if vault is None or not vault.key.startswith("file:"):
        return
    file = Path(vault.key.removeprefix("file:"))
    if not file.exists():
        write_key_file(file)
        say(f"Made the demo's key: {file} (mode 0600). A run whose key is lost stays closed.")
