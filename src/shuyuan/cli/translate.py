"""`shuyuan translate`: a text in the other language."""

from __future__ import annotations

from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, Variant, frame
from .inputs import Column, File, Text, given, write


def translate(
    run: Folder,
    to: Annotated[str, typer.Option(help="The language to translate to, such as zh.")],
    text: Text = None,
    file: File = None,
    column: Column = "text",
    beams: Annotated[
        int, typer.Option(help="Translations followed at once; 1 takes the likeliest token always.")
    ] = 4,
    length_penalty: Annotated[float, typer.Option(help="Above 1 prefers longer translations.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a sentence's translation at most.")] = 256,
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Translate texts with a trained run. A long one sentence by sentence."""
    with frame(as_json, debug) as answer:
        from ..loaded import LoadedRun

        loaded = LoadedRun(run, key, answer.screen, variant)
        texts = given(text, file, column)
        found = loaded.translations(
            texts, to, beams=beams, length_penalty=length_penalty, max_tokens=max_tokens
        )
        pairs = [{"text": one, "translation": other} for one, other in zip(texts, found, strict=True)]

        answer.give(
            {"to": to, "translations": pairs},
            lambda: write((pair["translation"] for pair in pairs), file is not None),
        )
