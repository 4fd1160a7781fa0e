"""How a server is set up: where it listens, and how much of itself it gives away."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .state import default_folder


@dataclass(frozen=True)
class Limits:
    """What one key may take, and one connection. A share of the machine, not of anyone's patience.

    Attributes:
        requests_per_minute: of one key.
        tokens_per_minute: of one key, prompts and answers; what is saved up is worth one minute at most.
        streams: texts of one key that are computed at once.
        queue: requests of all keys that wait for a model.
        queue_seconds: that one waits at most.
        body_bytes, body_seconds: of a request; it is refused while it comes in.
        header_seconds: until a request's headers are there.
        send_seconds: that a client may take to read what it was sent.
        connections: open at once.
        longest_output: tokens of an answer.
        choices: answers of one request, texts of one batch times `n`.
        storage: where `limits` counts requests: memory://, or redis://… for several servers.
    """

    requests_per_minute: int = 120
    tokens_per_minute: int = 60_000
    streams: int = 4
    queue: int = 64
    queue_seconds: float = 60.0
    body_bytes: int = 8 * 2**20
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    send_seconds: float = 30.0
    connections: int = 1000
    longest_output: int = 4096
    choices: int = 64
    storage: str = "memory://"


@dataclass(frozen=True)
class Settings:
    """Everything beside the runs.

    Attributes:
        host, port: where to listen; port 0 takes any that is free.
        state: folder of keys, usage and audit log.
        insecure_open: answer without keys. Administration is closed then.
        hosts: names by which clients may call the server, beside localhost and addresses.
        memory_bytes: that loaded models may take together; None: no bound.
        drain_seconds: that running answers have when the server is told to stop.
        certificate, private_key: PEM files, for TLS.
        audit_key: where the key of the audit log is; None: in the state.
        audit_content: whether the log holds what is asked and answered too.
        guard: the guard's rules, a TOML file.
        cut_verbatim: tokens of a span of a training record at which an answer that repeats it ends; None: none does.
        limits: as of `Limits`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    state: Path = field(default_factory=default_folder)
    insecure_open: bool = False
    hosts: tuple[str, ...] = ()
    memory_bytes: int | None = None
    drain_seconds: int = 30
    certificate: Path | None = None
    private_key: Path | None = None
    audit_key: str | None = None
    audit_content: bool = False
    guard: Path | None = None
    cut_verbatim: int | None = None
    limits: Limits = field(default_factory=Limits)
