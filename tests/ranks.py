"""Several ranks of torch.distributed, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start_ranks(module: str, count: int, folder: Path) -> None:
    """Runs `python -m MODULE FOLDER` so many times until all have ended; where one fails, the others are ended."""
    env = dict(os.environ, WORLD_SIZE=str(count), OMP_NUM_THREADS="1")
    one = [sys.executable, "-W", "error", "-m", module, str(folder)]
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"errors-{number}").open("w")) for number in range(count)]
        ranks = [
            subprocess.Popen(one, cwd=ROOT, env=env | {"RANK": str(number)}, stderr=file)
            for number, file in enumerate(files)
        ]
        while any(process.poll() is None for process in ranks):
            if any(process.poll() for process in ranks):
                for process in ranks:
                    process.kill()
            time.sleep(0.05)
    failed = [number for number, process in enumerate(ranks) if process.returncode]
    assert not failed, [(folder / f"errors-{number}").read_text() for number in failed]
