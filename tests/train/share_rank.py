"""One rank of a sharded training with checkpoints in shares: `python -m tests.train.share_rank FOLDER`, as in rank.py.

FOLDER/task.json says what to do with the run in FOLDER/../run; rank 0 writes what it saw to FOLDER/seen.npz and FOLDER/told.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shuyuan.errors import MachineError, TrainError, cannot_write
from shuyuan.train import distributed, share_files, together
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.framework import framework_of
from shuyuan.train.together import backend_of
from shuyuan.vault import OpenStore, sees

from . import rank
from .parts import OLD_CPU

Seen = dict[str, NDArray[Any]]
MUON = {"optimizer": "muon", "learning_rate": 0.002}


def checkpoints_in(run: Path) -> Checkpoints:
    return Checkpoints(OpenStore(run), {"seed": 1}, {}, keep=2)


class Training:
    """A model in shares, or whole where there is one rank, and the checkpoints of its run."""

    def __init__(self, run: Path) -> None:
        run.mkdir(exist_ok=True)
        self.recipe = rank.recipe_of(train=MUON | {"sharded": distributed.world().count > 1})
        manifest, framework = rank.manifest_of(self.recipe), framework_of(self.recipe)
        with framework.repeatable(1, 3, "fp32"):
            model = framework.trainable(self.recipe, manifest)
            self.backend: Any = backend_of(self.recipe, manifest, model, OLD_CPU, folder=run)
        self.checkpoints = checkpoints_in(run)
        self.step = 0

    def resume(self) -> None:
        """From the newest checkpoint."""
        self.step = self.checkpoints.steps()[-1]
        self.backend.load(self.checkpoints.load(self.step, self.backend.layout())[1])

    def go(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            self.backend.step(rank.batch_of(self.recipe, self.step), 0.002)

    def save(self) -> None:
        self.checkpoints.save(self.step, {"step": self.step, "safe_step": 0}, self.backend.state())

    def state(self) -> Seen:
        return {name: np.array(array) for name, array in self.backend.state().items()}


def same(one: Seen, other: Seen) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def go_on(folder: Path, steps: int) -> tuple[Seen, dict[str, Any]]:
    """From the newest checkpoint, if there is one, so many steps, and a checkpoint then."""
    training = Training(folder.parent / "run")
    found: Seen = {}
    if training.checkpoints.steps():
        training.resume()
        found |= {f"before/{name}": array for name, array in training.state().items()}
    training.go(steps)
    training.save()
    found |= {f"after/{name}": array for name, array in training.state().items()}
    training.backend.close()
    return found, {"step": training.step}


def tried(folder: Path) -> tuple[Seen, dict[str, Any]]:
    """What two ranks promise: the same bits again, a damaged share named, and one writer where a rank does not see the folder."""
    run = folder.parent / "run"
    training = Training(run)
    training.go(2)
    training.save()
    saved = training.state()
    training.go(2)
    wanted = training.state()
    training.resume()
    told: dict[str, Any] = {"read": same(training.state(), saved)}
    training.go(2)
    told["again"] = same(training.state(), wanted)
    told["files"] = sorted(file.name for file in (run / "checkpoints/step-00000002").iterdir())

    share = run / "checkpoints/step-00000002/share-00001.safetensors"
    sound = share.read_bytes()
    share.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        training.resume()
    except TrainError as error:
        told["refused"] = f"{error}"
    share.write_bytes(sound)
    training.resume()
    told["mended"] = same(training.state(), saved)

    training.go(1)
    (folder / "full").touch()  # so is the disk of rank 1
    try:
        training.save()
    except MachineError as error:
        told["full"] = f"{error}"
    (folder / "full").unlink()
    told["left"] = sorted(file.name for file in (run / "checkpoints").iterdir())
    training.resume()
    training.backend.close()

    (folder / "blind").touch()  # rank 1 sees no folder from here on
    training = Training(run)
    told["one writer"] = training.backend.one_writer
    training.resume()
    told["read by one"] = same(training.state(), saved)
    training.go(1)
    training.save()
    told["files of one"] = sorted(file.name for file in (run / "checkpoints/step-00000003").iterdir())
    training.backend.close()
    return {}, told


def lead(folder: Path, task: dict[str, Any]) -> None:
    found, told = tried(folder) if task["do"] == "tried" else go_on(folder, task["steps"])
    np.savez(folder / "seen.npz", **found)  # type: ignore[arg-type]
    (folder / "told.json").write_text(json.dumps(told))


def fill_disk(full: Callable[[], bool]) -> None:
    """Has shares refused in their middle, as long as the disk is full."""
    write = share_files._ShareWriter._write

    def refused(self: Any, out: Any, content: Any) -> None:
        write(self, out, content)
        if full() and self.size > 1000:
            raise cannot_write(OSError(28, "No space left on device"), self._permit.path)

    share_files._ShareWriter._write = refused  # type: ignore[method-assign]


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text())
    number = int(os.environ["RANK"])
    if number:
        together.sees = lambda path: not (folder / "blind").exists() and sees(path)  # type: ignore[attr-defined]
        fill_disk(lambda: (folder / "full").exists())
    if number == task.get("dies"):
        write = share_files._ShareWriter._write

        def dies(self: Any, out: Any, content: Any) -> None:
            write(self, out, content)
            if self.size > 1000:
                os.kill(os.getpid(), signal.SIGKILL)

        share_files._ShareWriter._write = dies  # type: ignore[method-assign]
    rank.main(folder, lambda: lead(folder, task))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
