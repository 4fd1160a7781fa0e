"""`shuyuan generate`: continue a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..visible import visible
from .frame import Answer, AsJson, Debug, Folder, Key, Temperature, TopP, Variant, frame
from .inputs import Column, File, column_of, two_inputs, write

if TYPE_CHECKING:
    from ..loaded import LoadedRun


def generate(
    run: Folder,
    prompt: Annotated[str | None, typer.Argument(help="The text to continue; - or left out: stdin.")] = None,
    title: Annotated[
        bool, typer.Option("--title", help="The text is a title: write what stands under it.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="Tokens at most.")] = 200,
    temperature: Temperature = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest tokens.")] = None,
    top_p: TopP = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 1,
    file: File = None,
    column: Column = "text",
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Continue a text with a trained run."""
    with frame(as_json, debug) as answer:
        from ..loaded import LoadedRun

        settings: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
        }
        if file is not None:
            if prompt is not None:
                raise two_inputs()
            loaded = LoadedRun(run, key, answer.screen, variant)
            prompts = column_of(file, column)
            _continue_all(answer, loaded, [*map(loaded.under, prompts)] if title else prompts, settings)
            return
        if prompt is None or prompt == "-":
            prompt = sys.stdin.read().removesuffix("\n") if not sys.stdin.isatty() else ""
        loaded = LoadedRun(run, key, answer.screen, variant)
        if title:
            prompt = loaded.under(prompt)
        stream = loaded.stream(prompt, **settings)
        if as_json:
            text = "".join(stream)
            answer.give({"prompt": prompt, "text": text, **settings}, lambda: None)
            return
        show = visible if sys.stdout.isatty() else str
        sys.stdout.write(show(prompt))
        for piece in stream:
            sys.stdout.write(show(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")


def _continue_all(answer: Answer, loaded: LoadedRun, prompts: list[str], settings: dict[str, Any]) -> None:
    """Continues every text of a file."""
    texts = loaded.generate_all(prompts, **settings)
    pairs = [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
    answer.give({"texts": pairs, **settings}, lambda: write(texts, many=True))
