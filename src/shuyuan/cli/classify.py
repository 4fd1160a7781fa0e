"""`shuyuan classify`: tell the label of texts or images."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, Variant, frame
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
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell the label of texts or images, with its probability."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        loaded = pipeline.LoadedRun(run, key, answer.screen, variant)
        given = sys.stdin.read().splitlines() if not records or records == ["-"] else records
        kind = "image" if loaded.recipe.images else "text"
        told = [
            {
                kind: record,
                "label": next(iter(each)),
                "probability": max(each.values()),
                "probabilities": each,
            }
            for record, each in zip(given, loaded.classify(given), strict=True)
        ]

        def show() -> None:
            for each in told:
                sys.stdout.write(
                    f"{visible(each['label'])}\t{each['probability']:.3f}\t{visible(each[kind])}\n"
                )

        answer.give({f"{kind}s": told}, show)
