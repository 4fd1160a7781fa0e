"""What a worker runs: it is told by stdin what to do, and answers on stdout, until stdin ends."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from ..errors import ShuyuanError
from .encoding import PairEncoding, PromptEncoding, TextEncoding
from .wire import receive, send
from .work import Masking, Sketching, Work

WORKS: dict[str, type[Work[Any]]] = {
    work.__name__: work for work in (Sketching, Masking, TextEncoding, PromptEncoding, PairEncoding)
}


def serve() -> None:
    """Does what it is asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: who asks decides
    work: Work[Any] | None = None
    while True:
        try:
            asked = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if "work" in asked:
                work = WORKS[asked["work"]].made(asked["settings"])
                continue
            assert work is not None
            answer = work(asked["contents"])._asdict()
        except Exception as error:
            answer = {"error": _told(error)}
        try:
            send(sys.stdout.buffer, answer)
        except BrokenPipeError:
            return


def _told(error: Exception) -> dict[str, Any]:
    """An error in words, as this process would have shown it had it worked alone."""
    if isinstance(error, MemoryError):
        return {"kind": MemoryError.__name__}
    if not isinstance(error, ShuyuanError):  # the message is left out: it could quote a record
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if "shuyuan" in frame.filename]
        error = ShuyuanError(
            "internal.unexpected",
            f"Something went wrong that should not ({type(error).__name__}).",
            where=f"{Path(places[-1].filename).name}:{places[-1].lineno}",
            mend="Run again with --debug to see more, and report it.",
        )
    return {"kind": type(error).__name__, **error.as_dict()}
