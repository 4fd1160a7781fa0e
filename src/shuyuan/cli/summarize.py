"""`shuyuan summarize`: what matters of a text."""

from __future__ import annotations

from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, Variant, frame
from .inputs import Column, File, Text, given, write


def summarize(
    run: Folder,
    text: Text = None,
    file: File = None,
    column: Column = "text",
    beams: Annotated[
        int, typer.Option(help="Summaries followed at once; 1 takes the likeliest token always.")
    ] = 1,
    length_penalty: Annotated[float, typer.Option(help="Above 1 prefers longer summaries.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a summary at most.")] = 200,
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Summarize texts with a trained run. A long one by its parts."""
    with frame(as_json, debug) as answer:
        from ..loaded import LoadedRun

        loaded = LoadedRun(run, key, answer.screen, variant)
        texts = given(text, file, column)
        found = loaded.summaries(texts, beams=beams, length_penalty=length_penalty, max_tokens=max_tokens)
        pairs = [{"text": one, "summary": other} for one, other in zip(texts, found, strict=True)]

        answer.give(
            {"summaries": pairs}, lambda: write((pair["summary"] for pair in pairs), file is not None)
        )
