"""`shuyuan classify`: tell the label of texts or images, or all their labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..visible import visible
from .frame import AsJson, Debug, Folder, Key, Variant, frame
from .inputs import Column, File, column_of, one_line, two_inputs


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
    threshold: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Of a run whose records may have any number of labels: the probability from which on one is told.",
        ),
    ] = 0.5,
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell the labels of texts or images, with probabilities."""
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
        many = loaded.multi_label
        told = [
            {kind: record, **(_several(each, threshold) if many else _likeliest(each)), "probabilities": each}
            for record, each in zip(given, found, strict=True)
        ]

        def show() -> None:
            for each in told:
                labels = each["labels"] if many else [each["label"]]
                named = visible(", ".join(labels)) or "-"
                shares = ", ".join(f"{each['probabilities'][label]:.3f}" for label in labels) or "-"
                sys.stdout.write(f"{named}\t{shares}\t{one_line(each[kind])}\n")

        answer.give({f"{kind}s": told}, show)


def _likeliest(probabilities: dict[str, float]) -> dict[str, Any]:
    return {"label": next(iter(probabilities)), "probability": max(probabilities.values())}


def _several(probabilities: dict[str, float], threshold: float) -> dict[str, Any]:
    return {"labels": [label for label, share in probabilities.items() if share >= threshold]}


def _given(records: list[str] | None, file: Path | None, column: str) -> list[str]:
    """Texts or paths: the arguments, the lines of stdin, or a column of a file."""
    if file is not None and records:
        raise two_inputs()
    if file is not None:
        return column_of(file, column)
    if records and records != ["-"]:
        return records
    text = sys.stdin.read()
    return text.removesuffix("\n").split("\n") if text else []
