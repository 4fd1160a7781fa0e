"""The command: one thin file a verb that parses, calls one library function and shows the answer."""

from __future__ import annotations

from typing import Annotated

import typer

from ..version import __version__
from . import (
    answer,
    audit,
    chat,
    classify,
    compress,
    doctor,
    evaluate,
    export,
    generate,
    index,
    info,
    keys,
    plan,
    practice,
    prepare,
    report,
    run,
    serve,
    summarize,
    train,
    translate,
    users,
    verify,
)
from .frame import take_any_text

app = typer.Typer(
    name="shuyuan",
    help="Train, protect and use models on your own records, on hardware you own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"shuyuan {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What can be asked of the command itself."""


for verb in (
    run,
    plan,
    prepare,
    train,
    compress,
    evaluate,
    audit,
    report,
    generate,
    chat,
    translate,
    summarize,
    answer,
    classify,
    serve,
    index,
    export,
    verify,
    info,
    doctor,
):
    name = verb.__name__.rpartition(".")[2]
    app.command(name=name)(getattr(verb, name))
app.add_typer(keys.app, name="keys")
app.add_typer(users.app, name="users")
app.add_typer(practice.app, name="practice")


def main() -> None:
    """Entry point of `shuyuan`: exit status 0 done, 1 refusal or failure, 2 wrong usage, 130 interrupted."""
    take_any_text()
    app()
