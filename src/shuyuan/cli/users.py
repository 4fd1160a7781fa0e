"""`shuyuan users`: the keys of the server, and what was done with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..visible import visible
from .frame import AsJson, Debug, frame

if TYPE_CHECKING:
    from ..serve import Keys

app = typer.Typer(help="The server's API keys, and its audit log.", no_args_is_help=True)

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


@app.command()
def log(
    state: State = None,
    audit_key: Annotated[
        str | None,
        typer.Option(
            "--audit-key",
            metavar="PLACE",
            help="Where the audit log's key is [default: a file in the state].",
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the whole audit log, the oldest entry first."""
    with frame(as_json, debug) as answer:
        from ..serve import audit_log, default_folder

        entries = audit_log.entries_of(state or default_folder(), audit_key)
        if as_json:
            answer.give({"entries": list(entries)}, lambda: None)
        else:
            answer.give({}, lambda: _tell(answer.screen.out, entries))


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


def _tell(out: Any, entries: Iterable[dict[str, Any]]) -> None:
    """A line an entry: when, what, who, and all else by its name."""
    from ..serve.auth import moment

    for entry in entries:
        rest = {name: value for name, value in entry.items() if name not in ("time", "event", "who")}
        told = [
            f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in rest.items()
        ]
        line = f"{moment(entry['time'])}  {entry['event']:<14} {entry.get('who') or '-':<20} {' '.join(told)}"
        out.print(visible(line).replace("\n", "\\n"), soft_wrap=True, markup=False)
