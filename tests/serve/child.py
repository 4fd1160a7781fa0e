"""A server in a process of its own, with a model that needs no weights.

python -m tests.serve.child STATE SECONDS [CERTIFICATE KEY]
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from shuyuan.progress import Progress
from shuyuan.serve import server
from shuyuan.serve.settings import Limits, Settings
from tests.serve import fake


def say(text: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Shown(Progress):
    """Says it on stdout."""

    def show(self, text: str) -> None:
        say(text)


def main() -> None:
    """Serves until it is told to stop."""
    state, seconds, *files = sys.argv[1:]
    limits = Limits(requests_per_minute=10**6, tokens_per_minute=10**9, streams=16)

    def load(*_: Any) -> Any:
        return fake.Run("mixed", float(seconds))

    patched: Any = server
    patched.models_in = lambda *_: [fake.model("demo", limits=limits)]
    patched.Shelf = partial(server.Shelf, load=load)
    certificate, key = (Path(file) for file in files) if files else (None, None)
    settings = Settings(
        port=0, state=Path(state), limits=limits, certificate=certificate, private_key=key, drain_seconds=20
    )
    server.serve([], settings, None, Shown(), lambda address: say(f"at {address}"))
    say("ended")


if __name__ == "__main__":
    main()
