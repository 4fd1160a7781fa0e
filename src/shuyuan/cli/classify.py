"""`shuyuan classify`: tell the label of texts or images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .frame import AsJson, Debug, Folder, Key, Variant, frame
from .inputs import Column, File, column_of, one_line, two_inputs
from .run import visible


def classify(
    run: Folder,
    records: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECORD",
            help="Texts, or the paths of images where the run reads images; - or left out: stdin, one a line.",
        ),
    ] = None,
    file: File = None,
    column: Column = "text",
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell the label of texts or images, with its probability."""
    with frame(as_json, debug) as answer:
        from ..loaded import LoadedRun

        loaded = LoadedRun(run, key, answer.screen, variant)
        given = _given(records, file, column)
        kind = "image" if loaded.recipe.images else "text"
        with answer.screen.stage("classify", len(given), f"{kind}s") as stage:
            found = []
            for each in loaded.classify(given):
                found.append(each)
                stage.advance()
        told: list[dict[str, Any]] = [
            {
                kind: record,
                "label": next(iter(each)),
                "probability": max(each.values()),
                "probabilities": each,
            }
            for record, each in zip(given, found, strict=True)
        ]

        def show() -> None:
            for each in told:
                sys.stdout.write(
                    f"{visible(each['label'])}\t{each['probability']:.3f}\t{one_line(each[kind])}\n"
                )

        answer.give({f"{kind}s": told}, show)


def _given(records: list[str] | None, file: Path | None, column: str) -> list[str]:
    """Texts or paths: the arguments, the lines of stdin, or a column of a file."""
    if file is not None and records:
        raise two_inputs()
    if file is not None:
        return column_of(file, column)
    return sys.stdin.read().splitlines() if not records or records == ["-"] else records
