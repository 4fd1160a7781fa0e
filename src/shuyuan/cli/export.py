"""`shuyuan export`: the model, in the clear, in a format that others open."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, frame


class Format(StrEnum):
    """What a model can be exported as."""

    huggingface = "huggingface"
    keras = "keras"


def export(
    run: Folder,
    to: Annotated[Path, typer.Option("--to", help="The folder to make.")],
    kind: Annotated[
        Format | None,
        typer.Option("--as", help="The format. Left out: keras for the family rnn, else huggingface."),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the model as a folder that transformers or Keras opens, in the clear."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        with pipeline.look(run, key) as job:
            folder = pipeline.export(job, to, kind.value if kind else None)
            written = pipeline.format_of(job)
            sealed = job.store.sealed
        if sealed:
            answer.screen.show(
                "The export lies in the clear: whoever has it can use it and probe what it memorised."
            )
        if job.recipe.model.family in ("cnn", "ngrams"):
            answer.screen.show(
                "Shuyuan alone computes this model; its README.md says how, also as a module of PyTorch."
            )
        result = {
            "to": str(folder),
            "as": written,
            "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
        }
        answer.give(result, lambda: answer.screen.out.print(str(folder), soft_wrap=True))
