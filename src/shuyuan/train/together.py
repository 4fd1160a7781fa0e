"""Both sides of a training on several ranks: rank 0 tells what is to be done and does its share, and the others follow.

The driver knows nothing of it: it stands on rank 0 alone, before a backend like any other. So all that is decided only once, such as
when to save, go back or end, is decided there, and every rank makes the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import recipe as recipes
from ..data import Manifest
from ..hardware import Hardware, detect
from ..privacy import Mechanism
from ..recipe import Recipe
from ..vault import Permit, landmark, sees
from .backend import Arrays, Backend, Batch, Divided, Figures, OneByOne, StepByStep
from .distributed import Order, World, check_ranks, check_sharded, world
from .framework import framework_of
from .stored import File, Stored


def backend_of(
    recipe: Recipe,
    manifest: Manifest,
    model: Any,
    hardware: Hardware,
    mechanism: Mechanism | None = None,
    secret: bytes = b"",
    folder: Path | None = None,
) -> Backend:
    """A backend that trains the model, on all ranks where there are several.

    Args:
        recipe: resolved.
        manifest: of the prepared data.
        model: of rank 0, whose weights all others get.
        hardware: where it runs.
        mechanism: of a private run.
        secret: from which its noise follows.
        folder: of the run, where there are checkpoints to be written.

    Raises:
        TrainError: the recipe cannot be trained by so many processes.
    """
    check_ranks(recipe)
    check_sharded(recipe)
    ranks = world()
    if ranks.count == 1:
        alone: Backend = _own(recipe, model, hardware, mechanism, secret, ranks)
        return alone
    facts = {
        "recipe": recipe.model_dump(by_alias=True, exclude_none=True),
        "manifest": manifest.to_json(),
        "mechanism": mechanism and asdict(mechanism),
        "secret": secret.hex(),
    }
    ranks.tell(Order("begin", facts))
    return Leading(_own(recipe, model, hardware, mechanism, secret, ranks), ranks, folder)


def _own(
    recipe: Recipe,
    model: Any,
    hardware: Hardware,
    mechanism: Mechanism | None,
    secret: bytes,
    ranks: World,
) -> Any:
    framework = framework_of(recipe)
    if mechanism is None:
        return framework.backend(model, recipe.train, hardware, ranks)
    return framework.private_backend(model, recipe.train, hardware, mechanism, secret, ranks)


class Leading(StepByStep):
    """The backend of rank 0 in the driver's eyes: what it is asked, all ranks do.

    Args:
        own: computes this rank's share.
        ranks: all of them.
        folder: as of `backend_of`.

    Attributes:
        one_writer: whether rank 0 alone writes and reads checkpoints of a model of which it has but a share.
    """

    def __init__(self, own: Any, ranks: World, folder: Path | None = None) -> None:
        self._own, self._ranks = own, ranks
        self.parameters: int = own.parameters
        self.device: str = own.device
        self._own.agree()
        self.one_writer = own.sharded and not (folder is not None and self._all_see(folder))

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step of all ranks."""
        self._ranks.tell(Order("step", {"rate": learning_rate, "step": batch.step}, _arrays(batch)))
        figures: Figures = self._own.step(batch, learning_rate)
        return figures

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over the targets of all batches, which have no units, in nats; the state stays as it is."""
        self._ranks.tell(Order("evaluate", {}, [array for batch in batches for array in _arrays(batch)]))
        loss: float = self._own.evaluate(batches)
        return loss

    def _all_see(self, folder: Path) -> bool:
        with landmark(folder) as path:
            self._ranks.tell(Order("look", {"path": path}))
            return all(self._ranks.answers(lambda: sees(path)))

    def state(self) -> Arrays:
        """That of all ranks, which knows nothing of their number: that of rank 0, or of all shares, each tensor gathered when it is asked for."""
        if self._own.sharded:
            return self._divided(self._gathered)
        state: Arrays = self._own.state()
        return state

    def _divided(self, fetch: Callable[[str], NDArray[Any]]) -> Arrays:
        """Arrays by the names of the state, which each rank writes and reads its share of where all can."""
        names = self._own.layout()
        return (
            OneByOne(names, fetch)
            if self.one_writer
            else Divided(names, fetch, self._ranks.count, self._write)
        )

    def _write(self, permits: Sequence[Permit]) -> list[tuple[str, int]]:
        self._ranks.tell(Order("write", {"permits": list(map(asdict, permits))}))
        return self._ranks.answers(lambda: self._own.write(permits[0]))

    def _gathered(self, name: str) -> NDArray[Any]:
        self._ranks.tell(Order("gather", {"name": name}))
        array: NDArray[Any] = self._own.gathered(name)
        return array

    def layout(self) -> Arrays:
        """Names, shapes and types of a state, in arrays that take no memory."""
        layout: Arrays = self._own.layout()
        return self._divided(layout.__getitem__) if self._own.sharded else layout

    def load(self, arrays: Arrays) -> None:
        """Every rank goes on from a state: from its share of it, where it was written in shares and all can read them; else from what rank 0 reads."""
        if isinstance(arrays, Stored) and arrays.shares > 1 and self._own.sharded and not self.one_writer:
            self._read(arrays)
            return
        self._own.load(arrays)
        self._ranks.tell(Order("load"))
        self._own.agree()

    def _read(self, stored: Stored) -> None:
        files = list(stored.files)
        self._ranks.tell(Order("read", {"files": list(map(asdict, files)), "where": stored.where}))
        self._ranks.answers(lambda: self._own.read(files, stored.where))
        self._ranks.tell(Order("spread"))
        self._own.spread()

    def peak_bytes(self) -> int:
        """The most memory that rank 0 used so far."""
        peak: int = self._own.peak_bytes()
        return peak

    def close(self) -> None:
        """Leaves the model of rank 0 as an ordinary one; the others forget theirs."""
        self._ranks.tell(Order("close"))
        self._own.close()


def follow(ranks: World) -> None:
    """Does what rank 0 tells, until it says that all is done."""
    while (order := ranks.hear()).word == "begin":
        if not _take_part(ranks, order.facts):
            return


def _take_part(ranks: World, facts: dict[str, Any]) -> bool:
    """Trains a model with the others; False where the training was ended on its way."""
    recipe, manifest = recipes.from_table(facts["recipe"]), Manifest.from_json(facts["manifest"])
    mechanism = facts["mechanism"] and Mechanism(**facts["mechanism"])
    framework, hardware = framework_of(recipe), detect()
    with framework.repeatable(hardware.cores, recipe.seed, recipe.train.precision):
        model = framework.scratch(recipe, manifest)
        own = _own(recipe, model, hardware, mechanism, bytes.fromhex(facts["secret"]), ranks)
        own.agree()
        while (order := ranks.hear()).word not in ("close", "end"):
            if order.word == "step":
                own.step(_batch(order.facts["step"], order.arrays), order.facts["rate"])
            elif order.word == "evaluate":
                pairs = zip(order.arrays[::2], order.arrays[1::2], strict=True)
                own.evaluate([_batch(number, pair) for number, pair in enumerate(pairs)])
            elif order.word == "gather":
                own.gathered(order.facts["name"])
            elif order.word == "look":
                ranks.answers(partial(sees, order.facts["path"]))
            elif order.word == "write":
                ranks.answers(partial(own.write, Permit(**order.facts["permits"][ranks.number])))
            elif order.word == "read":
                files = [File(Permit(**file.pop("permit")), **file) for file in order.facts["files"]]
                ranks.answers(partial(own.read, files, order.facts["where"]))
            elif order.word == "spread":
                own.spread()
            else:
                own.agree()
        if order.word == "close":
            own.close()
    return order.word == "close"


def _arrays(batch: Batch) -> list[NDArray[Any]]:
    units = [] if batch.unit_B is None else [batch.unit_B]
    return [np.asarray(array) for array in (batch.inputs_BT, batch.targets_BT, *units)]


def _batch(step: int, arrays: Sequence[NDArray[Any]]) -> Batch:
    return Batch(step, *arrays)
