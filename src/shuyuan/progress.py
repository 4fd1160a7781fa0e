"""How the library speaks while it works: stages with a total, figures on the way, and things said once.

The library itself prints nothing. Every long function takes a `Progress`; this base class is silent, and the
command line hands in one that draws bars with the time left (`cli/screen.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stage:
    """One stretch of work with a known or unknown total.

    Args:
        name, total, unit: as of `Progress.stage`.

    Attributes:
        done: units so far.
    """

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0.0

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        """Says that more is done.

        Args:
            amount: units done since the last call.
            figures: shown beside the bar, such as loss=3.21.
        """
        self.done += amount


class Progress:
    """A silent listener: the base class, and the default wherever nobody watches."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    @contextmanager
    def stage(self, name: str, total: float | None, unit: str) -> Iterator[Stage]:
        """Opens a stage of work; it ends with the `with`.

        Args:
            name: what is done, in a word or three.
            total: how many units there are to do; None where nobody knows.
            unit: "steps", "texts", or "bytes", which are told in kB, MB and GB.

        Example:
            >>> with Progress().stage("train", 100, "steps") as stage:
            ...     stage.advance(1, loss=3.21)
        """
        yield Stage(name, total, unit)

    def say(self, code: str, text: str) -> None:
        """Says something that the user must know (a slower path, a skipped record), once for each code.

        Args:
            code: stable name of what is said.
            text: one line.
        """
        if code not in self.said:
            self.said[code] = text
            self.show(text)

    def show(self, text: str) -> None:
        """Shows one line; silent here.

        Args:
            text: the line.
        """


class Stop(threading.Event):
    """A request to stop. While `gentle`, it waits for the next safe point; at other times work is broken off at once.

    Every write is whole or not there at all, so breaking off loses time and nothing else; training is worth more than
    that and saves a checkpoint first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gentle = False

    @contextmanager
    def gently(self) -> Iterator[Stop]:
        """Marks a stretch of work that looks at the request by itself."""
        self.gentle = True
        try:
            yield self
        finally:
            self.gentle = False
