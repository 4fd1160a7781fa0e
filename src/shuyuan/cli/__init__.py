"""The command: one thin file a verb that parses, calls one library function and shows the answer."""

from __future__ import annotations

import sys
from typing import Annotated, Any

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
from .frame import print_json, take_any_text

# What click raises; typer brings a click of its own, or takes the one that is installed, and has no name for it.
_WRONG_USAGE: Any = typer.BadParameter.__base__

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
    try:
        status = app(standalone_mode=False)
    except typer.Abort:
        status = 130
    except _WRONG_USAGE as error:
        error.show()
        if "--json" in sys.argv[1:]:
            print_json({"error": _usage(error)})
        status = error.exit_code
    sys.exit(status)


def _usage(error: Any) -> dict[str, str | None]:
    """Wrong usage, as other errors are told in JSON."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "shuyuan"
    return {
        "code": "usage",
        "what": error.format_message(),
        "where": command,
        "mend": f"See: {command} --help",
    }
