"""`shuyuan keys`: the keys of vaults."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .frame import AsJson, Debug, Folder, Key, frame

app = typer.Typer(help="Make, list, add, rotate and remove the vault's keys.", no_args_is_help=True)

NewKey = Annotated[
    str, typer.Option("--new", help="Where the new key is: env:NAME, file:PATH, prompt, command:…")
]
LOST = "A lost key is lost, and the run with it. Keep a copy elsewhere, or make a recovery key and add it to the run."


@app.command()
def new(
    to: Annotated[
        Path | None, typer.Option("--to", help="A new file for the key, mode 0600; left out: stdout.")
    ] = None,
    recovery: Annotated[Path | None, typer.Option("--recovery", help="A second key, for the safe.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a key of 256 random bits."""
    with frame(as_json, debug) as answer:
        from ..vault import new_key, write_key_file

        result: dict[str, str] = {}
        if to is None:
            result["key"] = new_key()
        else:
            result["file"] = str(write_key_file(to))
        if recovery is not None:
            result["recovery"] = str(write_key_file(recovery))
        answer.screen.show(LOST)
        if recovery is not None:
            answer.screen.show(
                f"Let the recovery key open a run: shuyuan keys add RUN --new file:{result['recovery']}"
            )
        answer.give(result, lambda: answer.screen.out.print("\n".join(result.values()), soft_wrap=True))


@app.command("list")
def list_(run: Folder, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the keys that open a run; no key is needed to ask."""
    with frame(as_json, debug) as answer:
        from ..runs import Run
        from ..vault import list_keys

        _check_sealed(run)
        keys = [asdict(key) for key in list_keys(Run(run))]
        answer.give({"keys": keys}, lambda: _show(answer.screen.out, keys))


@app.command()
def add(
    run: Folder,
    new: NewKey,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it [default: key-2, key-3, …].")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let one more key open a run."""
    with frame(as_json, debug) as answer:
        from ..runs import Run
        from ..vault import add_key

        added = asdict(add_key(Run(run), _place(run, key), new, name))
        answer.give(added, lambda: _show(answer.screen.out, [added]))


@app.command()
def rotate(
    run: Folder,
    new: NewKey,
    reencrypt: Annotated[
        bool,
        typer.Option("--reencrypt", help="Seal every file anew: this alone revokes what others have copied."),
    ] = False,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="With --reencrypt: where a further key is that stays.")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put a new key in the place of one that opens a run. Data is not touched unless --reencrypt."""
    with frame(as_json, debug) as answer:
        from ..runs import Run
        from ..vault import rotate_key

        done = rotate_key(
            Run(run), _place(run, key), new, reencrypt=reencrypt, keep=keep or [], progress=answer.screen
        )
        if not reencrypt:
            answer.screen.show("Whoever copied the run and had the old key can still read that copy.")
        if done.dropped:
            answer.screen.show(f"No longer open the run: {', '.join(done.dropped)}")
        answer.give(asdict(done), lambda: answer.screen.out.print(f"{done.name} is replaced"))


@app.command()
def remove(
    run: Folder,
    name: Annotated[str, typer.Argument(help="Which key goes; `keys list` names them.")],
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take a key out of a run."""
    with frame(as_json, debug) as answer:
        from ..runs import Run
        from ..vault import remove_key

        remove_key(Run(run), _place(run, key), name)
        answer.screen.show("Copies are not revoked: `shuyuan keys rotate RUN --reencrypt` does that.")
        answer.give({"removed": name}, lambda: answer.screen.out.print(f"{name} is removed"))


def _place(run: Path, key: str | None) -> str:
    """Where the key is that opens a run now."""
    from ..runs import Run
    from ..vault import key_place

    _check_sealed(run)
    place = key or key_place(Run(run).recipe(), Run(run))
    assert place is not None  # a sealed run names one
    return place


def _check_sealed(run: Path) -> None:
    """Refuses a folder that is not there, and a run in the clear, whose vault is not lost: it never had one."""
    from ..errors import VaultError
    from ..runs import Run

    if (Run(run).exists or not run.exists()) and Run(run).recipe().vault is None:
        raise VaultError(
            "vault.not-sealed",
            "This run lies in the clear, and no key opens it.",
            where=str(run),
            mend='Seal the next one: [vault] key = "file:…" in its recipe.',
        )


def _show(out: Any, keys: list[dict[str, Any]]) -> None:
    for key in keys:
        out.print(f"{key['name']:<16} {key['kind']:<12} {key['created']}", markup=False)
