"""`shuyuan users`: the keys of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .frame import AsJson, Debug, frame

if TYPE_CHECKING:
    from ..serve import Keys

app = typer.Typer(help="Add, list and revoke the server's API keys.", no_args_is_help=True)

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="The server's state [default: $SHUYUAN_HOME/server]."),
]
Name = Annotated[str, typer.Argument(help="Whose key it is.")]


@app.command()
def add(
    name: Name,
    role: Annotated[
        str, typer.Option(help="user asks models; auditor reads usage and the audit log; admin does all.")
    ] = "user",
    expires: Annotated[str, typer.Option(help='"never", days such as "90d", or a date.')] = "90d",
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model that it may ask; left out: all.")
    ] = None,
    state: State = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a key; it is shown once."""
    with frame(as_json, debug) as answer:
        import time

        from ..serve import expiry

        with _keys(state) as keys:
            key, text = keys.add(name, role, expiry(expires, time.time()), model or None)
        answer.screen.show("This key is shown once, and kept nowhere: copy it now.")
        shown = {**key.as_dict(), "key": text}
        answer.give(shown, lambda: answer.screen.out.print(text, soft_wrap=True, markup=False))


@app.command("list")
def list_(state: State = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List all keys, revoked ones too."""
    with frame(as_json, debug) as answer:
        with _keys(state) as keys:
            found = [key.as_dict() for key in keys.all()]
        answer.give({"keys": found}, lambda: _show(answer.screen.out, found))


@app.command()
def revoke(name: Name, state: State = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Make a key useless at once, also for a server that runs."""
    with frame(as_json, debug) as answer:
        with _keys(state) as keys:
            keys.revoke(name)
        answer.give({"revoked": name}, lambda: answer.screen.out.print(f"{name} is revoked", markup=False))


@contextmanager
def _keys(folder: Path | None) -> Iterator[Keys]:
    """The keys of a server's state, which is closed at the end."""
    from ..serve import Keys, default_folder, open_state

    with closing(open_state(folder or default_folder())) as state:
        yield Keys(state)


def _show(out: Any, keys: list[dict[str, Any]]) -> None:
    for key in keys:
        end = f"revoked {key['revoked']}" if key["revoked"] else f"expires {key['expires'] or 'never'}"
        models = "all models" if key["models"] is None else ", ".join(key["models"])
        out.print(f"{key['name']:<20} {key['role']:<8} {end:<36} {models}", markup=False)
