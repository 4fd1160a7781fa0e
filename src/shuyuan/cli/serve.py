"""`shuyuan serve`: trained runs behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .frame import AsJson, Debug, Key, frame


def serve(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN|INDEX…", help="Folders; their names are the models'.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keys, usage and the audit log [default: $SHUYUAN_HOME/server]."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name that clients call this server by.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="Memory that loaded models may take; others are put away."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a key in a minute.")] = 120,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a key in a minute.")] = 60_000,
    streams: Annotated[int, typer.Option(min=1, help="Texts of a key that are computed at once.")] = 4,
    queue: Annotated[int, typer.Option(min=1, help="Requests that wait for a model.")] = 64,
    limits_storage: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where requests are counted, as of the library limits.")
    ] = "memory://",
    drain: Annotated[int, typer.Option(metavar="SECONDS", help="For answers when told to stop.")] = 30,
    guard: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The guard's rules, TOML; see docs/serving.md.")
    ] = None,
    cut_verbatim: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            help="End answers that repeat so much of a training record; not for private runs.",
        ),
    ] = None,
    audit_key: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Where the audit log's key is [default: a file in the state]."),
    ] = None,
    audit_content: Annotated[
        bool, typer.Option("--audit-content", help="Keep what is asked and answered in the sealed audit log.")
    ] = False,
    insecure_open: Annotated[
        bool, typer.Option("--insecure-open", help="Ask for no keys: whoever reaches the server may use it.")
    ] = False,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Serve trained runs over HTTP, as OpenAI's API has it. A key is asked for, and SIGTERM lets answers end."""
    with frame(as_json, debug) as answer:
        from ..errors import missing_extra
        from ..serve import default_folder

        try:
            from ..serve.server import serve as run
            from ..serve.settings import Limits, Settings
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("shuyuan"):
                raise
            raise missing_extra("`shuyuan serve`", "serve") from None
        settings = Settings(
            host=host,
            port=port,
            state=state or default_folder(),
            insecure_open=insecure_open,
            hosts=tuple(allow_host or ()),
            memory_bytes=None if memory is None else int(memory * 1e9),
            drain_seconds=drain,
            certificate=tls_cert,
            private_key=tls_key,
            audit_key=audit_key,
            audit_content=audit_content,
            guard=guard,
            cut_verbatim=cut_verbatim,
            limits=Limits(
                requests_per_minute=requests,
                tokens_per_minute=tokens,
                streams=streams,
                queue=queue,
                storage=limits_storage,
            ),
        )
        run(runs, settings, key, answer.screen, lambda address: answer.screen.show(f"Serving at {address}"))
        answer.give({"served": [str(path) for path in runs]}, lambda: None)
