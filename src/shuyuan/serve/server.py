"""The process that serves: sockets, TLS, slow clients, signals, and the first key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from ..errors import ServeError
from ..progress import Progress
from .app import make_app
from .auth import Keys
from .door import Doorkeeper
from .guard import load_guard
from .indexes import TASK
from .patient import Patient
from .settings import Settings
from .shelf import Model, Shelf, models_in
from .state import open_state
from .verbatim import verbatim_of

HEADER_BYTES = 32 * 1024
IDLE_SECONDS = 5
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FIRST_KEY = "first-admin"
FIRST_DAYS = 1
_log = logging.getLogger(__name__)


def serve(
    runs: Sequence[Path],
    settings: Settings,
    key: str | None = None,
    progress: Progress | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves runs until the process is told to stop; running answers are finished first.

    Args:
        runs: folders.
        settings: where and how.
        key: where the vaults' key is, instead of where the recipes say.
        progress: is told what people must know.
        started: is told the address.

    Raises:
        ServeError: the server cannot be started as asked.
        RunError: a run has no model yet.
        VaultError: a run does not open.
    """
    progress = progress or Progress()
    _check(settings)
    models = models_in(runs, key, settings.limits)
    Shelf(models, settings.memory_bytes)  # what can never be loaded is refused now
    if settings.cut_verbatim is not None:
        for model in models:
            if model.task != TASK:
                model.verbatim = verbatim_of(model.path, key, settings.cut_verbatim)
    _check_judge(settings, models)
    _first_key(settings, progress)
    if settings.certificate is None and settings.host not in LOOPBACK:
        progress.say("serve.no-tls", "Without TLS keys and texts cross the network in the clear.")
    app = make_app(settings, lambda: Shelf(models, settings.memory_bytes))
    _run(Listener(app, settings, started), app)


class Listener(uvicorn.Server):
    """uvicorn as it is set up here. Of its signals, the first asks it to finish and the second to stop.

    Args:
        app: what answers.
        settings: where and how.
        started: is told the address.
    """

    def __init__(self, app: ASGIApp, settings: Settings, started: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=partial(Patient, limits=settings.limits),  # type: ignore[arg-type]  # it is called, no more
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=settings.drain_seconds,
            h11_max_incomplete_event_size=HEADER_BYTES,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.private_key,
        )
        # What it would log quotes what strangers send; the doorkeeper tells what must be known.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().__init__(config)
        self._settings = settings
        self._started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            (socket, *_) = self.servers[0].sockets
            host, port = socket.getsockname()[:2]
            scheme = "https" if self._settings.certificate else "http"
            self._started(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")


def _run(server: Listener, door: Doorkeeper) -> None:
    with contextlib.suppress(SystemExit):  # how uvicorn says that it could not start
        asyncio.run(server.serve())
    if door.failure is not None:
        raise door.failure
    if not server.started:
        raise ServeError(
            "serve.cannot-listen",
            "The server cannot listen there.",
            where=f"{server.config.host}:{server.config.port}",
            mend="Choose another --port or --host, and see that certificate and key belong together.",
        )


def _check(settings: Settings) -> None:
    if (settings.certificate is None) != (settings.private_key is None):
        raise ServeError(
            "serve.half-tls",
            "TLS takes a certificate and its private key.",
            mend="Give --tls-cert and --tls-key.",
        )
    for file in (settings.certificate, settings.private_key):
        if file is not None and not file.is_file():
            raise ServeError(
                "serve.no-tls-file", "There is no such file.", where=str(file), mend="Name one in PEM format."
            )


def _check_judge(settings: Settings, models: Sequence[Model]) -> None:
    judge = load_guard(settings.guard).rules.judge
    tasks = {model.name: model.task for model in models}
    if judge is not None and tasks.get(judge.model) not in ("classification", "sentiment"):
        raise ServeError(
            "serve.no-judge",
            f"The guard's judge {judge.model[:64]} is no model of this server that tells labels.",
            where=str(settings.guard),
            mend="Serve a run with labels beside the others, and name it.",
        )


def _first_key(settings: Settings, progress: Progress) -> None:
    """Makes a key where there is none, so that the server is never open by accident."""
    if settings.insecure_open:
        progress.say("serve.open", "No key is asked for: whoever reaches this server can ask its models.")
        return
    with contextlib.closing(open_state(settings.state)) as state:
        keys = Keys(state)
        if keys.all():
            return
        now = time.time()
        _, text = keys.add(FIRST_KEY, "admin", now + FIRST_DAYS * 86400)
    progress.say(
        "serve.first-key",
        f"There was no key yet. This one administers for a day, and is shown once:\n  {text}\n"
        "Make others with: shuyuan users add NAME --role admin",
    )
