"""`shuyuan chat`: talk with a trained run."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..visible import visible
from .frame import AsJson, Debug, Folder, Key, Temperature, TopP, Variant, frame
from .inputs import Column, File, given, write

if TYPE_CHECKING:
    from ..loaded import LoadedRun

GOODBYE = ("/quit", "/exit")


def chat(
    run: Folder,
    message: Annotated[
        str | None,
        typer.Argument(help="One message to reply to; left out: a talk, or stdin where it is no terminal."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before the talk.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a reply at most.")] = 256,
    temperature: Temperature = 0.8,
    top_p: TopP = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same replies.")] = 1,
    file: File = None,
    column: Column = "text",
    variant: Variant = "original",
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Talk with a trained run. The oldest turns are forgotten when the talk grows longer than the model can see."""
    with frame(as_json, debug) as answer:
        from ..loaded import LoadedRun

        loaded = LoadedRun(run, key, answer.screen, variant)
        settings: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
        }
        talk = [{"role": "system", "content": system}] if system else []
        if file is not None:
            messages = given(message, file, column)
            replies = loaded.replies(
                [[*talk, {"role": "user", "content": each}] for each in messages], **settings
            )
            pairs = [
                {"message": message, "reply": reply} for message, reply in zip(messages, replies, strict=True)
            ]
            answer.give({"replies": pairs}, lambda: write([pair["reply"] for pair in pairs], many=True))
            return
        if message is None and _at_a_terminal():
            _converse(loaded, talk, settings)
            return
        talk.append({"role": "user", "content": given(message, None, "")[0]})
        reply = "" if not as_json else loaded.chat(talk, **settings)
        if as_json:
            talk.append({"role": "assistant", "content": reply})
            answer.give({"messages": talk, "reply": reply}, lambda: None)
            return
        _say(loaded, talk, settings)


def _at_a_terminal() -> bool:
    """Whether somebody can write messages; if so, they can edit their lines."""
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401 - `input` uses it where it is loaded
        return True
    return False


def _converse(loaded: LoadedRun, talk: list[dict[str, str]], settings: dict[str, Any]) -> None:
    """Messages and replies in turn until the end of input; a message that is too long is told so, and forgotten."""
    from ..errors import ShuyuanError

    sys.stdout.write(f"Write a message; an empty line, {GOODBYE[0]} or the end of input ends the talk.\n")
    while True:
        try:
            message = input("> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return
        if not message or message in GOODBYE:
            return
        talk.append({"role": "user", "content": message})
        try:
            reply = _say(loaded, talk, settings)
        except ShuyuanError as error:
            sys.stdout.write(f"{error.what} {error.mend}\n")
            talk.pop()
            continue
        talk.append({"role": "assistant", "content": reply or "…"})


def _say(loaded: LoadedRun, talk: list[dict[str, str]], settings: dict[str, Any]) -> str:
    """Writes the reply while it comes; gives it."""
    show = visible if sys.stdout.isatty() else str
    pieces = []
    for piece in loaded.reply(talk, **settings):
        pieces.append(piece)
        sys.stdout.write(show(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces).strip()
