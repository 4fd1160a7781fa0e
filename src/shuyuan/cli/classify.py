"""`shuyuan classify`: tell the label of texts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, frame
from .run import visible


def classify(
    run: Folder,
    text: Annotated[
        str | None, typer.Argument(help="The text; - or left out: stdin, one text a line.")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell the label of a text, with its probability."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        texts = sys.stdin.read().splitlines() if text is None or text == "-" else [text]
        found = pipeline.LoadedRun(run, key, answer.screen).classify(texts)
        told = [
            {
                "text": text,
                "label": next(iter(each)),
                "probability": max(each.values()),
                "probabilities": each,
            }
            for text, each in zip(texts, found, strict=True)
        ]

        def show() -> None:
            for each in told:
                sys.stdout.write(
                    f"{visible(each['label'])}\t{each['probability']:.3f}\t{visible(each['text'])}\n"
                )

        answer.give({"texts": told}, show)
