"""Whether an index is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..runs import Run
from ..vault import open_store, verify_run
from . import folder


def verify_index(path: Path, key: str | None, expect: str | None = None) -> dict[str, Any]:
    """Checks every file of an index, also of one that no longer opens, as `shuyuan verify --json` prints it.

    Args:
        path: the index.
        key: where its key is; None for one in the clear.
        expect: a head noted earlier, of a sealed one.

    Raises:
        VaultError: the key is wrong or not to be had.
    """
    run = Run(path)
    found, head = verify_run(run, key, expect)
    if key is None:
        with open_store(run, None, writable=False) as store:
            found += folder.problems(store)
    named = [{"file": problem.file, "what": problem.what} for problem in found]
    return {"ok": not named, "problems": named, "epsilon_recomputed": None, "head": head}
