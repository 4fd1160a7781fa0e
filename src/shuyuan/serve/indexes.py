"""Indexes behind the same door: one is served beside the runs, under its folder's name, and answers by itself or is read by a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from ..errors import RunError
from ..loaded import LoadedRun
from ..retrieval import Index, is_index
from ..runs import ORIGINAL

TASK = "index"


class LoadedIndex:
    """An index, with as much of the face of a `LoadedRun` as says what it is not.

    Args:
        path: the folder.
        key: where the key of a sealed one is.
    """

    reads_images = False

    def __init__(self, path: Path, key: str | None) -> None:
        self.index = Index(path, key)
        self.task = SimpleNamespace(output="passages")
        self._path = path

    def other_task(self, wanted: str) -> RunError:
        """The refusal of what an index cannot do."""
        return RunError(
            "serve.only-an-index",
            f"This is an index, which is asked, and does no {wanted}.",
            mend="Ask it with /v1/answer, or name a run as `model` and the index as `index`.",
        )

    def part(self, kind: Any) -> NoReturn:
        """It has no task.

        Raises:
            RunError: always.
        """
        raise self.other_task(kind.name)


def load(path: Path, key: str | None, progress: Any = None, variant: str = ORIGINAL) -> Any:
    """What is served from a folder: a run's model, or an index.

    Args:
        path: a run's folder, or an index's.
        key: where the vault's key is, if not where the recipe says.
        progress: hears about stages. Default: nobody does.
        variant: of a run's model, such as "int8".

    Raises:
        ShuyuanError: it is neither, or cannot be opened.
    """
    if is_index(path):
        return LoadedIndex(path, key)
    run = LoadedRun(path, key, progress, variant)
    run.forget()
    return run
